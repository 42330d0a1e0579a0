"""
Everything in a constant database: the format of users/cdb, and of vpopmail's vpasswd.cdb.

The format is that of cdb(5): 256 pairs of numbers that lead to the tables, then the records, then the tables.
"""

import os
import stat
import struct

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

HEAD = 2048  # bytes; the records begin here
LARGEST = 1 << 28  # bytes; a million users are about 100 MB
LARGEST_RECORD = 1 << 16  # bytes
PAIR = struct.Struct("<II")


def records(path):
    """
    Return the records of a database in their order, as pairs of bytes: a key and its data.

    Raises CommandExecutionError if the file cannot be read, is damaged, or is larger than 256 MiB.

    path
        The file, under its real path.

    For ``qmail_route_recipients``, ``qmail_route_smtpd`` and ``qmail_route_users``.
    """
    raw = _read(path)
    if len(raw) < HEAD:
        raise CommandExecutionError(f"{path} is damaged: it is too short for a constant database.")
    end = min(len(raw), *(place for place, _ in PAIR.iter_unpack(raw[:HEAD])))
    found, at = [], HEAD
    while at < end:
        size, length = PAIR.unpack_from(raw, at) if at + PAIR.size <= end else (LARGEST, 0)
        key, data = at + PAIR.size, at + PAIR.size + size
        at = data + length
        if max(size, length) > LARGEST_RECORD or at > end:
            raise CommandExecutionError(f"{path} is damaged: a record of it goes on beyond the end.")
        found.append((raw[key:data], raw[data:at]))
    return found


def _read(path):
    """Another user may own the directory: a FIFO must not make us wait, nor a huge file fill the memory."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
                raise CommandExecutionError(f"{path} is not a constant database: it is too large, or not a file.")
            return file.read(LARGEST)
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {path}: {__salt__['qmail_base_refusal.told'](err)}") from err
