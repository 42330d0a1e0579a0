"""
A small table of double bounces for people: a bar for each hour of the last day, and for each day of the last week.
"""

from datetime import datetime, timedelta

COUNTS = {"double_bounces": "queued", "discarded": "discarded", "triple_bounces": "triple"}
WIDTH = 40  # characters of the longest bar


def make(log=None, now=None):
    """
    Return what ``qmail_doublebounce.report`` returns, which documents it.

    log
        The log, as ``qmail_log.count`` takes it; ``None`` to find it.

    now
        Seconds since the epoch at which the table ends; ``None`` for now.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_report.make /var/log/maillog
    """
    end = datetime.now().astimezone() if now is None else datetime.fromtimestamp(now).astimezone()
    hour = end.replace(minute=0, second=0, microsecond=0)
    hours = [(hour - timedelta(hours=back)).astimezone() for back in range(23, -1, -1)]
    days = [(end - timedelta(days=back)).date() for back in range(6, -1, -1)]
    counted = {what: _counted(what, log, days[0], end) for what in COUNTS}
    by_hour = {_key(one): _sum(counted, _key(one)) for one in hours}
    by_day = {str(day): _sum(counted, str(day)) for day in days}
    table = [
        *_table("Double bounces of the last 24 hours", {one.strftime("%a %H:00"): by_hour[_key(one)] for one in hours}),
        "",
        *_table("and of the last 7 days", {day.strftime("%a %d %b"): by_day[str(day)] for day in days}),
    ]
    found = counted["double_bounces"]
    return {"hours": by_hour, "days": by_day, "log": found["log"], "table": "\n".join(table)}


def _counted(what, log, first, end):
    since = datetime(first.year, first.month, first.day).astimezone().timestamp()
    return __salt__["qmail_log.count"](what, log, since, end.timestamp() + 1)


def _key(hour):
    """Name an hour as qmail_log does."""
    return hour.isoformat(timespec="minutes")


def _sum(counted, begin):
    """Count what lies in the hours whose names begin so: an hour, or a day."""
    return {
        title: sum(count for key, count in counted[what]["by"].items() if key.startswith(begin))
        for what, title in COUNTS.items()
    }


def _table(title, rows):
    most = max(1, *(row["queued"] + row["discarded"] for row in rows.values()))
    yield f"{title:<22}".rstrip()
    yield f"{'':<10} {'queued':>9} {'discarded':>9} {'triple':>9}"
    for name, row in rows.items():
        # Of every count but none at least one sign, so that a single double bounce is seen beside a flood.
        size = row["queued"] + row["discarded"]
        bar = "#" * max(round(size * WIDTH / most), 1 if size else 0)
        yield f"{name:<10} {row['queued']:>9} {row['discarded']:>9} {row['triple']:>9}  {bar}".rstrip()
