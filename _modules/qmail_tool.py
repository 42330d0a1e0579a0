"""
Run the tools of supervisors: svc, sv, s6-svc, systemctl, qmailctl.
"""

import os
import shutil
import subprocess
import tempfile
import time

from salt.exceptions import CommandExecutionError

# Where such tools are, beside PATH: a minion's PATH seldom has the places that daemontools installs to.
PLACES = (
    "/command",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/package/admin/daemontools/command",
    "/package/admin/s6/command",
)
LONGEST = 4000  # bytes of output that are worth reading


def which(name):
    """
    Return the path of a tool, from PATH or from where such tools usually are.

    Raises CommandExecutionError where it is missing.

    name
        The tool, for example ``svstat``; a path stands for itself.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_tool.which svstat
    """
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(name, path=os.pathsep.join([*places, *PLACES]))
    if found is None:
        raise CommandExecutionError(
            f"{name} was not found, in PATH ({':'.join(places)}) and in {', '.join(PLACES)}. Install it, or add its "
            "place to the PATH of the Salt minion."
        )
    return found


def run(command, timeout=10):
    """
    Run a command, and return a dict with ``exit`` (its exit status) and ``output`` (of both kinds, one text).

    One that takes longer than the timeout is left to finish, since stopped halfway it could leave qmail down; ``exit``
    is ``None`` then.

    Raises CommandExecutionError where it cannot be run at all.

    command
        The tool and its arguments, a list.

    timeout
        Seconds to wait for the command.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_tool.run '[svstat, /service/qmail-send]'
    """
    command = [which(command[0]), *command[1:]]
    # Into a file: where the command leaves a daemon behind, that would hold a pipe open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as err:
            raise CommandExecutionError(f"Cannot run {' '.join(command)}: {err.strerror}.") from err
        _wait(process, timeout)
        said = os.pread(output.fileno(), LONGEST, 0)  # not seek: one that still runs writes at the same place
    return {"exit": process.returncode, "output": said.decode(errors="backslashreplace").strip()}


def must(command, timeout=10):
    """
    Run a command as ``run`` does, and return its output.

    Raises CommandExecutionError where it exits with anything but 0, with what it said.

    command, timeout
        As for ``run``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_tool.must '[svc, -u, /service/qmail-send]'
    """
    done = run(command, timeout)
    if done["exit"]:
        raise CommandExecutionError(f"{' '.join(command)} failed with exit {done['exit']}: {done['output']}")
    return done["output"]


def _wait(process, timeout):
    deadline, pause = time.monotonic() + timeout, 0.001
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
