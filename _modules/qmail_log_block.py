"""
What the files of a log hold, in the order it was written: block by block, as fast as it can be read.

For other modules; people use :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import io
import lzma
import os
import time
import zlib
from itertools import chain

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

BLOCK = 2**20
# glibc returns freed memory to the system, and gets it again for each block, which takes longer than reading it. Once a
# block of this size has been freed, it keeps that much.
KEPT_MEMORY = 2**22
# How much is read to find a time, or the end of a line.
TAIL = 2**13
# Clocks are set, and several machines may send to one syslog: a log is in order of time except for this much.
SLACK, SLACK_SECONDS = 2**20, 600
# From this size on, two processes read a log sooner than one.
HALVED = 2**24
# The second takes longer for each line: it keeps track of what the first half has begun.
FIRST_SHARE = 0.54
# The journal is asked for a time, not for bytes.
JOURNAL_CONTEXT = 6 * 3600
# How often the files are opened again, where the log is rotated meanwhile.
TRIES = 20
UNPACK_ERRORS = (EOFError, zlib.error, lzma.LZMAError, OSError)


def _open_all(path, names):
    """Open all files of a log at once, so that a rotation meanwhile neither hides lines nor shows them twice."""
    if path is None:
        return _open(names)
    for left in range(TRIES, -1, -1):
        opened = _open(names)
        now = __salt__["qmail_log_part.moved"](path, names, [(part["name"], part["file"]) for part in opened])
        if now is None or not left:
            return opened
        for part in opened:
            part["file"].close()
        names = now
    return opened


def _open(names):
    opened, seen = [], set()
    for name in reversed(names):
        file = __salt__["qmail_log_part.opened"](name)
        if file is None:
            continue
        found = os.fstat(file.fileno())
        if (found.st_dev, found.st_ino) in seen:
            file.close()
            continue
        seen.add((found.st_dev, found.st_ino))
        newest = __salt__["qmail_log_part.newest"](name, found.st_mtime)
        part = {"name": name, "file": file, "stat": found, "newest": newest, "packed": not is_plain(file)}
        opened.insert(0, part)
    return opened


def _bisect(part, since, first_time):
    """Find an offset in a plain file such that nothing before it is as new as ``since``."""
    low, high = 0, part["stat"].st_size
    while high - low > BLOCK:
        middle = (low + high) // 2
        data = os.pread(part["file"].fileno(), TAIL, middle)
        found = first_time(data[data.find(b"\n") + 1 :], part["newest"])
        if found is not None and found < since:
            low = middle
        else:
            high = middle
    return max(0, low - SLACK)


def _last(part, first_time):
    """When a file was written to last: as the file system has it, or as its last lines have it."""
    at = max(0, part["stat"].st_size - TAIL)
    data = b"" if part["packed"] else os.pread(part["file"].fileno(), TAIL, at)
    return max(first_time(data[data.find(b"\n") + 1 :] if at else data, part["newest"]) or 0, part["stat"].st_mtime)


def _offsets(opened, since, context, first_time):
    """Pair the files that have to be read, oldest first, with the offset to begin at in each."""
    chosen = []
    for part in reversed(opened):
        size, offset = part["stat"].st_size, 0
        if since is not None and _last(part, first_time) < since - SLACK_SECONDS:
            if context <= 0:
                break
            offset = 0 if part["packed"] else max(0, size - context)
            context -= size - offset
        elif since is not None and not part["packed"]:
            late = _bisect(part, since, first_time)
            offset = max(0, late - context)
            context -= late - offset
        chosen.insert(0, (part, offset))
    return chosen


def _whole(file, skipping=False):
    """Split a file into blocks of whole lines. What goes beyond a block in one line is dropped."""
    rest = b""
    while True:
        data = file.read(BLOCK)
        if not data:
            break
        if skipping:
            start = data.find(b"\n") + 1
            if not start:
                continue
            data = data[start:]
        data = rest + data
        cut = data.rfind(b"\n") + 1
        skipping = not cut and len(data) >= BLOCK
        if cut or skipping:
            yield data[: cut or BLOCK]
        rest = b"" if skipping else data[cut:]
    if rest:
        yield rest


class _Until:
    """A file that ends at some byte, where another process begins."""

    def __init__(self, file, stop):
        self.file, self.stop = file, stop

    def read(self, size):
        return self.file.read(size if self.stop is None else max(0, min(size, self.stop - self.file.tell())))


def _whole_plain(file, offset, stop=None):
    """The same for a plain file, without copying: the end of a line is looked up before the block is read."""
    handle, near, skipping = file.fileno(), min(TAIL, BLOCK), False
    if offset:
        # From the byte before, to see whether a line begins right here.
        start = os.pread(handle, near, offset - 1).find(b"\n")
        skipping = start < 0
        offset += max(start, 0)
    file.seek(offset)
    while not skipping and (stop is None or offset + BLOCK <= stop):
        end = os.pread(handle, near, offset + BLOCK - near)
        cut = end.rfind(b"\n") + 1
        if not cut or len(end) < near:
            break
        data = file.read(BLOCK - near + cut)
        offset += len(data)
        yield data
    yield from _whole(_Until(file, stop), skipping)


def _unpacked(part):
    try:
        yield from _whole(part["file"])
    except UNPACK_ERRORS as err:
        told = f"cannot unpack the log {part['name']}: {err}; move it away to go on without it"
        raise CommandExecutionError(told) from err


def _part_blocks(part, offset, stop=None):
    if is_plain(part["file"]):
        return _whole_plain(part["file"], offset, stop)
    blocks = _unpacked(part)
    first = next(blocks, b"")
    form = __salt__["qmail_log_journal.form"](first[:TAIL])
    blocks = chain(filter(None, (first,)), blocks)
    return __salt__["qmail_log_journal.lines"](blocks, form) if form else blocks


def is_plain(file):
    """
    Return whether an open file holds plain lines of a log: neither packed, nor entries of journalctl.

    file
        What ``qmail_log_part.opened`` returned.

    For ``qmail_log_age``.
    """
    if not isinstance(file, io.FileIO):
        return False
    return __salt__["qmail_log_journal.form"](os.pread(file.fileno(), 256, 0)) is None


def _read(chosen, until, first_time):
    """The blocks of these parts of files: triples of the file, where to begin, and where to end."""
    for part, offset, stop in chosen:
        for data in _part_blocks(part, offset, stop):
            if until is not None and (first_time(data, part["newest"]) or 0) > until + SLACK_SECONDS:
                break
            yield data, part["newest"]


def _split(chosen):
    """Halve what is to be read of plain files, between two lines; return ``None`` if that is not worth while."""
    if any(part["packed"] for part, _ in chosen):
        return None
    sizes = [part["stat"].st_size - offset for part, offset in chosen]
    if sum(sizes) < HALVED:
        return None
    left = int(sum(sizes) * FIRST_SHARE)
    number = 0
    while left >= sizes[number]:
        left -= sizes[number]
        number += 1
    part, offset = chosen[number]
    at = _between(part, offset + left)
    if at is None:
        return None
    first = [(*one, None) for one in chosen[:number]] + [(part, offset, at)]
    return first, [(part, at, None)] + [(*one, None) for one in chosen[number + 1 :]]


def _between(part, at):
    """Where a line begins near this byte, so that nothing of the line before continues in it; ``None`` if none does."""
    handle, start = part["file"].fileno(), max(0, at - TAIL)
    data = os.pread(handle, 2 * TAIL, start)
    begin = 0 if not start else data.find(b"\n") + 1
    end = data.find(b"\n", at - start) + 1
    if not end or (start and not begin):
        return None
    whole = __salt__["qmail_log_line.whole"](data[begin:end])
    return start + begin + whole if whole else None


def _again(part):
    """The same file, opened once more: two processes must not share where in it they read."""
    file = os.fdopen(os.open(f"/proc/self/fd/{part['file'].fileno()}", os.O_RDONLY | os.O_CLOEXEC), "rb", buffering=0)
    return {**part, "file": file}


def _close(opened):
    for part in opened:
        part["file"].close()


def _reopened(chosen, until, first_time):
    again = [(_again(part), *rest) for part, *rest in chosen]
    try:
        yield from _read(again, until, first_time)
    finally:
        _close([part for part, *_ in again])


def halves(found, since=None, until=None, context=0, two=True):
    """
    Return a list of functions that each return an iterator as ``blocks`` does, and a function that closes the files.

    There is one for the whole log, or one for each half of it, between two lines, if these may be read at the same time
    by two processes, and the log is big enough for that. The files are opened now, so that both halves are of the same
    log, whatever is rotated meanwhile. The function for the second half may be called again.

    found, since, until, context
        As for ``blocks``.

    two
        ``False``: always one.

    For ``qmail_log``.
    """
    if found["kind"] == "journald":
        return [lambda: _journal_blocks(found["path"], since, until, context, False)], lambda: None
    first_time = __salt__["qmail_log_time.first_time"]
    bytes(KEPT_MEMORY)
    opened = _open_all(found["path"], found["files"])
    chosen = _offsets(opened, since, context, first_time)
    pair = _split(chosen) if two and os.path.isdir("/proc/self/fd") else None
    if pair is None:
        pair = ([(*one, None) for one in chosen],)
    works = [lambda: _read(pair[0], until, first_time), lambda: _reopened(pair[1], until, first_time)]
    return works[: len(pair)], lambda: _close(opened)


def _journal_blocks(path, since, until, context, backwards):
    options = ["--reverse"] if backwards else []
    options += [] if since is None else [f"--since=@{int(since) - (JOURNAL_CONTEXT if context else 0)}"]
    options += [] if until is None else [f"--until=@{int(until) + 1}"]
    printed = __salt__["qmail_log_journal.printed"](path, options, "short-unix", _whole)
    return ((b"".join([*io.BytesIO(data)][::-1]) if backwards else data, time.time()) for data in printed)


def blocks(found, since=None, until=None, context=0, backwards=False):
    """
    Iterate over a log: pairs of a block of whole lines, as bytes, and the time that none of them is newer than.

    Blocks have up to 1 MiB, or 2 if a file is packed. ``since`` and ``until`` are only hints where to begin and end:
    what comes may be older or newer. Raises CommandExecutionError for what can't be read or unpacked.

    found
        The log, from ``qmail_log_file.find``; with ``None`` for its path, these files of it alone.

    since, until
        Seconds since the epoch, or ``None``.

    context
        How many bytes before ``since`` to begin. (For the journal, which has no bytes: six hours.)

    backwards
        Begin with the last block, for the journal alone: whoever stops reading has not waited for the rest of it.

    For ``qmail_log`` and ``qmail_log_age``.
    """
    if found["kind"] == "journald":
        return _journal_blocks(found["path"], since, until, context, backwards)
    return _all(*halves(found, since, until, context, False))


def _all(works, close):
    try:
        yield from works[0]()
    finally:
        close()
