"""
Everything in a constant database: the format of users/cdb, and of vpopmail's vpasswd.cdb.

The format is that of cdb(5): 256 pairs of numbers that lead to the tables, then the records, then the tables.
"""

import os
import struct

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

HEAD = 2048  # bytes; the records begin here
LARGEST = 1 << 28  # bytes; a million users are about 100 MB
LARGEST_RECORD = 1 << 16  # bytes
MOST = 1 << 21  # records; more users than a server has
PAIR = struct.Struct("<II")


def records(path):
    """
    Yield the records of a database in their order, as pairs of bytes: a key and its data.

    None is kept here: another user may own the file, and a hole of some megabytes on the disk reads as millions of
    empty records.

    Raises CommandExecutionError, as late as when that is seen, if the file cannot be read, is damaged, is larger than
    256 MiB, or has more than two million records.

    path
        The file, under its real path.

    For ``qmail_route_recipients``, ``qmail_route_smtpd`` and ``qmail_route_users``.
    """
    try:
        file = __salt__["qmail_base_path.plain"](path)
        if file is None:
            raise CommandExecutionError(f"{path} is not a constant database: it is not a file.")
        with file:
            yield from _records(file, path)
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {path}: {__salt__['qmail_base_refusal.told'](err)}") from err


def _records(file, path):
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST:  # it would take hours
        raise CommandExecutionError(f"{path} is not a constant database: it is too large.")
    head = file.read(HEAD)
    if len(head) < HEAD:
        raise CommandExecutionError(f"{path} is damaged: it is too short for a constant database.")
    end = min(size, *(place for place, _ in PAIR.iter_unpack(head)))
    at = HEAD
    for _ in range(MOST):
        if at >= end:
            return
        pair = file.read(PAIR.size)
        named, length = PAIR.unpack(pair) if len(pair) == PAIR.size else (LARGEST, 0)
        at += PAIR.size + named + length
        record = file.read(named + length) if max(named, length) <= LARGEST_RECORD and at <= end else b""
        if at > end or len(record) != named + length:
            raise CommandExecutionError(f"{path} is damaged: a record of it goes on beyond the end.")
        yield record[:named], record[named:]
    if at < end:
        raise CommandExecutionError(f"{path} has more than {MOST} records, and is read no further.")
