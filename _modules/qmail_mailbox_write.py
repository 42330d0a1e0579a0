"""
Make an address a sink: have its mailbox made, and write its dot-qmail file.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def make(address, home, control, mailbox, test):
    """
    Make the mailbox of an address if Plesk runs its domain and has none, and return what that changed.

    address, home, control, mailbox, test
        As for ``qmail_mailbox.make``, which documents all of it.

    For ``qmail_mailbox``.
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control, mailbox=mailbox, test=test)
    __salt__["qmail_mailbox_sink.split"](address)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    if not __salt__["qmail_mailbox_sink.is_plesks"](address, route, home, mailbox):
        return {}
    if __salt__["qmail_mailbox_sink.is_without_qmail"](address, home):
        raise CommandExecutionError(__salt__["qmail_mailbox_sink.problem"](address, route, home, mailbox))
    if __salt__["qmail_mailbox_plesk.info"](address) is not None:
        raise CommandExecutionError(
            f"Plesk has a mailbox {address}, but qmail does not find it: {route['reason']} Have Plesk rewrite its mail "
            "files: plesk repair mail"
        )
    changes = {"mailbox": {"old": None, "new": address}}
    if test:
        return changes
    __salt__["qmail_mailbox_plesk.create"](address)
    return changes


def write(address, instruction, home, control, mailbox, test):
    """
    Write instructions into the dot-qmail file of an address, and return what that changed.

    address, instruction, home, control, mailbox, test
        As for ``qmail_mailbox.write``, which documents all of it.

    For ``qmail_mailbox``.
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control, mailbox=mailbox, test=test)
    wanted = __salt__["qmail_mailbox_sink.contents"](instruction)
    __salt__["qmail_mailbox_sink.split"](address)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    if test and __salt__["qmail_mailbox_sink.is_plesks"](address, route, home, mailbox):
        return {
            "instruction": {"old": None, "new": __salt__["qmail_mailbox_sink.lines"](wanted)}
        }  # in the mailbox that "make" would make
    problem = __salt__["qmail_mailbox_sink.problem"](address, route, home, mailbox)
    if problem:
        raise CommandExecutionError(problem)
    meant = __salt__["qmail_mailbox_fate.predict"](route, route["exact"], wanted)
    if meant["fate"] in ("deferred", "bounced"):
        raise CommandExecutionError(f"{address} cannot be a sink: {meant['reason']}.")
    _refuse_loop(address, route, meant["forwards"], home, control)
    owner = _owner(__salt__["qmail_file.read"](route["exact"]), route)

    def refused():
        now = __salt__["qmail_route.resolve"](address, home, control=control)
        found = __salt__["qmail_mailbox_fate.ends"](now)
        return None if found["fate"] == meant["fate"] else f"{address} cannot be a sink: {found['reason']}."

    remember = {"note": address, "home": os.path.realpath(home), "refused": refused}
    changes = __salt__["qmail_file.replace"](route["exact"], wanted, **owner, **remember, test=test)
    return __salt__["qmail_mailbox_sink.told"](changes)


def _refuse_loop(address, route, forwards, home, control):
    for forward in forwards:
        if __salt__["qmail_route.resolve"](forward, home, control=control).get("exact") == route["exact"]:
            raise SaltInvocationError(f"instruction {forward!r} forwards {address} to itself: set another one.")


def _owner(old, route):
    """Keep owner and mode of a file that qmail-local can use; otherwise give it to qmail-local's user."""
    if old:
        mode = int(old["mode"], 8)
        shift = 6 if old["uid"] == route["uid"] else 3 if old["gid"] == route["gid"] else 0
        if mode >> shift & 4 and not mode & 0o122:
            return {"uid": old["uid"], "gid": old["gid"], "mode": old["mode"]}
    return {"uid": route["uid"], "gid": route["gid"], "mode": "0600"}
