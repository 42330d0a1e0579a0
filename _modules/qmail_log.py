"""
Double bounces in qmail-send's log: how many, where they went, what happened to them, and who caused them.
"""

import logging
import math
import re
import time
from datetime import date, datetime

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

# More hours than this are counted as one.
MOST_SLOTS = 2**13
# How much is read before ``since``, to know the messages that were on their way then.
CONTEXT = 64 * 2**20
PROGRESS_SECONDS = 5
TOP = 10
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
RELATIVE = re.compile(r"(\d{1,9})([smhdw])")


def _moment(name, value):
    """What a caller gave as a time, in seconds since the epoch; ``None`` for ``None``."""
    if value is None:
        return None
    if isinstance(value, date):
        value = value.isoformat()
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError("neither a number nor text")
        relative = RELATIVE.fullmatch(value.strip()) if isinstance(value, str) else None
        seconds = time.time() - int(relative[1]) * UNITS[relative[2]] if relative else _absolute(value)
        datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError) as err:
        allowed = "seconds since the epoch, a date like 2026-11-24T02:00, or an age like 24h or 7d"
        raise SaltInvocationError(f"{name}={value!r} is not a time: give {allowed}") from err
    return int(seconds)


def _absolute(value):
    if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d*)?", value.strip()):
        text = value.strip()
        # A time without a zone is local time, as in this machine's syslog.
        return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text).timestamp()
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError("not finite")
    return seconds


def _window(since, until, by):
    if by not in ("hour", "day"):
        raise SaltInvocationError(f"by={by!r} is not known: give hour or day")
    window = _moment("since", since), _moment("until", until)
    if None not in window and window[0] >= window[1]:
        raise SaltInvocationError(f"since={since!r} is not before until={until!r}")
    return window


def _asked(path, since, until, by, home, queue):
    """Check what a caller gave, and find the log; return both."""
    window = _window(since, until, by)
    __salt__["qmail_base_check.arguments"](home=home, queue=queue)
    return __salt__["qmail_log_file.find"](path, home, queue), window


def about(path=None, home="/var/qmail", queue=None):
    """
    Return which log is read, and how old it is, as a dictionary:

    ``log``, ``files``, ``unread``
        the file, the directory, or ``journald``; its files, the oldest first; and those that can't be unpacked here:
        what is in them is not counted.
    ``how``
        ``named``, ``followed`` from the running qmail-send, or ``newest``: see ``qmail_log_file.find``.
    ``newest``
        when qmail-send wrote to it last, in seconds since the epoch; ``None`` if the log is empty. While mail flows,
        that is a moment ago; otherwise it is the wrong log, or qmail-send can't write to it.

    Raises SaltInvocationError for a wrong argument, CommandExecutionError for a log that can't be found or read, or in
    which no line is recognized as qmail-send's: it quotes one.

    path, home, queue
        As for ``qmail_log_file.find``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.about
        salt '*' qmail_log.about /var/log/maillog
    """
    return _about(_asked(path, None, None, "hour", home, queue)[0])


def _about(found):
    newest = __salt__["qmail_log_age.newest"](found)
    told = {name: found[name] for name in ("files", "unread", "how")}
    return {"log": found["path"], **told, "newest": newest}


def _parts(found, window, by, blocks, mark=None):
    """
    Iterate over the parts of a log that were written within one hour or day, and report the progress: triples of the
    slot, the lines, and the time that none of them is newer than.

    A part without times belongs to the same hour as the one before it.
    """
    segments, others = __salt__["qmail_log_time.segments"], found.get("others")
    done, told, known = 0, time.monotonic(), "unknown"
    for data, newest in blocks:
        if others:
            data = __salt__["qmail_log_line.without"](data, others)
        for slot, part in segments(data, newest, *window, by, mark):
            known = known if slot == "unknown" else slot
            if known is not False and (known != "unknown" or window == (None, None)):
                yield known, part, newest
        done += len(data)
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            log.info("%s: %s MiB read", found["path"], done >> 20)
    if done and known == "unknown" and window != (None, None):
        raise CommandExecutionError(f"the log {found['path']} has no times in it: leave out since and until")


