"""The runner, fed with what minions may return: it goes on only where all is right, and says who has changed."""

import contextlib
import json
import os
import sys

import pytest
from salt.exceptions import SaltClientError

from tests.support.answers import NAMES, STATE, Minions, rows, states

UNPROVED = "This ended before it was proved."
UNKNOWN = "It was at work when this ended: it may have changed."
DRY = states(result=None, comment="It would be.", changes={"new": "a"})


def test_all_are_asked_in_order_and_each_wave_is_proved_before_the_next(run):
    minions = Minions(reversed(NAMES))
    steps = run(minions, size=10, verify=True)
    assert list(steps) == [
        "a dry run is clean everywhere",
        "the canary is right",
        *(f"wave {number} of 3 is right" for number in (1, 2, 3)),
    ]
    waves = [NAMES[:1], NAMES[1:11], NAMES[11:21], NAMES[21:]]
    assert minions.asked == [
        ("saltutil.sync_all", None, NAMES),
        ("state.apply", True, NAMES),
        *(
            entry
            for wave in waves
            for entry in (("state.apply", False, wave), ("qmail_doublebounce.holds", None, wave))
        ),
    ]
    assert rows(steps) == dict.fromkeys(NAMES, "changed")
    assert steps["the canary is right"]["changes"] == {"mx00": ["the sink is ready"]}
    shown = [(tag, data["minion"]) for tag, data in run.sent if tag.endswith("/minion")]
    assert shown == [("qmail-doublebounce/rollout/minion", name) for name in [*NAMES, *NAMES]]


def test_each_minion_is_shown_as_soon_as_it_is_settled(run, capsys):
    shown = []

    def returns(name, function, dry):
        if (name, dry) == ("mx24", True) or (name, function) == ("mx10", "qmail_doublebounce.holds"):
            shown.append(capsys.readouterr().err.splitlines())

    run(Minions(NAMES, returns))
    dry, wave = shown
    assert dry == [f"{name}: would change" for name in NAMES[:24]]
    why = "Double bounces vanish at dummy@example.com."
    assert wave == ["mx24: would change", *(f"{name}: changed: {why}" for name in NAMES[:10])]


WRONG = {
    "asleep": ("nothing", "silent", "did not answer"),
    "an error": ({"ret": "ERROR: no such thing", "retcode": 1}, "failed", "ERROR: no such thing"),
    "a list": ({"ret": ["one thing", "and another"], "retcode": 1}, "failed", "one thing; and another"),
    "nothing": ({"ret": None, "retcode": 0}, "failed", "It said nothing."),
    "no states": ({"ret": {}, "retcode": 0}, "failed", "{}"),
    "a number": ({"ret": 5, "retcode": 0}, "failed", "5"),
    "a bad state": (states(result=False, comment="no\x1b[2Jgood\nat all"), "failed", "no?[2Jgood at all"),
    "an exit status": ({**states(), "retcode": 2}, "failed", "state.apply ended with 2."),
    "words for numbers": (states(result=False, comment="It is not.", __run_num__="first"), "failed", "It is not."),
}


@pytest.mark.parametrize("function", ["saltutil.sync_all", "dry", "apply", "qmail_doublebounce.holds"])
@pytest.mark.parametrize("wrong", WRONG)
def test_whatever_one_minion_returns_it_is_a_row_and_ends_it(run, monkeypatch, wrong, function):
    said, result, words = WRONG[wrong]

    def returns(name, asked, dry):
        asked = {True: "dry", False: "apply"}.get(dry, asked)
        return said if name == "mx12" and asked == function else None

    minions = Minions(NAMES, returns)
    steps = run(minions, size=10, timeout=1)
    if function == "saltutil.sync_all" and isinstance(said, dict) and isinstance(said["ret"], dict):
        result = {"no states": "changed"}.get(wrong, "failed")
    if result == "changed":
        assert rows(steps) == dict.fromkeys(NAMES, "changed")
        return
    *_, last = steps.values()
    assert last["result"] is False
    assert last["minions"]["mx12"]["result"] == result
    # What it has changed is known only once it has said so.
    assert last["minions"]["mx12"]["changes"] == ([STATE["__id__"]] if "holds" in function else [])
    assert ("mx12" in last["changes"]) == ("holds" in function)
    assert "mx12 (" in last["comment"]
    if "sync" not in function and "holds" not in function:
        assert words in last["comment"]
    early = function in ("saltutil.sync_all", "dry")
    changed = [] if early else [*NAMES[:12], *NAMES[13:21]]
    assert [name for name, row in rows(steps).items() if row == "changed"] == sorted(changed)
    untouched = [name for name in NAMES if name not in changed and name != "mx12"]
    assert last["comment"].endswith(f"Untouched: {', '.join(untouched[:20])}{' and 4 more' if early else ''}.")
    assert minions.applied <= {*changed, "mx12"}


