"""
The formula says the same whatever options Jinja has on a machine for newlines, blanks and undefined names, and asks for
its settings once: over salt-ssh every function that Jinja calls takes seconds.
"""

import itertools

import pytest
import salt.loader
import salt.state
import salt.utils.templates

NAMES = ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "allow_undefined")
WAYS = [tuple(itertools.compress(NAMES, on)) for on in itertools.product((False, True), repeat=len(NAMES))]
# None, each alone, and all of them; the other ways take longer than they are likely to show more.
FIRST = [way for way in WAYS if len(way) in (0, 1, len(NAMES))]


@pytest.fixture
def rendered(loaded_with, home):
    """Render one of the formula's SLS with a pillar and with options of the minion, down to the calls of its states."""
    show = loaded_with()["state.show_low_sls"]

    def rendered(sls, settings, options):
        pillar = {"qmail_doublebounce": {**settings, "qmail": {"home": str(home.path)}}}
        show.__globals__["__opts__"].update(options)
        return show(sls, pillar=pillar)

    return rendered


def options(on):
    """Return the minion's options in which these ones of Jinja's are on."""
    *of_the_environment, undefined = NAMES
    return {"jinja_sls_env": {name: name in on for name in of_the_environment}, undefined: undefined in on}


@pytest.mark.parametrize("ways", [FIRST, pytest.param(WAYS, marks=pytest.mark.soak)], ids=len)
@pytest.mark.parametrize(
    ("sls", "settings", "states"),
    [
        ("qmail-doublebounce", {"address": "dummy@example.com"}, 8),
        ("qmail-doublebounce", {"address": "dummy@example.com", "verify": True}, 9),
        ("qmail-doublebounce", {"mode": "discard", "verify": True}, 8),
        ("qmail-doublebounce.clean", {}, 5),
        ("qmail-doublebounce.orchestrate.rollout", {"rollout": {"target": "mx*", "size": 2}}, 1),
    ],
)
def test_every_way_to_render_says_the_same(rendered, sls, settings, states, ways):
    first, *others = [rendered(sls, settings, options(way)) for way in ways]
    assert all(isinstance(low, dict) for low in first), first
    assert len(first) == states
    for way, other in zip(ways[1:], others, strict=True):
        assert other == first, way


class Counted:
    """The execution modules as salt-ssh has them for Jinja: each call would be a connection; here it is noted."""

    def __init__(self, modules):
        self.modules = modules
        self.called = []

    def __getitem__(self, name):
        def call(*given, **named):
            self.called.append(name)
            return self.modules[name](*given, **named)

        return call


@pytest.fixture
def counted(loaders):
    return Counted(loaders.modules)


@pytest.mark.parametrize("sls", ["qmail-doublebounce", "qmail-doublebounce.former", "qmail-doublebounce.clean"])
def test_all_sls_of_a_run_ask_for_the_settings_once(minion_opts, counted, home, sls):
    pillar = {"qmail_doublebounce": {"address": "dummy@example.com", "qmail": {"home": str(home.path)}, "verify": True}}
    for runs in (1, 2):
        with salt.state.HighState({**minion_opts, "pillar": pillar}, pillar_override=pillar) as run:
            run.state.rend = salt.loader.render(run.state.opts, counted)
            states, errors = run.render_highstate({"base": [sls]})
        assert states and not errors, errors
        assert counted.called == ["qmail_doublebounce.settings"] * runs


def test_another_pillar_gets_its_own_settings_wherever_options_outlive_a_run(minion_opts, counted, home):
    """As in a minion that renders a template, with ``multiprocessing: false``."""
    opts = dict(minion_opts)
    template = '{% from "qmail-doublebounce/map.jinja" import settings with context %}{{ settings.local }}'
    for local in ("dummy", "other", "dummy"):
        pillar = {"qmail_doublebounce": {"address": f"{local}@example.com", "qmail": {"home": str(home.path)}}}
        given = {"salt": counted, "opts": opts, "pillar": pillar, "grains": {}, "saltenv": "base", "sls": ""}
        rendered = salt.utils.templates.JINJA(template, from_str=True, to_str=True, **given)
        assert rendered == {"result": True, "data": local}
    assert len(counted.called) == 2
