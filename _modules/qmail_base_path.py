"""
Where a path leads: to one file under two spellings, as a home may be spelled otherwise today than when something was
written there, or to no file at all, where somebody else has made it.
"""

import os
import stat

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def is_one(path, other):
    """
    Return whether two paths lead to one file, whether it exists or not: the names are the same, and so are the real
    paths of the directories.

    path, other
        Absolute paths.

    For all.
    """
    return path == other or _place(path) == _place(other)


def plain(path):
    """
    Open a file for reading that somebody else may own; return ``None`` if it is not a file.

    He may have made it a link to a device: it is opened only after it was seen to be a file, since to open a device may
    already do something.

    Raises OSError.

    path
        The path.

    For all.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(f"/proc/self/fd/{place}", flags)
        except FileNotFoundError:  # no /proc here
            handle = os.open(path, flags)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                return None
        return open(handle, "rb")
    finally:
        os.close(place)


def _place(path):
    directory, name = os.path.split(path)
    return os.path.realpath(directory), name
