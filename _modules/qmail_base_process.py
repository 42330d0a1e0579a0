"""
The running qmail-send, as the system sees it: which process it is, since when, and what it has in flight.

qmail-send holds a lock on ``queue/lock/sendmutex`` for exactly as long as it runs. So the process that holds it is the
one qmail-send of that queue, whatever else on the machine has that name. There are two kinds of this lock: see
``qmail_base_lock``.
"""

import contextlib
import os
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

PROC = "/proc"
MUTEX = "lock/sendmutex"  # in the queue
# The kernel hands out its list of locks a page at a time. What is unlocked between two pages moves the rest up, so that
# a lock may be left out that is held all the while. Where others lock and unlock a lot, three looks in a row missed it.
LOOKS = 10
WHOLE = 2048  # bytes: a list below half of the smallest page came in one piece


def shown():
    """
    Return whether this system shows which process holds a lock; some have no ``/proc``, or only part of it.

    For all.
    """
    return os.access(f"{PROC}/locks", os.R_OK)


def find(home="/var/qmail", queue=None, expected=None):
    """
    Return the process id of the qmail-send that runs a queue; ``None`` if none runs.

    Raises CommandExecutionError if that is not shown (no ``/proc``, or no queue there), and if something else holds the
    lock: then somebody is working on the queue.

    home
        The qmail home directory.

    queue
        The queue directory; ``None`` for ``queue`` in the home directory.

    expected
        A process id to look at first: the kernel takes some milliseconds to list all locks.

    For all.
    """
    try:
        found = os.stat(mutex(home, queue))
        if expected and _text(f"{expected}/comm").strip().endswith("send") and _holds(expected, found):
            return expected
        pid = _listed(found)
    except OSError as err:
        raise CommandExecutionError(f"Cannot tell whether qmail-send runs: {err.filename}: {err.strerror}.") from err
    name = _text(f"{pid}/comm").strip() if pid else ""
    if name and not name.endswith("send"):
        raise CommandExecutionError(
            f"{mutex(home, queue)} is locked by {name} ({pid}), which is not qmail-send: somebody is working on the "
            "queue. Run this again when that is done."
        )
    return pid


def mutex(home="/var/qmail", queue=None):
    """
    Return the path of the file that qmail-send holds a lock on.

    home, queue
        As for ``find``.

    For all.
    """
    __salt__["qmail_base_check.arguments"](home=home, queue=queue)
    return os.path.join(queue or os.path.join(home, "queue"), MUTEX)


def since(pid):
    """
    Return when a process started, in seconds since the epoch, to the clock tick (usually 0.01 s); ``None`` if there is
    no such process.

    The time is by today's clock: if that was set in the meantime, the start of the process moves with it, but the times
    of files do not.

    pid
        The process id.

    For all.
    """
    fields = _stat(pid)
    # The two clocks are read one after the other: the largest of several readings was delayed least.
    booted = max(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) for _ in range(3))
    return booted + int(fields[19]) * tick() if fields else None


def begun(pid):
    """
    Return when a process started, in seconds since the system did, rounded down to the clock tick; ``None`` if there is
    no such process. To compare with ``CLOCK_BOOTTIME``, whatever is done to the clock.

    pid
        The process id.

    For all.
    """
    fields = _stat(pid)
    return int(fields[19]) * tick() if fields else None


def identity(pid):
    """
    Return a text that no other process has ever had, before or after a reboot; ``None`` if there is no such process.

    pid
        The process id.

    For all.
    """
    fields = _stat(pid)
    return f"{boot()} {pid} {fields[19]}" if fields else None


def boot():
    """
    Return the id of this boot of the machine, with which each ``identity`` begins; an empty text if it is not shown.

    For all.
    """
    return _text("sys/kernel/random/boot_id").strip()


def ended(pid):
    """
    Return whether a process is gone, or only waits for its parent to notice; ``None`` if that is not shown.

    pid
        The process id.

    For all.
    """
    fields = _stat(pid)
    return (not fields or fields[0] in "ZX") if shown() else None


def paused(pid):
    """
    Return whether a signal has stopped a process (STOP, as ``svc -p`` sends it): it does nothing until CONT.

    pid
        The process id.

    For all.
    """
    return _stat(pid)[:1] == ["T"]


def tick():
    """
    Return the length of a clock tick in seconds: the start of a process is not known more exactly.

    For all.
    """
    return 1 / os.sysconf("SC_CLK_TCK")


def above(pid):
    """
    List a process and its ancestors, from itself to the first process of the system.

    Each is a dict: ``pid``, ``name`` (of the program, 15 characters at most) and ``directory``, its working directory
    (``None`` if we may not see that).

    pid
        The process id.

    For all.
    """
    line = []
    fields = _stat(pid)
    while fields:
        line.append({"pid": int(pid), "name": _text(f"{pid}/comm").strip(), "directory": _directory(pid)})
        pid = fields[1]
        fields = _stat(pid)
    return line


def unit(pid):
    """
    Return the name of the systemd unit that a process belongs to, for example ``qmail-send.service``, or ``None``.

    pid
        The process id.

    For all.
    """
    # A unit may have control groups of its own below its own.
    lines = sorted(_text(f"{pid}/cgroup").split("\n"))
    found = ([name for name in line.split("/") if name.endswith(".service")] for line in lines)
    return next((names[-1] for names in found if names), None)


