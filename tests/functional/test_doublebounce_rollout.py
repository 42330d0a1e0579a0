"""The runner, fed with what minions may return: every minion has a row, and whatever is not right ends it."""

import json
import os
import pathlib
import resource
import subprocess
import sys

import pytest
import salt.client
import salt.config
import salt.loader
import salt.utils.minions

from tests.support import minion

KEY = "test_|-the sink is ready_|-the sink is ready_|-nop"
STATE = {"__id__": "the sink is ready", "__run_num__": 0, "result": True, "comment": "It is.", "changes": {}}
HOLD = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); input()"
HOLDS = {"ret": {"holds": True, "why": "Double bounces vanish."}, "retcode": 0}


def states(**said):
    """What ``state.apply`` returns of one state."""
    failed = said.get("result") is False
    return {"ret": {KEY: {**STATE, **said}}, "retcode": int(failed)}


class Minions:
    """Stand in for the client: a function says what each returns, by its name, what it is asked, and whether dry."""

    def __init__(self, names, returns=lambda name, function, dry: None):
        self.names, self.returns, self.asked, self.applied, self.pauses = names, returns, [], set(), True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def check_minions(self, target, tgt_type, greedy):
        return {"minions": list(self.names), "missing": []}

    def cmd_iter(self, *_, **__):
        return iter(())

    def cmd_iter_no_block(self, names, function, arg, timeout, tgt_type, kwarg):
        assert tgt_type == "list"
        dry = kwarg.get("test")
        self.asked.append((function, dry, list(names)))
        if self.pauses:
            yield None  # as a client does while it waits
        for name in names:
            said = self.returns(name, function, dry)
            if said is None:
                said = self.usual(name, function, dry)
            if said == "nothing":
                continue
            yield said if said is None or "error" in said else {name: said}

    def usual(self, name, function, dry):
        if function == "saltutil.sync_all":
            return {"ret": {"modules": []}, "retcode": 0}
        if function == "qmail_doublebounce.holds":
            return HOLDS
        changes = {} if name in self.applied else {"old": "a", "new": "b"}
        if not dry:
            self.applied.add(name)
        return states(result=None if dry and changes else True, changes=changes)


@pytest.fixture
def runners(tmp_path):
    opts = salt.config.master_config(minion.write(tmp_path / "etc/master", {"root_dir": str(tmp_path)}))
    opts.update(cachedir=str(tmp_path / "cache"), runner_dirs=[str(minion.REPOSITORY / "_runners")])
    return salt.loader.runner(opts)


@pytest.fixture
def run(runners, monkeypatch):
    """Run a rollout over minions that stand in, with this pillar on the master."""
    sent, pillar = [], {}

    def run(minions, kind="rollout", target="*", **settings):
        monkeypatch.setattr(salt.client, "get_local_client", lambda mopts: minions)
        monkeypatch.setattr(salt.utils.minions, "CkMinions", lambda opts: minions)
        returned = runners[f"qmail_doublebounce.{kind}"](target, **settings)
        assert returned["outputter"] == "highstate"
        steps = {state["__id__"]: state for state in returned["data"][kind].values()}
        assert returned["retcode"] == int(any(step["result"] is False for step in steps.values()))
        json.dumps(returned)
        return steps

    runners["event.send"] = lambda tag, data: sent.append((tag, data))
    runners["pillar.show_pillar"] = lambda minion: pillar
    run.sent, run.pillar = sent, pillar
    return run


def rows(steps):
    found = {}
    for step in steps.values():
        found.update({name: row["result"] for name, row in step["minions"].items()})
    return found


NAMES = [f"mx{number:02}" for number in range(25)]


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


