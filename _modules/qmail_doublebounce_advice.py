"""
Settings that make a flood of double bounces worse, or the server hard to reach: not wrong in themselves, and nothing
that the formula changes.
"""

import os
import shlex

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LIFETIME = 604800  # seconds; what qmail-send uses if queuelifetime is missing
LONG = 2 * 86400  # seconds
MANY = 100  # double bounces in the queue
LOW = 0.05  # of the space, or of the inodes, of a file system
SYNC = "salt-call saltutil.sync_all"
UPGRADE = "salt-pip install with the newer wheel"  # not by name: whose that is at an index, nobody here knows
POSTMASTER = "RFC 5321 asks every domain for one"


def give(found, qmail):
    """
    Return advice, as a list of dicts with ``advice`` and ``remedy``.

    found
        What ``qmail_doublebounce.status`` has found until then.

    qmail
        The settings under ``qmail``.

    For ``qmail_doublebounce_status``.
    """
    said = []
    for one in (_copies, _lifetime, _concurrency, _bounces, _rcpthosts, _postmaster, _room):
        try:
            said += one(found, qmail)
        except (CommandExecutionError, SaltInvocationError, OSError):
            continue  # a file that cannot be read is reported as a problem, or is not qmail-send's
    return [{"advice": advice, "remedy": remedy} for advice, remedy in said]


def _get(name, qmail):
    return __salt__["qmail_control.get"](name, qmail["home"], qmail["control"])


def _path(name, qmail):
    return shlex.quote(__salt__["qmail_control.path"](name, qmail["home"], qmail["control"]))


def _number(text, default):
    """Read a number as qmail's scan_ulong does; a file without one counts as missing (control.c, control_readint)."""
    digits = text or ""
    end = next((place for place, sign in enumerate(digits) if sign not in "0123456789"), len(digits))
    return int(digits[: min(end, 20)]) if end else default


def _copies(found, qmail):
    """A function that only one copy has is called whichever copy runs: two versions do not work together."""
    running, *others = __salt__["qmail_doublebounce_copies.found"]()
    for other in others:
        if other["version"] != running["version"]:
            yield (
                f"Version {running['version'] or 'unknown'} of these modules runs, from {running['directory']}, and "
                f"version {other['version'] or 'unknown'} is in {other['directory']}.",
                f"Bring both to one version: {SYNC} for those that Salt has synced, {UPGRADE} for those that pip has "
                "installed; or remove one of them.",
            )


def _lifetime(found, qmail):
    seconds = _number(_get("queuelifetime", qmail), LIFETIME)
    waiting = found["queue"]["double_bounces"] if found["queue"] else 0
    if seconds > LONG and waiting > MANY:
        yield (
            f"{waiting} double bounces wait in the queue, each for up to {seconds / 86400:g} days (queuelifetime).",
            f"echo {LONG} > {_path('queuelifetime', qmail)}, then salt-call qmail_service.restart",
        )


def _concurrency(found, qmail):
    number = _number(_get("concurrencylocal", qmail), 10)
    if number > 1:
        return
    what = "no local mail is delivered" if not number else "one slow local delivery delays all others"
    yield (
        f"concurrencylocal is {number}: {what}.",
        f"echo 10 > {_path('concurrencylocal', qmail)}, then salt-call qmail_service.restart",
    )


def _bounces(found, qmail):
    for name in ("bouncefrom", "bouncehost"):
        value = _get(name, qmail)
        if value is None or (value and value.isprintable() and not any(sign in value for sign in "@ #<>")):
            continue
        yield (
            f"{name} is {value!r}: bounces come from an address that nobody can answer.",
            f"salt-call qmail_control.put {name} with what belongs there, or remove {_path(name, qmail)}",
        )


def _rcpthosts(found, qmail):
    """Without rcpthosts qmail-smtpd accepts all hosts; morercpthosts.cdb may hold more of them."""
    host = found["doublebouncehost"]["value"].lower()
    accepted = _get("rcpthosts", qmail)
    if accepted is None or os.path.exists(
        __salt__["qmail_control.path"]("morercpthosts.cdb", qmail["home"], qmail["control"])
    ):
        return
    hosts = {line.lower() for line in __salt__["qmail_control.lines"]("rcpthosts", qmail["home"], qmail["control"])}
    names = {host, *(host[place:] for place, sign in enumerate(host) if sign == ".")}
    if found["fate"] != "remote" and not names & hosts:
        yield (
            f"doublebouncehost {host} is not in rcpthosts: nobody elsewhere can write to its postmaster.",
            f"echo {shlex.quote(host)} >> {_path('rcpthosts', qmail)}",
        )


def _postmaster(found, qmail):
    me = _get("me", qmail)
    if not me:
        return
    fate = __salt__["qmail_mailbox.check"](f"postmaster@{me}", qmail["home"], qmail["control"])["fate"]
    if fate in ("bounced", "swallowed"):
        alias = shlex.quote(os.path.join(qmail["home"], "alias/.qmail-postmaster"))
        what = "has no mailbox" if fate == "bounced" else "swallows mail"
        yield f"postmaster@{me} {what}, and {POSTMASTER}.", f"Let it be read by somebody: see {alias}."


def _room(found, qmail):
    queue = qmail["queue"] or os.path.join(qmail["home"], "queue")
    about = os.statvfs(queue)
    for what, free, whole in (("space", about.f_bavail, about.f_blocks), ("inodes", about.f_favail, about.f_files)):
        if whole and free < LOW * whole:
            yield (
                f"The file system of {queue} has {free / whole:.1%} of its {what} left; without any, mail is refused.",
                "Make room there; salt-call qmail_queue.summary shows what waits.",
            )
