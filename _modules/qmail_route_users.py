"""
Who receives a local part: ``users/cdb`` decides, and if it has no entry, the system's users do.

The rules are those of qmail-lspawn and qmail-getpw, as in qmail-users(5) and qmail-getpw(8).
"""

import contextlib
import os
import pwd
import struct

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

BREAK = b"-"  # conf-break, compiled into qmail-getpw
LONGEST_NAME = 31  # bytes; qmail-getpw does not look up a longer user name
LARGEST_RECORD = 1 << 16  # bytes; a line of users/assign is far shorter


def find(local, home="/var/qmail", root=None):
    """
    Return who receives mail for a local part, by the rules of qmail-lspawn.

    Returns a dict: ``user``, ``uid``, ``gid``, ``home`` (a directory), ``dash`` and ``ext`` (what follows ``.qmail``
    in the name of the dot-qmail file), and ``source``: ``assign`` (users/cdb) or ``passwd``.

    Bytes that are not UTF-8 are shown by escapes, as by ``qmail_base_text.shown``. A ``home`` with one is not a path.

    Raises CommandExecutionError if qmail-lspawn would defer every message: ``users/cdb`` is damaged, or there is no
    user ``alias``.

    local
        The local part of the recipient, as qmail-send rewrote it.

    home
        The qmail home directory.

    root
        A directory that stands for ``/``; every path, and passwd, is taken from below it.

    For ``qmail_route``.
    """
    raw = _raw(local)
    if b"\0" in raw:
        raise SaltInvocationError(f"{local!r} holds a NUL byte, which is impossible in a recipient.")
    return _shown(_assigned(raw, home, root) or _getpw(raw, root))


def everybody(home="/var/qmail", root=None):
    """
    Return what ``find`` can find: for each line of users/assign, and for each of the system's users, a dict with
    ``key`` (the local part, or with what it begins), ``whole`` (whether that is the whole local part), and ``user``,
    ``uid``, ``gid``, ``home``, ``dash`` and ``begin`` (that of the extension).

    Which of two that fit gets the mail is for ``find`` to say. The system's users are those that it lists: some
    directory services find a user by name, but list none.

    Raises CommandExecutionError if users/cdb or passwd cannot be read, or is damaged.

    home, root
        As for ``find``.

    For ``qmail_route_recipients``.
    """
    return [_shown(entry) for entry in (*_lines(home, root), *_people(root))]


def _shown(entry):
    """Until here, names are kept so that their bytes can be looked up."""
    return {key: _sendable(value) if isinstance(value, str) else value for key, value in entry.items()}


def _sendable(text):
    return _raw(text).decode("utf-8", "backslashreplace")


def _lines(home, root):
    path = _below(root, os.path.join(home, "users/cdb"))
    if not __salt__["qmail_base_access.there"](path):
        return
    for key, data in __salt__["qmail_route_cdb.records"](path):
        fields = data.split(b"\0")
        if key[:1] == b"!" and len(fields) >= 6:
            whole, names = key.endswith(b"\0"), ("user", "home", "dash", "begin")
            texts = dict(zip(names, map(_text, (fields[0], *fields[3:6]))))
            numbers = {"uid": _number(fields[1]), "gid": _number(fields[2])}
            yield {"key": _text(key[1:].rstrip(b"\0") if whole else key[1:]), "whole": whole, **texts, **numbers}


def _people(root):
    for user in _passwd_entries(root):
        name, raw = user["user"], _raw(user["user"])
        if name == "alias":
            yield {**user, "key": "", "whole": False, "dash": "-", "begin": ""}
        # qmail-getpw looks names up in lower case, and passes over root and over who does not own a home.
        if name and raw == raw.lower() and len(raw) <= LONGEST_NAME and user["uid"] and _owns_home(user, root):
            yield {**user, "key": name, "whole": True, "dash": "", "begin": ""}
            yield {**user, "key": f"{name}{_text(BREAK)}", "whole": False, "dash": "-", "begin": ""}


@contextlib.contextmanager
def _opened(path):
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {path}: {err.strerror}.") from err
    try:
        yield handle
    finally:
        os.close(handle)


def _cdb_get(handle, path, key):
    number = _cdb_hash(key)
    table, slots = _pair(handle, path, 8 * (number & 255))
    for step in range(slots):
        slot = (number >> 8) + step
        found, record = _pair(handle, path, table + 8 * (slot % slots))
        if not record:
            return None
        if found != number:
            continue
        key_size, size = _pair(handle, path, record)
        if key_size == len(key) and _bytes(handle, path, record + 8, key_size) == key:
            return _bytes(handle, path, record + 8 + key_size, size)
    return None


