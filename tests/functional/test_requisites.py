"""
Other people's states name the whole formula in their requisites, as ``sls: qmail-doublebounce``.

To listen is the exception: Salt knows no ``sls`` there, and the last state is named.
"""

import json
import pathlib

import pytest

ADDRESS = "dummy@example.com"
CHANGE = {"test": [{"name": "theirs"}, "succeed_with_changes"]}
SLEEP = {"test": [{"name": "theirs"}, "succeed_without_changes"]}
LAST = {"qmail_doublebounce": "double bounces are taken care of"}
FAIL = {"test": [{"name": "theirs"}, "fail_without_changes"]}


@pytest.fixture
def theirs(loaders, minion_opts, running):
    """Apply a state of theirs with a requisite on the formula, and return its result and all results, by their IDs."""
    (root,) = minion_opts["file_roots"]["base"]
    sls = pathlib.Path(root) / "theirs.sls"

    def theirs(requisite, state=SLEEP, test=False, **pillar):
        ((module, (*given, function)),) = state.items()
        wanted = LAST if requisite.startswith("listen") else {"sls": "qmail-doublebounce"}
        state = {module: [*given, function, {requisite: [wanted]}]}
        sls.write_text(json.dumps({"include": ["qmail-doublebounce"], "theirs": state}))
        pillar = {"address": ADDRESS, "qmail": {"home": str(running.path)}, **pillar}
        returned = loaders.modules.state.apply("theirs", pillar={"qmail_doublebounce": pillar}, test=test)
        assert not getattr(returned, "errors", None), returned.errors
        results = {result.id or result.state_id: result for result in returned}
        # What listens is run once more, under an ID of Salt's own.
        heard = [result for result in returned if "_|-listener_" in result.state_id]
        return heard[0] if heard else results.get("theirs"), results

    yield theirs
    sls.unlink(missing_ok=True)


def last(results):
    return max(result.run_num for result in results.values())


def test_require_comes_after_all_of_it_and_fails_with_it(theirs):
    result, results = theirs("require")
    assert result.result is True
    assert result.run_num == last(results)
    result, _ = theirs("require", address="dummy@elsewhere.example")
    assert result.result is False
    assert "requisite failed" in str(result.comment)


def test_require_in_comes_before_all_of_it_and_stops_it(theirs, running):
    result, results = theirs("require_in")
    assert result.run_num == 0
    running.write_control("doublebounceto", "somebody\n")
    result, results = theirs("require_in", FAIL)
    assert not any(result.result for result in results.values())
    assert (running.control / "doublebounceto").read_text() == "somebody\n"


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("requisite", ["watch", "onchanges", "listen"])
def test_what_waits_for_changes_fires_after_one_and_only_then(theirs, requisite, test):
    fired, results = theirs(requisite, test=test)
    if requisite == "onchanges":
        assert fired.comment == "Success!"
    else:
        assert fired.comment == "Watch statement fired."
    assert fired.run_num == last(results)
    theirs(requisite)
    quiet, results = theirs(requisite, test=test)
    assert quiet.comment != fired.comment
    assert not any(result.changes for result in results.values())


def test_onfail_runs_where_the_formula_has_failed_and_nowhere_else(theirs):
    result, _ = theirs("onfail")
    assert result.comment == "State was not run because onfail req did not change"
    for wrong in ({"address": "dummy"}, {"address": "dummy@elsewhere.example"}, {"service": {"name": "nope"}}):
        result, _ = theirs("onfail", **wrong)
        assert result.comment == "Success!"


@pytest.mark.parametrize("requisite", ["watch_in", "onchanges_in", "listen_in"])
def test_their_change_breaks_nothing(theirs, requisite):
    for _ in range(2):
        _, results = theirs(requisite, CHANGE)
        assert all(result.result is True for result in results.values())
