"""
What starts and restarts qmail-send on this machine: one place for all the ways that are in use.

``find`` returns the one that is used here. Nothing is guessed about a running qmail-send: the process that works in its
service directory shows that, and its control group shows its unit. This module does not check whether a restart worked:
``qmail_service`` looks at the process.
"""

import os
import shutil
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

HOME = "/var/qmail"
PILLAR = "qmail_doublebounce:service"
TREES = ("daemontools", "runit", "s6")
PROVIDERS = ("service", *TREES, "qmailctl")  # as in pillar; service is systemd or sysv, whichever runs the system
SCRIPTS = ("qmail-send", "qmail")
TOLD = ("pid", "returns", "alone", "down")
LATE = 3  # seconds
PAUSE = 0.02  # seconds between two looks


def find(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return what runs qmail-send here, or would run it: a dict with

    home, queue, provider, name
        As for ``qmail_service.find``, which documents all of it.

    For ``qmail_service``, ``qmail_service_change``, ``qmail_service_startup`` and the state ``qmail_service``.
    """
    __salt__["qmail_base_check.arguments"](home=home, queue=queue, provider=provider, name=name)
    if provider not in ("auto", *PROVIDERS):
        raise SaltInvocationError(f"{PILLAR}:provider is {provider!r}; allowed: auto, {', '.join(PROVIDERS)}.")
    pid = __salt__["qmail_base_process.find"](home, queue) if __salt__["qmail_base_process.shown"]() else None
    looked, recorded = [], [] if pid or name != "auto" else _recorded(provider, home, queue)
    usual = _named(provider, name) if name != "auto" else [*recorded, *_usual(provider, home, queue, pid)]
    for kind, candidate in usual:
        try:
            found = _status(kind, candidate, pid)
            _check(kind, candidate, found, pid, home, named=name != "auto" or (kind, candidate) in recorded)
            if not pid and found["pid"] and __salt__["qmail_base_process.serves_another"](found["pid"], home, queue):
                raise CommandExecutionError(f"it runs the qmail-send of another queue (process {found['pid']})")
        except CommandExecutionError as err:
            looked.append(f"{kind} {__salt__['qmail_base_text.shown'](candidate)}: {str(err).rstrip('.')}")
            continue
        if pid and found.get("barred"):
            raise CommandExecutionError(f"qmail-send is left running: {found['barred']}")
        if pid and not found["pid"]:
            found["down"] = None  # what runs is not down, however it was started
        if pid and kind not in TREES and __salt__["qmail_service_directory.runs"](pid):
            found["returns"] = True  # by what is in between: for example a qmailctl that uses daemontools
        return {"provider": kind, "name": candidate, **{key: found[key] for key in TOLD}}
    if pid and __salt__["qmail_base_process.find"](home, queue) != pid:
        return find(home, queue, provider, name)  # it ended while we looked
    if provider in ("auto", *TREES) and name == "auto" and not pid:
        looked.append(f"service directories {', '.join(__salt__['qmail_service_directory.patterns'](home))}")
    raise CommandExecutionError(
        f"Nothing was found that runs qmail-send{f' (process {pid})' if pid else ''} with {PILLAR}:provider {provider} "
        f"and {PILLAR}:name {name}. Looked for: {'; '.join(looked) or f'what runs it, which is not {provider}'}. "
        f"{_remedy(home, queue, provider, name)}"
    )


def start(provider, name, timeout=60):
    """
    Have qmail-send's supervisor start it, and return whether that was due: systemd may just be starting it by itself.
    This does not wait for the start.

    Raises CommandExecutionError if the command for it fails or is missing.

    provider, name
        As ``find`` returns them.

    timeout
        Seconds to wait for the command. After that it is left to finish by itself.

    For ``qmail_service_change``.
    """
    return _call("up", provider, name, timeout) is not False


def stop(provider, name, timeout=60):
    """
    Have qmail-send's supervisor end it, and not start it again. This does not wait for the end.

    Raises CommandExecutionError if the command for it fails or is missing.

    provider, name, timeout
        As for ``start``.

    For ``qmail_service_change``.
    """
    _call("down", provider, name, timeout)


def told(provider, name):
    """
    Return the last command to qmail-send's supervisor: a dict with ``when``, a text that changes with every command
    and whenever qmail-send starts or ends, ``up``, whether it was to run qmail-send, and ``ended``, whether it knows of
    no process. ``None`` if it keeps no record.

    Service directories do; systemd, scripts and qmailctl do not.

    provider, name
        As ``find`` returns them.

    For ``qmail_service`` and ``qmail_service_change``.
    """
    return __salt__["qmail_service_directory.told"](provider, name) if provider in TREES else None


def log(provider, name, lines=3):
    """
    Return the last lines of qmail-send's log, if its supervisor keeps one; an empty list if that is not known.

    provider, name
        As ``find`` returns them.

    lines
        How many.

    For ``qmail_service_startup``.
    """
    return [] if provider in ("sysv", "qmailctl") else _call("log", provider, name, lines)


def _status(kind, name, pid):
    """
    Return the state of what may run qmail-send.

    The supervisor of a service directory records what it has started a moment after the start, and on a slow disk that
    is long after qmail-send runs.
    """
    found = _call("status", kind, name)
    if pid and kind in TREES and not found["pid"] and _is_started_in(name, pid):
        deadline = time.monotonic() + LATE
        while not found["pid"] and time.monotonic() < deadline:
            time.sleep(PAUSE)
            found = _call("status", kind, name)
    return found


def _is_started_in(directory, pid):
    tree = __salt__["qmail_service_directory.runs"](pid)
    return bool(tree) and tree["directory"] == os.path.realpath(directory)


def _call(function, kind, name, *arguments):
    if kind == "systemd":
        return __salt__[f"qmail_service_systemd.{function}"](name, *arguments)
    module = "qmail_service_directory" if kind in TREES else "qmail_service_script"
    return __salt__[f"{module}.{function}"](kind, name, *arguments)


def _remedy(home, queue, provider, name):
    """Say what runs qmail-send here, if something else was asked for."""
    if (provider, name) != ("auto", "auto"):
        try:
            found = find(home, queue)
            kind = "service" if found["provider"] in ("systemd", "sysv") else found["provider"]
            return f"Here it is {kind}, {found['name']}: set them to these, or to auto."
        except CommandExecutionError:
            pass
    return f"Set {PILLAR}:provider and {PILLAR}:name to what starts it here."


def _recorded(provider, home, queue):
    """List the kind and name of what ran the qmail-send of this queue when it was last told to end."""
    tree = __salt__["qmail_service_directory.recall"](home, queue)
    unit = __salt__["qmail_service_unit.recall"](home, queue)
    found = [(tree["kind"], tree["directory"])] if tree and provider in ("auto", tree["kind"]) else []
    return [*found, ("systemd", unit)] if unit and provider in ("auto", "service") else found


def _usual(provider, home, queue, pid):
    """List the kind and name of what may run qmail-send here."""
    tree = __salt__["qmail_service_directory.runs"](pid) if pid else None
    if tree and provider in ("auto", *TREES):
        return [(tree["kind"], tree["directory"])] if provider in ("auto", tree["kind"]) else []
    unit = __salt__["qmail_service_unit.of"](pid, home) if pid and provider in ("auto", "service") else None
    if unit:
        return [("systemd", unit)]
    trees = [] if pid else __salt__["qmail_service_directory.directories"](home)
    found = [(entry["kind"], entry["directory"]) for entry in trees if provider in ("auto", entry["kind"])]
    # qmailctl comes before init scripts: an init script named qmail is often a link to it.
    if provider in ("auto", "service") and __salt__["qmail_service_systemd.booted"]():
        found += [("systemd", unit) for unit in __salt__["qmail_service_systemd.units"]()]
    if provider in ("auto", "qmailctl"):
        found += [("qmailctl", f"{home}/bin/qmailctl"), ("qmailctl", shutil.which("qmailctl") or "/usr/bin/qmailctl")]
    if provider in ("auto", "service") and not __salt__["qmail_service_systemd.booted"]():
        found += [("sysv", script) for script in SCRIPTS]
    return found


def _named(provider, name):
    """List the kind and name of what is named; if only the name is given, what is at that path shows the kind."""
    if provider == "auto":
        provider = (__salt__["qmail_service_directory.kind"](name) or "qmailctl") if name.startswith("/") else "service"
    if provider in TREES and not name.startswith("/"):
        return [(provider, path) for path in __salt__["qmail_service_directory.named"](name)]
    if provider == "service":
        return [("systemd" if __salt__["qmail_service_systemd.booted"]() else "sysv", name)]
    return [(provider, name)]


def _check(kind, name, found, pid, home, named):
    """Refuse what does not run this qmail-send: the supervisor of another one must not be touched."""
    is_script = kind in ("sysv", "qmailctl") or (kind == "systemd" and found["script"])
    if pid and not is_script:
        above = {process["pid"] for process in __salt__["qmail_base_process.above"](pid)}
        if found["pid"] not in above and not (kind == "systemd" and __salt__["qmail_service_systemd.holds"](name, pid)):
            raise CommandExecutionError(f"it runs process {found['pid']}, but qmail-send is {pid}")
    elif not named and home != HOME and not __salt__["qmail_service_unit.tells_of"](home, found["file"]):
        raise CommandExecutionError(f"it is not for the qmail in {home}")