def test_what_is_right_is_left_alone_and_has_to_hold(run):
    minions = Minions(NAMES)
    minions.applied = set(NAMES[:20])
    assert rows(run(minions)) == {**dict.fromkeys(NAMES[:20], "right"), **dict.fromkeys(NAMES[20:], "changed")}
    minions = Minions(NAMES, lambda name, function, dry: {"ret": {"holds": False, "why": "It bounces."}, "retcode": 1})
    minions.returns = lambda name, function, dry: (
        {"ret": {"holds": False, "why": "It bounces."}, "retcode": 1}
        if (name, function) == ("mx03", "qmail_doublebounce.holds")
        else None
    )
    minions.applied = set(NAMES[:20])
    (step,) = run(minions).values()
    assert "mx03 (failed): It bounces." in step["comment"]


def test_a_minion_that_has_not_loaded_the_modules_yet_is_asked_again(run):
    tries = []

    def returns(name, function, dry):
        if function == "qmail_doublebounce.holds" and name == "mx00" and len(tries) < 2:
            tries.append(name)
            return {"ret": "'qmail_doublebounce.holds' is not available.", "retcode": 254}
        return None

    assert rows(run(Minions(NAMES, returns))) == dict.fromkeys(NAMES, "changed")
    assert len(tries) == 2


def test_a_refusal_by_the_master_ends_it_in_words(run):
    error = {"error": {"name": "AuthorizationError", "message": "Authorization error occurred."}}
    steps = run(Minions(NAMES, lambda *_: error))
    *_, step = steps.values()
    assert step["result"] is False
    assert step["comment"] == "The master refused saltutil.sync_all: Authorization error occurred."


@pytest.mark.parametrize("lost", [["mx00"], ["mx03", "mx24"], NAMES])
def test_what_the_master_has_kept_counts_where_salt_lost_the_event(run, lost):
    minions = Minions(NAMES)
    minions.lost = lost
    assert rows(run(minions)) == dict.fromkeys(NAMES, "changed")
    # And it is looked at as closely as any other answer.
    minions = Minions(NAMES, lambda name, *_: states(result=False, comment="It is not.") if name == "mx03" else None)
    minions.lost = lost
    (step,) = run(minions).values()
    assert "mx03 (failed): " in step["comment"]
    assert not minions.applied


def test_who_says_nothing_is_silent_also_where_answers_are_kept(run):
    minions = Minions(NAMES, lambda name, *_: "nothing" if name == "mx05" else None)
    minions.lost = NAMES
    (step,) = run(minions, timeout=1).values()
    assert {name for name, row in step["minions"].items() if row["result"] == "silent"} == {"mx05"}


@pytest.mark.parametrize(
    "kept", [OSError(5, "Input/output error"), KeyError("mysql.get_load"), {"Error": "none"}, {"Result": {"mx03": 1}}]
)
def test_a_job_cache_that_fails_leaves_the_events(run, kept, caplog):
    minions = Minions(NAMES)
    minions.lost = ["mx03"]

    def list_job(jid):
        if isinstance(kept, dict):
            return kept
        raise kept

    minions.list_job = list_job
    (step,) = run(minions, timeout=1).values()
    assert {name for name, row in step["minions"].items() if row["result"] == "silent"} == {"mx03"}
    assert "What minions said to saltutil.sync_all was not looked up in the job cache: " in caplog.text


def test_what_a_stranger_returns_is_left_out(run):
    minions = Minions(NAMES)
    real = minions.get_iter_returns

    def more(*args, **kwargs):
        yield {"stranger": states(result=False)}
        yield {"mx00": "no dictionary"}
        yield from real(*args, **kwargs)

    minions.get_iter_returns = more
    assert rows(run(minions)) == dict.fromkeys(NAMES, "changed")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 0}, "size is 0; allowed: how many minions, or a share of them such as 10%."),
        ({"size": "ten"}, "size is 'ten'"),
        ({"size": "101%"}, "size is '101%'"),
        ({"size": True}, "size is True"),
        ({"canary": -1}, "canary is -1; allowed: how many, 0 for none, or names of minions."),
        ({"canary": ""}, "canary is ''"),
        ({"canary": "mx99"}, "canary: the target does not match mx99."),
        ({"verify": "yes"}, "verify is 'yes'; allowed: True, False."),
        ({"test": 2}, "test is 2"),
        ({"timeout": 0}, "timeout is 0; allowed: seconds, from 1 to 86400."),
        ({"timeout": "5m"}, "timeout is '5m'"),
        ({"target": ""}, "No target is given."),
        ({"target": 5}, "No target is given."),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_applied(run, settings, words):
    minions = Minions(NAMES)
    *_, step = run(minions, **settings).values()
    assert step["result"] is False
    assert step["comment"].startswith(words)
    assert not minions.applied


