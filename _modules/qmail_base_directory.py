"""
The safe way into a directory that its owner may be changing right now.
"""

import errno
import os
import stat

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LINKS = 40  # as many symbolic links as Linux follows in one path
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def enter(path, wanted=None):
    """
    Open a directory that somebody else may be changing right now, and return its descriptor.

    The caller closes it. The path is walked by descriptor, one name after the other, so that swapping a directory gains
    an attacker nothing. A symbolic link is followed only if nobody but root (or the user Salt runs as) could have made
    it.

    Raises CommandExecutionError if the path leads through a link that others could have made, and the system's OSError
    if there is no such directory, or it cannot be opened.

    path
        Absolute path of the directory.

    wanted
        What the error names, if that is more than the directory: the path of a file in it.

    For all.
    """
    todo = [part for part in path.split("/") if part]
    links = 0
    here = os.open("/", DIRECTORY)
    try:
        while todo:
            part = todo.pop(0)
            try:
                below = os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            except OSError as err:
                if err.errno not in (errno.ELOOP, errno.ENOTDIR) or not _is_link(here, part):
                    raise
                links += 1
                target = _target(here, part, wanted or path, links)
                todo[:0] = [piece for piece in target.split("/") if piece and piece != "."]
                below = os.open("/" if target.startswith("/") else ".", DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def _is_link(parent, name):
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _target(parent, name, path, links):
    """Return where a link points, if only root or this user could have made it."""
    found = os.fstat(parent)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        link = __salt__["qmail_base_text.shown"](name)
        raise CommandExecutionError(
            f"{path} leads through the symbolic link {link}, in a directory that others can write to. "
            "Links are not followed there: replace it by a directory, or name the real path."
        )
    if links > LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.readlink(name, dir_fd=parent)
