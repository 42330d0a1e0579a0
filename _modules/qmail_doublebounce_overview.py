"""
What a table of many servers needs of one: its state, its figures and its worst causes, small enough to be sent by ten
thousand.
"""

import time
from datetime import datetime

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

FORM = 1  # of the answer
HOUR = 3600
HOURS = 24  # of the last day, as qmail_doublebounce.report shows them
COUNTS = ("double_bounces", "discarded", "triple_bounces", "swallowed", "stored", "forwarded", "deferred")
# What they cost, and how many seconds ordinary local mail waited.
COSTS = ("deliveries", "double_bounce_deliveries", "queued_bytes", "double_bounce_bytes", "wait_median", "wait_95")
MOST_PROBLEMS = 5
MOST_CAUSES = 5
EXAMINED = 3  # of these, what happens to mail for nobody
MOST_STEPS = 3
WORDS = 300  # characters of a sentence
NO_MAIL = "No mail is delivered"  # a verdict begins so


def gather(settings, is_asked, since="7d", now=None):
    """
    Return what ``qmail_doublebounce.overview`` returns, which documents it.

    settings
        What ``qmail_doublebounce.settings`` returns, perhaps with ``problems``.

    is_asked
        Whether somebody asked for these settings; if not, they are only the defaults.

    since
        How far back, as ``qmail_doublebounce_row.window`` takes it.

    now
        Seconds since the epoch at which it ends; ``None`` for now.

    For ``qmail_doublebounce``.
    """
    now = time.time() if now is None else now
    window = __salt__["qmail_doublebounce_row.window"](since, now)
    problems = settings.get("problems")
    state = {"error": _cut(f"Pillar is wrong. {' '.join(problems)}")} if problems else _state(settings, is_asked)
    return {"form": FORM, "time": int(now), **state, **_figures(settings["qmail"], window, now)}


def page(path, settings, is_asked, since="7d"):
    """
    Write the page of this server, and return what ``qmail_doublebounce.report`` returns for it.

    path
        Where, as ``qmail_doublebounce_page.check`` allows it.

    settings, is_asked, since
        As for ``gather``.

    For ``qmail_doublebounce``.
    """
    __salt__["qmail_doublebounce_page.check"](path)
    now = time.time()
    window = __salt__["qmail_doublebounce_row.window"](since, now)
    said = gather(settings, is_asked, since, now)
    row = __salt__["qmail_doublebounce_row.make"](__opts__["id"], said, now, window)
    report = __salt__["qmail_doublebounce_totals.report"]([row], window, now)
    return {**__salt__["qmail_doublebounce_page.write"](path, report), "level": row["level"], "why": row["why"]}


def _state(settings, is_asked):
    """Return where double bounces go, and what is wrong with that."""
    try:
        found = __salt__["qmail_doublebounce_status.look"](settings, is_asked)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"error": _cut(err)}
    wanted, service = found["pillar"], found["service"]
    has_pillar = isinstance(wanted, dict)
    return {
        "verdict": _cut(found["verdict"]),
        "sink": _cut(found["recipient"]),
        "mode": wanted["mode"] if has_pillar else None,
        "fate": found["fate"],
        "holds": wanted["holds"] if has_pillar else None,
        "down": service["running"] is False or found["verdict"].startswith(NO_MAIL),
        "restart_due": service["running"] is True and service["loaded"] is False,
        "queue": found["queue"],
        "problems": [
            {"problem": _cut(one["problem"]), "remedy": _cut(one["remedy"])}
            for one in found["problems"][:MOST_PROBLEMS]
        ],
    }


def _figures(qmail, window, now):
    """Return what the log shows: how many double bounces, when, what became of them, and because of whom."""
    begin, step, parts = window
    try:
        came = __salt__["qmail_doublebounce_report.came"](qmail["home"], qmail["control"])
        mark = came if came is not None and begin <= came <= now else None
        found = __salt__["qmail_log.harm"](qmail["log"], begin, int(now) + 1, mark, qmail["home"], qmail["queue"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"log": {"path": None, "newest": None, "reason": _cut(err)}}
    counts, day = [0] * parts, dict.fromkeys(COUNTS, 0)
    first = int(now) // HOUR * HOUR - (HOURS - 1) * HOUR
    for name, row in found["hours"].items():
        when = datetime.fromisoformat(name).timestamp()
        place = int(when - begin) // step
        if 0 <= place < parts:
            counts[place] += row["double_bounces"] + row["discarded"]
        if when > first - HOUR:  # where hours begin at half past
            day = {key: number + row[key] for key, number in day.items()}
    return {
        "log": {"path": _cut(found["log"]), "newest": found["newest"], "reason": None},
        "since": begin,
        "step": step,
        "counts": counts,
        "day": day,
        "all": _row(found["total"]),
        "came": came,
        "before": _row(found["before"]),
        "after": _row(found["after"]),
        "causes": _causes(found["domains"], qmail),
    }


def _row(row):
    return row and {key: row[key] for key in (*COUNTS, *COSTS)}


def _causes(domains, qmail):
    """Return the domains that caused most, with what happens to mail for nobody in the worst of them."""
    worst = list(domains.items())[:MOST_CAUSES]
    return [
        {"domain": _cut(name), "double_bounces": number, **(_nobody(name, qmail) if place < EXAMINED else {})}
        for place, (name, number) in enumerate(worst)
    ]


def _nobody(domain, qmail):
    found = __salt__["qmail_doublebounce_causes.nobody"](domain, qmail["home"], qmail["control"])
    return {"nobody": found["nobody"], "remedy": [_cut(step) for step in found["remedy"][:MOST_STEPS]]}


def _cut(words):
    text = str(words)
    return text if len(text) <= WORDS else f"{text[: WORDS - 1]}…"
