"""
The alarm: when a figure passes a limit, or something stops being true, and when that is over again.

Each alarm has two limits, and wants several readings in a row: nobody is woken by one double bounce more or less. What
is on and since when is on disk, so that a minion's restart neither repeats nor forgets an alarm.
"""

import logging
import os
import urllib.parse

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

VERSION = 1
# What is counted: fires above the one, clears at the other or below.
LIMITS = {
    "double_bounces": {"above": 60, "below": 10},  # a minute
    "waiting": {"above": 100, "below": 10},  # double bounces in the queue
    "oldest": {"above": 3600, "below": 600},  # seconds that the oldest of them has waited
    "silent": {"above": 21600, "below": 600},  # seconds since qmail-send's last line in its log
}
FLAGS = ("sink", "restart", "down", "blind")
OFF = {"on": False, "row": 0, "since": None, "said": None}
READINGS = 2
REMIND = 86400
# What Salt itself understands in the configuration of a beacon.
SALTS = ("interval", "enabled", "run_once", "disable_during_state_run", "beacon_module", "_beacon_name")
NAME = "qmail_doublebounce"
SAYS = {
    "double_bounces": ("{value} double bounces come a minute.", "{value} double bounces come a minute now."),
    "waiting": ("{value} double bounces wait in the queue.", "{value} double bounces wait in the queue now."),
    "oldest": ("A double bounce has waited for {value} seconds.", "No double bounce has waited for long any more."),
    "silent": (
        "qmail-send's log has been silent for {value} seconds: qmail-send is idle, or writes elsewhere.",
        "qmail-send writes to its log again.",
    ),
    "sink": ("Double bounces do not end as pillar asks.", "Double bounces end as pillar asks again."),
    "restart": (
        "The running qmail-send has not read its control files as they are now: a restart is due.",
        "The running qmail-send has read its control files as they are now.",
    ),
    "down": ("qmail-send does not run: no mail is delivered.", "qmail-send runs again."),
    "blind": ("The alarm cannot see what it watches.", "The alarm sees again what it watches."),
}
REMEDIES = {
    "double_bounces": "salt-call qmail_doublebounce.causes since=1h",
    "waiting": "salt-call qmail_queue.double_bounces limit=10",
    "oldest": "salt-call qmail_queue.double_bounces limit=10",
    "silent": "salt-call qmail_log.about",
    "sink": "salt-call qmail_doublebounce.status",
    "restart": "state.apply qmail-doublebounce, or salt-call qmail_service.restart",
    "down": "salt-call qmail_service.start",
    "blind": "salt-call qmail_doublebounce.status",
}
LONGEST = 500  # characters of a message


def wrong(config):
    """
    Return what is wrong with the configuration of the beacon, as a list of sentences.

    config
        The configuration as Salt hands it over: a list of dicts.

    For the beacon ``qmail_doublebounce``.
    """
    if not isinstance(config, list) or not all(isinstance(one, dict) for one in config):
        return [f"It is {config!r}, and a list of settings belongs there, such as '- interval: 60'."]
    given, found = _given(config), []
    for name in given:
        if name not in (*LIMITS, *FLAGS, "readings", "remind", *SALTS):
            known = ", ".join((*LIMITS, *FLAGS, "readings", "remind", "interval"))
            found.append(f"{name} is not a setting; known: {known}.")
    for name in LIMITS:
        found += _wrong_limit(name, given.get(name, True))
    found += [
        f"{name} is {given[name]!r}; allowed: true, false."
        for name in FLAGS
        if not isinstance(given.get(name, True), bool)
    ]
    if not _is_number(given.get("readings", 1), int) or given.get("readings", 1) < 1:
        found.append(f"readings is {given['readings']!r}; allowed: a whole number from 1 on.")
    if not _is_number(given.get("remind", 0), int):
        found.append(f"remind is {given['remind']!r}; allowed: seconds, or 0 for never.")
    return found


def read(config):
    """
    Take a reading, and return the events that it makes: a list of dicts, empty most of the time.

    Raises CommandExecutionError if what it must remember cannot be read or written.

    config
        As for ``wrong``, which has found nothing wrong with it.

    For the beacon ``qmail_doublebounce``.
    """
    given = _given(config)
    path, known = _known(given)
    lock = __salt__["qmail_base_record.lock"](path)
    if lock is None:
        return []  # another reading of this alarm, by hand perhaps, is not done yet
    try:
        found = __salt__["qmail_doublebounce_reading.take"](known.get("reading", {}))
        events, alarms = _judged(given, found, known.get("alarms", {}))
        if found.get("instead"):
            events.insert(
                0, {"tag": "account/again", "alarm": "account", "state": "again", "message": found["instead"]}
            )
        record = {"version": VERSION, "reading": found["known"], "alarms": alarms}
        __salt__["qmail_base_record.save"](path, record)
    finally:
        os.close(lock)
    return events


