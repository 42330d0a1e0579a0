"""
Remember what was in a file before this project wrote there, and what it wrote itself.

For each file there is a directory in ``/var/lib/qmail-doublebounce/kept`` (root only; ``qmail_kept.directory`` in the
minion's configuration moves it) under the file's own path. ``v1``, ``v2`` … in it are the versions that others wrote,
each one JSON file with contents, owner and mode; ``ledger`` holds the digests of what was written over them.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

DIRECTORY = "/var/lib/qmail-doublebounce/kept"
LEDGER = "ledger"
NOTHING = {"written": [], "note": None, "ended": None}


def versions(path):
    """
    List the kept versions of a file, newest first.

    Each is a dict: ``version`` (its name, for ``qmail_file.restore``), ``time`` (when it was replaced, ISO 8601, UTC),
    ``exists`` (``False``: there was no file), and of the file ``uid``, ``gid``, ``mode`` and ``size`` in bytes.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.versions /var/qmail/control/doublebounceto
    """
    with _explained(path):
        return [_summary(path, name) for name in _names(path)]


def version(path, name=None):
    """
    Return one kept version: a dict with ``contents`` (bytes), ``uid``, ``gid``, ``mode``; ``None`` for "no file".

    Raises SaltInvocationError where there is no such version.

    path
        Absolute path of the file.

    name
        A version that ``versions`` lists; ``None`` for the newest.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.version /var/qmail/control/doublebounceto v1
    """
    with _explained(path):
        return _file(_record(path, name))


def files(note=None):
    """
    List the files that this project has written, in the order of their paths.

    Each is a dict with ``path``, ``note`` (what the file was written for, such as an address; ``None`` for a control
    file) and ``written``: ``True`` while what was written there has not been put back.

    note
        Only files with this note.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.files
    """
    with _explained("what was written"):
        ledgers = {path: _ledger(path) for path in _paths()}
    return [
        {"path": path, "note": ledgers[path]["note"], "written": bool(ledgers[path]["written"])}
        for path in sorted(ledgers)
        if note in (None, ledgers[path]["note"])
    ]


def ours(path, contents):
    """
    Tell whether these contents of a file are what this project wrote there, and has not put back since.

    path
        Absolute path of the file.

    contents
        Bytes.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.ours /var/qmail/control/doublebounceto dummy
    """
    with _explained(path):
        return _digest(contents) in _ledger(path)["written"]


def ended(path):
    """
    Return when a file was last put back, in seconds since the epoch; ``None`` where it never was.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.ended /var/qmail/control/doublebounceto
    """
    with _explained(path):
        return _ledger(path)["ended"]


def keep(path, found):
    """
    Keep what is in a file, unless this project wrote it; each distinct version is kept once, as the newest.

    Nothing calls this from the command line; ``qmail_file.replace`` does before it writes.

    path
        Absolute path of the file.

    found
        What ``qmail_file.read`` returned: a dict, or ``None`` where there is no file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.keep /var/qmail/control/doublebounceto None
    """
    with _locked(path):
        if found and _digest(found["contents"]) in _ledger(path)["written"]:
            return
        names = _names(path)
        same = [name for name in names if _file(_record(path, name)) == found]
        newest = int(names[0][1:]) if names else 0
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "exists": found is not None}
        record.update({field: found and found[field] for field in ("uid", "gid", "mode")})
        record["contents"] = found["contents"].decode("latin-1") if found else ""  # exact: a character for each byte
        _write(os.path.join(_home(path), f"v{newest + 1}"), record)
        for name in same:
            os.unlink(os.path.join(_home(path), name))


def claim(path, contents, note=None):
    """
    Write down that this project is about to write these contents.

    Nothing calls this from the command line; ``qmail_file.replace`` does before it writes.

    path
        Absolute path of the file.

    contents
        Bytes.

    note
        A line that ``files`` tells, for example the address that the file is for.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.claim /var/qmail/control/doublebounceto dummy
    """
    with _locked(path):
        ledger = _ledger(path)
        digests = [*ledger["written"], _digest(contents)]
        _write(os.path.join(_home(path), LEDGER), {**ledger, "written": sorted(set(digests)), "note": note})


def end(path):
    """
    Write down that a file was put back: what is in it now is no longer this project's.

    Nothing calls this from the command line; ``qmail_file.restore`` does after it has written.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.end /var/qmail/control/doublebounceto
    """
    with _locked(path):
        ledger = {"written": [], "note": _ledger(path)["note"], "ended": time.time()}
        _write(os.path.join(_home(path), LEDGER), ledger)


def directory(path, make=False):
    """
    Return the directory in which what belongs to a file is kept.

    Raises CommandExecutionError where it cannot be made, or what is kept is open to others.

    path
        Absolute path of the file.

    make
        Make it where it is missing, open to nobody else.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_kept.directory /var/qmail/control/doublebounceto
    """
    if make:
        with _explained(path):
            _make_root()
            os.makedirs(_home(path), mode=0o700, exist_ok=True)
    return _home(path)


def _root():
    return __opts__.get("qmail_kept.directory") or DIRECTORY


def _home(path):
    return _root() + path


def _paths():
    """Name every file that has a ledger."""
    for directory, _, names in os.walk(_root(), onerror=_unless_missing):
        if LEDGER in names:
            yield directory[len(_root()) :]


def _unless_missing(err):
    if not isinstance(err, FileNotFoundError):
        raise err


def _names(path):
    """Name what is kept of a file, newest first: v3, v2, v1. Numbers rather than times: clocks are set back."""
    try:
        names = os.listdir(_home(path))
    except FileNotFoundError:
        return []
    numbers = [int(name[1:]) for name in names if name[:1] == "v" and name[1:].isdecimal()]
    return [f"v{number}" for number in sorted(numbers, reverse=True)]


def _record(path, name):
    names = _names(path)
    if not names or name not in (None, *names):
        raise SaltInvocationError(
            f"There is no kept version {name or ''} of {path}. Kept: {', '.join(names) or 'none'}."
        )
    return _read(os.path.join(_home(path), name or names[0]))


def _file(record):
    if not record["exists"]:
        return None
    fields = {field: record[field] for field in ("uid", "gid", "mode")}
    return {**fields, "contents": record["contents"].encode("latin-1")}


def _summary(path, name):
    record = _record(path, name)
    size = len(record.pop("contents")) if record["exists"] else None
    return {"version": name, **record, "size": size}


def _digest(contents):
    contents = contents.encode() if isinstance(contents, str) else contents
    return hashlib.sha256(contents).hexdigest()


def _ledger(path):
    try:
        return _read(os.path.join(_home(path), LEDGER))
    except FileNotFoundError:
        return NOTHING


@contextlib.contextmanager
def _explained(path):
    try:
        yield
    except OSError as err:
        raise CommandExecutionError(
            f"Cannot keep a record of {path} in {_root()}: {err.strerror}. Run Salt as root."
        ) from err


@contextlib.contextmanager
def _locked(path):
    """Two runs at once take turns."""
    with _explained(path):
        handle = os.open(directory(path, make=True), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _make_root():
    """What is kept was others' secret, and root writes it back: nobody else may come near."""
    os.makedirs(_root(), mode=0o700, exist_ok=True)
    found = os.stat(_root())
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o077:
        raise CommandExecutionError(f"{_root()} is open to others. Mend it: chown root {_root()}; chmod 700 {_root()}")


def _read(name):
    with open(name, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as err:
            raise CommandExecutionError(f"{name} is damaged: {err}. Move it away, and look at what it kept.") from err


def _write(name, value):
    temporary = f"{name}.{secrets.token_hex(4)}"
    with open(temporary, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, name)
    handle = os.open(os.path.dirname(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
