"""A master and six minions: the formula comes to them in waves, and no more than one wave is ever broken."""

import concurrent.futures
import json
import pathlib
import tempfile
import time

import pytest

from tests.support import minion
from tests.support.fleet import Server, each, quiet
from tests.support.rollout import NAMES, Asleep, Run, agree, has_sink

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def roots(place):
    """What the master serves: the formula, and a pillar file for each server."""
    states, pillar = minion.linked(place / "rollout-states"), place / "rollout-pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in NAMES}}))
    for name in NAMES:
        (pillar / f"{name}.sls").write_text("{}")
    return states, pillar


@pytest.fixture(scope="module")
def master(salt_factories, roots):
    states, pillar = roots
    served = {"file_roots": {"base": [str(states)]}, "pillar_roots": {"base": [str(pillar)]}}
    master = salt_factories.salt_master_daemon(
        "rollout-master", overrides={**served, **quiet("master"), "open_mode": True}
    )
    with master.started():
        master.salt_run_cli(timeout=60).run("saltutil.sync_runners")
        yield master


@pytest.fixture(scope="module")
def minions(master, place):
    started = {}
    try:
        for name in NAMES:
            daemon = master.salt_minion_daemon(name, overrides={**quiet("minion"), **minion.roots(place / name)})
            daemon.start()
            started[name] = daemon
        yield started
    finally:
        for daemon in started.values():
            daemon.terminate()


@pytest.fixture
def servers(minions, roots, place):
    """The servers, as they were before this formula came, with qmail-send running."""
    with tempfile.TemporaryDirectory(dir=place, prefix="rollout-servers-") as directory:
        root = pathlib.Path(directory)
        root.chmod(0o755)
        servers = {name: Server(root / name, roots[1] / f"{name}.sls", "dummy") for name in NAMES}
        try:
            for server in servers.values():
                server.start()
            yield servers
        finally:
            for server in servers.values():
                server.stop()


@pytest.fixture
def run(master):
    def run(*words, kind="rollout", **settings):
        given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        cli = master.salt_run_cli(timeout=300)
        return Run(cli.run(f"qmail_doublebounce.{kind}", *(words or ["mx*"]), *given), kind)

    return run


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
    assert [line.partition(":")[0] for line in good.shown if ": right" in line] == NAMES[:5]

    back = run(kind="rollback", size="50%", canary=["mx3"])
    assert back.status == 0, back.done
    steps = [list(state["minions"]) for state in back.states.values()]
    assert steps == [NAMES, ["mx3"], ["mx1", "mx2", "mx4"], ["mx5", "mx6"]]
    assert each(servers, Server.snapshot) == before_without(before, "mx4", "broken")
    assert set(each(servers, Server.loaded).values()) == {Server.BEFORE}


def before_without(before, server, name):
    return {**before, server: {path: what for path, what in before[server].items() if path != name}}


def test_a_dry_run_changes_nothing_and_a_run_that_has_nothing_to_do_neither(servers, run):
    before = each(servers, Server.snapshot)
    dry = run(test=True)
    assert dry.status == 0, dry.done
    assert set(dry.rows.values()) == {"would change"}
    assert each(servers, Server.snapshot) == before

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


@pytest.mark.parametrize("broken", ["its pillar", "asleep", "unknown"])
def test_nothing_changes_where_the_dry_run_is_not_clean(servers, run, minions, roots, broken):
    before = each(servers, Server.snapshot)
    if broken == "its pillar":
        servers["mx5"].choose("dummy")  # no @
        done = run()
        assert "mx5 (failed): Pillar is wrong. qmail_doublebounce:address: 'dummy' is not an address" in done.said
    elif broken == "asleep":
        with Asleep(minions["mx5"]):
            done = run(timeout=20)
        assert "mx5 (silent): It did not answer saltutil.sync_all within" in done.said
    else:
        done = run(",".join([*NAMES[:4], "mx7"]), tgt_type="list")
        assert "mx7 (silent): It did not answer saltutil.sync_all within" in done.said
        assert done.rows == {**dict.fromkeys(NAMES[:4], "would change"), "mx7": "silent"}
    assert done.status == 1
    assert list(done.states) == ["a dry run is clean everywhere"]
    assert each(servers, Server.snapshot) == before


def test_a_sink_that_does_not_hold_ends_it_with_the_canary(servers, run):
    before = each(servers, Server.snapshot)
    ctl = servers["mx1"].path / "bin/qmailctl"
    # Somebody takes the mailbox's file away meanwhile.
    ctl.write_text(ctl.read_text().replace("start() {", f'start() {{\n  rm -f "{servers["mx1"].mailbox()}/.qmail"'))
    done = run()
    assert done.status == 1
    assert done.rows == {"mx1": "failed", **dict.fromkeys(NAMES[1:], "would change")}
    assert list(done.states) == ["a dry run is clean everywhere", "the canary is right"]
    assert f"Untouched: {', '.join(NAMES[1:])}." in done.said
    agree(servers, done, before)

    again = run()
    assert again.status == 0, again.done  # no restart is due, so nobody takes the file away this time
    assert all(each(servers, has_sink).values())


def test_without_a_proof_by_a_probe_it_goes_no_further(servers, run):
    before = each(servers, Server.snapshot)
    done = run(verify=True, canary="mx2,mx3")  # these homes have no qmail-queue that could take a probe
    assert done.status == 1
    assert done.rows == {**dict.fromkeys(NAMES, "would change"), "mx2": "failed", "mx3": "failed"}
    assert "mx2 (failed): ERROR: Cannot run" in done.said
    agree(servers, done, before)


def test_a_server_that_hangs_in_its_wave_is_silent_and_a_second_run_is_refused_meanwhile(servers, run):
    before = each(servers, Server.snapshot)
    server = servers["mx2"]
    (server.path / "deliver").mkdir(exist_ok=True)
    (server.path / "hold").touch()  # a delivery that does not end: qmail-send waits for it
    (server.path / "deliver/one").write_text("0")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(run, size=2, timeout=25)
        wait_until(lambda: has_sink(servers["mx1"]))
        second = run("mx2,mx6", tgt_type="list")
        done = first.result()
    assert second.status == 1
    assert "A rollout by root, process" in second.said
    assert "works on mx2, mx6 since" in second.said
    assert done.status == 1
    rows = {"mx1": "changed", "mx2": "silent", "mx3": "changed", **dict.fromkeys(NAMES[3:], "would change")}
    assert done.rows == rows
    (server.path / "hold").unlink()
    wait_until(lambda: has_sink(server))  # it goes on by itself
    del before["mx2"], rows["mx2"]
    agree({name: servers[name] for name in before}, done, before)

    wait_until(lambda: run(size=2).status == 0)  # no lock is left, and what is done is left alone
    assert all(each(servers, has_sink).values())


def test_where_the_master_dies_meanwhile_it_ends_and_is_taken_up_again(servers, run, master):
    cli = master.salt_run_cli(timeout=300)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(cli.run, "qmail_doublebounce.rollout", "mx*", "size=1", "timeout=15")
        wait_until(lambda: has_sink(servers["mx1"]))
        master.terminate()
        done = first.result()
    assert done.returncode != 0
    assert "It ends here: 1 of 1 failed." in done.stderr  # salt-run itself needs a master to print a result
    assert "Untouched: " in done.stderr
    master.start()
    wait_until(lambda: run(timeout=60).status == 0, seconds=300)
    assert all(each(servers, has_sink).values())


def wait_until(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "It has not come about."
        time.sleep(0.1)
