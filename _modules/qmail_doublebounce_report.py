"""
A small table of double bounces for people: a bar for each hour of the last day, and for each day of the last week.
"""

from datetime import datetime, timedelta, timezone

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

COUNTS = {"double_bounces": "queued", "discarded": "discarded", "triple_bounces": "triple"}
HOURS, DAYS = 24, 7
WIDTH = 40  # characters of the longest bar


def make(log=None, now=None, home="/var/qmail", queue=None):
    """
    Return what ``qmail_doublebounce.report`` returns, which documents it.

    log, home, queue
        The log, as ``qmail_log.count`` takes it; ``None`` to find it.

    now
        Seconds since the epoch at which the table ends; ``None`` for now.

    For ``qmail_doublebounce``.
    """
    end = datetime.now(timezone.utc) if now is None else datetime.fromtimestamp(now, timezone.utc)
    hours, today = _hours(end), end.astimezone().date()
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    since = datetime(days[0].year, days[0].month, days[0].day).astimezone().timestamp()
    found = __salt__["qmail_log.counts"](log, since, end.timestamp() + 1, "hour", home, queue)
    by_hour = {key: _sum(found["by"], key) for key in hours}
    by_day = {str(day): _sum(found["by"], str(day)) for day in days}
    table = [
        *_table(f"Double bounces of the last {HOURS} hours", zip(_names(hours), by_hour.values())),
        "",
        *_table(f"and of the last {DAYS} days", zip((f"{day:%a %d %b}" for day in days), by_day.values())),
        "",
        *_source(found),
    ]
    log = {name: found[name] for name in ("log", "files", "unread", "how", "newest")}
    return {"hours": _some(by_hour), "days": _some(by_day), **log, "table": "\n".join(table)}


def _hours(end):
    """
    The last hours, each by its beginning as ``qmail_log`` names it, with a moment in it.

    By elapsed time, not by the clock: one hour comes twice in autumn, and another one not at all in spring.
    """
    moments = [(end - timedelta(minutes=30 * back)).astimezone() for back in range(2 * HOURS, -1, -1)]
    hours = {
        hour.isoformat(timespec="minutes"): hour
        for hour in (one.replace(minute=0, second=0, microsecond=0) for one in moments)
    }
    return dict(list(hours.items())[-HOURS:])


def _names(hours):
    """Name hours for people; if an hour comes twice, the zone says which one it is."""
    names = [f"{hour:%a %H:00}" for hour in hours.values()]
    return [f"{name} {hour:%Z}" if names.count(name) > 1 else name for name, hour in zip(names, hours.values())]


def _sum(by, begin):
    """Count what is in the hours whose names begin like this: an hour, or a day."""
    return {
        title: sum(counts[what] for key, counts in by.items() if key.startswith(begin))
        for what, title in COUNTS.items()
    }


def _some(rows):
    return {name: row for name, row in rows.items() if any(row.values())}


def _table(title, rows):
    rows = list(rows)
    most = max(1, *(row["queued"] + row["discarded"] for _, row in rows))
    width = max(10, *(len(name) for name, _ in rows))
    yield title
    yield f"{'':<{width}} {'queued':>9} {'discarded':>9} {'triple':>9}"
    for name, row in rows:
        # At least one sign for every count above 0, so that a single double bounce is visible beside a flood.
        size = row["queued"] + row["discarded"]
        bar = "#" * max(round(size * WIDTH / most), 1 if size else 0)
        yield f"{name:<{width}} {row['queued']:>9} {row['discarded']:>9} {row['triple']:>9}  {bar}".rstrip()


def _source(found):
    """Say what was read: a table of zeros is not good news from a log that nobody writes to."""
    if found["newest"] is None:
        yield f"{found['log']}: empty"
    else:
        when = datetime.fromtimestamp(found["newest"])
        yield f"{found['log']}: qmail-send wrote to it last on {when:%a %d %b %Y %H:%M}"
    if found["unread"]:
        yield f"not unpacked, and not counted: {', '.join(found['unread'])}"
