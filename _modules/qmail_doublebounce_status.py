"""
The present state: where double bounces go by the files on disk and by the running qmail-send, and what is wrong with
that.
"""

import os
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

VERDICTS = {
    "swallowed": "vanish at {to}",
    "discarded": "are discarded by qmail-send itself",
    "stored": "are stored at {to}",
    "forwarded": "are forwarded from {to}",
    "deferred": "accumulate in the queue: mail for {to} is deferred",
    "bounced": "end as triple bounces: nobody receives mail for {to}",
    "remote": "leave this server for {to}",
    "unknown": "go to a program at {to}, and it decides",
}
APPLY = "state.apply qmail-doublebounce"
CHOOSE = "Set qmail_doublebounce:address in pillar, then "
INSTRUCTION = 'Set qmail_doublebounce:instruction to "|exit 0" or "#", then state.apply qmail-doublebounce'
YOUNG = 5  # seconds; a qmail-send that cannot start is started again and again
MANY = 100  # double bounces in the queue at once: on a healthy server each is there only for a moment
UNKNOWN = "unknown"


def brief(settings, is_asked=True):
    """
    Return the part of ``qmail_doublebounce.status`` that takes milliseconds and runs no program: a dict with

    - ``holds``: whether double bounces go and end as pillar asks by what is on disk, whatever qmail-send has read of
      that; ``None`` if pillar asks for nothing;
    - ``running``, ``pid`` and ``loaded``, as ``qmail_service.status`` returns them;
    - ``problems``: what is wrong where it does not hold, as there.

    Raises CommandExecutionError if a file cannot be read.

    settings, is_asked
        As for ``look``.

    For ``qmail_doublebounce_reading``.
    """
    qmail = settings["qmail"]
    home, control = qmail["home"], qmail["control"]
    shown = __salt__["qmail_control.show"](home, control)
    found = {**shown, **_end(shown, home, control), "service": _service(qmail), "queue": None}
    told = {name: found["service"][name] for name in ("running", "pid", "loaded")}
    if not is_asked:
        return {"holds": None, **told, "problems": []}
    unreadable, _ = _unreadable(qmail)
    wanted = _wanted(settings)
    wanted["holds"] = not unreadable and _is_as_asked(wanted, found)
    found["service"] = {**found["service"], "loaded": None}  # that a restart is due is another matter
    problems = [] if wanted["holds"] else [*unreadable, *_problems(found, wanted, home, False)]
    told["problems"] = [{"problem": problem, "remedy": remedy} for problem, remedy in problems if problem]
    return {"holds": wanted["holds"], **told}


def look(settings, is_asked=True, queue=UNKNOWN):
    """
    Return what ``qmail_doublebounce.status`` returns, which documents it.

    settings
        What ``qmail_doublebounce.settings`` returns.

    is_asked
        Whether somebody asked for these settings; if not, they are only the defaults.

    queue
        What ``qmail_queue.summary`` has returned; ``None`` if it could not. Without it, it is asked.

    For ``qmail_doublebounce``, ``qmail_doublebounce_metrics`` and ``qmail_doublebounce_overview``.
    """
    qmail = settings["qmail"]
    home, control = qmail["home"], qmail["control"]
    shown = __salt__["qmail_control.show"](home, control)
    found = {**shown, **_end(shown, home, control)}
    found["service"] = _service(qmail)
    words = _last_words(found["service"], settings)
    dies = found["service"]["running"] is True and "cannot start" in "".join(words[-1:])
    paused = bool(found["service"]["pid"]) and __salt__["qmail_base_process.paused"](found["service"]["pid"])
    unreadable, unknown = _unreadable(qmail)
    found["queue"] = _queue(qmail, queue)
    found["log"] = _log(qmail)
    wanted = _wanted(settings)
    wanted["holds"] = is_asked and not unreadable and not dies and not paused and _holds(wanted, found)
    # What was asked for is not a problem: some want to keep their double bounces, and say so.
    as_asked = is_asked and _is_sink(wanted, found)
    down = _down(found["service"], dies, paused, words)
    problems = [*down, *unreadable, *unknown, *_problems(found, wanted, home, as_asked)]
    found["problems"] = [
        {"problem": problem, "remedy": remedy if is_asked or not remedy.startswith(APPLY) else f"{CHOOSE}{remedy}"}
        for problem, remedy in problems
        if problem
    ]
    sink = wanted["address"] if is_asked else found["recipient"]
    found["problems"] += _former(None if wanted["mode"] == "discard" else sink, is_asked, home, control)
    found["advice"] = __salt__["qmail_doublebounce_advice.give"](found, qmail)
    for one in (*found["problems"], *found["advice"]):
        one["remedy"] = __salt__["qmail_doublebounce_remedy.complete"](one["remedy"], settings)
    found["pillar"] = wanted if is_asked else "It has no qmail_doublebounce: the defaults are used."
    found["verdict"] = _verdict(found, unreadable, "keeps dying" if dies else "is paused" if paused else None)
    return found


