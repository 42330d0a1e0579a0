"""
Proof by a message: what happens to a double bounce, followed through qmail-send's log from hop to hop.
"""

import contextlib
import logging
import os
import re
import secrets
import signal
import subprocess
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

LEAST, MOST = 30, 3600  # seconds to wait for the end, unless somebody says how many
PER_SECOND = 5  # messages; the probe goes through the queue twice, and a busy qmail-send looks at ten per second
GRACE = 2  # seconds that a message gets to leave the queue, if the log does not show that it waits
MOST_HOSTS = 20  # hosts that are tried for an address that bounces
TAKING = 60  # seconds that qmail-queue gets to take the probe
LONGEST = 2048  # bytes of an envelope: a pipe holds that many, and qmail-queue accepts no longer address

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


def run(settings, timeout=None):
    """
    Queue a probe, follow it to its end, clean up after it, and return what ``qmail_doublebounce.probe`` returns.

    settings
        What ``qmail_doublebounce.settings`` returns.

    timeout
        Seconds to wait for the end, or ``auto``: one for every five messages that qmail-send has not looked at yet, but
        at least 30 and at most 3600. ``None`` for the setting ``verify_timeout``.

    For ``qmail_doublebounce`` and the state ``qmail_doublebounce``.
    """
    timeout = settings.get("verify_timeout") if timeout is None else timeout
    is_auto = timeout in (None, "auto")
    if not is_auto:
        __salt__["qmail_base_check.arguments"](timeout=timeout)
    qmail = settings["qmail"]
    if __salt__["qmail_base_process.find"](qmail["home"], qmail["queue"]) is None:
        raise CommandExecutionError("qmail-send does not run: a probe would wait in the queue. Start it first.")
    log = None if qmail["log"] == "auto" else qmail["log"]
    where = __salt__["qmail_log.position"](log, qmail["home"], qmail["queue"])
    probe = _planned(qmail)
    if is_auto:
        timeout = _patience(probe["ahead"])
    try:
        probe["trace"]["awaits"]["qp"] = _queue(qmail, probe)
        told = _followed(probe, where, timeout, qmail)
        end, reason = told["end"], told["reason"]
        left, found, is_queued = _clean(probe, qmail, end)
    except BaseException:  # also Ctrl-C, even while it cleans up: first remove what was queued, then raise it again
        with contextlib.suppress(CommandExecutionError):
            _clean(probe, qmail, "unseen")
        raise
    trace = probe["trace"]
    if end == "unseen" and trace["end"] is None and is_queued:
        reason = _too_early(probe, reason, timeout)
    if found and end == "unseen" and not _went_astray(trace):
        end, reason = "stored", f"{reason} A copy of it was found."
    return {
        "end": end,
        "reason": reason,
        "sent": probe["sent"],
        "hops": [{key: hop[key] for key in ("msg", "to", "seconds", "report")} for hop in trace["hops"]],
        "seconds": told["seconds"],
        "left": left,
        "log": trace["lines"],
    }


# The message


def _planned(qmail):
    """Plan the probe: a message that must bounce twice, or the double bounce itself if nothing bounces here."""
    token = f"doublebounce-probe-{secrets.token_hex(8)}"
    target = _target(token, qmail)
    sender = "#@[]" if target is None else ""
    recipient = target or __salt__["qmail_control.show"](qmail["home"], qmail["control"])["recipient"]
    return {
        "token": token,
        "since": time.time(),
        "ahead": _ahead(qmail),
        "sent": {"to": recipient, "from": f"<{sender}>", "whole": target is not None},
        "trace": __salt__["qmail_doublebounce_trace.begin"](token, sender),
    }


def _ahead(qmail):
    """Return how many messages are ahead of the probe; 0 if the layout of the queue is not known."""
    with contextlib.suppress(CommandExecutionError):
        return __salt__["qmail_queue.unprocessed"](qmail["queue"], qmail["home"])
    return 0


def _patience(ahead):
    seconds = max(LEAST, min(MOST, ahead / PER_SECOND))
    if seconds > LEAST:
        log.warning("%d messages are ahead of the probe: it gets %d seconds.", ahead, seconds)
    return seconds


def _age(probe):
    return time.monotonic() - probe["trace"]["began"]


def _target(token, qmail):
    """Return an address of this server that nobody receives mail for; ``None`` if catch-alls receive everything."""
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


