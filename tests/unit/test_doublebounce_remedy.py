"""A remedy can be run as it stands: it names what pillar names, and nothing that the function does not take."""

import copy
import re

import pytest

from _modules import qmail_doublebounce_remedy as remedy
from _modules.qmail_doublebounce_settings import DEFAULTS
from tests.support.house import House

HOUSE = House()
CALL = re.compile(r"salt-call (qmail_\w+)\.(\w+)")
READS_PILLAR = "qmail_doublebounce"


def settings(**places):
    """The settings as they are checked, with some of qmail's and of the service's."""
    found = copy.deepcopy({part: DEFAULTS[part] for part in ("qmail", "service")})
    for name, value in places.items():
        found["service" if name in found["service"] else "qmail"][name] = value
    for name in ("control", "queue"):
        found["qmail"][name] = found["qmail"][name] or f"{found['qmail']['home']}/{name}"
    return found


@pytest.mark.parametrize(
    ("text", "places", "wanted"),
    [
        ("state.apply, or salt-call qmail_service.restart", {}, "state.apply, or salt-call qmail_service.restart"),
        ("Fix it, then salt-call qmail_service.start", {"home": "/a b"}, "salt-call qmail_service.start home='/a b'"),
        (
            "salt-call qmail_service.start",
            {"control": "/etc/c", "queue": "/q", "log": "/l", "provider": "s6", "name": "/s", "timeout": 90},
            "salt-call qmail_service.start control=/etc/c queue=/q provider=s6 name=/s timeout=90",
        ),
        (
            "salt-call qmail_queue.double_bounces limit=10 shows where they go.",
            {"home": "/o", "name": "/s"},
            "salt-call qmail_queue.double_bounces home=/o limit=10 shows where they go.",
        ),
        ("salt-call qmail_log.about", {"log": "/l", "home": "/o"}, "salt-call qmail_log.about path=/l home=/o"),
        ("salt-call qmail_control.put x y", {"name": "/s"}, "salt-call qmail_control.put x y"),
        ("salt-call qmail_doublebounce.causes", {"home": "/o"}, "salt-call qmail_doublebounce.causes"),
        ("salt-call saltutil.sync_all", {"home": "/o"}, "salt-call saltutil.sync_all"),
    ],
)
def test_what_pillar_names_is_named(text, places, wanted):
    assert remedy.complete(text, settings(**places)).replace("Fix it, then ", "") == wanted


def calls():
    """List the functions that a remedy, or another message, names."""
    texts = [path.read_text() for path in sorted((HOUSE.root / "_modules").glob("*.py"))]
    return sorted({found for text in texts for found in CALL.findall(text)})


@pytest.mark.parametrize(("face", "function"), [call for call in calls() if call[0] != READS_PILLAR])
def test_a_function_takes_what_it_is_given(face, function):
    node = HOUSE.called[face].functions[function]
    names = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
    assert set(remedy.TAKES[face]) <= set(names)
