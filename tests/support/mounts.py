"""Mounts that only this process and its children see."""

import contextlib
import ctypes
import os
import pathlib

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACE = 0x20000  # CLONE_NEWNS in sched.h
# In sys/mount.h: MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_STRICTATIME, and MNT_DETACH.
READ_ONLY, REMOUNT = 1, 1 << 5
BIND, RECURSIVE, PRIVATE, EVERY_ATIME = 1 << 12, 1 << 14, 1 << 18, 1 << 24
DETACH = 2
PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41  # the number of the system call; libc has no function for it
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
    call(LIBC.mount, os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode())


def bind(source, target):
    """Have at one path what is at another, with all that is mounted there."""
    _enter()
    call(LIBC.mount, os.fsencode(source), os.fsencode(target), None, BIND | RECURSIVE, None)


def bind_read_only(source, target):
    """Have at one path what is at another, without what is mounted in it, and nothing of it can be written there."""
    _enter()
    pathlib.Path(target).mkdir(parents=True, exist_ok=True)
    call(LIBC.mount, os.fsencode(source), os.fsencode(target), None, BIND, None)
    call(LIBC.mount, None, os.fsencode(target), None, REMOUNT | BIND | READ_ONLY, None)


def shown():
    """List the directories that something is mounted on, each behind those that it is in."""
    lines = pathlib.Path("/proc/self/mountinfo").read_bytes().splitlines()
    paths = {pathlib.Path(line.split()[4].decode("unicode_escape")) for line in lines}
    return sorted(path for path in paths if path.is_dir())


def pivot(root):
    """Have a mount be the root of this namespace, and nothing else be in it."""
    os.chdir(root)
    call(LIBC.syscall, PIVOT_ROOT, b".", b".")
    unmount(".")  # the former one, which lies over it now
    os.chdir("/")


def unmount(target):
    """Take a mount away, with all that is mounted in it, also while somebody uses it."""
    call(LIBC.umount2, os.fsencode(target), DETACH)


def _enter():
    """Give this process mounts of its own, once."""
    if os.readlink(NAMESPACE) not in _own:
        part()


def part():
    """Give this process other mounts than its parent has: all that it can see stays where it is."""
    call(LIBC.unshare, NEW_NAMESPACE)
    call(LIBC.mount, None, b"/", None, PRIVATE | RECURSIVE, None)
    _own.append(os.readlink(NAMESPACE))


def call(function, *arguments):
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
