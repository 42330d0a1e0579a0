"""
The lock that qmail-send holds for as long as it runs: while somebody else holds it, no qmail-send makes a delivery.

For the other modules of this formula. qmail-send takes it when it starts, before it looks at any mail, and ends at once
if it is held. Most builds take it by ``flock`` (lock_exnb.c); those linked with fehQlibs take it by ``lockf``. The
kernel treats these two as different locks, so both are taken here.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

OPEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no O_CREAT: without this file it is not a queue
# fcntl(2): a lock like lockf's that belongs to the open file, so a child has it, too. Python 3.8 has no name for this.
OFD_SETLK = 37
WHOLE_FILE = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
LET_GO = struct.pack("hhqqi", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN = 0x8, 0x10, 0x20  # inotify(7)
EVENT = struct.Struct("iIII")  # of a file that is watched itself: no name follows
LONGEST = EVENT.size * 4096  # bytes
TAKEN = (errno.EAGAIN, errno.EACCES)


def opened(home="/var/qmail", queue=None):
    """
    Open the lock of a queue, and return the descriptor, which the caller passes to ``close`` at the end.

    Raises CommandExecutionError if it cannot be opened.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    For all.
    """
    path = __salt__["qmail_base_process.mutex"](home, queue)
    try:
        return os.open(path, OPEN)
    except OSError as err:
        raise CommandExecutionError(f"Cannot open {path}, which qmail-send locks: {err.strerror}.") from err


def take(fd):
    """
    Take both kinds of the lock, or neither, and return whether that worked. It does not wait.

    fd
        What ``opened`` returned.

    For all.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if _posix(fd):
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def close(fd):
    """
    Release the lock, and close it. Closing alone is not enough: a process that something else here has just forked may
    have a copy of the descriptor for an instant longer, and the lock with it.

    fd
        What ``opened`` returned.

    For all.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):  # a kernel that has no such lock; the other kind goes with the descriptor
            fcntl.fcntl(fd, OFD_SETLK, LET_GO)
    finally:
        os.close(fd)


def watch(home="/var/qmail", queue=None):
    """
    Return a function that returns whether anybody has opened the lock of a queue for writing since: a qmail-send that
    was started. A backup only reads it.

    If the lock was held, that qmail-send ended at once and left no other trace. The function takes no arguments, is
    called once, while the lock is held yet, and returns ``None`` if this system does not show it.

    home, queue
        As for ``opened``.

    For all.
    """
    try:
        libc = ctypes.CDLL(None)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return lambda: None
    path = os.fsencode(__salt__["qmail_base_process.mutex"](home, queue))
    watches = libc.inotify_add_watch(fd, path, IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE) >= 0

    def asked():
        try:
            return _has_written(os.read(fd, LONGEST)) if watches else None
        except BlockingIOError:
            return False
        finally:
            if fd >= 0:
                os.close(fd)

    return asked


def _has_written(events):
    """Return whether one that has opened the file could write, or has it open yet. The kernel joins like events."""
    kinds = [kind for _, kind, _, _ in EVENT.iter_unpack(events)]
    since = kinds[kinds.index(IN_OPEN) :] if IN_OPEN in kinds else [IN_CLOSE_NOWRITE]
    return IN_CLOSE_WRITE in since or since[-1] == IN_OPEN


def _posix(fd):
    """Take the lock that ``lockf`` takes; if this kernel can (Linux 3.15), as one that children keep."""
    try:
        fcntl.fcntl(fd, OFD_SETLK, WHOLE_FILE)
    except OSError as err:
        if err.errno in TAKEN:
            return False
        if err.errno != errno.EINVAL:
            raise
        return _posix_of_this_process(fd)
    return True


def _posix_of_this_process(fd):
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in TAKEN:
            return False
        raise
    return True
