"""
What a probe has to show to prove that double bounces end as the settings say.
"""

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# What an instruction can ask for. Nobody wants mail deferred, or bounced once more.
WANTED = ("swallowed", "stored", "forwarded")
REMEDY = 'Set qmail_doublebounce:instruction to "|exit 0" or "#", or qmail_doublebounce:verify to false.'


def wanted(settings):
    """
    Return what the settings ask to become of a double bounce.

    Returns a dict: ``end`` (``swallowed``, ``stored``, ``forwarded``, ``discarded``; ``None`` if nobody can see what
    they ask for, or nobody can want it) and ``reason``, which says why it is ``None``.

    If one of several instructions is a program that decides by itself, the others count: mail is stored there if the
    program lets it.

    settings
        What ``qmail_doublebounce.settings`` returns.

    For ``qmail_doublebounce_status``.
    """
    if settings["mode"] == "discard":
        return {"end": "discarded", "reason": ""}
    qmail = settings["qmail"]
    words = (settings["address"], settings["instruction"], qmail["home"], qmail["control"])
    found = __salt__["qmail_mailbox.meaning"](*words)
    if found["fate"] == "unknown" and (found["files"] or found["forwards"]):
        return {"end": "stored" if found["files"] else "forwarded", "reason": ""}
    return {"end": found["fate"] if found["fate"] in WANTED else None, "reason": found["reason"]}


def expected(settings):
    """
    Return what a probe has to show, for ``lacks``: a dict with ``ends``, and with ``recipient``, where it must end.

    Raises CommandExecutionError with the remedy if no probe can show it.

    settings
        What ``qmail_doublebounce.settings`` returns.

    For ``qmail_doublebounce`` and the state ``qmail_doublebounce``.
    """
    asked = wanted(settings)
    if asked["end"] is None:
        raise CommandExecutionError(
            f"No probe can prove what qmail_doublebounce:instruction asks for: {asked['reason']}. {REMEDY}"
        )
    if asked["end"] == "discarded":
        return {"ends": ["discarded", "swallowed"], "recipient": None}
    qmail = settings["qmail"]
    route = __salt__["qmail_route.resolve"](settings["address"], qmail["home"], control=qmail["control"])
    return {"ends": [asked["end"]], "recipient": route["recipient"]}


def lacks(settings, expected, probe):
    """
    Return what a probe lacks as a proof, in a sentence; empty if it is one.

    settings
        What ``qmail_doublebounce.settings`` returns.

    expected
        What the function of that name returned.

    probe
        What ``qmail_doublebounce_probe.run`` returned.

    For ``qmail_doublebounce`` and the state ``qmail_doublebounce``.
    """
    if probe["end"] not in expected["ends"]:
        return f"It should have been {' or '.join(expected['ends'])}."
    if probe["end"] == "discarded":
        return ""
    hops = probe["hops"][probe["sent"]["whole"] :]
    to = hops[-1]["to"] if hops else None
    if to is None:
        return "The log lacks the line that says where it went."
    if expected["recipient"] is None and not to.startswith("@"):
        return f"It went to {to}, and qmail should have dropped it."
    if expected["recipient"] is not None and to.lower() != expected["recipient"].lower():
        return f"It went to {to}, and should have gone to {expected['recipient']}."
    if probe["sent"]["whole"]:
        return ""
    qmail = settings["qmail"]
    if __salt__["qmail_service.status"](qmail["home"], qmail["control"], qmail["queue"])["loaded"]:
        return ""
    return (
        "Only the last hop could be tested, and the running qmail-send may send double bounces elsewhere: restart it."
    )
