"""Pillar is checked as a whole, and every problem is reported at once, with its place and the remedy."""

import copy
import pathlib

import pytest
import yaml
from salt.exceptions import SaltInvocationError

EXAMPLE = pathlib.Path(__file__).parent.parent.parent / "pillar.example"


@pytest.fixture
def settings(modules, home):
    def settings(**given):
        given.setdefault("qmail", {})
        if isinstance(given["qmail"], dict):
            given["qmail"].setdefault("home", str(home.path))
        return modules.qmail_doublebounce.settings({"qmail_doublebounce": given})

    return settings


def problem(settings, **given):
    with pytest.raises(SaltInvocationError) as caught:
        settings(**given)
    return str(caught.value)


def test_what_is_not_given_is_as_in_the_example(settings, home):
    example = yaml.safe_load(EXAMPLE.read_text())["qmail_doublebounce"]
    example["qmail"].update(home=str(home.path), control=f"{home.path}/control", queue=f"{home.path}/queue")
    halves = {"local": "doublebounce", "host": "example.com"}
    assert settings(address=example["address"]) == {**example, **halves}


def test_the_part_below_the_key_will_do(modules, home):
    part = {"address": "dummy@example.com", "qmail": {"home": str(home.path)}}
    assert modules.qmail_doublebounce.settings(part)["local"] == "dummy"


def test_without_an_argument_it_is_the_minions_own_pillar(loaded_with, home):
    pillar = {"qmail_doublebounce": {"address": "dummy@example.com", "qmail": {"home": str(home.path)}}}
    modules = loaded_with(pillar=pillar)
    assert modules.qmail_doublebounce.settings()["address"] == "dummy@example.com"


def test_pillar_itself_is_not_changed(modules, home):
    pillar = {"qmail_doublebounce": {"address": "dummy@example.com", "qmail": {"home": str(home.path)}}}
    before = copy.deepcopy(pillar)
    modules.qmail_doublebounce.settings(pillar)
    assert pillar == before


def test_mode_discard_needs_no_address(settings):
    assert settings(mode="discard")["local"] is None


def test_an_unknown_setting_is_reported_with_the_nearest(settings):
    assert "qmail_doublebounce:addr is not a setting. The nearest is address." in problem(settings, addr="a@b")
    told = problem(settings, address="a@example.com", service={"timeuot": 5})
    assert "qmail_doublebounce:service:timeuot is not a setting. The nearest is timeout." in told


def test_all_problems_are_reported_at_once(settings):
    told = problem(
        settings,
        mode="sinks",
        address="dummy",
        instruction=["", 1],
        mailbox="cpanel",
        verify="yes",
        verify_timeout="soon",
        qmail={"home": "var/qmail", "log": 5},
        service={"provider": "upstart", "name": 1, "timeout": True},
    )
    for place in (
        "mode",
        "address",
        "instruction",
        "mailbox",
        "verify",
        "verify_timeout",
        "qmail:home",
        "qmail:log",
        "service:provider",
        "service:name",
        "service:timeout",
    ):
        assert f"qmail_doublebounce:{place}" in told


@pytest.mark.parametrize("given", ["auto", None, 1, 90.5, 86400])
def test_a_probe_waits_as_long_as_is_needed_or_said(settings, given):
    assert settings(mode="discard", verify_timeout=given)["verify_timeout"] == given
    for wrong in (0, -1, True, 86401, "60", float("nan")):
        assert "verify_timeout is" in problem(settings, mode="discard", verify_timeout=wrong)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mode": "sink", "address": None}, "address is missing"),
        ({"address": "a@example.com", "qmail": ["home"]}, "qmail_doublebounce:qmail is ['home']"),
        ({"address": "a@example.com", "qmail": {"home": "/nonexistent/qmail"}}, "there is no such directory"),
        ({"address": "a@example.com", "qmail": {"home": "/proc"}}, "/proc, which is not a qmail home"),
        ({"address": "a@example.com", "qmail": {"home": "/var/../etc"}}, "an absolute path"),
        ({"address": "a@example.com", "service": {"timeout": 0}}, "from 1 to 86400"),
        ({"address": "a@example.com", "mode": ["sink"]}, "allowed: sink, discard"),
    ],
)
def test_each_problem_names_its_place_and_what_is_allowed(settings, given, told):
    assert told in problem(settings, **given)


def test_a_pillar_of_the_wrong_type_is_reported(modules):
    for wrong in ("text", ["list"], 5):
        with pytest.raises(SaltInvocationError, match="settings belong there"):
            modules.qmail_doublebounce.settings({"qmail_doublebounce": wrong})


def test_jinja_gets_the_problems_and_the_defaults_instead_of_an_error(modules, home):
    wrong = {"addr": "dummy@example.com", "qmail": {"home": str(home.path)}}
    found = modules.qmail_doublebounce.settings({"qmail_doublebounce": wrong}, strict=False)
    assert found["problems"][0] == "qmail_doublebounce:addr is not a setting. The nearest is address."
    assert (found["address"], found["mailbox"], found["qmail"]["home"]) == (None, "auto", str(home.path))
    wrong["qmail"]["home"] = "qmail"
    found = modules.qmail_doublebounce.settings({"qmail_doublebounce": wrong}, strict=False)
    assert found["qmail"]["home"] == "/var/qmail"


def test_an_unknown_setting_hides_no_other_problem(settings):
    told = problem(settings, addr="dummy@example.com", mode="sinks", service={"timeout": 0})
    for place in ("addr", "mode", "service:timeout"):
        assert f"qmail_doublebounce:{place}" in told


def test_a_setting_given_by_hand_wins_over_pillar_and_is_checked(modules, home):
    pillar = {"address": "dummy@example.com", "qmail": {"home": str(home.path)}}
    assert modules.qmail_doublebounce.settings(pillar, address="b@example.com", timeout=5)["local"] == "b"
    with pytest.raises(SaltInvocationError, match="qmail_doublebounce:service:timeout"):
        modules.qmail_doublebounce.settings(pillar, timeout=0)


def test_split_gives_the_two_halves(modules):
    assert modules.qmail_mailbox.split("Dummy@Example.com") == {"local": "Dummy", "host": "Example.com"}


@pytest.mark.parametrize("log", ("maillog", "var/log/qmail", "./x", "journalctl", 5, ""))
def test_a_log_that_is_not_an_absolute_path_is_reported(settings, log):
    assert f"qmail_doublebounce:qmail:log is {log!r}" in problem(settings, address="a@example.com", qmail={"log": log})


def test_a_directory_that_is_not_a_queue_is_reported(settings, home):
    there = str(home.path / "mailnames")
    for queue in ("/nonexistent", there):
        told = problem(settings, address="a@example.com", qmail={"queue": queue})
        assert f"qmail_doublebounce:qmail:queue is {queue}, which is not a queue" in told
    assert settings(address="a@example.com", qmail={"queue": f"{home.path}/queue"})
