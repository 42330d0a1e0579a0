"""The formula comes to six servers in waves, and no more than one wave is ever broken."""

import concurrent.futures
import json

import pytest

from tests.support import mounts, needs
from tests.support.fleet import Server, each
from tests.support.rollout import NAMES, OF_MASTER, agree, has_sink, wait_until

pytestmark = pytest.mark.soak


@pytest.mark.each_salt
def test_a_bad_wave_ends_it_another_run_goes_on_and_all_of_it_is_rolled_back(servers, run):
    (servers["mx4"].path / "broken").touch()
    before = each(servers, Server.snapshot)
    servers["mx4"].choose(servers["mx4"].sink, timeout=5)

    bad = run(size=2)
    assert bad.status == 1
    changed = dict.fromkeys(["mx1", "mx2", "mx3", "mx5"], "changed")  # the canary, wave 1, and the rest of wave 2
    assert bad.rows == {**changed, "mx4": "failed", "mx6": "would change"}
    agree(servers, bad, before)
    last = list(bad.states.values())[-1]
    assert last["result"] is False
    assert last["comment"].startswith("It ends here: 1 of 2 failed.\nMinion mx4 (failed): qmail-send does not stay up")
    assert last["comment"].endswith("\nUntouched: mx6.")

    (servers["mx4"].path / "broken").unlink()
    servers["mx4"].start_again()
    good = run(size=2)
    assert good.status == 0, good.done
    assert good.rows == {**dict.fromkeys(NAMES, "right"), "mx6": "changed"}
    assert all(each(servers, has_sink).values())
    assert sorted(line.partition(":")[0] for line in good.shown if ": right" in line) == NAMES[:5]

    back = run(kind="rollback", size="50%", canary=["mx3"])
    assert back.status == 0, back.done
    steps = [list(state["minions"]) for state in back.states.values()]
    assert steps == [NAMES, ["mx3"], ["mx1", "mx2", "mx4"], ["mx5", "mx6"]]
    assert each(servers, Server.snapshot) == before_without(before, "mx4", "broken")
    assert set(each(servers, Server.loaded).values()) == {Server.BEFORE}


def before_without(before, server, name):
    return {**before, server: {path: what for path, what in before[server].items() if path != name}}


def test_a_dry_run_changes_nothing_and_a_run_that_has_nothing_to_do_neither(servers, run, cli):
    before = each(servers, Server.snapshot)
    dry = run(test=True)
    assert dry.status == 0, dry.done
    assert set(dry.rows.values()) == {"would change"}
    assert each(servers, Server.snapshot) == before
    shown = cli.run("qmail_doublebounce.rollout", "mx*", "test=True", "--out=highstate").stdout
    assert "          ID: a dry run is clean everywhere\n    Function: qmail_doublebounce.rollout\n" in shown
    assert "     Comment: The change is due on 6 of 6 minions.\n" in shown
    assert "Succeeded: 1 (unchanged=1, changed=1)" in shown

    done = run(canary=0, size=6)
    assert done.status == 0, done.done
    assert list(done.states) == ["a dry run is clean everywhere", "wave 1 of 1 is right"]
    assert set(done.rows.values()) == {"changed"}
    agree(servers, done, before)

    after = each(servers, Server.snapshot), each(servers, Server.pid)
    again = run()
    assert again.status == 0, again.done
    assert list(again.states) == ["a dry run is clean everywhere"]
    assert set(again.rows.values()) == {"right"}
    assert (each(servers, Server.snapshot), each(servers, Server.pid)) == after