def _cdb_hash(key):
    number = 5381
    for byte in key:
        number = (number * 33 & 0xFFFFFFFF) ^ byte
    return number


def _pair(handle, path, position):
    return struct.unpack("<II", _bytes(handle, path, position, 8))


def _bytes(handle, path, position, size):
    try:
        found = os.pread(handle, size, position) if size <= LARGEST_RECORD else b""
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {path}: {err.strerror}.") from err
    if len(found) != size:
        raise CommandExecutionError(
            f"{path} is damaged, and qmail defers all local mail because of it. Run qmail-newu."
        )
    return found


def _assigned(local, home, root):
    path = _below(root, os.path.join(home, "users/cdb"))
    if not __salt__["qmail_base_access.there"](path):
        return None
    with _opened(path) as handle:
        found = _entry(handle, path, local)
    if found is None:
        return None
    record, rest = found
    fields = record.split(b"\0")
    # user, uid, gid, home, dash, and the extension's beginning; qmail-newu puts a NUL after each but the last.
    if len(fields) < 6:
        raise CommandExecutionError(
            f"{path} holds a line with too few fields for {_sendable(_text(local))}. Correct users/assign, then run "
            "qmail-newu."
        )
    user, uid, gid, directory, dash, begin = fields[:6]
    return {
        "user": _text(user),
        "uid": _number(uid),
        "gid": _number(gid),
        "home": _text(directory),
        "dash": _text(dash),
        "ext": _text(begin + rest if len(fields) == 6 else begin),
        "source": "assign",
    }


def _entry(handle, path, local):
    """Find the whole local part, else the longest wildcard that ends in a break character, else the shortest."""
    key = b"!" + local.lower()  # ASCII only, as in qmail
    breaks = _cdb_get(handle, path, b"")
    if breaks is None:
        raise CommandExecutionError(
            f"{path} is damaged, and qmail defers all local mail because of it. Run qmail-newu."
        )
    exact = _cdb_get(handle, path, key + b"\0")
    if exact is not None:
        return exact, b""
    for size in range(len(key), 0, -1):
        if size > 1 and key[size - 1] not in breaks:
            continue
        found = _cdb_get(handle, path, key[:size])
        if found is not None:
            return found, local[size - 1 :]
    return None


def _number(digits):
    """Read a number as qmail's scan_ulong does: the digits at its beginning, and 0 if there are none."""
    end = next((place for place, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))
    return int(digits[:end] or b"0") & 0xFFFFFFFF


def _getpw(local, root):
    """Find the longest user name at the beginning of the local part; the user alias gets what is left."""
    for size in range(len(local), -1, -1):
        if size > LONGEST_NAME or (size < len(local) and local[size : size + 1] != BREAK):
            continue
        found = _passwd(local[:size].lower(), root)
        if found and found["uid"] and _owns_home(found, root):
            rest = local[size + 1 :]
            return {**found, "dash": "-" if size < len(local) else "", "ext": _text(rest), "source": "passwd"}
    alias = _passwd(b"alias", root)
    if alias is None:
        raise CommandExecutionError("There is no user alias; without it, qmail defers mail for unknown users.")
    return {**alias, "dash": "-", "ext": _text(local), "source": "passwd"}


def _owns_home(found, root):
    try:
        return os.stat(_below(root, found["home"])).st_uid == found["uid"]
    except (OSError, ValueError):
        return False


def _passwd(name, root):
    if root is None:
        try:
            entry = pwd.getpwnam(_text(name))
        except (KeyError, ValueError):
            return None
        return {"user": entry.pw_name, "uid": entry.pw_uid, "gid": entry.pw_gid, "home": entry.pw_dir}
    return next((entry for entry in _passwd_entries(root) if entry["user"] == _text(name)), None)


def _passwd_entries(root):
    """Iterate over the system's users."""
    if root is None:
        for entry in pwd.getpwall():
            yield {"user": entry.pw_name, "uid": entry.pw_uid, "gid": entry.pw_gid, "home": entry.pw_dir}
        return
    try:
        with open(_below(root, "/etc/passwd"), "rb") as file:
            entries = [line.rstrip(b"\n").split(b":") for line in file]
    except OSError as err:
        raise CommandExecutionError(f"Cannot read passwd below {root}: {err.strerror}.") from err
    for entry in entries:
        if len(entry) > 5 and entry[2].isdigit() and entry[3].isdigit():
            yield {"user": _text(entry[0]), "uid": int(entry[2]), "gid": int(entry[3]), "home": _text(entry[5])}


def _below(root, path):
    return path if root is None else os.path.join(root, path.lstrip("/"))


def _text(raw):
    return raw.decode("utf-8", "surrogateescape")


def _raw(text):
    return text.encode("utf-8", "surrogateescape")
