"""
What starts and restarts qmail-send on this machine: one place for each of the ways that are in the field.

A provider is a pair of functions, to start and to restart, in ``PROVIDERS``; ``find`` names the one that is here.
Whether a restart worked is no business of this module: ``qmail_service`` looks at the process.
"""

import os
import shutil
import subprocess
import tempfile
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

UNITS = ("qmail-send", "qmail")  # notqmail's systemd unit; Plesk's and others' unit or init script


def find(home="/var/qmail", provider="auto", name="auto"):
    """
    Return what runs qmail-send here: a dict with ``provider`` and ``name``.

    Raises SaltInvocationError for an unknown provider, CommandExecutionError where none is found; it lists what was
    looked for.

    home
        The qmail home directory.

    provider
        ``service`` (systemd and init scripts, through Salt's own service module), ``qmailctl``, or ``auto``.

    name
        The unit or init script, or the path of qmailctl; ``auto`` for those of the field.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_supervisor.find
    """
    if provider not in ("auto", *PROVIDERS):
        raise SaltInvocationError(f"service:provider {provider!r} is none of auto, {', '.join(PROVIDERS)}.")
    looked = []
    for kind in PROVIDERS if provider == "auto" else (provider,):
        for candidate in _candidates(kind, home) if name == "auto" else (name,):
            if _is_there(kind, candidate):
                return {"provider": kind, "name": candidate}
            looked.append(f"{kind} {candidate}")
    raise CommandExecutionError(
        f"Nothing was found that runs qmail-send. Looked for: {', '.join(looked)}. "
        "Set service:provider and service:name to what starts it here."
    )


def start(home="/var/qmail", provider="auto", name="auto", timeout=60):
    """
    Tell what runs qmail-send here to start it.

    Raises CommandExecutionError where it says that it failed.

    home, provider, name
        As for ``find``.

    timeout
        Seconds to wait for the command. It is left to finish by itself after that.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_supervisor.start
    """
    found = find(home, provider, name)
    PROVIDERS[found["provider"]]("start", found["name"], timeout)


def restart(home="/var/qmail", provider="auto", name="auto", timeout=60):
    """
    Tell what runs qmail-send here to restart it.

    Raises CommandExecutionError where it says that it failed.

    home, provider, name, timeout
        As for ``start``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_supervisor.restart
    """
    found = find(home, provider, name)
    PROVIDERS[found["provider"]]("restart", found["name"], timeout)


def _candidates(kind, home):
    if kind == "service":
        return UNITS
    return (os.path.join(home, "bin/qmailctl"), shutil.which("qmailctl") or "/usr/bin/qmailctl")


def _is_there(kind, name):
    if kind == "service":
        return bool(__salt__["service.available"](name))
    return os.access(name, os.X_OK)


def _service(verb, name, timeout):
    if not __salt__[f"service.{verb}"](name):
        raise CommandExecutionError(f"The service {name} did not {verb}; its own log tells why.")


def _qmailctl(verb, name, timeout):
    _run([name, verb], timeout)


def _run(command, timeout):
    """
    Run a command that may leave a daemon behind: its output goes to a file, since a daemon would hold a pipe open.
    One that takes longer than the timeout is left to finish: stopped halfway, it could leave qmail down.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as err:
            raise CommandExecutionError(f"Cannot run {' '.join(command)}: {err.strerror}.") from err
        deadline = time.monotonic() + timeout
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.returncode:
            output.seek(0)
            said = output.read(1000).decode(errors="backslashreplace").strip()
            raise CommandExecutionError(f"{' '.join(command)} failed with exit {process.returncode}: {said}")


# In the order in which they are looked for: an init script named qmail is often a link to qmailctl.
PROVIDERS = {"qmailctl": _qmailctl, "service": _service}
