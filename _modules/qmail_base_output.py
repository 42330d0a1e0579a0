"""
A place for what a program says, also where no disk has room: that is just when somebody has to look.
"""

import os
import tempfile

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

ROOM = 4096  # bytes that are certain to fit; programs that fail say why in fewer
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - nothing has a name there  # nosec B108


def file():
    """
    Return an open file that has no name, with room for what is worth reading, and that is gone when it is closed. If
    neither a disk nor memory has any, it is ``/dev/null``: then the output is lost, and the program runs all the same.

    For all.
    """
    for place in (None, SHARED_MEMORY):
        found = None
        try:
            found = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - the caller closes it
            os.posix_fallocate(found.fileno(), 0, ROOM)
            return found
        except OSError:
            if found:
                found.close()
    return open(os.devnull, "r+b", buffering=0)


def said(output):
    """
    Return what has been written into such a file: text, of 4096 bytes at most.

    output
        What ``file`` returned. What still runs may go on writing there.

    For all.
    """
    return os.pread(output.fileno(), ROOM, 0).partition(b"\0")[0].decode(errors="backslashreplace").strip()
