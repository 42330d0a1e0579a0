"""The formula says the same whatever options Jinja has on a machine for newlines, blanks and undefined names."""

import itertools

import pytest
from saltfactories.utils.functional import Loaders

WAYS = [
    {"jinja_sls_env": dict(zip(("trim_blocks", "lstrip_blocks", "keep_trailing_newline"), flags, strict=True)), **more}
    for flags in itertools.product((False, True), repeat=3)
    for more in ({"allow_undefined": False}, {"allow_undefined": True})
]


@pytest.fixture(scope="module")
def own(minion_opts):
    """A loader whose options a test may change."""
    return Loaders(dict(minion_opts))


@pytest.fixture
def rendered(own, home):
    """Render one of the formula's SLS with a pillar and with options of the minion, down to the calls of its states."""
    show = own.modules.state.show_low_sls

    def rendered(sls, settings, options):
        pillar = {"qmail_doublebounce": {**settings, "qmail": {"home": str(home.path)}}}
        show.__globals__["__opts__"].update(options)
        return show(sls, pillar=pillar)

    return rendered


@pytest.mark.parametrize(
    ("sls", "settings", "states"),
    [
        ("qmail-doublebounce", {"address": "dummy@example.com"}, 8),
        ("qmail-doublebounce", {"address": "dummy@example.com", "verify": True}, 9),
        ("qmail-doublebounce", {"mode": "discard", "verify": True}, 8),
        ("qmail-doublebounce.clean", {}, 5),
    ],
)
def test_every_way_to_render_says_the_same(rendered, sls, settings, states):
    first, *others = [rendered(sls, settings, way) for way in WAYS]
    assert all(isinstance(low, dict) for low in first), first
    assert len(first) == states
    for way, other in zip(WAYS[1:], others, strict=True):
        assert other == first, way