def _end(shown, home, control):
    """Return what happens to a double bounce, and which file decides."""
    recipient = shown["recipient"]
    checked = __salt__["qmail_mailbox.check"](recipient, home, control)
    dotqmail = checked["dotqmail"]
    route = {
        "recipient": checked["recipient"],
        "dotqmail": dotqmail,
        "catch_all": bool(dotqmail) and dotqmail != checked["exact"],
    }
    end = {"fate": checked["fate"], "reason": checked["reason"], "route": route}
    if not shown["doublebounceto"]["value"] and __salt__["qmail_control.discards"](home, control) == "qmail-send":
        return {
            **end,
            "fate": "discarded",
            "reason": "doublebounceto is empty, and with that this qmail-send discards them.",
        }
    return end


def _service(qmail):
    try:
        return __salt__["qmail_service.status"](qmail["home"], qmail["control"], qmail["queue"])
    except CommandExecutionError as err:
        return {"running": None, "pid": None, "since": None, "loaded": None, "reason": str(err)}


def _unreadable(qmail):
    """Return what prevents qmail-send's next start, and if that is not known, why: two lists of problems."""
    try:
        found = __salt__["qmail_service.unreadable"](qmail["home"], qmail["control"], qmail["queue"])
    except CommandExecutionError as err:
        return [], [(f"Cannot tell whether qmail-send can read its control files: {err}", "Run Salt as root.")]
    if found is None:
        told = "Cannot tell whether qmail-send can read its control files: there is no user qmails."
        return [], [(told, "salt-call qmail_service.start")]
    then = "Its next start will fail, and then no mail is delivered."
    return [(f"{one['trouble']} {then}", one["remedy"]) for one in found], []


def _queue(qmail, found):
    """Count what waits; without a queue of the usual form there is nothing to report."""
    try:
        found = __salt__["qmail_queue.summary"](qmail["queue"], qmail["home"]) if found == UNKNOWN else found
    except CommandExecutionError:
        return None
    return found and {key: found[key] for key in ("messages", "double_bounces", "oldest")}


