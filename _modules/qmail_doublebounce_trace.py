"""
Follow one message through qmail-send's log: a bounce, and the double bounce that it causes.

The log of a flood has holes: syslog and journald drop lines over a rate. So any line may be missing here, an end is
reported only if a line shows it, and only qmail-send's own lines count.
"""

import time

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

POLL = 0.1  # seconds
MOST_LINES = 50  # lines about the message that are kept to be shown
MOST_KNOWN = 10000  # messages of others that are remembered


def begin(token, sender):
    """
    Return what is known of a message that is about to be queued: a dict, which ``follow`` continues.

    Its key ``end`` becomes ``success`` (delivered here), ``left`` (another server took it), ``deferred``,
    ``discarded``, ``triple-bounced``, or ``lost`` (it has left the queue, but the log lacks the line that says how); it
    stays ``None`` while the log shows no end. ``hops`` are dicts: ``msg``, ``to``, ``channel``, ``report``, ``did``
    (how many files, forwards and programs) and ``seconds`` (``None`` if the log lacks them), and ``double``, whether it
    is the double bounce. ``lines`` are those about it, and ``guessed`` says that the double bounce was recognized only
    by its size. If the log is ``mixed``, ``reports`` are what it has of a delivery of this number, whosesoever that is.

    token
        A text in its recipient's address that no other message has.

    sender
        Its envelope sender: empty for a bounce, ``#@[]`` for a double bounce.

    For ``qmail_doublebounce_probe``.
    """
    now = time.monotonic()
    return {
        "token": token,
        "began": now,
        "mark": now,
        "hops": [],
        "lines": [],
        "end": None,
        "awaits": {"qp": None, "sender": sender, "least": None},
        "deliveries": {},
        "known": {},
        "guessed": False,
        "mixed": False,
        "reports": [],
    }


def follow(trace, where, timeout=30):
    """
    Read the log until a message has an end, or the time is up, and return the dict of ``begin``, filled in.

    Raises what ``qmail_log.lines_since`` raises.

    trace
        What ``begin`` returned; under ``awaits`` with the ``qp`` of the message: the process that queued it.

    where
        A position in the log before the message was queued: see ``qmail_log.position``.

    timeout
        Seconds since ``begin``.

    For ``qmail_doublebounce_probe``.
    """
    deadline = trace["began"] + timeout
    trace["mixed"] = bool(where.get("mixed"))
    while trace["end"] is None:
        told = __salt__["qmail_log.lines_since"](where)
        where = told["position"]
        for line, event in zip(told["lines"], told["events"]):
            if _step(trace, event) and len(trace["lines"]) < MOST_LINES:
                trace["lines"].append(line)
            if trace["end"]:
                return trace
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if not told["lines"]:
            time.sleep(min(POLL, left))
    return trace


def _step(trace, event):
    """Take in what one line of the log says, and return whether it is about the message."""
    return STEPS[event["event"]](trace, event) if event else False


def _is_now(trace, event):
    return bool(trace["hops"]) and not trace["awaits"] and event["msg"] == trace["hops"][-1]["msg"]


def _hop(trace, event, other=None):
    """The message, or its bounce, has been queued; ``other`` is its size if its qp was not ours."""
    hop = {"msg": event["msg"], "to": None, "channel": None, "report": None, "did": None, "seconds": None}
    trace["hops"].append({**hop, "other": other, "double": trace["awaits"]["sender"] != ""})
    trace["awaits"] = None


def _timed(trace):
    hop = trace["hops"][-1]
    if hop["seconds"] is None:
        now = time.monotonic()
        hop["seconds"], trace["mark"] = round(max(0.0, now - trace["mark"]), 2), now


def _new(trace, event):
    """A number is used again as soon as its message is gone."""
    trace["known"].pop(event["msg"], None)
    if _is_now(trace, event):
        _gone(trace)
    return False


def _queued(trace, event):
    _new(trace, event)
    awaits, qp, size = trace["awaits"], event["qp"], event["size"]
    if not awaits or event["sender"] != awaits["sender"]:
        return False
    if qp == awaits["qp"]:
        _hop(trace, event)
        return True
    if awaits["least"] is not None and size > awaits["least"]:
        trace["guessed"] = True
        _hop(trace, event)
        return True
    if not trace["hops"]:
        if len(trace["known"]) >= MOST_KNOWN:
            trace["known"].clear()
        trace["known"][event["msg"]] = size
    return False


def _started(trace, event):
    if not trace["hops"] and trace["token"] in event["to"]:
        # The line with its qp was dropped, or qmail-queue passes messages to another process, whose id that is.
        other = trace["known"].get(event["msg"])
        _hop(trace, event, other)
    if not _is_now(trace, event):
        return False
    trace["deliveries"], trace["reports"] = {event["delivery"]: event["channel"]}, []
    trace["hops"][-1].update(to=event["to"], channel=event["channel"])
    return True


def _reported(trace, event):
    if event["delivery"] not in trace["deliveries"]:
        return False
    if trace["mixed"]:
        trace["reports"].append(event)
    else:
        _take(trace, event)
    return True


def _take(trace, event):
    channel = trace["deliveries"].pop(event["delivery"])
    trace["hops"][-1].update(report=f"{event['outcome']}: {event['report']}", did=event["did"])
    _timed(trace)
    if event["outcome"] == "success":
        trace["end"] = "success" if channel == "local" else "left"
    if event["outcome"] == "deferral":
        trace["end"] = "deferred"


def _choose(trace, outcome):
    """
    Take the report of a delivery from a log in which another qmail's lines are not told apart: each counts its
    deliveries from 1 on. The message's own number shows how it came out; where two reports say that, it is not known
    which is whose.
    """
    fitting = {event["report"]: event for event in trace["reports"] if event["outcome"] == outcome}
    if len(fitting) == 1:
        _take(trace, *fitting.values())


def _bounced(trace, event):
    if not _is_now(trace, event):
        return False
    _choose(trace, "failure")
    _timed(trace)
    # If the qp of the first hop was another's, that of the second will be, too. A double bounce holds its bounce, and
    # all of them go to one place: the next one that is large enough ends as this one does.
    trace["awaits"] = {"qp": event["qp"], "sender": "#@[]", "least": trace["hops"][-1]["other"]}
    return True


def _dropped(trace, event):
    if not _is_now(trace, event):
        return False
    _choose(trace, "failure")
    _timed(trace)
    trace["end"] = "triple-bounced" if event["kind"] == "triple" else "discarded"
    return True


def _ended(trace, event):
    trace["known"].pop(event["msg"], None)
    if not _is_now(trace, event):
        return False
    _choose(trace, "success")
    if trace["end"] is None:
        _gone(trace)
    return True


def _gone(trace):
    """The message has left the queue; if earlier lines are missing, other lines may show its end."""
    hop = trace["hops"][-1]
    failed = (hop["report"] or "").startswith("failure")
    trace["end"] = "triple-bounced" if hop["double"] and failed else "lost"


STEPS = {
    "new": _new,
    "info": _queued,
    "start": _started,
    "report": _reported,
    "bounce": _bounced,
    "drop": _dropped,
    "end": _ended,
}
