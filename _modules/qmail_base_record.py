"""
Small records of this project's own, in a directory that is open to root only: written whole, read with suspicion.
"""

import contextlib
import fcntl
import json
import os
import stat
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LARGEST = 2**25  # bytes: qmail_log_tally keeps up to half as many, and they grow by a third as text
PAUSE = 0.02
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def load(path, version):
    """
    Return what ``save`` wrote: a dict; ``None`` if there is nothing.

    Raises CommandExecutionError with the reason if it is damaged, of another version, or not a record at all.

    path
        Absolute path of the record.

    version
        The version that the caller understands.

    For all.
    """
    try:
        handle = os.open(path, READ)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {path}: {__salt__['qmail_base_refusal.told'](err)}") from err
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_size > LARGEST:
            raise CommandExecutionError(f"{path} is not this project's.")
        with open(handle, "rb", closefd=False) as file:
            text = file.read(LARGEST)
    finally:
        os.close(handle)
    try:
        record = json.loads(text.decode())
    except (ValueError, RecursionError) as err:
        raise CommandExecutionError(f"{path} is damaged: {err}.") from err
    if not isinstance(record, dict) or record.get("version") != version:
        raise CommandExecutionError(f"{path} is of another version than {version}.")
    return record


def save(path, record):
    """
    Write a record, as a whole or not at all. What was written last may be lost when the machine itself goes down: to
    wait for a busy disk is not for the process that asks.

    Raises CommandExecutionError if it cannot be written.

    path
        Absolute path of the record. Whoever writes it holds its ``lock``.

    record
        A dict of what JSON can hold, with its ``version``.

    For all.
    """
    try:
        handle = os.open(f"{path}.new", WRITE, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.rename(f"{path}.new", path)
    except OSError as err:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.new")
        raise CommandExecutionError(f"Cannot write {path}: {__salt__['qmail_base_refusal.told'](err)}") from err


def lock(path, patience=0):
    """
    Return a descriptor that holds the lock of a record, until it is closed; ``None`` if somebody else holds it.

    Raises CommandExecutionError if it cannot be made.

    path
        Absolute path of the record. Its directory must exist.

    patience
        Seconds to wait for the other one.

    For all.
    """
    deadline = time.monotonic() + patience
    try:
        handle = os.open(f"{path}.lock", WRITE, 0o600)
    except OSError as err:
        raise CommandExecutionError(f"Cannot write {path}.lock: {__salt__['qmail_base_refusal.told'](err)}") from err
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(handle)
                return None
        time.sleep(PAUSE)
