"""
What happens to mail that takes a route, and what instructions in its own dot-qmail file would ask for.
"""

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def ends(route, forbidden="002"):
    """
    Return what would happen to a message that takes a route, and why.

    route, forbidden
        As for ``qmail_mailbox.ends``, which documents all of it.

    For ``qmail_mailbox`` and ``qmail_mailbox_write``.
    """
    found = {key: route.get(key) for key in ("recipient", "dotqmail", "exact", "home")}
    nothing = {"files": [], "forwards": [], "programs": []}
    outcomes = {"bounce": "bounced", "dropped": "swallowed", "remote": "remote", "deferred": "deferred"}
    if route["outcome"] in outcomes:
        return {**found, "fate": outcomes[route["outcome"]], "reason": route["reason"], **nothing}
    return {**found, **predict(route, route["dotqmail"] or route["exact"], forbidden=forbidden)}


def meaning(address, instruction, home, control):
    """
    Return what these instructions ask for, in an address's own dot-qmail file.

    address, instruction, home, control
        As for ``qmail_mailbox.meaning``, which documents all of it.

    For ``qmail_mailbox``.
    """
    contents = __salt__["qmail_mailbox_sink.contents"](instruction)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    ended = route["outcome"] in ("remote", "dropped", "deferred") or not route["exact"]
    if ended or not route["home"].startswith("/"):
        return {"fate": None, "reason": route["reason"], "exact": None, "files": [], "forwards": [], "programs": []}
    asked = __salt__["qmail_mailbox_dotqmail.asks"](contents, route["exact"], route["home"], route["uid"], route["gid"])
    return {**asked, "exact": route["exact"]}


def predict(route, dotqmail, wanted=None, forbidden="002"):
    """
    Return what happens to mail that takes a route and ends at one dot-qmail file, as ``qmail_mailbox.predict`` does.

    route
        What ``qmail_route.resolve`` or ``qmail_route.deliver`` returns.

    dotqmail
        The path of the file.

    wanted
        What it is to hold, as bytes; ``None`` for what it holds now.

    forbidden
        As for ``ends``.

    For ``qmail_mailbox_write``.
    """
    return __salt__["qmail_mailbox_dotqmail.predict"](
        dotqmail, route["home"], route["uid"], route["dash"], forbidden, gid=route["gid"], contents=wanted
    )