def _uncut(parts):
    """Pass on the parts of a log, each with the ends of all its lines: splogger cuts what is too long for it."""
    whole, rest, last = __salt__["qmail_log_line.whole"], b"", None
    for slot, part, newest in parts:
        end = whole(part)
        yield slot, rest + part[:end] if rest else part[:end], newest
        rest, last = part[end:], (slot, newest)
    if rest:
        yield last[0], rest, last[1]


def _runs(parts):
    """The parts of a log as ``qmail_log_message.follow`` takes them."""
    runs = __salt__["qmail_log_line.runs"]
    return ((slot, runs(part, newest), len(part)) for slot, part, newest in _uncut(parts))


def _most(names):
    """The names seen most often, with their counts."""
    return {name: names[name] for name in sorted(names, key=lambda name: (-names[name], name))[:TOP]}


def summary(path=None, since=None, until=None, by="hour", home="/var/qmail", queue=None):
    """
    Return what qmail-send's log shows about bounces, as a dictionary:

    ``double_bounces``
        queued (``info msg … from <#@[]>``).
    ``discarded``
        dropped unqueued by a qmail-send that has the discard feature.
    ``triple_bounces``
        double bounces that failed and were dropped.
    ``swallowed``, ``stored``, ``forwarded``, ``deferred``
        what happened to the deliveries of double bounces, each time one ended. By qmail-local's report
        ``did_FILES+FORWARDS+PROGRAMS/``: *stored* with any file, else *forwarded* with any forward or to another host,
        else *swallowed* with one program or none, else *stored*: Plesk keeps a mailbox with two programs, and a sink
        needs one. The log can't show whether a single program keeps the mail: ``qmail_mailbox.check`` can.
    ``single_bounces``
        notices queued for a sender that isn't empty.
    ``deliveries``, ``double_bounce_deliveries``
        all that were started, of any message; and those of double bounces.
    ``queued_bytes``, ``double_bounce_bytes``
        the size of all messages that were queued, and of double bounces, in bytes (``info msg … bytes …``).
    ``share_of_deliveries``, ``share_of_bytes``
        of double bounces, from 0 to 1 in four digits; ``None`` if there were no deliveries, or no bytes.
    ``waits``
        how many local deliveries of ordinary mail succeeded. Ordinary is what has a sender: neither a bounce nor a
        double bounce. What was queued before the log begins is not counted.
    ``wait_median``, ``wait_95``
        for how many seconds half of them, and 95 of 100 (the nearest rank), had been in the queue at most, from ``info
        msg`` to the delivery's success. Exact below 32 seconds, in whole seconds; beyond that at most 3.2 % too much or
        too little; more than 97 days count as 97. ``None`` if there were none.
    ``by``
        all of the above for each hour (``2026-11-24T02:00+00:00``, with this machine's offset from UTC) or day
        (``2026-11-24``) with any; ``unknown`` if the log has no times.
    ``recipients``
        the ten addresses that most double bounces went to, as logged: those of a virtual domain have its prefix.
    ``domains``
        the ten domains that caused most double bounces, discarded ones included: that of the first recipient that
        failed, in the message that the first notice was about, or in the notice itself if it came from elsewhere.
    ``log``, ``files``, ``unread``, ``how``, ``newest``
        the log, as for ``about``. Every count is from these files.
    ``bytes``, ``seconds``
        how much was read, and how long it took.

    Each event counts in the hour in which it was logged, a wait in the one in which it ended; within one MiB the log is
    assumed to be in order of time. Messages are followed by number and ``qp`` from ``info msg`` to ``end msg``, also
    from up to 64 MiB before ``since``. Memory is bounded: beyond 262,144 double bounces in the queue at a time the
    oldest aren't followed any further; causes are known for 65,536 messages at a time, waits for 65,536; names are
    counted exactly up to 8192 of a kind; after 8192 hours the rest is counted as ``more``.

    A probe of ``qmail_doublebounce.probe`` is a double bounce like any other, and is counted: its ``recipients`` and
    ``domains`` are this server's.

    Raises SaltInvocationError for a wrong argument, CommandExecutionError for a log that can't be found or read, or in
    which no line is recognized as qmail-send's.

    path
        A file (with those it was rotated to, packed or not), a directory of multilog, svlogd or s6-log, ``journald``,
        ``journald:UNIT``, or ``None``: the log that the running qmail-send writes, or else the one of the usual places
        in which it wrote last, see ``qmail_log_file.find``.

    since, until
        Count from ``since`` on and before ``until``, in whole seconds: seconds since the epoch, ISO text such as
        ``2026-11-24T02:00``, in local time if it has no zone, or an age such as ``90s``, ``30m``, ``24h``, ``7d``,
        ``2w``.

    by
        ``hour`` or ``day``.

    home, queue
        The qmail home directory, and its queue (``None``: ``queue`` in the home), which lead to the log.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.summary since=24h
        salt '*' qmail_log.summary /var/log/maillog since=2026-11-01 until=2026-12-01 by=day
    """
    told, about_it = _followed(path, since, until, by, home, queue)
    rows = dict(sorted(told["slots"].items()))
    return {
        **_row(told, rows.values()),
        "by": {slot: _row(told, [pair]) for slot, pair in rows.items()},
        "recipients": _most(told["recipients"]),
        "domains": _most(told["domains"]),
        **about_it,
    }


