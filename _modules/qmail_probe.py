"""
Proof by a message: what becomes of a double bounce, followed through qmail-send's log from hop to hop.
"""

import os
import re
import secrets
import subprocess
import time

from salt.exceptions import CommandExecutionError

POLL = 0.1  # seconds
GIVES_UP = 10  # seconds that qmail-send gets to give up a probe
MOST_LINES = 50  # of the log, that an answer repeats
MOST_HOSTS = 20  # that are tried for an address that bounces

# What qmail-send says (qmail-log(5)); eQmail puts a colon behind info. Blanks in addresses come as _ in the log, so
# nobody can put such words into one.
INFO = re.compile(r"info:? msg (?P<msg>\d+): bytes \d+ from <(?P<sender>[^>]*)> qp (?P<qp>\d+)")
START = re.compile(r"starting delivery (?P<delivery>\d+): msg (?P<msg>\d+) to (?P<channel>local|remote) (?P<to>\S+)")
REPORT = re.compile(r"delivery (?P<delivery>\d+): (?P<outcome>success|failure|deferral): ?(?P<report>\S*)")
BOUNCE = re.compile(r"bounce msg (?P<msg>\d+) qp (?P<qp>\d+)")
DROP = re.compile(r"(?P<kind>double|triple) bounce: discarding bounce/(?P<msg>\d+)")
DID = re.compile(r"did_(?P<files>\d+)\+(?P<forwards>\d+)\+(?P<programs>\d+)")

REFUSED = {
    31: "it refuses the message for good",
    51: "it is out of memory",
    53: "it cannot write: the disk is full, or a quota is reached",
    61: "it cannot get into the qmail home",
    62: "it cannot get into the queue",
    63: "it cannot write into queue/pid",
    64: "it cannot write into queue/intd",
    65: "it cannot write into queue/mess or queue/todo",
}


def run(settings, timeout=30):
    """
    Queue a probe, follow it to its end, clean up behind it, and return what ``qmail_doublebounce.probe`` returns.

    settings
        What ``qmail_doublebounce.settings`` returns.

    timeout
        Seconds to wait for the end.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_probe.run '{qmail: {home: /var/qmail, control: null, queue: null, log: auto}}'
    """
    qmail = settings["qmail"]
    if __salt__["qmail_process.find"](qmail["home"], qmail["queue"]) is None:
        raise CommandExecutionError("qmail-send does not run: a probe would wait in the queue. Start it first.")
    log = None if qmail["log"] == "auto" else qmail["log"]
    where = __salt__["qmail_logfollow.position"](log)
    probe = _sent(qmail)
    _follow(probe, where, time.monotonic() + timeout)
    _judge(probe, qmail)
    hops = [{key: hop[key] for key in ("msg", "to", "seconds", "report")} for hop in probe["hops"]]
    lines = probe["lines"][:MOST_LINES]
    return {
        "end": probe["end"],
        "reason": probe["reason"],
        "sent": probe["sent"],
        "hops": hops,
        "seconds": round(sum(hop["seconds"] or 0 for hop in hops), 2),
        "left": _clean(probe, qmail),
        "log": lines,
    }


def meant(settings):
    """
    Return the ends of a probe that these settings mean, as a list.

    settings
        What ``qmail_doublebounce.settings`` returns.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_probe.meant '{mode: discard}'
    """
    if settings["mode"] == "discard":
        return ["discarded", "swallowed"]
    qmail = settings["qmail"]
    words = (settings["address"], settings["instruction"], qmail["home"], qmail["control"])
    fate = __salt__["qmail_mailbox.meaning"](*words)
    # What a program does with its mail cannot be seen: that it was delivered to the program is all there is to prove.
    return ["swallowed", "stored", "forwarded"] if fate == "unknown" else [fate]


# The message


def _sent(qmail):
    """Queue the probe: one that must bounce twice, or the double bounce itself where nothing bounces here."""
    token = f"doublebounce-probe-{secrets.token_hex(8)}"
    target = _target(token, qmail)
    double = target is None
    recipient = __salt__["qmail_control.show"](qmail["home"], qmail["control"])["recipient"] if double else target
    began, since = time.monotonic(), time.time()
    sender = "#@[]" if double else ""
    qp = _queue(qmail["home"], token, sender, recipient)
    sent = {"to": recipient, "from": f"<{sender}>", "whole": not double}
    return {
        "token": token,
        "began": began,
        "since": since,
        "sent": sent,
        "hops": [],
        "lines": [],
        "end": None,
        "reason": "",
        "awaits": {"qp": qp, "sender": sender},
        "deliveries": {},
    }


