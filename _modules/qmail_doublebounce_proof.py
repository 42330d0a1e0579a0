"""
What a probe has to show, so that it proves that double bounces end as the settings mean.
"""

from salt.exceptions import CommandExecutionError

# What an instruction can ask for. Nobody asks for mail to be deferred, or to bounce once more.
WANTED = ("swallowed", "stored", "forwarded")
REMEDY = 'Set qmail_doublebounce:instruction to "|exit 0" or "#", or qmail_doublebounce:verify to false.'


def wanted(settings):
    """
    Tell what the settings ask to become of a double bounce.

    Returns a dict: ``end`` (``swallowed``, ``stored``, ``forwarded``, ``discarded``; ``None`` where what they ask for
    can be seen by nobody, or is no end that anybody wants) and ``reason``, which says why it is ``None``.

    A list of instructions with a program in it that decides by itself asks for what else is in it: its mail is stored
    where the program lets it be stored.

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
    Return what a probe has to show, for ``lacks``: a dict with ``ends``, and ``recipient``, where it must end.

    Raises CommandExecutionError where no probe can show it, with the remedy.

    settings
        What ``qmail_doublebounce.settings`` returns.

    For the state ``qmail_doublebounce``.
    """
    asked = wanted(settings)
    if asked["end"] is None:
        raise CommandExecutionError(f"No probe can prove what instruction asks for: {asked['reason']}. {REMEDY}")
    if asked["end"] == "discarded":
        return {"ends": ["discarded", "swallowed"], "recipient": None}
    qmail = settings["qmail"]
    route = __salt__["qmail_route.resolve"](settings["address"], qmail["home"], control=qmail["control"])
    return {"ends": [asked["end"]], "recipient": route["recipient"]}


def lacks(settings, expected, probe):
    """
    Return what a probe lacks to be the proof, as a sentence; empty where it proves.

    settings
        What ``qmail_doublebounce.settings`` returns.

    expected
        What the function of that name returned.

    probe
        What ``qmail_doublebounce_probe.run`` returned.

    For the state ``qmail_doublebounce``.
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
    return "Only the last hop could be tried, and the running qmail-send may send double bounces elsewhere: restart it."