def test_a_sink_that_does_not_hold_ends_it_with_the_canary_and_with_a_later_wave(servers, run):
    before = each(servers, Server.snapshot)
    for server in (servers["mx1"], servers["mx4"]):  # somebody takes the mailbox's file away at each start
        ctl = server.path / "bin/qmailctl"
        ctl.write_text(ctl.read_text().replace("start() {", f'start() {{\n  rm -f "{server.mailbox()}/.qmail"'))
        before[server.path.name] = server.snapshot()
    done = run(size=2)
    assert done.status == 1
    assert done.rows == {"mx1": "failed", **dict.fromkeys(NAMES[1:], "would change")}
    assert list(done.states) == ["a dry run is clean everywhere", "the canary is right"]
    assert f"Untouched: {', '.join(NAMES[1:])}." in done.said
    agree(servers, done, before)

    later = run(size=2)  # no restart is due on the canary, so nobody takes the file away there this time
    assert later.status == 1
    changed = dict.fromkeys(["mx1", "mx2", "mx3", "mx5"], "changed")
    assert later.rows == {**changed, "mx4": "failed", "mx6": "would change"}
    assert list(later.states)[-1] == "wave 2 of 3 is right"
    assert later.said.endswith("\nUntouched: mx6.")
    assert not has_sink(servers["mx4"])
    assert servers["mx6"].snapshot() == before["mx6"]

    again = run(size=2)
    assert again.status == 0, again.done
    assert all(each(servers, has_sink).values())


def test_without_a_proof_by_a_probe_it_goes_no_further(servers, run):
    before = each(servers, Server.snapshot)
    done = run(verify=True, canary="mx2,mx3")  # these homes have no qmail-queue that could take a probe
    assert done.status == 1
    assert done.rows == {**dict.fromkeys(NAMES, "would change"), "mx2": "failed", "mx3": "failed"}
    assert "mx2 (failed): ERROR: Cannot run" in done.said
    agree(servers, done, before)


def test_where_the_second_wave_cannot_be_written_to_or_has_another_pillar_by_then_half_is_rolled_back(servers, run):
    needs.skip_for(mounts.denied())
    before = each(servers, Server.snapshot)
    mounts.bind_read_only(servers["mx4"].control, servers["mx4"].control)
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(run, size=2)
            wait_until(lambda: has_sink(servers["mx1"]))
            servers["mx5"].choose("dummy")  # no @
            done = first.result()
        assert done.status == 1
        rows = dict.fromkeys(["mx1", "mx2", "mx3"], "changed")
        assert done.rows == {**rows, "mx4": "failed", "mx5": "failed", "mx6": "would change"}
        assert "Read-only file system" in done.minions["mx4"]["why"]
        assert "Pillar is wrong." in done.minions["mx5"]["why"]
        assert done.said.endswith("\nUntouched: mx6.")
        agree(servers, done, before)
    finally:
        mounts.unmount(servers["mx4"].control)
    servers["mx5"].choose("dummy@example.com")

    back = run(kind="rollback")
    assert back.status == 0, back.done
    assert back.rows == {**dict.fromkeys(NAMES[:4], "changed"), "mx5": "right", "mx6": "right"}
    assert each(servers, Server.snapshot) == before


def test_an_orchestration_rolls_out_and_has_a_dry_run_and_an_exit_status(servers, cli, roots):
    settings = {"target": "mx1,mx2", "tgt_type": "list", "test": True}
    pillar = roots[1] / f"{OF_MASTER}.sls"
    before = each(servers, Server.snapshot)

    def orchestrate(**settings):
        given = json.dumps({"qmail_doublebounce": {"rollout": settings}})
        return cli.run("state.orchestrate", "qmail-doublebounce.orchestrate.rollout", f"pillar={given}")

    done = orchestrate(**settings)
    assert done.returncode == 0, done
    assert "The change is due on 2 of 2 minions." in done.stdout
    assert each(servers, Server.snapshot) == before

    done = orchestrate(**settings, size=0)
    assert done.returncode == 1, done
    assert "size is 0; allowed: how many minions" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr

    pillar.write_text(json.dumps({"qmail_doublebounce": {"rollout": {**settings, "test": False}}}))
    try:
        done = cli.run("state.orchestrate", "qmail-doublebounce.orchestrate.rollout")
    finally:
        pillar.write_text("{}")
    assert done.returncode == 0, done
    assert each(servers, has_sink) == {name: name in ("mx1", "mx2") for name in NAMES}
