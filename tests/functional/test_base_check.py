"""Wrong arguments are reported, all at once, before anything is touched."""

import pytest
from salt.exceptions import SaltInvocationError

WRONG = {
    "timeout": ("2s", None, True, -1, float("nan"), float("inf"), [60]),
    "older_than": ("1h", -1, False),
    "test": ("yes", 2, [], "False"),
    "home": ("var/qmail", None, 5, "/var\0", ""),
    "queue": ("queue", ["/var/qmail/queue"]),
    "limit": ("10", 1.5, -1, True),
    "name": ("", None, 5),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_argument_is_reported_with_its_name(modules, name, value):
    with pytest.raises(SaltInvocationError, match=f"^{name} is "):
        modules.qmail_base_check.arguments(**{name: value})


def test_what_is_one_comes_back_and_flags_as_such(modules):
    given = {"timeout": 0.5, "settle": 0, "older_than": None, "home": "/var/qmail", "queue": None, "limit": 10}
    assert modules.qmail_base_check.arguments(**given, test=None, single=1) == {**given, "test": False, "single": True}


def test_all_are_reported_at_once(modules):
    with pytest.raises(SaltInvocationError, match=r"timeout is a number of seconds, not '1m'.*test is True or False"):
        modules.qmail_base_check.arguments(timeout="1m", test="maybe", settle=1)


def test_a_name_without_a_rule_is_a_mistake_of_ours(modules):
    with pytest.raises(SaltInvocationError, match="no rule for tmeout"):
        modules.qmail_base_check.arguments(tmeout=1)