def _log(qmail):
    """Return which log shows double bounces, and since when it has been silent: a probe is followed through it."""
    try:
        return __salt__["qmail_log.about"](qmail["log"], qmail["home"], qmail["queue"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"log": None, "reason": str(err)}


def _wanted(settings):
    wanted = {"mode": settings["mode"], "address": settings["address"]}
    if settings["mode"] == "discard" or settings["address"] is None:
        return wanted
    asked = __salt__["qmail_doublebounce_proof.wanted"](settings)
    return {**wanted, "instruction": settings["instruction"], "fate": asked["end"]}


def _holds(wanted, found):
    """Return whether all is as pillar asks: where double bounces go, how they end, and what qmail-send has read."""
    return bool(found["service"]["running"] and found["service"]["loaded"]) and _is_as_asked(wanted, found)


def _is_as_asked(wanted, found):
    """Return whether all is on disk as pillar asks."""
    if wanted["mode"] == "discard":
        return found["fate"] == "discarded" or (found["fate"] == "swallowed" and found["recipient"].startswith("@"))
    return _is_sink(wanted, found)


def _is_sink(wanted, found):
    """Return whether mail for the wanted address ends as the wanted instruction says."""
    if wanted["address"] is None or found["recipient"].lower() != wanted["address"].lower():
        return False
    return wanted["fate"] is not None and found["fate"] == wanted["fate"]


def _last_words(service, settings):
    """Return the last lines of qmail-send's log, if it is down or has just been started."""
    young = service["running"] and time.time() - service["since"] < YOUNG
    if not young and service["running"] is not False:
        return []
    qmail, runs = settings["qmail"], settings["service"]
    words = (qmail["home"], qmail["queue"], runs["provider"], runs["name"], qmail["log"])
    return __salt__["qmail_service.last_words"](*words)


def _down(service, dies, paused, words):
    """Report that no mail is delivered, and the remedy: the log knows more than a process that is gone."""
    ends = f" Its log ends: {' / '.join(words)}" if words else ""
    start = "salt-call qmail_service.start"
    if dies:
        told = f"qmail-send keeps being restarted, and dies each time: no mail is delivered.{ends}"
        yield told, f"Fix what the log reports, then {start}"
    elif paused:
        told = f"qmail-send {service['pid']} is paused: a signal has stopped it, as svc -p does. No mail is delivered."
        yield told, f"Continue it: kill -CONT {service['pid']}, or svc -c"
    elif service["running"] is False:
        fix = "Fix what the log reports, then " if "cannot start" in ends or "alert: " in ends else ""
        yield f"qmail-send does not run: no mail is delivered.{ends}", f"{fix}{start}"
    if service["running"] is None:
        why = service.get("reason") or "this system does not show who holds a lock: there is no /proc/locks."
        yield f"Cannot tell whether qmail-send runs: {why}", "Set qmail_doublebounce:qmail:queue."


def _problems(found, wanted, home, as_asked):
    """Yield what is wrong and its remedy, the most serious first."""
    service = found["service"]
    yield from _values(found)
    if not as_asked:
        yield from _fates(found, wanted)
    if service["running"] and service["loaded"] is False:
        yield (
            f"qmail-send {service['pid']} started before the control files changed and still uses the old ones; HUP "
            "does not make it read them.",
            f"{APPLY}, or salt-call qmail_service.restart",
        )
    yield _stale_cdb(home), "qmail-newu"
    if found["queue"] and found["queue"]["double_bounces"] > MANY:
        yield (
            f"{found['queue']['double_bounces']} double bounces wait in the queue. They keep the recipient that they "
            "were queued with, and qmail-send gives them up after queuelifetime.",
            "salt-call qmail_queue.double_bounces limit=10 shows where they go.",
        )
    if wanted["holds"] is False:
        yield from _drift(found, wanted)


def _drift(found, wanted):
    """Report what is not as pillar asks, although it is not wrong in itself."""
    recipient, fate = found["recipient"], found["fate"]
    if wanted["mode"] == "discard" and found["doublebounceto"]["value"]:
        yield f"Pillar asks for double bounces to be discarded, but they go to {recipient}.", APPLY
    if "instruction" not in wanted:
        return
    if recipient.lower() != wanted["address"].lower():
        yield f"Pillar wants double bounces at {wanted['address']}, but they go to {recipient}.", APPLY
    elif wanted["fate"] is None and fate in ("swallowed", "stored", "forwarded"):
        yield f"Nothing shows whether double bounces end as {wanted['instruction']!r} asks.", INSTRUCTION
    elif fate == "swallowed" != wanted["fate"]:
        yield f"Pillar asks for double bounces to be {wanted['fate']}, but they vanish at {recipient}.", APPLY


def _values(found):
    """Look for values in the two files that qmail-send reads differently than people expect."""
    for name in ("doublebounceto", "doublebouncehost"):
        value, path = found[name]["value"], found[name]["path"]
        if "\r" in value:
            yield f"{path} ends in a carriage return, which is part of the address: no user has that name.", APPLY
        if value.startswith("#"):
            yield f"{path} begins with #, which does not begin a comment there.", APPLY
        if __salt__["qmail_base_text.is_altered"](value):
            yield f"{path} holds {value}, with bytes that are not UTF-8: no mailbox is found by that.", APPLY
        if value[:1] in (" ", "\t"):
            yield f"{path} begins with a blank, which is part of the address.", APPLY
    to = found["doublebounceto"]
    if "@" in to["value"]:
        yield (
            f"{to['path']} holds a whole address, and qmail-send appends @{found['doublebouncehost']['value']} to it: "
            "each double bounce ends as a triple bounce, or at a catch-all.",
            f"{APPLY}: it splits the address over doublebounceto and doublebouncehost.",
        )
    if not to["value"] and found["fate"] not in ("discarded", "swallowed"):
        yield (
            f"{to['path']} is empty, which discards nothing here: this qmail-send has no discard feature, and "
            f"doublebouncehost {found['doublebouncehost']['value']} is not in locals.",
            "Use mode sink.",
        )


def _fates(found, wanted):
    """Report where double bounces end badly, or are not swallowed."""
    recipient, reason, route = found["recipient"], found["reason"], found["route"]
    if found["fate"] == "deferred":
        yield f"Mail for {recipient} is deferred: {reason}.", "Fix that; until then, double bounces wait in the queue."
    if found["fate"] == "unknown":
        asks_for_it = "instruction" in wanted and wanted["fate"] != "swallowed"
        yield (
            f"Only a program knows what happens to mail for {recipient}: {reason}.",
            INSTRUCTION if asks_for_it else APPLY,
        )
    if found["fate"] == "bounced":
        yield f"Each double bounce ends as a triple bounce: {reason}", APPLY
    if found["fate"] == "remote":
        yield (
            f"Double bounces leave this server: {reason}",
            "Set qmail_doublebounce:address to an address that this server receives mail for.",
        )
    if route["catch_all"]:
        yield f"A catch-all receives double bounces: {route['dotqmail']}.", APPLY
    if found["fate"] in ("stored", "forwarded") and not route["catch_all"]:
        yield f"The mailbox {recipient} does not swallow mail: {reason}.", f"{APPLY}, unless you want to keep them."


def _former(sink, is_asked, home, control):
    """Report mailboxes that this project made sinks, and that no longer need to be."""
    remedy = APPLY if is_asked else f"{APPLY}.clean"
    found = __salt__["qmail_mailbox.former"](sink, home, control)
    return [{"problem": problem, "remedy": remedy} for problem in found]


def _stale_cdb(home):
    """qmail reads only users/cdb; people edit users/assign and forget to make the one from the other."""
    try:
        assign, cdb = (os.stat(os.path.join(home, "users", name)).st_mtime for name in ("assign", "cdb"))
    except OSError:
        return None
    return "users/assign is newer than users/cdb, but qmail reads only users/cdb." if assign > cdb else None


def _verdict(found, unreadable, trouble):
    verdict = "Double bounces " + VERDICTS[found["fate"]].format(to=found["recipient"]) + "."
    service = found["service"]
    if not service["running"] or trouble:
        state = "Cannot tell whether qmail-send runs."
        if trouble or service["running"] is False:
            state = f"No mail is delivered: qmail-send {trouble or 'does not run'}."
        return f"{state} By its control files, d{verdict[1:]}"
    if unreadable:
        return f"{verdict} But qmail-send cannot read its control files, and would not start again."
    if service["loaded"] is False:
        return f"{verdict} But the running qmail-send does not know that yet."
    return verdict
