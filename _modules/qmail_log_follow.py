"""
Follow qmail-send's log from a position on, through every rotation.

A position identifies a file by its first bytes, not by its name: multilog and logrotate rename files, and logrotate may
copy and truncate them, and pack the copy.
"""

import io
import lzma
import os
import re
import time
import zlib

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

JOURNALD = "journald"
# The first bytes of a log hold times: no two of its files begin alike.
HEAD = 256
BLOCK = 2**18
HEX = re.compile(r"(?:[0-9a-f]{2})*")
# What is known of other qmails that write to the same log, in a position.
SHARED = ("others", "mixed")
# How often files are opened again, where the log is rotated meanwhile.
TRIES = 20
# How many files are open at a time: a log may have been rotated a thousand times since.
MOST_FILES = 16


def position(path=None, home="/var/qmail", queue=None):
    """
    Return the end of a log, as a dictionary for ``lines_since``: plain data that can be kept.

    path, home, queue
        As for ``qmail_log.position``, which documents all of it.

    For ``qmail_log`` and ``qmail_log_tally``.
    """
    found = __salt__["qmail_log_file.find"](path, home, queue)
    return {**_end_of(found), **{name: found[name] for name in SHARED if found.get(name)}}


def _end_of(found):
    if found["kind"] == JOURNALD:
        since = int(time.time())
        entries = __salt__["qmail_log_journal.entries"](found["path"], ["--lines=1"], BLOCK)
        return {"path": found["path"], "cursor": entries[-1][0] if entries else None, "since": since}
    for _ in range(TRIES):
        names = found["files"][-2:]
        files = [(name, file) for name, file in zip(names, map(__salt__["qmail_log_part.opened"], names)) if file]
        try:
            now = __salt__["qmail_log_part.moved"](found["path"], found["files"], files)
            if now is None and files:
                file = _written_last([file for _, file in files])
                return _position(found["path"], file, _last_line(file))
        finally:
            _close(files)
        found = {**found, "files": now or found["files"]}
    raise CommandExecutionError(f"the log {found['path']} is rotated again and again: try again")


def _written_last(files):
    """Of two files the one that is written to: an empty one may wait for a syslog daemon that still has the other."""
    is_plain = isinstance(files[0], io.FileIO)
    return files[0] if is_plain and not _has_gone_on(files[1:]) else files[-1]


