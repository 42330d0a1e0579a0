"""
Keep what was in a file before this project wrote there.

For each file there is a directory in ``/var/lib/qmail-doublebounce/kept`` (root only; ``qmail_file.kept_directory`` in
the minion's configuration moves it) under the file's own path. ``v1``, ``v2`` … in it are the versions that others
wrote, each one JSON file with contents, owner and mode. Beside them ``qmail_file_ledger`` records what was written over
them.
"""

import contextlib
import fcntl
import json
import os
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

DIRECTORY = "/var/lib/qmail-doublebounce/kept"
MOST = 50  # versions of a file
PATIENCE = 60  # seconds to wait for another run that works on the same file
PAUSE = 0.01


def versions(path):
    """
    List the kept versions of a file, newest first.

    Each is a dict: ``version`` (its name, for ``qmail_file.restore``), ``time`` (when it was replaced, ISO 8601, UTC),
    ``exists`` (``False``: there was no file), and of the file ``uid``, ``gid``, ``mode`` and ``size`` in bytes.

    path
        Absolute path of the file.

    For ``qmail_file`` and ``qmail_file_change``.
    """
    with _explained(path):
        return [_summary(path, name) for name in _names(path)]


def version(path, name=None):
    """
    Return one kept version: a dict with ``contents`` (bytes), ``uid``, ``gid``, ``mode``; ``None`` if there was no
    file.

    path, name
        As for ``qmail_file.version``, which documents all of it.

    For ``qmail_file`` and ``qmail_file_change``.
    """
    with _explained(path):
        return _file(_record(path, name))


def lock(path):
    """
    Return a descriptor that holds the lock of a file: closing it lets the next run at the file.

    Whoever changes the record of a file holds its lock, from the look at the file until everything is done.

    Raises CommandExecutionError if another run holds it for a minute, or if nothing can be kept.

    path
        Absolute path of the file.

    For ``qmail_file_change``.
    """
    with _explained(path):
        handle = os.open(directory(path, make=True), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(handle, path)
        except BaseException:
            os.close(handle)
            raise
        return handle


def keep(path, found):
    """
    Keep what is in a file, which somebody else wrote; each distinct version is kept once, as the newest. Of a file with
    more than 50 of them, those between the oldest and the newest are dropped.

    Not for the command line: ``qmail_file.replace`` calls this before it writes.

    path
        Absolute path of the file.

    found
        What ``qmail_file.read`` returned: a dict, or ``None`` if there is no file.

    For ``qmail_file_change`` and ``qmail_file_entry``.
    """
    with _explained(path):
        names = _names(path)
        same = [name for name in names if _file(_record(path, name)) == found]
        newest = int(names[0][1:]) if names else 0
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "exists": found is not None}
        record.update({field: found and found[field] for field in ("uid", "gid", "mode")})
        record["contents"] = found["contents"].decode("latin-1") if found else ""  # exact: a character for each byte
        _write(os.path.join(_home(path), f"v{newest + 1}"), record)
        for name in same:
            os.unlink(os.path.join(_home(path), name))
        # Whoever owns a mailbox could fill the disk otherwise. The oldest is mostly what was there before all of it.
        for name in _names(path)[MOST - 1 : -1]:
            os.unlink(os.path.join(_home(path), name))


def load(path, name):
    """
    Return what was saved under a name beside the kept versions of a file; ``None`` if nothing was.

    path
        Absolute path of the file.

    name
        The name.

    For ``qmail_file_ledger``.
    """
    with _explained(path):
        try:
            return _read(os.path.join(_home(path), name))
        except FileNotFoundError:
            return None


def save(path, name, value):
    """
    Save something under a name beside the kept versions of a file. The caller holds the file's lock.

    path, name
        As for ``load``.

    value
        What JSON can hold.

    For ``qmail_file_ledger``.
    """
    with _explained(path):
        _write(os.path.join(_home(path), name), value)


def paths(name):
    """
    List the files that have something saved under a name beside their kept versions.

    name
        The name.

    For ``qmail_file_ledger``.
    """
    with _explained("what was written"):
        found = os.walk(_root(), onerror=_unless_missing)
        return sorted(directory[len(_root()) :] for directory, _, names in found if name in names)


def directory(path, make=False):
    """
    Return the directory for what is kept of a file.

    path, make
        As for ``qmail_file.store``, which documents all of it.

    For ``qmail_file``.
    """
    if make:
        with _explained(path):
            _make_root()
            os.makedirs(_home(path), mode=0o700, exist_ok=True)
    return _home(path)


def _root():
    root = __opts__.get("qmail_file.kept_directory")
    if root is None:
        return DIRECTORY
    if not isinstance(root, str) or not root.startswith("/") or "\0" in root or not root.strip("/."):
        raise SaltInvocationError(
            f"qmail_file.kept_directory in the minion's configuration is {root!r}; allowed: the absolute path of a "
            "directory that is used for nothing else."
        )
    return "/" + os.path.normpath(root).lstrip("/")


def _home(path):
    return _root() + path


def _unless_missing(err):
    if not isinstance(err, FileNotFoundError):
        raise err


def _names(path):
    """Name what is kept of a file, newest first: v3, v2, v1. Numbers rather than times, because clocks are set back."""
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
            f"There is no kept version{f' {name!r}' if name else ''} of {path}. Kept: {', '.join(names) or 'none'}."
        )
    return _read(os.path.join(_home(path), name or names[0]))


def _file(record):
    if not record["exists"]:
        return None
    fields = {field: record[field] for field in ("uid", "gid", "mode")}
    return {**fields, "contents": record["contents"].encode("latin-1")}


def _summary(path, name):
    record = _record(path, name)
    contents = record.pop("contents")
    return {"version": name, **record, "size": len(contents) if record["exists"] else None}


@contextlib.contextmanager
def _explained(path):
    try:
        yield
    except OSError as err:
        told = __salt__["qmail_base_refusal.told"](err)
        raise CommandExecutionError(f"Cannot keep a record of {path} in {_root()}: {told}") from err


def _lock(handle, path):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CommandExecutionError(
                    f"Another run has worked on {path} for {PATIENCE} seconds. To see what it waits for: salt-call "
                    "saltutil.running"
                ) from None
        time.sleep(PAUSE)


def _make_root():
    """What is kept may be somebody's secret, and root writes it back: nobody else may have access."""
    os.makedirs(_root(), mode=0o700, exist_ok=True)
    found = os.stat(_root())
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o077:
        raise CommandExecutionError(f"{_root()} is open to others. Fix it: chown root {_root()}; chmod 700 {_root()}")


def _read(name):
    with open(name, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as err:
            raise CommandExecutionError(f"{name} is damaged: {err}. Move it away, and check what it kept.") from err


def _write(name, value):
    temporary = f"{name}.new"  # always the same name: the lock is held, and what a killed run left is overwritten
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    handle = os.open(os.path.dirname(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
