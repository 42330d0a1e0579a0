"""
A quick look at the queue for double bounces: at so many files and for so long, and the next look goes on behind them.
"""

import time

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def look(known, queue, home, limit, seconds):
    """
    Return how many double bounces wait in the queue, and since when the oldest does.

    known, queue, home, limit, seconds
        As for ``qmail_queue.glance``, which documents all of it.

    For ``qmail_queue``.
    """
    deadline = time.monotonic() + seconds
    find = __salt__["qmail_queue_envelope.parts"]
    parts = [part for path in __salt__["qmail_queue_envelope.queues"](queue, home) for part in find(path, todo=False)]
    known, looked = known if _fits(known, len(parts)) else {"next": 0, "parts": [None] * len(parts)}, 0
    rows, at = list(known["parts"]), known["next"]
    for turn in range(len(parts)):
        if looked >= limit or time.monotonic() >= deadline:
            break
        row, files = _part(parts[at], limit - looked, deadline)
        looked += files
        if row[2] or not _is_whole(rows[at]):
            rows[at] = row  # else an earlier look has seen more
        if turn and not row[2]:
            break  # the next look begins with it, and has more time for it
        at = (at + 1) % len(parts)
    seen = [row for row in rows if row]
    births = [row[1] for row in seen if row[1] is not None]
    return {
        "double_bounces": sum(row[0] for row in seen),
        "oldest": min(births, default=None),
        "exact": all(map(_is_whole, rows)),
        "files": looked,
        "known": {"next": at, "parts": rows},
    }


def _part(part, limit, deadline):
    """Return how many are in a split directory, when the oldest came, and whether that is all; and how many it was."""
    number, oldest, looked, is_all = 0, None, 0, True
    with __salt__["qmail_queue_envelope.opened"](part) as fds:
        for came in __salt__["qmail_queue_envelope.births"](part, fds):
            if looked >= limit or (looked % 100 == 99 and time.monotonic() >= deadline):
                is_all = False
                break
            looked += 1
            if came is not None:
                number += 1
                oldest = int(came) if oldest is None else min(oldest, int(came))
    return [number, oldest, is_all], looked


def _is_whole(row):
    return row is not None and row[2]


def _fits(known, number):
    """Return whether what an earlier look returned is about as many directories."""
    if not isinstance(known, dict) or not isinstance(known.get("parts"), list) or len(known["parts"]) != number:
        return False
    if not isinstance(known.get("next"), int) or not 0 <= known["next"] < number:
        return False
    return all(row is None or _is_row(row) for row in known["parts"])


def _is_row(row):
    if not isinstance(row, list) or len(row) != 3 or not isinstance(row[2], bool):
        return False
    return isinstance(row[0], int) and isinstance(row[1], (int, type(None)))
