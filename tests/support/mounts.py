"""Mounts that only this process and its children see."""

import contextlib
import ctypes
import os
import pathlib

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACE = 0x20000  # CLONE_NEWNS in sched.h
# In sys/mount.h: MS_BIND, MS_REC, MS_PRIVATE, MS_STRICTATIME, and MNT_DETACH.
BIND, RECURSIVE, PRIVATE, EVERY_ATIME = 1 << 12, 1 << 14, 1 << 18, 1 << 24
DETACH = 2
NAMESPACE = pathlib.Path("/proc/thread-self/ns/mnt")
_own = []  # the namespace that this process has made for itself


def denied():
    """Return why this process may not mount anything, or ``None`` where it may: a container may keep root from it."""
    if os.geteuid() != 0:
        return "only root may mount"
    try:
        _enter()
    except OSError as err:
        return f"root may not mount here ({err.strerror})"
    return None


@contextlib.contextmanager
def covered(directory):
    """Have nothing in a directory meanwhile; what is put there is gone afterwards."""
    mount("tmpfs", directory, "tmpfs", "mode=755")
    try:
        yield pathlib.Path(directory)
    finally:
        unmount(directory)


def mount(source, target, kind, options="", flags=0):
    _enter()
    pathlib.Path(target).mkdir(parents=True, exist_ok=True)
    _call(LIBC.mount, os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode())


def bind(source, target):
    """Have at one path what is at another, with all that is mounted there."""
    _enter()
    _call(LIBC.mount, os.fsencode(source), os.fsencode(target), None, BIND | RECURSIVE, None)


def unmount(target):
    """Take a mount away, with all that is mounted in it, also while somebody uses it."""
    _call(LIBC.umount2, os.fsencode(target), DETACH)


def _enter():
    """Give this process mounts of its own, once: all that it can see stays where it is."""
    if os.readlink(NAMESPACE) in _own:
        return
    _call(LIBC.unshare, NEW_NAMESPACE)
    _call(LIBC.mount, None, b"/", None, PRIVATE | RECURSIVE, None)
    _own.append(os.readlink(NAMESPACE))


def _call(function, *arguments):
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
