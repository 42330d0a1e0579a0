"""
When the lines of a log were written: blocks of lines, cut by hour or day.

Everything here works on blocks of whole lines as bytes: a sender can put anything into an address, and a log of 1 GB is
ordinary. For other modules; people use :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import functools
from datetime import datetime, timezone

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# How many lines at an end of a block are searched for a time.
NEAR = 50
HEAD_BYTES = 512


@functools.lru_cache(maxsize=None)
def _reader():
    return __salt__["qmail_log_form.reader"]()


def _near(data, start, end, newest, step):
    """
    The time at one end of a block, from the first lines of it that have one.

    splogger's stamp is better than the time of syslog: it has a year and no zone.
    """
    match, seconds = _reader()
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
        head = match(data[first : min(last, first + HEAD_BYTES)])
        if head["stamp"] and head["name"]:
            return int(head["stamp"])
        found = seconds(head, newest) if found is None else found
        if found is not None and (head["name"] or not head["month"]):
            return found
    return found


def first_time(data, newest):
    """
    Return the time of the first line that has one, in seconds since the epoch, or ``None``.

    data
        Whole lines, as bytes.

    newest
        No line is newer than this (seconds since the epoch, give or take a day). It gives the year if the log doesn't.

    For ``qmail_log_age``, ``qmail_log_block`` and ``qmail_log_tally``.
    """
    data = data if isinstance(data, bytes) else data.encode()
    return _near(data, 0, len(data), newest, 1)


def _slot(seconds, since, until, by, mark):
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
        name = local.date().isoformat()
    else:
        name = local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")
    return name if mark is None else (name, seconds >= mark)


def _split(data, start, end, slots, slot_at):
    """Halve a block until both its ends are in one slot: a log is written in order of time."""
    if slots[0] == slots[1]:
        yield slots[0], start
        return
    middle = data.find(b"\n", (start + end) // 2, end - 1) + 1
    if not middle:
        middle = data.rfind(b"\n", start, (start + end) // 2) + 1
    if middle <= start:
        yield slots[0], start
        return
    right = slot_at(middle, end, 1)
    left = slots[0] if right == slots[0] else slot_at(start, middle, -1)
    yield from _split(data, start, middle, (slots[0], left), slot_at)
    yield from _split(data, middle, end, (right, slots[1]), slot_at)


def segments(data, newest, since=None, until=None, by="hour", mark=None):
    """
    Cut a block of lines by the hour or the day in which they were written.

    Returns a list of pairs: the slot, and its lines. A slot is the start of the hour with the machine's offset from
    UTC, ``2026-11-24T02:00+00:00``, or the day, ``2026-11-24``; ``None`` before ``since``, ``False`` from ``until`` on,
    and ``unknown`` if the log has no times.

    data
        Whole lines, as bytes.

    newest
        No line is newer than this (seconds since the epoch, give or take a day). It gives the year if the log doesn't.

    since, until
        Seconds since the epoch, or ``None``.

    by
        ``hour`` or ``day``.

    mark
        Seconds since the epoch: cut there as well. A slot is then a pair: its name, and whether it is from the mark on.

    For ``qmail_log``.
    """

    slots = {}

    def slot_at(start, end, step):
        seconds = _near(data, start, end, newest, step)
        if seconds not in slots:
            slots[seconds] = _slot(seconds, since, until, by, mark)
        return slots[seconds]

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
