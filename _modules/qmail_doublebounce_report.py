"""
What double bounces there were, what became of them, and what they cost: as rows of data, and as a small table for
people.
"""

import calendar
import time
from datetime import datetime, timedelta, timezone

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# What qmail_log calls otherwise.
TITLES = {"double_bounces": "queued", "triple_bounces": "triple"}
# In the order of the table: what may become of a double bounce, by the name of its count.
ENDS = {
    "stored": "stored",
    "triple": "bounced again",
    "deferred": "deferred",
    "forwarded": "forwarded",
    "swallowed": "swallowed",
    "discarded": "discarded",
}
HOURS, DAYS = 24, 7
WIDTH = 40  # characters of the longest bar
SOURCE = ("log", "files", "unread", "how", "newest")


def make(log=None, now=None, home="/var/qmail", queue=None, control=None, table=True):
    """
    Return what ``qmail_doublebounce.report`` returns, which documents it.

    log, home, queue, control
        The log, as ``qmail_log.harm`` takes it; ``None`` to find it.

    now
        Seconds since the epoch at which the table ends; ``None`` for now.

    table
        As for that one.

    For ``qmail_doublebounce``.
    """
    end = datetime.now(timezone.utc) if now is None else datetime.fromtimestamp(now, timezone.utc)
    hours, today = _hours(end), end.astimezone().date()
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    since = int(datetime(days[0].year, days[0].month, days[0].day).astimezone().timestamp())
    until, since_when = int(end.timestamp()) + 1, came(home, control)
    found = __salt__["qmail_log.harm"](log, since, until, since_when, home, queue)
    source = {name: found[name] for name in SOURCE}
    data = {
        "hours": {name: _row(row) for name, row in found["hours"].items() if name in hours},
        "days": {name: _row(row) for name, row in found["days"].items()},
        "total": _row(found["total"]),
        "sink": _sink(since_when, found),
        "since": since,
        "until": until,
        **source,
    }
    # A person would have to look for the table behind hundreds of lines of data.
    return {"table": "\n".join(_table(data, hours, days)), **source} if table else data


def came(home, control):
    """
    Return since when double bounces go by what this formula wrote, in seconds since the epoch; ``None`` if they do not.

    What a file held before is kept with the time at which it was replaced. If it was replaced more than once, because
    somebody had changed it back, the last time counts.

    home, control
        Where qmail and its control files are.

    For ``qmail_doublebounce_overview``.
    """
    written = {entry["path"] for entry in __salt__["qmail_file.written"]() if entry["written"]}
    files = [__salt__["qmail_control.path"](name, home, control) for name in ("doublebounceto", "doublebouncehost")]
    replaced = [path for path in files if path in written]
    if not replaced:
        replaced = [sink["path"] for sink in __salt__["qmail_mailbox.sinks"](home)]
    times = [versions[0]["time"] for versions in map(__salt__["qmail_file.kept"], replaced) if versions]
    return max((calendar.timegm(time.strptime(one, "%Y-%m-%dT%H:%M:%SZ")) for one in times), default=None)


def _row(row):
    return {TITLES.get(name, name): value for name, value in row.items()}


def _sink(came, found):
    if came is None:
        return None
    when = datetime.fromtimestamp(came, timezone.utc).astimezone()
    sides = {side: _row(found[side]) for side in ("before", "after")}
    return {"since": came, "hour": _name(when), "day": str(when.date()), **sides}


def _name(when):
    """The name that ``qmail_log`` gives to an hour."""
    return when.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")


def _hours(end):
    """
    The last hours, each by its beginning as ``qmail_log`` names it, with that beginning.

    By elapsed time, not by the clock: one hour comes twice in autumn, and another one not at all in spring.
    """
    moments = [(end - timedelta(minutes=30 * back)).astimezone() for back in range(2 * HOURS, -1, -1)]
    hours = {_name(one): one.replace(minute=0, second=0, microsecond=0) for one in moments}
    return dict(list(hours.items())[-HOURS:])


def _names(hours):
    """Name hours for people; if an hour comes twice, the zone says which one it is."""
    names = [f"{hour:%a %H:00}" for hour in hours.values()]
    return [f"{name} {hour:%Z}" if names.count(name) > 1 else name for name, hour in zip(names, hours.values())]


def _table(data, hours, days):
    sink = data["sink"] or {"hour": None, "day": None}
    by_hour = [(name, data["hours"].get(key), key == sink["hour"]) for name, key in zip(_names(hours), hours)]
    by_day = [(f"{day:%a %d %b}", data["days"].get(str(day)), str(day) == sink["day"]) for day in days]
    yield from _bars(f"Double bounces of the last {HOURS} hours", by_hour, sink)
    yield ""
    yield from _bars(f"and of the last {DAYS} days", by_day, sink)
    yield ""
    yield from _harm(data)
    yield ""
    yield from _source(data)


def _bars(title, rows, sink):
    rows = [(name, row or dict.fromkeys(("queued", "discarded", "triple"), 0), mark) for name, row, mark in rows]
    most = max(1, *(row["queued"] + row["discarded"] for _, row, _ in rows))
    width = max(10, *(len(name) for name, _, _ in rows))
    yield title
    yield f"{'':<{width}} {'queued':>9} {'discarded':>9} {'triple':>9}"
    for name, row, is_marked in rows:
        # At least one sign for every count above 0, so that a single double bounce is visible beside a flood.
        size = row["queued"] + row["discarded"]
        bar = "#" * max(round(size * WIDTH / most), 1 if size else 0)
        mark = f"  < the sink came at {datetime.fromtimestamp(sink['since']):%H:%M}" if is_marked else ""
        yield f"{name:<{width}} {row['queued']:>9} {row['discarded']:>9} {row['triple']:>9}  {bar}{mark}".rstrip()


def _harm(data):
    """What became of them, and what they cost: in all, or before the sink and since then."""
    sink = data["sink"]
    columns = {"": data["total"]}
    if sink:
        columns = {"before": sink["before"], "since then": sink["after"]}
        yield f"What became of them; the sink came on {datetime.fromtimestamp(sink['since']):%a %d %b %Y %H:%M}"
        yield f"{'':<26}" + "".join(f" {title:>10}" for title in columns)
    else:
        yield f"What became of them, in the {DAYS} days"
    for name, title in ENDS.items():
        yield _line(title, [row[name] for row in columns.values()])
    for name, title in (("deliveries", "share of deliveries"), ("bytes", "share of bytes")):
        yield _line(title, [_percent(row[f"share_of_{name}"]) for row in columns.values()])
    yield _line("other local mail waited", [_span(row["wait_median"]) for row in columns.values()])
    yield _line("  95 of 100 no longer than", [_span(row["wait_95"]) for row in columns.values()])


def _line(title, values):
    return f"{title:<26}" + "".join(f" {value:>10}" for value in values)


def _percent(share):
    return "-" if share is None else f"{share:.1%}"


def _span(seconds):
    """Seconds for people."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds} s"


def _source(found):
    """Say what was read: a table of zeros is not good news from a log that nobody writes to."""
    if found["newest"] is None:
        yield f"{found['log']}: empty"
    else:
        when = datetime.fromtimestamp(found["newest"])
        yield f"{found['log']}: qmail-send wrote to it last on {when:%a %d %b %Y %H:%M}"
    if found["unread"]:
        yield f"not unpacked, and not counted: {', '.join(found['unread'])}"
