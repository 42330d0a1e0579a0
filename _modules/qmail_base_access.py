"""
What the kernel answers when a given user wants a path.

Salt runs as root, and root may do nearly everything: what the kernel allows us says nothing about the user that
qmail-local runs as. So this walks every component of the path and judges by owner, group and mode bits. qmail-lspawn
leaves a delivery only one group (prot.c, ``prot_gid``), so only that one counts here. Access control lists and security
modules are not examined.
"""

import errno
import os
import pwd
import stat

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

_LONGEST_PATH = 4096  # bytes, with the final NUL (limits.h, PATH_MAX)
_MOST_LINKS = 40  # path_resolution(7)
_NO_ID = 2**32 - 1  # chown(2): -1 stands for nobody
_READ, _WRITE, _SEARCH = 4, 2, 1
_VERBS = {"search": "enter", "read": "read", "append": "write to", "create": "write in", "execute": "run"}
_TROUBLES = {
    "EACCES": ("{user} is not allowed to {verb} {at}", "change its owner or mode"),
    "EISDIR": ("{at} is a directory", "end the line with a / if it is a Maildir"),
    "ELOOP": ("{at} is one symbolic link too many", "name the place itself"),
    "ENAMETOOLONG": ("the name is too long", "shorten it"),
    "ENOENT": ("{at} does not exist", "make it"),
    "ENOTDIR": ("{at} is not a directory", "make it one"),
    "EROFS": ("{at} is on a read-only file system", "make that writable"),
}
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def identity(user, gid=None):
    """
    Return the numbers that a user's deliveries run with, as a dict with ``user``, ``uid`` and ``gid``.

    A number without an entry in passwd is taken as it is, with the same number for its group. Raises
    ``SaltInvocationError`` for a name that has no entry.

    user
        A user name, or a user id.

    gid
        The group id, if it is not the one in passwd: ``users/assign`` names its own.

    For all.
    """
    uid, own_gid = _passwd(user)
    gid = own_gid if gid is None else _number(gid)
    if gid is None:
        raise SaltInvocationError("the group id must be a number that is not negative")
    return {"user": str(user), "uid": uid, "gid": gid}


def lookup(path, uid, gid, want="read", cwd="/"):
    """
    Return what a user meets at a path, as a dict.

    ``error`` is ``None``, or the name of the errno (``EACCES``, ``ENOENT``, …); then ``trouble`` says it in words, and
    what to change. Without an error, ``path`` is the path free of links, ``kind`` is ``file``, ``directory``, ``fifo``,
    ``socket`` or ``device`` (``None`` if the path would be made), and ``mode``, ``dev`` and ``ino`` are numbers from
    its inode.

    Raises ``CommandExecutionError`` if this process itself may not look, and ``SaltInvocationError`` for an unknown
    ``want`` or an impossible path.

    path
        The path; links are followed.

    uid
        The user id.

    gid
        The user's only group.

    want
        ``search`` a directory, ``read``, ``append`` to a file or make it, ``create`` an entry in a
        directory, or ``execute`` a file.

    cwd
        The directory that a relative path starts from; free of links.

    For all.
    """
    if want not in _VERBS:
        raise SaltInvocationError(f"want must be one of {', '.join(_VERBS)}, not {want!r}")
    if "\0" in path or not cwd.startswith("/"):
        raise SaltInvocationError(f"{path!r} below {cwd!r} is not a path: it holds a NUL or {cwd!r} is not absolute")
    try:
        real, seen = _walk(path, uid, gid, cwd)
        _permit(real, seen, uid, gid, want)
    except OSError as err:
        return _trouble(err, uid, want)
    if seen is None:
        return {"error": None, "path": real, "kind": None}
    return {
        "error": None,
        "path": real,
        "kind": _KINDS.get(stat.S_IFMT(seen.st_mode), "device"),
        "mode": stat.S_IMODE(seen.st_mode),
        "dev": seen.st_dev,
        "ino": seen.st_ino,
    }


