"""
Run the tools of supervisors: svc, sv, s6-svc, systemctl, qmailctl.
"""

import os
import select
import shutil
import subprocess
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Where such tools are besides PATH: a minion's PATH seldom has the directories that daemontools uses.
PLACES = (
    "/command",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/package/admin/daemontools/command",
    "/package/admin/s6/command",
)
LONGEST = 4000  # bytes of output that are worth reading
BLOCK = 65536
PAUSE = 0.05  # seconds between two looks, at most


def _which(name):
    """Return the path of a tool, from PATH or from the usual directories of such tools; a path stands for itself."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(name, path=os.pathsep.join([*places, *PLACES]))
    if found is None:
        raise CommandExecutionError(
            f"{name} was not found, in PATH ({':'.join(places)}) and in {', '.join(PLACES)}. Install it, or add its "
            "directory to the PATH of the Salt minion."
        )
    return found


def run(command, timeout=10, leaves=False):
    """
    Run a command, and return a dict with ``exit`` (its exit status) and ``output`` (stdout and stderr in one text).

    A command that takes longer than the timeout is left to finish, because cutting it could leave qmail down; ``exit``
    is ``None`` then.

    Raises CommandExecutionError if it cannot be run at all.

    command
        The tool and its arguments, a list.

    timeout
        Seconds to wait for the command.

    leaves
        Whether it leaves something running that keeps its output open, like a script that starts qmail.

    For ``qmail_service_directory``, ``qmail_service_script`` and ``qmail_service_systemd``.
    """
    command = [_which(command[0]), *command[1:]]
    deadline = time.monotonic() + timeout
    exit_status, said = (_into_a_file if leaves else _through_a_pipe)(command, deadline)
    return {"exit": exit_status, "output": said}


def must(command, timeout=10, leaves=False):
    """
    Run a command as ``run`` does, and return its output.

    Raises CommandExecutionError with its output if it exits with anything but 0.

    command, timeout, leaves
        As for ``run``.

    For ``qmail_service_directory``, ``qmail_service_script`` and ``qmail_service_systemd``.
    """
    done = run(command, timeout, leaves)
    if done["exit"]:
        raise CommandExecutionError(f"{' '.join(command)} failed with exit {done['exit']}: {done['output']}")
    return done["output"]


def _through_a_pipe(command, deadline):
    """Run a command that leaves nothing running; this needs no disk, which may be full just when qmail is down."""
    reading, writing = os.pipe()
    try:
        try:
            process = _started(command, writing)
        finally:
            os.close(writing)
        return _read(process, reading, deadline)
    finally:
        os.close(reading)


def _read(process, reading, deadline):
    """Return how a process exited, and its output until then."""
    said = b""
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if select.select([reading], [], [], 0 if ended else PAUSE)[0]:
            part = os.read(reading, BLOCK)
            said = (said + part)[:LONGEST]
            if part:
                continue
            _wait(process, deadline)
            break
        if ended:
            break  # something that it has started holds the pipe open
    return process.poll(), said.decode(errors="backslashreplace").strip()


def _into_a_file(command, deadline):
    """Run a command that leaves something running: with a pipe, that would be killed by its first output later."""
    with __salt__["qmail_base_output.file"]() as output:
        process = _started(command, output.fileno())
        _wait(process, deadline)
        return process.poll(), __salt__["qmail_base_output.said"](output)


def _started(command, output):
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as err:
        raise CommandExecutionError(f"Cannot run {' '.join(command)}: {err.strerror}.") from err


def _wait(process, deadline):
    pause = 0.001
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, PAUSE)