def _target(token, qmail):
    """Return an address of this server that nobody receives mail for; ``None`` where catch-alls receive everything."""
    home, control = qmail["home"], qmail["control"]
    for host in _hosts(home, control):
        address = f"{token}@{host}"
        if __salt__["qmail_route.resolve"](address, home, control=control)["outcome"] == "bounce":
            return address
    return None


def _hosts(home, control):
    local = __salt__["qmail_control.lines"]("locals", home, control)
    virtual = [line.partition(":")[0] for line in __salt__["qmail_control.lines"]("virtualdomains", home, control)]
    return [host for host in [*local, *virtual] if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", host)][:MOST_HOSTS]


def _queue(home, token, sender, recipient):
    """Hand a message to qmail-queue, and return its process id, which is what the log calls qp."""
    message = (
        f"From: <>\nTo: <{recipient}>\nSubject: {token}\n\n"
        "A probe of qmail-doublebounce: it shows what becomes of double bounces. Nobody needs it.\n"
    )
    envelope = b"F" + sender.encode() + b"\0T" + os.fsencode(recipient) + b"\0\0"
    binary = os.path.join(home, "bin/qmail-queue")
    end, begin = os.pipe()
    try:
        # The envelope is shorter than a pipe holds, so it can be written before anybody reads.
        os.write(begin, envelope)
    finally:
        os.close(begin)
    try:
        process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=end, stderr=subprocess.DEVNULL)
    except OSError as err:
        raise CommandExecutionError(f"Cannot run {binary}: {err.strerror}.") from err
    finally:
        os.close(end)
    try:
        process.communicate(message.encode(), timeout=60)
    except subprocess.TimeoutExpired as err:
        process.kill()
        process.wait()
        raise CommandExecutionError(f"{binary} did not take the probe within 60 seconds.") from err
    if process.returncode:
        why = REFUSED.get(process.returncode, "see qmail-queue(8)")
        raise CommandExecutionError(f"{binary} did not take the probe, exit {process.returncode}: {why}.")
    return process.pid


# Its way through the log


def _follow(probe, where, deadline):
    """Go through the log until the probe has an end, or the time is up."""
    while probe["end"] is None:
        told = __salt__["qmail_logfollow.lines_since"](where)
        where = told["position"]
        for line in told["lines"]:
            if _step(probe, line):
                probe["lines"].append(line)
        if not told["lines"]:
            if time.monotonic() >= deadline:
                return
            time.sleep(POLL)


def _step(probe, line):
    """Go on by one line of the log, and return whether it is about the probe."""
    for pattern, step in (
        (INFO, _queued),
        (START, _started),
        (REPORT, _reported),
        (BOUNCE, _bounced),
        (DROP, _dropped),
    ):
        match = pattern.search(line)
        # "starting delivery 5: msg" is no report, and "bounce msg" no message of its own: the first that fits is it.
        if match:
            return step(probe, match)
    return False


def _queued(probe, match):
    awaits = probe["awaits"]
    if not awaits or int(match["qp"]) != awaits["qp"] or match["sender"] != awaits["sender"]:
        return False
    probe["awaits"] = None
    probe["hops"].append(
        {"msg": int(match["msg"]), "to": None, "seconds": None, "report": None, "double": bool(match["sender"])}
    )
    return True


def _is_now(probe, match):
    return bool(probe["hops"]) and not probe["awaits"] and int(match["msg"]) == probe["hops"][-1]["msg"]


def _started(probe, match):
    if not _is_now(probe, match):
        return False
    probe["deliveries"] = {match["delivery"]: match["channel"]}
    probe["hops"][-1]["to"] = match["to"]
    return True


def _reported(probe, match):
    channel = probe["deliveries"].pop(match["delivery"], None)
    if channel is None:
        return False
    hop = probe["hops"][-1]
    hop["report"] = f"{match['outcome']}: {match['report']}"
    hop["seconds"] = round(time.monotonic() - probe["began"] - sum(past["seconds"] for past in probe["hops"][:-1]), 2)
    if match["outcome"] == "success":
        probe["end"] = "success" if channel == "local" else "left"
    if match["outcome"] == "deferral":
        probe["end"] = "deferred"
    return True