def _last_line(file):
    """Where an unfinished last line begins, or the end of the file."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - BLOCK)
    file.seek(start)
    return start + file.read(end - start).rfind(b"\n") + 1


def _position(path, file, offset):
    file.seek(0)
    head = file.read(min(HEAD, offset))
    return {"path": path, "head": head.hex(), "inode": os.fstat(file.fileno()).st_ino, "offset": offset}


def _is(file, where):
    """Return whether a file is the one of a position. One that was empty then is recognized by its inode."""
    head = bytes.fromhex(where["head"])
    if not head:
        return os.fstat(file.fileno()).st_ino == where["inode"]
    file.seek(0)
    return file.read(len(head)) == head


def _opened_since(found, where):
    """Open the file of a position and all newer ones; return the files, oldest first, and whether it is among them."""
    names = found["files"]
    for left in range(TRIES, -1, -1):
        files, known = _open_since(names, where)
        now = __salt__["qmail_log_part.moved"](found["path"], names, files)
        if now is None or not left:
            break
        _close(files)
        names = now
    return [file for _, file in files], known


def _open_since(names, where):
    """The file of a position and the next newer ones; only the newest of all, if it is not among them."""
    files, newest = [], None
    for name in reversed(names):
        file = __salt__["qmail_log_part.opened"](name)
        if file is None:
            continue
        files.insert(0, (name, file))
        newest = newest or name
        if _is(file, where):
            return files, True
        _close(files[MOST_FILES:])
        del files[MOST_FILES:]
    _close(files)
    last = newest and __salt__["qmail_log_part.opened"](newest)
    return [(newest, last)] if last else [], False


def _close(files):
    for _, file in files:
        file.close()


def _has_gone_on(files):
    """Tell whether a newer file is written to: a syslog daemon learns late that its file was renamed."""
    return any(os.fstat(file.fileno()).st_size for file in files)


def _lines(file, offset, limit, rotated):
    """Yield whole lines from an offset on, each with the offset after it."""
    file.seek(offset)
    while limit > 0:
        data = file.read(BLOCK)
        cut = data.rfind(b"\n") + 1
        if not cut and (rotated or len(data) == BLOCK):
            cut = len(data)  # multilog was killed in this line, or it has no end
        if not cut:
            return
        for line in io.BytesIO(data[:cut]):
            offset += len(line)
            yield line, offset
        limit -= cut
        file.seek(offset)


def lines_since(where, limit=2**20):
    """
    Return the lines that were written to a log since a position: ``{"lines": […], "position": {…}, "lost": …}``.

    where, limit
        As for ``qmail_log.lines_since``, which documents all of it.

    For ``qmail_log``.
    """
    told = block_since(where, limit)
    return {"lines": told.pop("data").decode("utf-8", "backslashreplace").split("\n")[:-1], **told}


def block_since(where, limit=2**20, seconds=None, unpack=None):
    """
    Return the lines that were written to a log since a position, as one block:
    ``{"data": …, "position": {…}, "lost": …}``.

    where, limit
        As for ``qmail_log.lines_since``.

    seconds
        How long journalctl may take; what it has returned until then is enough. ``None``: as long as it takes.

    unpack
        How many bytes of a packed file may lie before the position: they are unpacked for nothing. What is behind more
        of them counts as lost; ``None``: any number.

    For ``qmail_log_tally``.
    """
    if not _is_position(where):
        raise SaltInvocationError(f"where={where!r} is not a position: give what qmail_log.position returned")
    is_journal = "cursor" in where
    told = _journal_since(where, limit, seconds) if is_journal else _files_since(where, limit, unpack)
    told["position"].update((name, where[name]) for name in SHARED if name in where)
    others = where.get("others")
    # Each qmail-send counts its deliveries from 1 on: another one's end would be taken for that of ours.
    return {**told, "data": __salt__["qmail_log_line.without"](told["data"], others)} if others else told


def _files_since(where, limit, unpack):
    found = __salt__["qmail_log_part.named"](where["path"])
    try:
        return _file_since(found, where, limit, unpack)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as err:
        raise CommandExecutionError(f"cannot read the log {found['path']}: {err}") from err


def _is_position(where):
    if not isinstance(where, dict) or not isinstance(where.get("path"), str):
        return False
    others = where.get("others", [])
    if not isinstance(others, list) or not all(isinstance(name, str) for name in others):
        return False
    if "cursor" in where:
        return isinstance(where["cursor"], (str, type(None))) and isinstance(where.get("since", 0), int)
    head, numbers = where.get("head"), (where.get("inode"), where.get("offset"))
    return isinstance(head, str) and bool(HEX.fullmatch(head)) and all(isinstance(number, int) for number in numbers)


def _file_since(found, where, limit, unpack):
    files, known = _opened_since(found, where)
    try:
        if not files:
            return {"data": b"", "position": dict(where), "lost": True}
        start, skipped = where["offset"] if known else 0, 0
        if known and unpack is not None and start > unpack and not isinstance(files[0], io.FileIO):
            if not files[1:]:
                return {"data": b"", "position": dict(where), "lost": False}  # the next file is about to be made
            start, skipped = 0, 1
        lines, where = _follow(files[skipped:], where, start, limit)
    finally:
        for file in files:
            file.close()
    data = b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
    return {"data": data, "position": where, "lost": not known or bool(skipped)}


def _follow(files, where, start, limit):
    lines = []
    for number, file in enumerate(files, 1):
        # Asked before this one is read: then nothing more comes into it.
        is_over, end = _has_gone_on(files[number:]), start
        for line, behind in _lines(file, start, limit, is_over):
            lines.append(line)
            limit -= len(line)
            end = behind
        where = _position(where["path"], file, end)
        if limit <= 0 or not is_over:
            break
        start = 0
    return lines, where


def _journal_since(where, limit, seconds):
    """
    Go on behind an entry of the journal, if that is there: journalctl's own ``--after-cursor`` leaves out the next one
    where it is not, which is what a vacuum makes of it.
    """
    known = where["cursor"]
    since = f"--cursor={known}" if known else f"--since=@{where.get('since', 0)}"
    entries = __salt__["qmail_log_journal.entries"](where["path"], [since], limit, seconds)
    is_there = bool(known and entries) and __salt__["qmail_log_journal.is_same"](known, entries[0][0])
    place = {**where, "cursor": entries[-1][0] if entries else known}
    data = "".join(f"{line}\n" for _, line in entries[is_there:]).encode("utf-8", "backslashreplace")
    return {"data": data, "position": place, "lost": bool(known) and not is_there}
