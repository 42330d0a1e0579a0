"""
What stands in front of qmail-send's own words in a log: the time, the program's name, splogger's stamp.

All of it works on blocks of whole lines as bytes: addresses in a log are whatever a sender made of them, and a log of
1 GB is ordinary. For other modules; people ask :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import re
import time
from datetime import datetime, timedelta, timezone

# splogger hands out 799 characters at a time; what is longer goes on in a line with "+" behind the same stamp.
SPLOGGER = 799
# No head is longer.
HEAD_BYTES = 512
# How many lines at an end of a block are looked at for a time.
NEAR = 50
DAY = 86400
TAI = 2**62 + 10
MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

TIME = re.compile(
    rb"@(?P<tai>[0-9a-f]{24})\ +"
    rb"|(?P<date>\d{4}-\d\d-\d\d)(?P<sep>[ T_])(?P<clock>\d\d:\d\d:\d\d)(?:[.,]\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?\ +"
    rb"|(?P<month>[A-Z][a-z]{2})\ (?P<day>[ \d]\d)\ (?P<hms>\d\d:\d\d:\d\d)\ "
    rb"|(?P<unix>\d{9,11})\.\d{1,9}\ "
)
# Only programs that speak qmail-send's words: a qmail-smtpd or a spam filter may log what a stranger told it. A
# journal was asked for qmail-send's unit, whatever the name is that its lines go by.
NAMES = rb"(?(unix)[^\s\[:]+|(?:qmail|qmail-send|qmail-start|splogger|send))"
NAME = rb"\S+ (?:\w+\.\w+ )?" + NAMES + rb"(?:\[\d+\])?: "
STAMP = rb"(?P<stamp>\d{9,11})\.\d{6}(?P<join>[ +])"
# eQmail puts these in front of what others say without.
EQMAIL = rb"(?P<eqmail>qmail-send: (?:notice: )?(?=\w))"
WORDS = (
    rb"(?=(?:status: |new msg |info:? msg |end msg |bounce msg |starting delivery |delivery |(?:double|triple) bounce: "
    rb"|warning: |alert: |qmail-send: ))"
)
HEAD = re.compile(
    rb"(?:" + TIME.pattern + rb")?(?P<name>" + NAME + rb")?(?P<said>(?:" + STAMP + rb")?" + EQMAIL + rb"?)"
)
WORDS = re.compile(WORDS)


def _zone(text):
    """Say what the hours of a readable date are counted from; ``None`` is the machine's own time."""
    if not text or text == b"Z":
        return timezone.utc if text else None
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=-minutes if text[:1] == b"-" else minutes))


def _dated(match):
    zone = _zone(match["zone"])
    if zone is None and match["sep"] != b" ":
        zone = timezone.utc  # svlogd writes UTC and no zone; tai64nlocal and s6-log write a blank
    text = (match["date"] + b"T" + match["clock"]).decode()
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def _yearless(match, newest):
    """
    Seconds of a date without a year: the last such date that isn't after the end of the file.

    A day is let pass, for clocks and zones that differ.
    """
    month, day = MONTHS[match["month"]], int(match["day"])
    clock = [int(part) for part in match["hms"].split(b":")]
    year = time.localtime(newest + DAY).tm_year
    for back in range(9):  # 29 February comes every four years, or after eight
        made = time.mktime((year - back, month, day, *clock, 0, 0, -1))
        if made <= newest + DAY and time.localtime(made).tm_mon == month:
            return made
    raise ValueError("no such date")


def _seconds(match, newest):
    """Seconds since the epoch of a matched time, or ``None`` where there is no such time."""
    try:
        if match["tai"]:
            return int(match["tai"][:16], 16) - TAI
        if match["unix"]:
            return int(match["unix"])
        return _dated(match) if match["date"] else _yearless(match, newest)
    except (ValueError, OverflowError, OSError, KeyError):
        return None


def _near(data, start, end, newest, step):
    """
    The time at one end of a block, from the first lines of it that have one.

    splogger's stamp is worth more than the time of syslog: it has a year and no zone.
    """
    found = None
    for _ in range(NEAR):
        if start >= end:
            break
        if step > 0:
            first, last = start, data.find(b"\n", start, end) + 1 or end
            start = last
        else:
            first, last = max(data.rfind(b"\n", start, end - 1) + 1, start), end
            end = first
        head = HEAD.match(data[first : min(last, first + HEAD_BYTES)])
        if head["stamp"] and head["name"]:
            return int(head["stamp"])
        found = _seconds(head, newest) if found is None else found
        if found is not None and (head["name"] or not head["month"]):
            return found
    return found


def first_time(data, newest):
    """
    Return the time of the first line that has one, in seconds since the epoch, or ``None``.

    data
        Whole lines, as bytes.

    newest
        No line is newer than this (seconds since the epoch, give or take a day). It tells the year where the log
        doesn't.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logline.first_time "$(head -1 /var/log/qmail/send/current)" 1795486275
    """
    data = data if isinstance(data, bytes) else data.encode()
    return _near(data, 0, len(data), newest, 1)


def _slot(seconds, since, until, by):
    """Name the hour or the day; ``None`` before ``since``, ``False`` from ``until`` on."""
    if seconds is None:
        return "unknown"
    if since is not None and seconds < since:
        return None
    if until is not None and seconds >= until:
        return False
    try:
        local = datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):
        return "unknown"
    if by == "day":
        return local.date().isoformat()
    return local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")


