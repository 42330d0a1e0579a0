"""
Long work over many small files: it opens them safely, uses both processors, and reports its progress.

For the other modules of this formula, not for the command line. A double bounce is a file of a few bytes; to look at a
hundred thousand of them takes a hundred thousand system calls, each too short for threads to help.
"""

import contextlib
import errno
import json
import logging
import math
import mmap
import os
import signal
import struct
import time

from salt.exceptions import SaltException
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

EVENT = "qmail-doublebounce/progress"
SECONDS = 5
TOLD = struct.Struct("QQ")  # how many files the child has finished, and their size

# No link is followed, and opening a pipe that somebody left there does not wait for its other end.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Reading then leaves no trace and writes nothing to the disk; only the owner and root may ask for that.
NOATIME = getattr(os, "O_NOATIME", 0)
NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EAGAIN)


def progress(what):
    """
    Return a function ``tell(done, size)`` that reports how far ``what`` is: at most every five seconds, in the minion's
    log and as the Salt event ``qmail-doublebounce/progress`` (``what``, ``messages``, ``bytes``, ``seconds``). Without
    a master to receive the event, only the log has it.

    what
        The function that works, for example ``qmail_queue.summary``.

    For all.
    """
    began = last = time.monotonic()
    send = __salt__.get("event.send")

    def tell(done, size):
        nonlocal last, send
        now = time.monotonic()
        if now - last < SECONDS:
            return
        last = now
        log.info("%s: %d messages, %d bytes after %d seconds", what, done, size, now - began)
        # A master that does not answer costs seconds, and qmail-send may be down meanwhile: try it only once.
        if send and not _sent(send, {"what": what, "messages": done, "bytes": size, "seconds": round(now - began)}):
            send = None

    return tell


def cutoff(older_than):
    """
    Return the time before which a message must have come to be older than that, in seconds since the epoch.

    Raises SaltInvocationError if it is not a number of seconds.

    older_than
        Seconds; ``None`` for a message of any age, also one from the future.

    For all.
    """
    __salt__["qmail_base_check.arguments"](older_than=older_than)
    return math.inf if older_than is None else time.time() - older_than


def reader():
    """
    Return a function ``opened(name, directory)`` that opens a file in a directory, given by its descriptor, and returns
    the descriptor and the first 512 bytes; ``(None, b"")`` if the file has vanished, or is not a regular file.

    For all.
    """
    return _opened


def halves(work, what, again=None):
    """
    Return ``[work(0, tell), work(1, tell)]``, computed at the same time: half 1 by a child process.

    What ``work`` returns must survive JSON, and its work must allow being done again: if the child fails, its half is
    done here, and what is wrong is raised here.

    work
        A function of the half (0 or 1) and ``tell(done, size)``, which it calls after each file, or after every few
        hundred.

    what
        The function that works, for :py:func:`progress`. What it reports is twice its own half.

    again
        A function of what the child reported last before it failed. Its result is one more in the list, for work that
        cannot be done, and counted, a second time.

    For all.
    """
    __salt__["qmail_base_process.settle"]()
    told = progress(what)

    def tell(done, size):
        told(2 * done, 2 * size)

    with mmap.mmap(-1, TOLD.size) as shared:
        child, reading = _child(work, shared)
        if not child:
            return [work(half, tell) for half in (0, 1)]
        try:
            mine = work(0, tell)
            theirs = _all(reading)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.close(reading)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        if theirs:
            return [mine, json.loads(theirs)]
        before = [again(*TOLD.unpack(shared[:]))] if again else []
        return [mine, work(1, tell), *before]


def _opened(name, directory, ways=(FILE | NOATIME, FILE)):
    try:
        fd = os.open(name, ways[0], dir_fd=directory)
    except PermissionError:
        if not ways[1:]:
            raise
        return _opened(name, directory, ways[1:])
    except OSError as err:
        if err.errno in NO_FILE:
            return None, b""
        raise
    try:
        return fd, os.read(fd, 512)
    except OSError as err:
        os.close(fd)
        if err.errno in NO_FILE:
            return None, b""
        raise


def _child(work, shared):
    """
    Start half 1 of ``work`` in a child; return its process id and the descriptor that its result can be read from. Its
    progress is in the shared memory.

    The process id is 0 if there is no second processor, or no room for another process.
    """
    if os.cpu_count() in (1, None):
        return 0, None
    parent = os.getpid()
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError as err:
        log.debug("no second process: %s", err)
        os.close(reading)
        os.close(writing)
        return 0, None
    if not child:
        _half(work, parent, writing, shared)
    os.close(writing)
    return child, reading


def _half(work, parent, writing, shared):
    """Do half 1 in the child and end it: it never returns into the caller's code, which would run twice from here."""

    def tell(done, size):
        TOLD.pack_into(shared, 0, done, size)
        _stay_only_with(parent)

    try:
        os.write(writing, json.dumps(work(1, tell)).encode())
    finally:
        os._exit(0)


def _stay_only_with(parent):
    if os.getppid() != parent:
        os._exit(1)


def _all(reading):
    """Return everything that comes from a descriptor until its other end is closed."""
    parts = iter(lambda: os.read(reading, 65536), b"")
    return b"".join(parts)


def _sent(send, data):
    """Send the progress event; return whether that worked."""
    try:
        return bool(send(EVENT, data))
    except (SaltException, OSError) as err:
        log.debug("no event %s: %s", EVENT, err)
        return False