def harm(path=None, since=None, until=None, mark=None, home="/var/qmail", queue=None):
    """
    Return what double bounces cost: a row for each hour and each day of a log, and rows for the time before and after
    an instant, such as that from which on a sink swallowed them. It is one pass over the log, as fast as ``summary``.

    Returns a dictionary:

    ``hours``, ``days``
        a row for each hour (``2026-11-24T02:00+00:00``, with this machine's offset from UTC) and day (``2026-11-24``)
        with any mail; ``unknown`` if the log has no times, ``more`` after 8192 hours.
    ``total``
        a row for all of it.
    ``before``, ``after``
        a row for what was logged before ``mark``, and one for what was logged from then on, to the second; ``None``
        without a mark.
    ``log``, ``files``, ``unread``, ``how``, ``newest``, ``bytes``, ``seconds``
        as for ``summary``.

    Each row is flat: the keys that ``summary`` has in ``by``, and the same in each.

    Raises what ``summary`` raises.

    path, since, until, home, queue
        As for ``summary``.

    mark
        The instant, in whole seconds, as ``since`` is given.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.harm since=7d mark=2026-11-24T02:11
    """
    mark = _moment("mark", mark)
    told, about_it = _followed(path, since, until, "hour", home, queue, mark)
    # Without a mark a slot is a name; with one, it is a pair. What has no time is neither before nor after.
    pairs = [(slot if isinstance(slot, tuple) else (slot, None), pair) for slot, pair in told["slots"].items()]
    hours, days = {}, {}
    for (name, _), pair in sorted(pairs, key=lambda one: one[0][0]):
        hours.setdefault(name, []).append(pair)
        days.setdefault(name.partition("T")[0], []).append(pair)
    sides = {is_after: [pair for (_, side), pair in pairs if side is is_after] for is_after in (False, True)}
    return {
        "hours": {name: _row(told, rows) for name, rows in hours.items()},
        "days": {name: _row(told, rows) for name, rows in days.items()},
        "total": _row(told, [pair for _, pair in pairs]),
        "before": None if mark is None else _row(told, sides[False]),
        "after": None if mark is None else _row(told, sides[True]),
        **about_it,
    }


def _followed(path, since, until, by, home, queue, mark=None, account=None):
    """Follow all messages of a log; return what that shows, and what was read."""
    began = time.monotonic()
    found, window = _asked(path, since, until, by, home, queue)
    about_it = _about(found)
    halves, close = __salt__["qmail_log_block.halves"](found, *window, CONTEXT)
    try:
        works = [_reading(found, window, by, mark, half) for half in halves]
        told = __salt__["qmail_log_message.follow"](works, account)
    finally:
        close()
    return told, {**about_it, "bytes": told["bytes"], "seconds": round(max(0.0, time.monotonic() - began), 3)}


def _reading(found, window, by, mark, half):
    """How a half of a log is read, for whoever follows it."""
    return lambda: _runs(_parts(found, window, by, half(), mark))