def _split(data, start, end, slots, slot_at):
    """Halve a block until both its ends are in one slot: a log is written in the order of time."""
    if slots[0] == slots[1]:
        yield slots[0], start
        return
    middle = data.find(b"\n", (start + end) // 2, end - 1) + 1
    if not middle:
        middle = data.rfind(b"\n", start, (start + end) // 2) + 1
    if middle <= start:
        yield slots[0], start
        return
    yield from _split(data, start, middle, (slots[0], slot_at(start, middle, -1)), slot_at)
    yield from _split(data, middle, end, (slot_at(middle, end, 1), slots[1]), slot_at)


def segments(data, newest, since=None, until=None, by="hour"):
    """
    Cut a block of lines by the hour or the day they were written in.

    Returns a list of pairs: the slot, and its lines. A slot is the start of the hour with the machine's offset from
    UTC,
    ``2026-11-24T02:00+00:00``, or the day, ``2026-11-24``; ``None`` before ``since``, ``False`` from ``until`` on, and
    ``unknown`` where the log has no times.

    data
        Whole lines, as bytes.

    newest
        No line is newer than this (seconds since the epoch, give or take a day). It tells the year where the log
        doesn't.

    since, until
        Seconds since the epoch, or ``None``.

    by
        ``hour`` or ``day``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logline.segments "$(head -1 /var/log/qmail/send/current)" 1795486275
    """

    def slot_at(start, end, step):
        return _slot(_near(data, start, end, newest, step), since, until, by)

    data = data if isinstance(data, bytes) else data.encode()
    ends = slot_at(0, len(data), 1), slot_at(0, len(data), -1)
    if ends[0] == ends[1]:
        return [(ends[0], data)]
    edges = []
    for slot, start in _split(data, 0, len(data), ends, slot_at):
        if not edges or edges[-1][0] != slot:
            edges.append((slot, start))
    stops = [start for _, start in edges[1:]] + [len(data)]
    return [(slot, data[start:stop]) for (slot, start), stop in zip(edges, stops)]


def _sends(head, line):
    """Say whether qmail-send's words follow this head: in a syslog other programs write as well."""
    if head["join"] == b"+" or (head["month"] and not head["name"]):
        return False
    return WORDS.match(line, head.end()) is not None


def _layout(data):
    """The head of the first line of qmail-send, as that of most others will be."""
    start = 0
    for _ in range(NEAR):
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start : min(end, start + HEAD_BYTES)]
        head = HEAD.match(line)
        if _sends(head, line):
            return head
        start = end
    return None


def _alone(layout):
    """Say whether nobody but qmail-send writes to a log, and in words that no address can imitate."""
    return layout is not None and not layout["name"] and not layout["said"]


def _constant(layout):
    """Where a line has the name, which name, and where the words begin, as long as the lines are like this one."""
    if layout is None or layout["eqmail"] or not layout.end():
        return 0, 0, None, 0  # no slice is None
    if not layout["name"]:
        return 0, 0, b"", layout.end()
    return layout.start("name"), layout.end("name"), layout["name"], layout.end()


def _words(line, head):
    words = line[head.end() :]
    return b"info" + words[5:] if head["eqmail"] and words.startswith(b"info: msg ") else words


def _collect(lines, layout):
    """Take qmail-send's words out of lines that others write to as well, and mend what splogger cut."""
    words = []
    start, end, name, body = _constant(layout)
    cut = False
    for line in lines:
        if line[start:end] == name and line[body - 1 : body] == b" " and not cut:
            words.append(line[body:])
            cut = len(line) - body == SPLOGGER
            continue
        head = HEAD.match(line[:HEAD_BYTES])
        raw = head.end("join") if head["stamp"] else head.end("name")
        # eQmail's splogger goes on without a mark: only the length of the line before tells.
        if cut and head["name"] and (head["join"] == b"+" or not head["stamp"]):
            words[-1] += line[raw:]
        elif _sends(head, line):
            words.append(_words(line, head))
        else:
            continue
        cut = len(line) - raw == SPLOGGER
    return words


def words(data):
    """
    Return qmail-send's own words, line by line: a list of bytes, and how many bytes to skip in each.

    Lines of other programs are left out where the log names its programs; where it doesn't, only qmail-send writes
    there. What splogger cut is put together again.

    data
        Whole lines, as bytes.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logline.words "$(head -1 /var/log/qmail/send/current)"
    """
    data = data if isinstance(data, bytes) else data.encode()
    layout = _layout(data)
    lines = data.split(b"\n")
    # multilog's stamps are all of one length
    if _alone(layout) and (layout["tai"] or not layout.end()):
        return lines, layout.end()
    return _collect(lines, layout), 0


def count(data, mark, before):
    """
    Count qmail-send's lines that say ``mark`` straight after ``before``.

    qmail-send makes blanks in addresses and reports ``_`` (qsutil.c, ``logsafe``), so a ``mark`` with blanks at both
    ends is no part of one: where only qmail-send writes, counting the bytes is exact. Elsewhere each line is looked
    at.

    data
        Whole lines, as bytes.

    mark
        The words to count, as bytes.

    before
        A regular expression for all of qmail-send's words that stand before them.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logline.count "$(cat /var/log/qmail/send/current)" ' from <#@[]> qp ' 'info msg \\d+: bytes \\d+'
    """
    data, mark, before = (part if isinstance(part, bytes) else part.encode() for part in (data, mark, before))
    layout = _layout(data)
    if _alone(layout):
        return data.count(mark)
    start, end, name, _ = _constant(layout)
    before, number, size, at = re.compile(before), 0, len(mark), data.find(mark)
    while at >= 0:
        line = data.rfind(b"\n", 0, at) + 1
        if data[line + start : line + end] == name or _says(data[line:at], before):
            number += 1
        at = data.find(mark, at + size)
    return number


def _says(line, before):
    head = HEAD.match(line[:HEAD_BYTES])
    if head["join"] == b"+" or (head["month"] and not head["name"]):
        return False
    return before.fullmatch(_words(line, head)) is not None
