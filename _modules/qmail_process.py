"""
The running qmail-send, as the system sees it: which process it is, since when, and what it has in flight.

qmail-send holds a lock on ``queue/lock/sendmutex`` exactly as long as it lives. So the process that holds it is the one
qmail-send of that queue, whatever else on the machine has that name.
"""

import os
import time

from salt.exceptions import CommandExecutionError


def find(home="/var/qmail", queue=None):
    """
    Return the process id of the qmail-send that runs a queue; ``None`` where none runs.

    Raises CommandExecutionError where that cannot be told: no /proc, or no queue at that place.

    home
        The qmail home directory.

    queue
        The queue directory; ``None`` for ``queue`` in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_process.find
    """
    mutex = os.path.join(queue or os.path.join(home, "queue"), "lock/sendmutex")
    try:
        found = os.stat(mutex)
        with open("/proc/locks", encoding="ascii") as file:
            locks = [line.split() for line in file]
    except OSError as err:
        raise CommandExecutionError(f"Cannot tell whether qmail-send runs: {err.filename}: {err.strerror}.") from err
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    for fields in locks:
        # 7: FLOCK ADVISORY WRITE 1234 fe:00:2362 0 EOF; a waiting one has "->" in second place.
        if len(fields) < 8 or fields[3] != "WRITE" or not fields[5].endswith(f":{found.st_ino}"):
            continue
        pid = int(fields[4])
        # Overlay and btrfs tell another device there than stat does: then the open file decides.
        if pid > 0 and (fields[5].startswith(device) or _has_open(pid, found)):
            return pid
    return None


def since(pid):
    """
    Return when a process started, in seconds since the epoch, to the clock tick (usually 0.01 s).

    Raises CommandExecutionError where there is no such process (any more).

    pid
        The process id.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_process.since 1234
    """
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + int(_stat(pid)[19]) * tick()


def tick():
    """
    Return the length of a clock tick in seconds: the start of a process is known no better.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_process.tick
    """
    return 1 / os.sysconf("SC_CLK_TCK")


def in_flight(pid):
    """
    Count the deliveries that a qmail-send waits for: what its qmail-lspawn and qmail-rspawn have running.

    pid
        The process id of qmail-send.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_process.in_flight 1234
    """
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                fields = _stat(name)
            except CommandExecutionError:
                continue  # ended meanwhile
            if fields[0] != "Z":
                parents[int(name)] = int(fields[1])
    children = {child for child, parent in parents.items() if parent == int(pid)}
    return sum(parent in children for parent in parents.values())


def _has_open(pid, found):
    try:
        with os.scandir(f"/proc/{pid}/fd") as handles:
            return any(os.path.samestat(handle.stat(), found) for handle in handles)
    except OSError:
        return False


def _stat(pid):
    """Return the fields of /proc/PID/stat behind the name, which may hold blanks and brackets itself."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError as err:
        raise CommandExecutionError(f"There is no process {pid}: {err.strerror}.") from err