def _known(given):
    """Where it is written down what an alarm has said, and what it says there."""
    qmail = __salt__["qmail_doublebounce.settings"](strict=False)["qmail"]
    name = urllib.parse.quote(str(given.get("_beacon_name", NAME)), safe="")[:100]
    path = __salt__["qmail_doublebounce_account.place"](qmail, f"alarm-{name}")
    try:
        record = __salt__["qmail_base_record.load"](path, VERSION) or {}
        if not _is_record(record):
            raise CommandExecutionError(f"{path} is damaged.")
    except CommandExecutionError as err:
        log.warning("%s The alarm begins again, and may repeat what it has said.", err)
        return path, {}
    return path, record


def _is_record(record):
    alarms, reading = record.get("alarms", {}), record.get("reading", {})
    if not isinstance(alarms, dict) or not isinstance(reading, dict):
        return False
    return all(isinstance(alarm, dict) and set(alarm) == set(OFF) for alarm in alarms.values())


def _given(config):
    return {name: value for one in config for name, value in one.items()}


def _limit(name, value):
    """The two limits of a figure; ``None`` if it is not watched."""
    if value is False:
        return None
    if value is True or value is None:
        return LIMITS[name]
    return {"above": value, "below": value} if not isinstance(value, dict) else value


def _wrong_limit(name, value):
    limit = _limit(name, value)
    if limit is None:
        return []
    allowed = "allowed: a number, false, or two numbers such as {above: 100, below: 20}"
    if set(limit) != {"above", "below"} or not all(_is_number(one, (int, float)) for one in limit.values()):
        return [f"{name} is {value!r}; {allowed}."]
    if limit["below"] > limit["above"]:
        return [f"{name} is {value!r}: below is more than above, and it could never clear."]
    return []


def _is_number(value, kinds):
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < float("inf")


def _judged(given, found, alarms):
    """Return the events of a reading, and each alarm as it is then."""
    readings, remind = given.get("readings", READINGS), given.get("remind", REMIND)
    events, after = [], {}
    for name in (*LIMITS, *FLAGS):
        limit = _limit(name, given.get(name, True)) if name in LIMITS else None
        if given.get(name, True) is False:
            continue
        value = found["values"].get(name)
        before = alarms.get(name, OFF)
        is_bad = _is_bad(value, limit, name not in found["inexact"])
        state, after[name] = _step(before, is_bad, readings, remind, int(found["now"]))
        if state:
            events.append(_event(name, state, value, limit, found, after[name]))
    return events, after


def _is_bad(value, limit, is_exact=True):
    """Return whether a value is beyond its limit; ``None`` in between, and if it is not known."""
    if value is None or limit is None:
        return value
    if value > limit["above"]:
        return True
    return False if value <= limit["below"] and is_exact else None


def _step(before, is_bad, readings, remind, now):
    """
    Return what to say of an alarm (``alarm``, ``clear``, ``again``, or ``None``), and the alarm after that.

    So many readings in a row must say the same; one that is not known, or between the limits, ends the row.
    """
    row = before["row"] + 1 if is_bad is not None and is_bad != before["on"] else 0
    if row >= readings:
        said = "alarm" if is_bad else "clear"
        return said, {"on": is_bad, "row": 0, "since": now, "said": now}
    if before["on"] and remind and now - before["said"] >= remind:
        return "again", {**before, "row": row, "said": now}
    return None, {**before, "row": row}


def _event(name, state, value, limit, found, alarm):
    is_over = state == "clear"
    at_least = "" if name not in found["inexact"] else "At least "
    says = at_least + SAYS[name][is_over].format(value=value)
    event = {"tag": f"{name}/{'clear' if is_over else 'alarm'}", "alarm": name, "since": alarm["since"]}
    event["state"] = "clear" if is_over else "alarm"
    if state == "again":
        event["again"] = True
    if limit:
        event.update(value=value, **limit)
    if not is_over:
        says = " ".join(filter(None, (says, found["words"].get(name), _caused(name, found))))
        settings = __salt__["qmail_doublebounce.settings"](strict=False)
        remedy = found["remedies"].get(name, REMEDIES[name])
        event["remedy"] = __salt__["qmail_doublebounce_remedy.complete"](remedy, settings)
        if name in ("double_bounces", "waiting", "oldest") and found["domain"]:
            event["domain"] = found["domain"]
    event["message"] = says[:LONGEST]
    return event


def _caused(name, found):
    if name not in ("double_bounces", "waiting", "oldest") or not found["domain"]:
        return ""
    return f"Most of the new ones are caused by {found['domain']}."
