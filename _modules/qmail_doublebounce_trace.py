"""
Follow one message through qmail-send's log: a bounce, and the double bounce that comes of it.

The log of a flood has holes: syslog and journald drop lines over a rate. So each line may be missing here, an end is
told only where a line said it, and only qmail-send's own lines are believed.
"""

import re
import time

POLL = 0.1  # seconds
MOST_LINES = 50  # about the message, that are kept to be shown
MOST_KNOWN = 10000  # messages of others that are remembered

# What qmail-send says (qmail-log(5)). Blanks in addresses come as _ in the log, so nobody can put such words into one.
NEW = re.compile(r"new msg (?P<msg>\d+)")
INFO = re.compile(r"info:? msg (?P<msg>\d+): bytes (?P<size>\d+) from <(?P<sender>[^>]*)> qp (?P<qp>\d+)")
START = re.compile(r"starting delivery (?P<delivery>\d+): msg (?P<msg>\d+) to (?P<channel>local|remote) (?P<to>\S+)")
REPORT = re.compile(r"delivery (?P<delivery>\d+): (?P<outcome>success|failure|deferral): ?(?P<report>\S*)")
BOUNCE = re.compile(r"bounce msg (?P<msg>\d+) qp (?P<qp>\d+)")
DROP = re.compile(r"(?P<kind>double|triple) bounce: discarding bounce/(?P<msg>\d+)")
END = re.compile(r"end msg (?P<msg>\d+)")


def begin(token, sender):
    """
    Return what is known of a message that is about to be queued: a dict for ``follow``, which goes on with it.

    Its key ``end`` becomes ``success`` (delivered here), ``left`` (another server took it), ``deferred``,
    ``discarded``, ``triple-bounced``, or ``lost`` (it has left the queue, and the log lacks the line that says how);
    it stays ``None`` where the log shows no end. ``hops`` are dicts: ``msg``, ``to``, ``channel``, ``report`` and
    ``seconds`` (``None`` where the log lacks them), and ``double``, whether it is the double bounce. ``lines`` are
    those about it, and ``guessed`` tells that the double bounce was known by its size alone.

    token
        A text in its recipient's address that no other message has.

    sender
        Its envelope sender: empty for a bounce, ``#@[]`` for a double bounce.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce_trace.begin doublebounce-probe-0123456789abcdef ''
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
    }


def follow(trace, where, timeout=30):
    """
    Go through the log until a message has an end, or the time is up, and return what ``begin`` did, grown.

    Raises what ``qmail_log_follow.lines_since`` raises.

    trace
        What ``begin`` returned; under ``awaits`` with the ``qp`` of the message: the process that queued it.

    where
        A position in the log before the message was queued: see ``qmail_log_follow.position``.

    timeout
        Seconds since ``begin``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce_trace.begin doublebounce-probe-0123456789abcdef ''
    """
    deadline = trace["began"] + timeout
    while trace["end"] is None:
        told = __salt__["qmail_log_follow.lines_since"](where)
        where = told["position"]
        for line in told["lines"]:
            if _step(trace, line) and len(trace["lines"]) < MOST_LINES:
                trace["lines"].append(line)
            if trace["end"]:
                return trace
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if not told["lines"]:
            time.sleep(min(POLL, left))
    return trace


def _step(trace, line):
    """Go on by one line of the log, and return whether it is about the message."""
    said, skip = __salt__["qmail_log_line.words"](line.encode("utf-8", "backslashreplace"))
    words = said[0][skip:].decode("utf-8", "backslashreplace") if said else ""
    for pattern, step in STEPS:
        match = pattern.match(words)
        if match:
            return step(trace, match)
    return False


def _is_now(trace, match):
    return bool(trace["hops"]) and not trace["awaits"] and int(match["msg"]) == trace["hops"][-1]["msg"]


def _hop(trace, match, other=None):
    """A message has been queued that is the one, or its bounce; ``other`` is its size where its qp was not ours."""
    hop = {"msg": int(match["msg"]), "to": None, "channel": None, "report": None, "seconds": None, "other": other}
    trace["hops"].append({**hop, "double": trace["awaits"]["sender"] != ""})
    trace["awaits"] = None


def _timed(trace):
    hop = trace["hops"][-1]
    if hop["seconds"] is None:
        now = time.monotonic()
        hop["seconds"], trace["mark"] = round(max(0.0, now - trace["mark"]), 2), now


def _new(trace, match):
    """A number is used again as soon as its message is gone."""
    trace["known"].pop(int(match["msg"]), None)
    if _is_now(trace, match):
        _gone(trace)
    return False


def _queued(trace, match):
    _new(trace, match)
    awaits, qp, size = trace["awaits"], int(match["qp"]), int(match["size"])
    if not awaits or match["sender"] != awaits["sender"]:
        return False
    if qp == awaits["qp"]:
        _hop(trace, match)
        return True
    if awaits["least"] is not None and size > awaits["least"]:
        trace["guessed"] = True
        _hop(trace, match)
        return True
    if not trace["hops"]:
        if len(trace["known"]) >= MOST_KNOWN:
            trace["known"].clear()
        trace["known"][int(match["msg"])] = size
    return False


def _started(trace, match):
    if not trace["hops"] and trace["token"] in match["to"]:
        # Its line with the qp was dropped, or qmail-queue hands messages to another process, whose id that is.
        other = trace["known"].get(int(match["msg"]))
        _hop(trace, match, other)
    if not _is_now(trace, match):
        return False
    trace["deliveries"] = {match["delivery"]: match["channel"]}
    trace["hops"][-1].update(to=match["to"], channel=match["channel"])
    return True


def _reported(trace, match):
    channel = trace["deliveries"].pop(match["delivery"], None)
    if channel is None:
        return False
    trace["hops"][-1]["report"] = f"{match['outcome']}: {match['report']}"
    _timed(trace)
    if match["outcome"] == "success":
        trace["end"] = "success" if channel == "local" else "left"
    if match["outcome"] == "deferral":
        trace["end"] = "deferred"
    return True


def _bounced(trace, match):
    if not _is_now(trace, match):
        return False
    _timed(trace)
    # Where the qp of the first hop was another's, that of the second will be. A double bounce holds its bounce, and
    # all of them go to one place: the next that is large enough ends as this one.
    trace["awaits"] = {"qp": int(match["qp"]), "sender": "#@[]", "least": trace["hops"][-1]["other"]}
    return True


def _dropped(trace, match):
    if not _is_now(trace, match):
        return False
    _timed(trace)
    trace["end"] = "triple-bounced" if match["kind"] == "triple" else "discarded"
    return True


def _ended(trace, match):
    trace["known"].pop(int(match["msg"]), None)
    if not _is_now(trace, match):
        return False
    _gone(trace)
    return True


def _gone(trace):
    """The message has left the queue; where lines before that are missing, what else was said may tell its end."""
    hop = trace["hops"][-1]
    failed = (hop["report"] or "").startswith("failure")
    trace["end"] = "triple-bounced" if hop["double"] and failed else "lost"


STEPS = (
    (INFO, _queued),
    (START, _started),
    (REPORT, _reported),
    (BOUNCE, _bounced),
    (DROP, _dropped),
    (END, _ended),
    (NEW, _new),
)
