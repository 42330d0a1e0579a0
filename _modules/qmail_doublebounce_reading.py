"""
One reading for the alarm: what is wrong right now, in bounded time, for the main process of a minion.

No program is run but journalctl, and that one not for long; no lock is waited for; what would take too long is gone on
with at the next reading.
"""

import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LIMIT = 2**22  # bytes of the log
FILES = 20000  # messages of the queue
SECONDS = 0.5  # for each of the two
MINUTE = 60
LEAST = 50  # seconds over which a rate is taken: two double bounces in a second are no flood
MOST_SAMPLES = 2**7


def take(before):
    """
    Return what a reading found, and what the next one has to know.

    Returns a dict: ``now``; ``values``, by the names of the alarms, each ``None`` if it is not known: numbers for
    ``double_bounces`` (a minute, over the last minute or since the reading before), ``waiting``, ``oldest`` and
    ``silent`` (seconds), and ``True`` if it is wrong for ``sink``, ``restart``, ``down`` and ``blind``; ``inexact``,
    the numbers that may be larger; ``words`` and ``remedies`` for some; ``domain``, which caused most of the double
    bounces then; and ``known``, for the next reading.

    before
        ``known`` of the reading before; ``{}`` if there was none.

    For ``qmail_doublebounce_alarm``.
    """
    found = {"now": time.time(), "values": {}, "inexact": [], "words": {}, "remedies": {}, "domain": None, "known": {}}
    blind = []
    for look in (_status, _log, _queue):
        try:
            blind += look(found, before) or []
        except (CommandExecutionError, SaltInvocationError) as err:
            blind.append(str(err))
    found["values"]["blind"] = bool(blind)
    if blind:
        found["words"]["blind"] = " ".join(dict.fromkeys(blind))
    return found


def _settings():
    return __salt__["qmail_doublebounce.settings"]()


def _status(found, before):
    settings = _settings()
    is_asked = bool(__salt__["qmail_doublebounce_settings.said"]())
    seen = __salt__["qmail_doublebounce_status.brief"](settings, is_asked)
    runs = seen["running"]
    found["values"].update(
        sink=None if seen["holds"] is None else not seen["holds"],
        down=None if runs is None else not runs,
        restart=not seen["loaded"] if runs and seen["loaded"] is not None else None,
    )
    if seen["problems"]:
        found["words"]["sink"] = seen["problems"][0]["problem"]
        found["remedies"]["sink"] = seen["problems"][0]["remedy"]


def _log(found, before):
    account = __salt__["qmail_doublebounce_account.read"](_settings()["qmail"], limit=LIMIT, seconds=SECONDS)
    counted = account["log"]
    if counted is None:
        return [account["reason"] or "Somebody else is counting right now."]
    totals = counted["totals"]
    number = totals.get("double_bounces", 0) + totals.get("discarded", 0)
    last = before.get("log") or {}
    if last.get("began") != account["began"]:
        found["instead"] = account["instead"] if last else None
        last = {"samples": [], "domains": {}}
    base = _base(last["samples"], found["now"])
    if base:
        passed = max(LEAST, found["now"] - base[0])
        found["values"]["double_bounces"] = round((number - base[1]) * MINUTE / passed)
        found["domain"] = _worst(counted["domains"], last["domains"])
    is_new = not base or found["now"] - base[0] >= LEAST
    samples = [one for one in last["samples"] if not base or base[0] <= one[0] < found["now"]]
    found["known"]["log"] = {
        "began": account["began"],
        "samples": [*samples[-MOST_SAMPLES:], [found["now"], number]],
        "domains": counted["domains"] if is_new else last["domains"],
    }
    if not account["behind"] and not account["reason"]:
        found["values"]["silent"] = max(0, int(found["now"] - max(counted["newest"] or 0, account["began"])))
    return [account["reason"]] if account["reason"] else []


def _base(samples, now):
    """The newest count that is old enough to compare with, or the oldest; ``None`` if there is none."""
    earlier = [one for one in samples if one[0] < now]
    return next((one for one in reversed(earlier) if now - one[0] >= LEAST), earlier[0] if earlier else None)


def _worst(now, before):
    """The domain that caused most since; the alphabet decides between two."""
    since = {name: number - before.get(name, 0) for name, number in now.items()}
    name = min(since, key=lambda name: (-since[name], name), default=None)
    return name if name is not None and since[name] > 0 else None


def _queue(found, before):
    qmail = _settings()["qmail"]
    found["known"]["queue"] = before.get("queue")
    known = (before.get("queue"), qmail["queue"], qmail["home"])
    seen = __salt__["qmail_queue.glance"](*known, limit=FILES, seconds=SECONDS)
    found["known"]["queue"] = seen["known"]
    oldest = seen["oldest"]
    found["values"]["waiting"] = seen["double_bounces"]
    found["values"]["oldest"] = 0 if oldest is None else max(0, int(found["now"] - oldest))
    if not seen["exact"]:
        found["inexact"] += ["waiting", "oldest"]