def _queue(qmail, probe):
    """Pass a message to qmail-queue, and return its process id, which the log calls qp."""
    recipient, sender = probe["sent"]["to"], probe["sent"]["from"][1:-1]
    message = (
        f"From: <>\nTo: <{recipient}>\nSubject: {probe['token']}\n\nA probe of qmail-doublebounce: it shows what "
        "happens to double bounces. Nobody needs it.\n"
    )
    envelope = b"F" + sender.encode() + b"\0T" + recipient.encode() + b"\0\0"
    if len(envelope) > LONGEST or "\0" in recipient or __salt__["qmail_base_text.is_altered"](recipient):
        raise CommandExecutionError(f"No message can be sent to {recipient[:80]!r}: fix the control files first.")
    binary = os.path.join(qmail["home"], "bin/qmail-queue")
    # indimail's finds no queue by itself; the others have theirs compiled into them.
    environment = {**os.environ, "QUEUEDIR": qmail["queue"] or os.path.join(qmail["home"], "queue")}
    end, begin = os.pipe()
    try:
        # The envelope fits into a pipe, so it can be written before anybody reads.
        os.write(begin, envelope)
    finally:
        os.close(begin)
    try:
        process = subprocess.Popen(
            [binary],
            stdin=subprocess.PIPE,
            stdout=end,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError as err:
        raise CommandExecutionError(f"Cannot run {binary}: {err.strerror}.") from err
    finally:
        os.close(end)
    try:
        process.communicate(message.encode(), timeout=TAKING)
    except BaseException as err:
        # With all that it has started, such as a scanner: it would queue the probe when that has been cleaned up.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(err, subprocess.TimeoutExpired):
            raise
        raise CommandExecutionError(f"{binary} did not take the probe within {TAKING} seconds.") from err
    if process.returncode:
        why = REFUSED.get(process.returncode, "see qmail-queue(8)")
        raise CommandExecutionError(f"{binary} did not take the probe, exit {process.returncode}: {why}.")
    return process.pid


# What its end means


def _followed(probe, where, timeout, qmail):
    __salt__["qmail_doublebounce_trace.follow"](probe["trace"], where, timeout)
    seconds = round(max(0.0, _age(probe)), 2)
    end, reason = _judged(probe, qmail)
    return {"end": end, "reason": reason, "seconds": seconds}


def _judged(probe, qmail):
    """Name the end as an administrator would, and say why."""
    trace = probe["trace"]
    end = trace["end"]
    hop = trace["hops"][-1] if trace["hops"] else None
    to = hop and (hop["to"] or "its recipient")
    if end == "discarded":
        return end, "qmail-send dropped the double bounce itself."
    if end == "triple-bounced":
        return end, f"Nobody receives mail for {to}: {hop['report'] or 'the log lacks the report'}"
    if end == "deferred":
        return end, f"Mail for {to} is deferred: {hop['report']}"
    if _went_astray(trace):
        return (
            "unseen",
            f"The probe itself was delivered to {to}, although it should have bounced: no double bounce was made.",
        )
    if end == "left":
        return "forwarded", f"Another server took it: {to}."
    if end == "success":
        end, reason = _delivered(hop, qmail)
        guessed = " It was recognized by its size: bin/qmail-queue passes messages on to another process."
        return end, reason + (guessed if trace["guessed"] else "")
    return "unseen", _unseen(trace)


def _went_astray(trace):
    """Return whether somebody took the probe itself, before there was a double bounce."""
    return trace["end"] in ("success", "left") and not trace["hops"][-1]["double"]


def _delivered(hop, qmail):
    did = hop["did"] is not None
    files, forwards, programs = hop["did"] or (0, 0, 0)
    if files:
        return "stored", f"It was stored for {hop['to']}."
    if forwards:
        return "forwarded", f"It was forwarded from {hop['to']}."
    checked = _mailbox(hop["to"], qmail)
    if programs and checked["fate"] != "swallowed":
        only = "A program took it, and only that program knows whether it keeps the mail"
        return "unseen", f"{only}: {checked['reason']}."
    if did or (hop["report"] == "success: " and hop["to"].startswith("@")):
        return "swallowed", f"It was delivered to {hop['to']}, and nothing is left of it."
    return "unseen", f"It was delivered to {hop['to']}, but the log does not say how: {hop['report']}"


def _mailbox(to, qmail):
    """Check the mailbox that it really went to: a qmail-send with old settings sends elsewhere than the files say."""
    return __salt__["qmail_mailbox.ends"](__salt__["qmail_route.deliver"](to, qmail["home"]))


def _unseen(trace):
    if not trace["hops"]:
        asked = "Is it qmail-send's log, and is it still being written?"
        return f"The log does not show it. {asked} If not, set qmail_doublebounce:qmail:log."
    msg = trace["hops"][-1]["msg"]
    if trace["reports"]:
        told = "another qmail writes to this log under the same name, so it is not known which line says how it ended"
        return f"Message {msg}: {told}. Give each splogger a name of its own: splogger qmail2."
    if trace["end"] == "lost":
        lost = "the log lacks the line that says how: something is dropping lines"
        return f"Message {msg} has left the queue, but {lost}."
    if trace["awaits"]:
        return f"Message {msg} bounced, but the log does not show its bounce: something is dropping lines."
    return f"The log shows message {msg}, but not its end within the timeout."


def _too_early(probe, reason, timeout):
    """Say why a probe still waits in the queue, and how to wait longer."""
    ahead = probe["ahead"]
    behind = f", behind {ahead} messages that qmail-send had not looked at when it was sent" if ahead else ""
    more = max(300, 10 * round(timeout))
    told = (
        f"It was still in the queue after {round(timeout, 2):g} s{behind}. Wait longer: salt-call "
        f"qmail_doublebounce.probe timeout={more}; for every run, qmail_doublebounce:verify_timeout: {more}."
    )
    return told if ahead or probe["trace"]["hops"] else f"{reason} {told}"


# What is left of it


def _clean(probe, qmail, end):
    """
    Remove what the probe left behind; return a text about it, how many copies were in Maildirs, and whether it was in
    the queue.
    """
    if end == "forwarded":
        return "A copy of it went where it was forwarded to.", 0, False
    if end in ("swallowed", "discarded", "triple-bounced"):
        return "", 0, False
    cleared, is_queued = ("", False) if end == "stored" else _cleared(probe, qmail, end)
    told = [cleared] if cleared else []
    maildirs, mboxes = _places(probe, qmail)
    removed, words = _taken_out(probe["token"], maildirs)
    told += words
    if mboxes and (end != "stored" or not removed):
        told.append(f"A copy of it may be in {', '.join(mboxes)}, where it cannot be taken out safely.")
    if end == "stored" and not removed and not mboxes:
        told.append("A copy of it is where it was stored.")
    return " ".join(told), removed, is_queued


def _cleared(probe, qmail, end):
    """Have qmail-send give up what waits in the queue; return a text about the result, and whether anything waited."""
    known = [hop["msg"] for hop in probe["trace"]["hops"]]
    places = {"home": qmail["home"], "queue": qmail["queue"], "grace": 0 if end == "deferred" else GRACE}
    try:
        done = __salt__["qmail_queue.give_up"](probe["token"], probe["since"], _age(probe), known, **places)
    except CommandExecutionError as err:
        return f"Cannot tell whether it is still in the queue: {err}", False
    numbers = ", ".join(str(msg) for msg in done["waits"] or done["given_up"])
    if done["waits"]:
        told = ", and its next try is its last" if done["given_up"] else ""
        return f"It is in the queue as message {numbers}{told}.", True
    if done["given_up"]:
        return f"It waited in the queue as message {numbers}, and qmail-send was told to give it up.", True
    return "It is not in the queue.", False


def _places(probe, qmail):
    """List the Maildirs and mboxes that may hold a copy: those of each mailbox that it went to, or should have."""
    hops = probe["trace"]["hops"]
    routes = [__salt__["qmail_route.deliver"](hop["to"], qmail["home"]) for hop in hops if hop["channel"] == "local"]
    if not (hops and hops[-1]["double"] and hops[-1]["to"]):
        recipient = __salt__["qmail_control.show"](qmail["home"], qmail["control"])["recipient"]
        routes.append(__salt__["qmail_route.resolve"](recipient, qmail["home"], control=qmail["control"]))
    found = [place for route in routes for place in __salt__["qmail_mailbox.places"](route)]
    maildirs = [place for place in dict.fromkeys(found) if place.endswith("/")]
    return maildirs, [place for place in dict.fromkeys(found) if not place.endswith("/")]


def _taken_out(token, maildirs):
    """Take the copies out of Maildirs; return how many there were, and a sentence about each place."""
    total, told = 0, []
    for place in (maildir.rstrip("/") for maildir in maildirs if os.path.isdir(maildir)):
        try:
            removed = __salt__["qmail_mailbox.take_out"](token, place)
        except CommandExecutionError as err:
            told.append(f"Cannot tell whether a copy of it is in {place}: {err}")
            continue
        total += removed
        copies = "A copy of it was" if removed == 1 else f"{removed} copies of it were"
        told.append(f"{copies} removed from {place}." if removed else f"No copy of it is in {place}.")
    return total, told