def in_flight(pid):
    """
    Count the deliveries that a qmail-send waits for: what its qmail-lspawn and qmail-rspawn have running.

    pid
        The process id of qmail-send.

    For all.
    """
    parents = _parents()
    children = {child for child, parent in parents.items() if parent == int(pid)}
    return sum(parent in children for parent in parents.values())


def serves_another(pid, home="/var/qmail", queue=None):
    """
    Return whether a process is the qmail-send of another queue, or a child of it is; ``False`` where that is not shown.

    A child may run another queue of the same qmail: indimail has several, and one process that starts them all.

    pid
        The process id of what a supervisor runs.

    home, queue
        As for ``find``.

    For all.
    """
    own = mutex(home, queue)
    if _other_mutexes(pid, own):
        return True
    children = [child for child, parent in _parents().items() if parent == int(pid)]
    found = [path for child in children for path in _other_mutexes(child, own)]
    return any(_beside(path) != _beside(os.path.realpath(own)) for path in found)


def settle():
    """
    Make sure that descriptors 0, 1 and 2 are open, as every program expects; closed ones are opened on ``/dev/null``.

    A process may have been started without them. Then the next files that it opens get these numbers, and what is
    written to the standard output ends up in those files.

    For all.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _listed(found):
    """Return the process that holds a lock on a file by the kernel's list; none only if no look has shown one."""
    for _ in range(LOOKS):
        with open(f"{PROC}/locks", encoding="ascii") as file:
            text = file.read()
        pid = _holder([line.split() for line in text.splitlines()], found)
        if pid or len(text) < WHOLE:
            return pid
    return None


def _holder(locks, found):
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    likely = None
    for fields in locks:
        # 7: FLOCK ADVISORY WRITE 1234 fe:00:2362 0 EOF; or POSIX; a waiting one has "->" in second place.
        if len(fields) < 8 or fields[3] != "WRITE" or not fields[5].endswith(f":{found.st_ino}"):
            continue
        pid = int(fields[4])
        if pid <= 0:
            continue
        # Overlay and btrfs show a different device there than stat does. Then the open files decide: it may also be a
        # file of the same number on another device.
        holds = fields[5] == f"{device}:{found.st_ino}" or _seems_to_hold(pid, found)
        if holds:
            return pid
        # In a container even root may not see the open files of another user's process. Then its name has to do.
        if holds is None and likely is None and _text(f"{pid}/comm").strip().endswith("send"):
            likely = pid
    return likely


def _holds(pid, found):
    """Return whether a process has a file open and locked, as its own open files show it."""
    return any(lock[4:6] == ["WRITE", str(pid)] for name in _opened(pid, found) or () for lock in _locks(pid, name))


def _seems_to_hold(pid, found):
    """
    The same where open files show their locks; before Linux 4.1 they do not, and that it is open has to do. ``None`` if
    we may not see them.
    """
    opened = _opened(pid, found)
    if not opened:
        return None if opened is None else False
    return _holds(pid, found) or not any(_locks(pid, name) for name in _opened(pid) or ())


def _opened(pid, found=None):
    """List the descriptors of a process; only those of one file, if that is given. ``None`` if we may not see them."""
    try:
        with os.scandir(f"{PROC}/{pid}/fd") as handles:
            return [handle.name for handle in handles if not found or _is(handle, found)]
    except PermissionError:
        return None
    except OSError:
        return []


def _is(handle, found):
    try:
        return os.path.samestat(handle.stat(), found)
    except FileNotFoundError:
        return False  # closed meanwhile; qmail-send opens and closes files all the time


def _locks(pid, name):
    """Return the locks that a descriptor of a process shows, as the fields of each."""
    # lock:	1: FLOCK ADVISORY WRITE 1234 fe:00:2362 0 EOF; or POSIX instead of FLOCK.
    lines = (line.split() for line in _text(f"{pid}/fdinfo/{name}").split("\n"))
    return [fields for fields in lines if fields[:1] == ["lock:"]]


def _other_mutexes(pid, own):
    """List the mutexes that a process has open, but that of our queue."""
    found = []
    for name in _opened(pid) or ():
        # It may be closed meanwhile, and our queue need not be there.
        with contextlib.suppress(OSError):
            path = os.readlink(f"{PROC}/{pid}/fd/{name}")
            if path.endswith(f"/{MUTEX}") and not os.path.samestat(os.stat(f"{PROC}/{pid}/fd/{name}"), os.stat(own)):
                found.append(path)
    return found


def _beside(path):
    """Return the directory that a queue is in, from the path of its mutex."""
    return os.path.dirname(path[: -len(f"/{MUTEX}")])


def _parents():
    """Return the parent of each process that is not a zombie."""
    parents = {}
    for name in os.listdir(PROC):
        fields = _stat(name) if name.isdecimal() else None
        if fields and fields[0] != "Z":
            parents[int(name)] = int(fields[1])
    return parents


def _directory(pid):
    try:
        return os.readlink(f"{PROC}/{pid}/cwd")
    except OSError:
        return None


def _stat(pid):
    """Return the fields of /proc/PID/stat after the name, which may itself hold blanks and brackets."""
    return _text(f"{pid}/stat").rpartition(")")[2].split()


def _text(name):
    try:
        with open(f"{PROC}/{name}", encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # no such process (any more), or a system that does not show it