WRONG = {
    "asleep": ("nothing", "silent", "did not answer"),
    "an error": ({"ret": "ERROR: no such thing", "retcode": 1}, "failed", "ERROR: no such thing"),
    "a list": ({"ret": ["one thing", "and another"], "retcode": 1}, "failed", "one thing; and another"),
    "nothing": ({"ret": None, "retcode": 0}, "failed", "None"),
    "no states": ({"ret": {}, "retcode": 0}, "failed", "{}"),
    "a number": ({"ret": 5, "retcode": 0}, "failed", "5"),
    "a bad state": (states(result=False, comment="no\x1b[2Jgood\nat all"), "failed", "no?[2Jgood at all"),
    "an exit status": ({**states(), "retcode": 2}, "failed", "state.apply ended with 2."),
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
    if wrong in ("no states", "an exit status", "a bad state") and function == "saltutil.sync_all":
        result = {"no states": "changed"}.get(wrong, "failed")
    if result == "changed":
        assert rows(steps) == dict.fromkeys(NAMES, "changed")
        return
    *_, last = steps.values()
    assert last["result"] is False
    assert last["minions"]["mx12"]["result"] == result
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
    (step,) = steps.values()
    assert step["result"] is False
    assert step["comment"] == "The master refused saltutil.sync_all: Authorization error occurred."


def test_what_a_stranger_returns_is_left_out(run):
    minions = Minions(NAMES)
    real = minions.cmd_iter_no_block

    def more(*args, **kwargs):
        yield {"stranger": states(result=False)}
        yield {"mx00": "no dictionary"}
        yield from real(*args, **kwargs)

    minions.cmd_iter_no_block = more
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


def test_an_interruption_is_reported_and_leaves_no_claim(run, tmp_path):
    def returns(name, function, dry):
        if dry is False and name == "mx05":
            raise KeyboardInterrupt
        return

    steps = run(Minions(NAMES, returns))
    *_, last = steps.values()
    assert last["result"] is False
    assert last["comment"] == "It was interrupted. Start it again: what is done is left alone."
    assert rows(run(Minions(NAMES))) == dict.fromkeys(NAMES, "changed")
    assert [path.name for path in (tmp_path / "cache/qmail-doublebounce").iterdir()] == ["lock"]


def test_two_runs_over_the_same_minions_take_turns_and_a_dead_one_does_not_count(run, tmp_path):
    place = tmp_path / "cache/qmail-doublebounce"
    place.mkdir(parents=True)
    claim = {"kind": "rollout", "user": "mail", "pid": 7, "since": "2026-11-24 02:11:15", "minions": ["mx03", "mx99"]}
    (place / "7-1.json").write_text(json.dumps(claim))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, place / "7-1.json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        holder.stdout.readline()
        minions = Minions(NAMES)
        (step,) = run(minions).values()
        assert step["comment"] == (
            "A rollout by mail, process 7, works on mx03 since 2026-11-24 02:11:15. Wait for its end."
        )
        assert not minions.asked
        assert rows(run(Minions(NAMES[:3]))) == dict.fromkeys(NAMES[:3], "changed")
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    assert rows(run(Minions(NAMES))) == dict.fromkeys(NAMES, "changed")


def test_ten_thousand_minions_fit_into_memory(tmp_path):
    code = "from tests.functional.test_doublebounce_rollout import many; many(10_000)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=minion.REPOSITORY, env={**os.environ, "PLACE": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["changed"] == 10_000
    assert told["mib"] < 256


def many(number):
    """Roll out over so many minions that return what a real one does, and print what it took."""
    place = pathlib.Path(os.environ["PLACE"])
    opts = salt.config.master_config(minion.write(place / "etc/master", {"root_dir": str(place)}))
    opts.update(cachedir=str(place / "cache"), runner_dirs=[str(minion.REPOSITORY / "_runners")])
    runners = salt.loader.runner(opts)
    runners["event.send"] = lambda tag, data: None
    runners["pillar.show_pillar"] = lambda minion: {}
    minions = Minions([f"mx{one:05}.example.com" for one in range(number)])
    text = json.dumps(recorded())
    usual, minions.pauses = minions.usual, False

    def returned(name, function, dry):
        said = usual(name, function, dry)
        if function == "state.apply":
            said["ret"] = {**json.loads(text.replace("mx1", name)), **said["ret"]}
        return said

    minions.usual = returned
    salt.client.get_local_client = lambda mopts: minions
    salt.utils.minions.CkMinions = lambda opts: minions
    steps = runners["qmail_doublebounce.rollout"]("*", size=100)["data"]["rollout"]
    changed = sum(row["result"] == "changed" for step in steps.values() for row in step["minions"].values())
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"changed": changed, "mib": mib}))


def recorded():
    """What a real minion returned of a run that changed nothing."""
    return json.loads((minion.REPOSITORY / "tests/data/returns/no-op.json").read_text())
