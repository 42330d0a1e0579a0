"""
Remedies that can be run as they stand, also where this qmail is not the one at /var/qmail.
"""

import os
import re
import shlex

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# What the functions of each face take. Those of qmail_doublebounce read pillar; all others work on what they are given.
TAKES = {
    "qmail_control": ("home", "control"),
    "qmail_log": ("path", "home", "queue"),
    "qmail_queue": ("home", "queue"),
    "qmail_service": ("home", "control", "queue", "provider", "name", "timeout"),
}
CALL = re.compile(rf"salt-call ({'|'.join(TAKES)})\.\w+")


def complete(remedy, settings):
    """
    Return a remedy whose calls name what pillar names: the home directory, the log, what runs qmail-send, and so on.

    remedy
        A text, with calls in it as for the usual qmail, such as ``salt-call qmail_service.start``.

    settings
        What ``qmail_doublebounce.settings`` returns.

    For ``qmail_doublebounce_alarm`` and ``qmail_doublebounce_status``.
    """
    named = _named(settings)

    def completed(call):
        return " ".join([call[0], *(f"{name}={named[name]}" for name in TAKES[call[1]] if name in named)])

    return CALL.sub(completed, remedy)


def _named(settings):
    """Return what differs from the functions' own defaults, as a shell takes it."""
    qmail, service = settings["qmail"], settings["service"]
    home = qmail["home"]
    values = {
        "home": (home, "/var/qmail"),
        "control": (qmail["control"], os.path.join(home, "control")),
        "queue": (qmail["queue"], os.path.join(home, "queue")),
        "path": (qmail["log"], "auto"),
        "provider": (service["provider"], "auto"),
        "name": (service["name"], "auto"),
        "timeout": (service["timeout"], 60),
    }
    return {name: shlex.quote(str(value)) for name, (value, usual) in values.items() if value != usual}
