"""
Follow qmail-send's log from a position on, through every rotation.

A position identifies a file by its first bytes, not by its name: multilog and logrotate rename files, and logrotate may
copy and truncate them, and pack the copy.
"""

import io
import lzma
import os
import re
import subprocess
import time
import zlib

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

JOURNALD = "journald"
# The first bytes of a log hold times: no two of its files begin alike.
HEAD = 256
BLOCK = 2**18
HEX = re.compile(r"(?:[0-9a-f]{2})*")
CURSOR = "-- cursor: "


def position(path=None, home="/var/qmail", queue=None):
    """
    Return the end of a log, as a dictionary for ``lines_since``: plain data that can be kept.

    path, home, queue
        As for ``qmail_log.position``, which documents all of it.

    For ``qmail_log``.
    """
    found = __salt__["qmail_log_file.find"](path, home, queue)
    if found["kind"] == JOURNALD:
        cursor = _journal(found["path"], "--lines=1")[1]
        return {"path": found["path"], "cursor": cursor, "since": int(time.time())}
    file = __salt__["qmail_log_part.opened"](found["files"][-1])
    if file is None:
        raise CommandExecutionError(f"the log {found['files'][-1]} was rotated away just now: try again")
    with file:
        return _position(found["path"], file, _last_line(file))


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
    files = []
    for name in reversed(found["files"]):
        file = __salt__["qmail_log_part.opened"](name)
        if file is None:
            continue
        files.insert(0, file)
        if _is(file, where):
            return files, True
    for file in files[:-1]:
        file.close()
    return files[-1:], False


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
    if not _is_position(where):
        raise SaltInvocationError(f"where={where!r} is not a position: give what qmail_log.position returned")
    if "cursor" in where:
        return _journal_since(where)
    found = __salt__["qmail_log_part.named"](where["path"])
    try:
        return _file_since(found, where, limit)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as err:
        raise CommandExecutionError(f"cannot read the log {found['path']}: {err}") from err


def _is_position(where):
    if not isinstance(where, dict) or not isinstance(where.get("path"), str):
        return False
    if "cursor" in where:
        return isinstance(where["cursor"], (str, type(None)))
    head, numbers = where.get("head"), (where.get("inode"), where.get("offset"))
    return isinstance(head, str) and bool(HEX.fullmatch(head)) and all(isinstance(number, int) for number in numbers)


def _file_since(found, where, limit):
    files, known = _opened_since(found, where)
    try:
        lines, where = _follow(files, where, where["offset"] if known else 0, limit)
    finally:
        for file in files:
            file.close()
    text = [line.decode("utf-8", "backslashreplace").rstrip("\n") for line in lines]
    return {"lines": text, "position": where, "lost": not known}


def _follow(files, where, start, limit):
    lines = []
    for file in files:
        end = start
        for line, behind in _lines(file, start, limit, file is not files[-1]):
            lines.append(line)
            limit -= len(line)
            end = behind
        where = _position(where["path"], file, end)
        if limit <= 0:
            break
        start = 0
    return lines, where


def _journal(path, *options):
    """Run journalctl: its lines, and its cursor."""
    command = __salt__["qmail_log_journal.command"](path, ["--show-cursor", *options])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as err:
        raise CommandExecutionError(f"cannot run journalctl: {err.strerror}") from err
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CommandExecutionError(f"journalctl failed with status {done.returncode}: {said}")
    lines = done.stdout.decode("utf-8", "backslashreplace").split("\n")[:-1]
    if lines and lines[-1].startswith(CURSOR):
        return lines[:-1], lines[-1][len(CURSOR) :]
    return lines, None


def _journal_since(where):
    since = f"--after-cursor={where['cursor']}" if where["cursor"] else f"--since=@{where.get('since', 0)}"
    lines, cursor = _journal(where["path"], since)
    return {"lines": lines, "position": {**where, "cursor": cursor or where["cursor"]}, "lost": False}