@pytest.mark.parametrize(
    ("target", "tgt_type", "words"),
    [
        ("mx*", "globb", "tgt_type is 'globb'; allowed: glob, pcre, list,"),
        (["mx01"], "compound", "target is ['mx01']; allowed with tgt_type=compound: a text"),
        ([{}], "list", "target is [{}]; allowed with tgt_type=list"),
        (" , ", "list", "target is ' , '; allowed"),
    ],
)
def test_a_target_that_fits_no_type_is_refused(run, target, tgt_type, words):
    (step,) = run(Minions(NAMES), target=target, tgt_type=tgt_type).values()
    assert step["comment"].startswith(words)


def test_names_in_a_list_need_no_type_and_blanks_do_not_count(run):
    minions = Minions([])
    assert rows(run(minions, target=["mx02", 5])) == {"5": "changed", "mx02": "changed"}
    assert rows(run(minions, target="mx03, mx04,", tgt_type="list")) == {"mx03": "changed", "mx04": "changed"}


def test_minions_are_asked_who_they_are_only_where_the_master_cannot_know_all(run):
    minions = Minions(NAMES[:2])
    minions.more = ["mx50"]
    for tgt_type in ("glob", "pcre", "list"):
        assert rows(run(minions, test=True, tgt_type=tgt_type)).keys() >= set(NAMES[:2])
    assert not minions.pinged
    assert list(rows(run(minions, test=True, tgt_type="compound"))) == ["mx00", "mx01", "mx50"]
    run.opts["order_masters"] = True  # there are syndics below, and this master has no keys of their minions
    assert list(rows(run(minions, test=True))) == ["mx00", "mx01", "mx50"]
    minions.lost = ["mx50"]
    assert list(rows(run(minions, test=True))) == ["mx00", "mx01", "mx50"]
    assert minions.pinged == [("*", "test.ping")] * 3


def test_a_target_without_minions_is_an_error(run):
    (step,) = run(Minions([]), target="mx*").values()
    assert step["comment"] == "The target 'mx*' (glob) matches no minion: look with salt-key."


def test_the_masters_pillar_has_defaults_and_is_checked(run):
    run.pillar["qmail_doublebounce"] = {"rollout": {"size": "20%", "canary": ["mx07", "mx03"]}}
    steps = run(Minions(NAMES))
    assert [list(step["minions"]) for step in steps.values()][1:3] == [["mx03", "mx07"], [*NAMES[:3], *NAMES[4:6]]]
    assert len(steps) == 2 + 5
    run.pillar["qmail_doublebounce"] = {"rollout": {"cannary": 1}}
    (step,) = run(Minions(NAMES)).values()
    assert step["comment"].startswith("qmail_doublebounce:rollout:cannary is not a setting.")
    run.pillar["qmail_doublebounce"] = {"rollout": [1]}
    (step,) = run(Minions(NAMES)).values()
    assert step["comment"].startswith("qmail_doublebounce:rollout is [1], but settings belong there")


def test_a_pillar_of_the_master_that_cannot_be_read_is_no_empty_one(run):
    run.pillar["_errors"] = ["Rendering SLS 'mail' failed."]
    minions = Minions(NAMES)
    (step,) = run(minions).values()
    assert "cannot be read" in step["comment"]
    assert "Rendering SLS 'mail' failed." in step["comment"]
    assert not minions.asked


def test_a_rollback_wants_nothing_left_to_undo(run):
    minions = Minions(NAMES[:3])
    minions.usual = lambda name, function, dry: (
        {"ret": {}, "retcode": 0}
        if function == "saltutil.sync_all"
        else states(changes={"old": "b", "new": "a"}, result=None if dry else True)
    )
    steps = run(minions, kind="rollback")
    assert rows(steps) == {"mx00": "failed", **dict.fromkeys(NAMES[1:3], "would change")}
    assert "mx00 (failed): This is still to be undone: the sink is ready." in steps["the canary is right"]["comment"]