def _bounced(probe, match):
    if not _is_now(probe, match):
        return False
    probe["awaits"] = {"qp": int(match["qp"]), "sender": "#@[]"}
    return True


def _dropped(probe, match):
    if not _is_now(probe, match):
        return False
    probe["end"] = "triple-bounced" if match["kind"] == "triple" else "discarded"
    return True


# What its end means


def _judge(probe, qmail):
    """Put the end in the words of an administrator, and say why."""
    hop = probe["hops"][-1] if probe["hops"] else None
    if probe["end"] == "discarded":
        probe["reason"] = "qmail-send dropped the double bounce itself."
    elif probe["end"] == "triple-bounced":
        probe["reason"] = f"Nobody receives mail for {hop['to']}: {hop['report']}"
    elif probe["end"] == "deferred":
        probe["reason"] = f"Mail for {hop['to']} is deferred: {hop['report']}"
    elif probe["end"] == "left":
        probe["end"], probe["reason"] = "forwarded", f"Another server took it: {hop['to']}."
    elif probe["end"] == "success":
        probe["end"], probe["reason"] = _delivered(hop, qmail)
    else:
        probe["end"], probe["reason"] = "unseen", _unseen(probe)


def _delivered(hop, qmail):
    if not hop["double"]:
        return (
            "unseen",
            f"The probe itself was delivered to {hop['to']}, though it had to bounce: no double bounce was made.",
        )
    did = DID.search(hop["report"])
    if did and int(did["files"]):
        return "stored", f"It was stored for {hop['to']}."
    if did and int(did["forwards"]):
        return "forwarded", f"It was forwarded from {hop['to']}."
    checked = _mailbox(hop, qmail)
    if did and int(did["programs"]) and checked["fate"] == "unknown":
        return "unseen", f"A program took it: {checked['reason']}. Whether it keeps the mail, only it knows."
    return "swallowed", f"It was delivered to {hop['to']}, and nothing is left of it."


def _mailbox(hop, qmail):
    """Look at the mailbox that it really went to: a qmail-send with old settings sends elsewhere than the files say."""
    return __salt__["qmail_mailbox.ends"](__salt__["qmail_route.deliver"](hop["to"], qmail["home"]))


def _unseen(probe):
    if not probe["hops"]:
        return "The log does not show it: is it qmail-send's, and does it go on? See qmail_doublebounce:qmail:log."
    return f"The log shows message {probe['hops'][-1]['msg']}, and no end of it within the timeout."


# What is left of it


def _clean(probe, qmail):
    """Take away what the probe left behind, and tell what could not be."""
    places = (qmail["home"], qmail["queue"])
    if probe["end"] == "stored":
        return _unstored(probe, qmail)
    if probe["end"] == "forwarded":
        return "A copy of it went where it was forwarded to."
    if probe["end"] not in ("deferred", "unseen"):
        return ""
    given_up = []
    deadline = time.monotonic() + GIVES_UP
    while True:
        # In rounds: what is given up on its first hop comes back as a double bounce.
        waiting = __salt__["qmail_leftover.waits"](probe["token"], probe["since"], *places)
        if not waiting:
            break
        if time.monotonic() >= deadline:
            return f"It is in the queue as message {waiting[0]}, and will go its way."
        for msg in waiting:
            given_up.append(msg)
            __salt__["qmail_leftover.expire"](msg, probe["token"], *places)
            __salt__["qmail_leftover.gone"](msg, probe["token"], *places, timeout=1)
    if not given_up:
        return "It is not in the queue."
    numbers = ", ".join(str(msg) for msg in dict.fromkeys(given_up))
    return f"It waited in the queue as message {numbers}, and qmail-send was made to give it up."


def _unstored(probe, qmail):
    checked = _mailbox(probe["hops"][-1], qmail)
    removed, others = 0, []
    for file in checked["files"]:
        place = os.path.normpath(os.path.join(checked["home"], file))
        if file.endswith("/"):
            removed += __salt__["qmail_leftover.unstore"](probe["token"], place)
        else:
            others.append(place)
    if others:
        return f"A copy of it is in {', '.join(others)}, where it cannot be taken out safely."
    return f"{removed} copies of it were removed from there." if removed else "A copy of it is where it was stored."