def _row(told, pairs):
    """The row of several pairs of counts and waits."""
    return __salt__["qmail_log_harm.row"](*__salt__["qmail_log_harm.total"](pairs, told["names"]))


def causes(path=None, since=None, until=None, home="/var/qmail", queue=None):
    """
    Return who caused the double bounces in qmail-send's log: a dictionary with

    ``double_bounces``, ``single_bounces``
        how many there were; those that a qmail-send discarded are double bounces, too.
    ``unknown``
        double bounces whose cause the log does not show.
    ``domains``
        by the domain of the first recipient that failed: ``double_bounces``, ``single_bounces``, ``recipients`` (how
        many different ones failed there in messages that caused a double bounce, at most 16 of a message; ``exact`` is
        ``False`` if there were too many to count), how many failed on their way to a ``local`` and a ``remote``
        recipient, and ``senders``: the domains of who had sent them, the most frequent first, with their numbers.
    ``uids``
        dicts with ``uid`` (who queued the message that failed), ``channel`` and ``double_bounces``, the most first.
    ``log``, ``files``, ``unread``, ``how``, ``newest``, ``bytes``, ``seconds``
        the log, as for ``summary``.

    Memory is bounded: 65,536 messages are followed at a time, up to 2048 domains are known, each with up to 64 domains
    of senders; the rare ones are left out.

    Raises what ``summary`` raises.

    path, since, until, home, queue
        As for ``summary``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.causes since=7d
    """
    account = __salt__["qmail_log_causes.account"]()
    told, about_it = _followed(path, since, until, "day", home, queue, account=account)
    counts = _row(told, told["slots"].values())
    return {
        "double_bounces": counts["double_bounces"] + counts["discarded"],
        "single_bounces": counts["single_bounces"],
        **account.told(),
        **about_it,
    }


def count(what="double_bounces", path=None, since=None, until=None, by="hour", home="/var/qmail", queue=None):
    """
    Count double bounces per hour or day, and nothing else: more than ten times as fast as ``summary``, and two or three
    times as slow as ``grep -c``.

    Returns ``{"double_bounces": …, "by": {…: …}, "log": …, "files": …, "unread": …, "how": …, "newest": …, "bytes": …,
    "seconds": …}``; the first key is ``what``, the others are those of ``summary``. Hours without any are left out.
    Raises what ``summary`` raises.

    what
        ``double_bounces`` (queued), ``discarded``, or ``triple_bounces``.

    path, since, until, by, home, queue
        As for ``summary``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.count since=24h
        salt '*' qmail_log.count discarded by=day
    """
    marks = __salt__["qmail_log_words.marks"]()
    if not isinstance(what, str) or what not in marks:
        raise SaltInvocationError(f"what={what!r} is not known: give one of {', '.join(marks)}")
    told = _counted({what: marks[what]}, path, since, until, by, home, queue)
    return {**told, "by": {slot: counts[what] for slot, counts in told["by"].items()}}


def counts(path=None, since=None, until=None, by="hour", home="/var/qmail", queue=None):
    """
    Count everything that ``count`` can count, in one pass.

    Returns what ``count`` returns, with a key for each ``what``, and in ``by`` the same keys for each hour or day with
    any.

    path, since, until, by, home, queue
        As for ``summary``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.counts since=7d by=day
    """
    return _counted(__salt__["qmail_log_words.marks"](), path, since, until, by, home, queue)


def _counted(marks, path, since, until, by, home, queue):
    began = time.monotonic()
    found, window = _asked(path, since, until, by, home, queue)
    told_of = _about(found)
    counted = __salt__["qmail_log_line.count"]
    slots, read, blocks = {}, 0, __salt__["qmail_log_block.blocks"](found, *window)
    for slot, part, _ in _parts(found, window, by, blocks):
        read += len(part)
        if slot is None:
            continue
        numbers = {what: counted(part, *said) for what, said in marks.items()}
        if any(numbers.values()):
            slot = slot if slot in slots or len(slots) < MOST_SLOTS else "more"
            known = slots.setdefault(slot, dict.fromkeys(marks, 0))
            for what, number in numbers.items():
                known[what] += number
    return {
        **{what: sum(counts[what] for counts in slots.values()) for what in marks},
        "by": dict(sorted(slots.items())),
        **told_of,
        "bytes": read,
        "seconds": round(max(0.0, time.monotonic() - began), 3),
    }