def there(path):
    """
    Return whether anything is at a path, be it a link that leads nowhere.

    Raises ``CommandExecutionError`` if this process may not look: that is no answer, and must not be taken for one.

    path
        The path.

    For all.
    """
    try:
        return bool(_lstat(path))
    except (OSError, ValueError):
        return False


def _trouble(err, uid, want):
    error = errno.errorcode.get(err.errno, "EIO")
    what, remedy = _TROUBLES.get(error, ("{at}: " + err.strerror, "fix that"))
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"the user {uid}"
    words = what.format(user=user, verb=_VERBS[want], at=__salt__["qmail_base_text.shown"](err.filename))
    return {"error": error, "trouble": f"{words}; {remedy}"}


def _passwd(user):
    number = _number(user)
    try:
        entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
    except (KeyError, TypeError, ValueError):
        if number is None:
            raise SaltInvocationError(f"there is no user {user!r}") from None
        return number, number
    return entry.pw_uid, entry.pw_gid


def _number(value):
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 10):
        return None
    return int(value) if 0 <= int(value) < _NO_ID else None


def _walk(path, uid, gid, cwd):
    """Follow a path to its end: the path free of links and its stat, or None if only the end is missing."""
    if not path:
        raise _error(errno.ENOENT, path)
    if len(os.fsencode(path)) >= _LONGEST_PATH:
        raise _error(errno.ENAMETOOLONG, path)
    here = "/" if path.startswith("/") else cwd
    seen = _lstat(here)
    ahead = path.split("/")[::-1]
    links = 0
    while ahead:
        part = ahead.pop()
        _permit(here, seen, uid, gid, "search")
        if part in ("", "."):
            continue
        there = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        try:
            found = _lstat(there)
        except FileNotFoundError:
            if ahead:
                raise
            return there, None
        if not stat.S_ISLNK(found.st_mode):
            here, seen = there, found
            continue
        links += 1
        if links > _MOST_LINKS:
            raise _error(errno.ELOOP, there)
        target = os.readlink(there)
        ahead.extend(target.split("/")[::-1])
        if target.startswith("/"):
            here, seen = "/", _lstat("/")
    return here, seen


def _error(number, path):
    return OSError(number, os.strerror(number), path)


def _lstat(path):
    try:
        return os.lstat(path)
    except PermissionError as err:
        name = __salt__["qmail_base_text.shown"](path)
        raise CommandExecutionError(f"{name}: this process may not look there: run it as root") from err


def _permit(path, seen, uid, gid, want):
    """Raise the OSError that the user would get."""
    if seen is None:
        if want != "append":
            raise _error(errno.ENOENT, path)
        parent = os.path.dirname(path)
        _permit(parent, _lstat(parent), uid, gid, "create")
        return
    directory = stat.S_ISDIR(seen.st_mode)
    if want in ("search", "create") and not directory:
        raise _error(errno.ENOTDIR, path)
    if want == "append" and directory:
        raise _error(errno.EISDIR, path)
    if want == "execute" and not stat.S_ISREG(seen.st_mode):
        raise _error(errno.EACCES, path)
    bits = {"read": _READ, "append": _WRITE, "create": _WRITE | _SEARCH}.get(want, _SEARCH)
    if not _granted(seen, uid, gid, bits):
        raise _error(errno.EACCES, path)
    if bits & _WRITE and os.statvfs(path).f_flag & os.ST_RDONLY:
        raise _error(errno.EROFS, path)


def _granted(seen, uid, gid, bits):
    """The first class that fits decides alone: an owner without a bit does not get it from the group."""
    if uid == 0:
        return not bits & _SEARCH or stat.S_ISDIR(seen.st_mode) or bool(seen.st_mode & 0o111)
    if uid == seen.st_uid:
        return (seen.st_mode >> 6) & bits == bits
    if gid == seen.st_gid:
        return (seen.st_mode >> 3) & bits == bits
    return seen.st_mode & bits == bits