# salt-run turns Ctrl-C and TERM into the second.
ENDS = [KeyboardInterrupt(), SystemExit(1), SaltClientError("The master is gone."), OSError(28, "No space left")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_whatever_ends_it_in_a_wave_everybody_has_a_row_and_no_claim_is_left(run, tmp_path, end):
    def returns(name, function, dry):
        if dry is False and name == "mx05":
            raise end

    steps = run(Minions(NAMES, returns))
    *_, wave, last = steps.values()
    assert wave["result"] is last["result"] is False
    said = {name: (row["result"], row["why"], row["changes"]) for name, row in wave["minions"].items()}
    assert said == {
        **dict.fromkeys(NAMES[1:5], ("failed", UNPROVED, [STATE["__id__"]])),
        **dict.fromkeys(NAMES[5:11], ("silent", UNKNOWN, [])),
    }
    assert rows(steps) == {
        "mx00": "changed",
        **dict.fromkeys(NAMES[1:5], "failed"),
        **dict.fromkeys(NAMES[5:11], "silent"),
        **dict.fromkeys(NAMES[11:], "would change"),
    }
    assert wave["comment"].endswith(f"Untouched: {', '.join(NAMES[11:])}.")
    if end in ENDS[:2]:
        assert last["comment"] == "It was interrupted. Start it again: what is done is left alone."
    else:
        assert str(end) in last["comment"]
    assert rows(run(Minions(NAMES))) == dict.fromkeys(NAMES, "changed")
    assert [path.name for path in (tmp_path / "cache/qmail-doublebounce").iterdir()] == ["lock"]


def test_whoever_was_proved_before_an_interruption_has_changed(run):
    def returns(name, function, dry):
        if function == "qmail_doublebounce.holds" and name == "mx05":
            raise KeyboardInterrupt

    steps = run(Minions(NAMES, returns))
    assert rows(steps) == {
        **dict.fromkeys(NAMES[:5], "changed"),
        **dict.fromkeys(NAMES[5:11], "failed"),
        **dict.fromkeys(NAMES[11:], "would change"),
    }


def test_an_interruption_of_the_dry_run_has_touched_nobody(run):
    def returns(name, function, dry):
        if function == "saltutil.sync_all" and name == "mx05":
            raise KeyboardInterrupt

    minions = Minions(NAMES, returns)
    assert rows(run(minions)) == dict.fromkeys(NAMES, "untouched")
    assert not minions.applied


def test_what_a_minion_says_twice_counts_once(run):
    minions = Minions(NAMES)
    real = minions.get_iter_returns

    def twice(*args, **kwargs):
        for said in real(*args, **kwargs):
            yield said
            if said and "mx07" in said:
                yield {"mx07": states(result=False, comment="Once more.")}

    minions.get_iter_returns = twice
    assert rows(run(minions)) == dict.fromkeys(NAMES, "changed")


def test_who_only_made_a_dry_run_in_its_wave_has_failed(run):
    """As with ``test: True`` in the configuration of a minion, if that came first."""
    minions = Minions(NAMES[:3], lambda name, function, dry: DRY if function == "state.apply" else None)
    steps = run(minions)
    assert rows(steps) == {"mx00": "failed", "mx01": "would change", "mx02": "would change"}
    assert "mx00 (failed): It was only a dry run: It would be." in steps["the canary is right"]["comment"]
    assert steps["the canary is right"]["changes"] == {}


def test_ids_may_have_any_characters(run, capsys):
    names = ["a,b", "error", "mx 1;reboot", "mx\x1b[2J", "\u043c\u0445"]
    minions = Minions(names, lambda name, function, dry: "nothing" if dry is False and name == names[2] else None)
    steps = run(minions, canary=2, timeout=1)
    assert rows(steps) == dict(zip(names, ["changed", "changed", "silent", "changed", "changed"], strict=True))
    *_, last = steps.values()
    assert "it does: salt 'mx 1;reboot' saltutil.running" in last["comment"]
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "mx?[2J: changed" in shown


def test_what_salts_client_prints_is_no_part_of_the_result(run, capsys):
    """ "No minions matched the target", for one: with --out json it would come first."""
    minions = Minions(NAMES[:1], lambda *_: print("No minions matched the target."))
    run(minions)
    told = capsys.readouterr()
    assert told.out == ""
    assert "No minions matched the target." in told.err


def test_it_goes_on_where_nobody_watches_any_more(run, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        steps = run(Minions(NAMES))
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            gone.close()
    assert rows(steps) == dict.fromkeys(NAMES, "changed")


def test_what_is_kept_of_a_minion_that_says_too_much_is_little(run):
    flood = {f"{number}": {**STATE, "__id__": "x" * 9999, "changes": {"new": 1}} for number in range(999)}
    flood["last"] = {**STATE, "result": False, "comment": "y" * 999_999}
    minions = Minions(NAMES[:2], lambda name, function, dry: {"ret": flood, "retcode": 2} if dry else None)
    (step,) = run(minions).values()
    assert step["result"] is False
    assert all(len(json.dumps(row)) < 15_000 for row in step["minions"].values())