def position(path=None, home="/var/qmail", queue=None):
    """
    Return the end of a log, as a dictionary for ``lines_since``: plain data that can be kept.

    Raises CommandExecutionError for a log that can't be found or read.

    path, home, queue
        The log, as for ``summary``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.position
    """
    return __salt__["qmail_log_follow.position"](path, home, queue)


def lines_since(where, limit=2**20):
    """
    Return the lines that were written to a log since a position: a dict with

    - ``lines``: text, without their ends; a line is returned when it is complete;
    - ``events``: for each line the event in it, as ``qmail_log_words.event`` returns it; ``None`` for lines of other
      programs, and for those that are not about a message;
    - ``position``: where to continue;
    - ``lost``: whether the file of the position is gone, or its entry of the journal, so that lines may be missing:
      then the newest file is read from its beginning, or the journal from its next entry.

    Raises SaltInvocationError for a wrong position, CommandExecutionError for a log that can't be read.

    where
        What ``position``, or an earlier call, returned.

    limit
        Read about this many bytes at most; the next call continues after them.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.lines_since '{"path": "/var/log/maillog", "head": "", "inode": 1234, "offset": 0}'
    """
    found = __salt__["qmail_log_follow.lines_since"](where, limit)
    return {**found, "events": [_event(line.encode("utf-8", "backslashreplace")) for line in found["lines"]]}


def _event(line):
    """The event that a line reports, if it is qmail-send's."""
    runs = __salt__["qmail_log_line.runs"](line, time.time())
    said = [own[skip:] for lines, skip, _ in runs for own in lines]
    return __salt__["qmail_log_words.event"](said[0]) if said else None


def tally(account=None, path=None, home="/var/qmail", queue=None, limit=2**22, seconds=1, again=False):
    """
    Count on in the log from where an earlier call stopped. Returns an account: plain data for the next call, with

    - ``totals``: the counts of ``summary``, since the first call;
    - ``domains``: those that caused most double bounces since then, up to 256;
    - ``delays``: how long local deliveries of ordinary mail took, from ``info msg`` to their success: their number as
      ``count``, and ``sum`` in seconds, both since then; and ``quantiles``, of those in the last ten to twenty minutes
      before the last reading: ``0.5`` and ``0.95``, in seconds, ``None`` if there were none. See ``wait_median`` of
      ``summary`` for how exact these are;
    - ``newest``: when qmail-send wrote last, as for ``about``;
    - ``read``: how many bytes this call has read, and ``behind``: whether there is more; the next call goes on there;
    - ``gaps``: how often lines were missed, because the log was gone, or is another one now;
    - ``unfollowed``: double bounces that were too many at a time: how these ended was not counted;
    - ``position``, ``rest``, ``open``, ``waits`` and ``recent``: where to go on, and what was on its way there.

    The first call counts nothing: it begins at the end of the log. What comes after it is counted once, also over
    rotations, and whatever the bounds of the calls are. 8192 messages are followed at a time.

    Raises SaltInvocationError for what is not an account, CommandExecutionError for a log that can't be found or read.

    account
        What an earlier call returned; ``None`` to begin.

    path, home, queue
        The log, as for ``summary``: for the first call, and ``again``.

    limit, seconds
        Read about this many bytes at most, and for about this long.

    again
        ``True``: look again which log that is. If it is another one than before, go on at its end.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_log.tally
    """
    __salt__["qmail_base_check.arguments"](home=home, queue=queue, limit=limit, seconds=seconds, again=again)
    if limit is None:
        raise SaltInvocationError("limit=None is not a number of bytes")
    if account is None:
        return __salt__["qmail_log_tally.begin"](path, home, queue)
    if again:
        account = __salt__["qmail_log_tally.move"](account, path, home, queue)
    return __salt__["qmail_log_tally.advance"](account, limit, seconds)
