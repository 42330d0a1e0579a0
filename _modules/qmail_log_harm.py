"""
What double bounces cost: their share of all deliveries and bytes, and how long ordinary local mail waits.

How long each message waited is not kept, only how many waited for about so long: see ``buckets``.
"""

import math

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Exact below 32 seconds; beyond, each power of two has 16 buckets, so that the middle of one is at most 1/32 off.
EXACT_BITS = 5
PER_OCTAVE = 2 ** (EXACT_BITS - 1)
LONGEST_WAIT = 2**23 - 1  # 97 days
BUCKETS = (LONGEST_WAIT.bit_length() - EXACT_BITS + 2) * PER_OCTAVE
# Between 0 and 1: half of the mail waited no longer, and 95 of 100.
MEDIAN, MOST = 0.5, 0.95
RATIO_DIGITS = 4


def buckets():
    """
    Return in how many buckets waits are counted, and the function that returns the bucket of a number of seconds.

    Whole seconds below 32 have a bucket each. From there on a bucket spans at most a sixteenth of what it holds, and
    what is returned for it is its middle: at most 3.2 % too much or too little. More than 97 days count as 97.

    For ``qmail_log_message``.
    """
    return BUCKETS, _bucket


def _bucket(seconds):
    """A wait is not negative; that of a clock which was set back is none at all."""
    if seconds < 2**EXACT_BITS:
        return max(seconds, 0)
    seconds = min(seconds, LONGEST_WAIT)
    shift = seconds.bit_length() - EXACT_BITS
    return shift * PER_OCTAVE + (seconds >> shift)


def _middle(bucket):
    """The seconds in the middle of a bucket."""
    shift = max(bucket // PER_OCTAVE - 1, 0)
    return ((bucket - shift * PER_OCTAVE) << shift) + ((1 << shift) - 1) // 2


def row(counts, waits):
    """
    Return the counts of some time, and what they mean: a flat dictionary with all ``counts`` and

    ``share_of_deliveries``, ``share_of_bytes``
        of double bounces, from 0 to 1 in four digits; ``None`` if there were no deliveries, or no bytes.
    ``waits``
        how many local deliveries of ordinary mail succeeded whose beginning is in the log.
    ``wait_median``, ``wait_95``
        for how many seconds half of them, and 95 of 100, had waited at most; ``None`` if there were none.

    counts
        By name, as ``qmail_log_message.follow`` returns them.

    waits
        How many for each bucket, a list of ``buckets()[0]`` numbers.

    For ``qmail_log``.
    """
    return {
        **counts,
        "share_of_deliveries": _share(counts["double_bounce_deliveries"], counts["deliveries"]),
        "share_of_bytes": _share(counts["double_bounce_bytes"], counts["queued_bytes"]),
        "waits": sum(waits),
        "wait_median": _percentile(waits, MEDIAN),
        "wait_95": _percentile(waits, MOST),
    }


def delays(waits, recent):
    """
    Return what a summary of waits shows: a dict with their ``count`` and their ``sum`` in seconds, and ``quantiles`` of
    the recent ones, ``None`` if there are none.

    waits, recent
        How many for each bucket, by the number of the bucket.

    For ``qmail_log_tally``.
    """
    among = [recent.get(bucket, 0) for bucket in range(BUCKETS)]
    return {
        "count": sum(waits.values()),
        "sum": sum(_middle(bucket) * number for bucket, number in waits.items()),
        "quantiles": {str(part): _percentile(among, part) for part in (MEDIAN, MOST)},
    }


def total(rows, names):
    """
    Add up pairs of counts and waits, and return one such pair.

    rows
        The pairs.

    names
        The names of the counts, for a sum of nothing.

    For ``qmail_log``.
    """
    rows = list(rows)
    waits = [sum(numbers) for numbers in zip(*(waits for _, waits in rows))] or [0] * BUCKETS
    return {name: sum(counts[name] for counts, _ in rows) for name in names}, waits


def _share(part, whole):
    return round(part / whole, RATIO_DIGITS) if whole else None


def _percentile(waits, part):
    """The nearest rank: the smallest wait that is not exceeded by this part of all."""
    rank = math.ceil(part * sum(waits))
    if not rank:
        return None
    for bucket, number in enumerate(waits):
        rank -= number
        if rank <= 0:
            return _middle(bucket)
    return None
