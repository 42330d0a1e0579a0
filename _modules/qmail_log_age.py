"""
When qmail-send wrote to a log last.

A log that is silent while mail flows is the wrong log; one that holds lines, but none that is recognized as
qmail-send's, has an unknown form. Both must be reported, or a count of zero is taken for good news.
"""

import contextlib
import os
from itertools import chain, islice

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

BLOCK = 2**18
LONGEST_QUOTE = 120
SIGNS = (b"info msg ", b"starting delivery ", b"end msg ", b"status: ")


def newest(found):
    """
    Return when qmail-send wrote to a log last, in seconds since the epoch, or ``None`` if the log is empty.

    If lines have no time, it is when the file was changed last. Raises CommandExecutionError for a log that has lines,
    but none that is recognized as qmail-send's; it quotes one.

    found
        The log, as ``qmail_log_file.find`` returns it.

    For ``qmail_log``.
    """
    told, quote = last(found)
    if told is None and quote is not None:
        raise CommandExecutionError(
            f"the log {found['path']} has no line of qmail-send in a form that is known here: {quote}; name its log "
            "with path, or with qmail_doublebounce:qmail:log in pillar"
        )
    return told


def last(found, limit=None):
    """
    Return when qmail-send wrote to a log last, as ``newest`` does, and a line that isn't qmail-send's, or ``None``.

    found
        The log, as ``qmail_log_file.find`` returns it.

    limit
        Look back over about this many bytes at most, and in no more than two files.

    For ``qmail_log_file`` and ``qmail_log_tally``.
    """
    quote, done = None, 0
    files = found["files"] if limit is None else found["files"][-2:]
    for data, newest in chain.from_iterable(_newest_first({**found, "files": files}, limit)):
        if found.get("others"):
            data = __salt__["qmail_log_line.without"](data, found["others"])
        told = _last_of(data, newest)
        if told is not None:
            return int(told), quote
        quote = _better(quote, data)
        done += len(data)
        if limit is not None and done >= limit:
            break
    return None, None if quote is None else _quoted(quote)


def _newest_first(found, limit):
    """For each file, its blocks, the last ones first where that is possible."""
    read = __salt__["qmail_log_block.blocks"]
    if found["kind"] == "journald":
        yield read(found, backwards=True)
    for name in reversed(found["files"]):
        file = __salt__["qmail_log_part.opened"](name)
        if file is None:
            continue
        with file:
            plain = __salt__["qmail_log_block.is_plain"](file)
            mtime = os.fstat(file.fileno()).st_mtime
            if plain:
                yield _backwards(file, mtime)
        if not plain:
            blocks = read({"kind": "file", "path": None, "files": [name]})
            yield _lasts(blocks if limit is None else islice(blocks, limit // 2**20))


def _lasts(blocks):
    """Of a file that can only be read forwards, the last block with a line of qmail-send, and one without any."""
    own = other = None
    # Whoever counts it reports what can't be unpacked.
    with contextlib.suppress(CommandExecutionError):
        for data, newest in blocks:
            if __salt__["qmail_log_line.last"](data):
                own = data, newest
            else:
                other = data, newest
    return filter(None, (own, other))


def _backwards(file, mtime):
    """Blocks of whole lines, from the end to the beginning; of a line that is too long, what fits."""
    end, rest = os.fstat(file.fileno()).st_size, b""
    while end > 0:
        start = max(0, end - BLOCK)
        data = os.pread(file.fileno(), end - start, start) + rest
        end = start
        cut = data.find(b"\n") + 1 if start else 0
        rest = data[:cut] if cut <= BLOCK else b""
        if data[cut:]:
            yield data[cut:], mtime


def _last_of(data, newest):
    """When the last line of qmail-send in a block was written; without times in it, the file's own time."""
    found = __salt__["qmail_log_line.last"](data)
    if found is None:
        return None
    first_time = __salt__["qmail_log_time.first_time"]
    told = first_time(data[found[0] : found[1]], newest)
    return newest if told is None else told


def _better(quote, data):
    """A line to show: preferably one with qmail-send's words in it."""
    if quote is not None and any(sign in quote for sign in SIGNS):
        return quote
    at = max(data.rfind(sign) for sign in SIGNS)
    if at < 0 and quote is not None:
        return quote
    if at < 0:
        at = max(len(data.rstrip()) - 1, 0)
    line = data[data.rfind(b"\n", 0, at) + 1 :].split(b"\n", 1)[0].strip()
    return line or quote


def _quoted(line):
    text = line.decode("ascii", "backslashreplace")
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return repr(text[:LONGEST_QUOTE] + ("…" if len(text) > LONGEST_QUOTE else ""))
