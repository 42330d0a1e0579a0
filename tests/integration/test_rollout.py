"""A master and six minions: the formula comes to them in waves, and no more than one wave is ever broken."""

import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pytest

from tests.support import minion, mounts
from tests.support.fleet import Server, each, quiet
from tests.support.rollout import NAMES, Asleep, Run, agree, has_sink

pytestmark = pytest.mark.soak
SECONDS = 1200  # for one command: no limit for a slow machine, but one for a hang
OF_MASTER = "rollout-master"  # the master's id, for which it has a pillar of its own


@pytest.fixture(scope="module")
def roots(place):
    """What the master serves: the formula, and a pillar file for each server."""
    states, pillar = minion.linked(place / "rollout-states"), place / "rollout-pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in (*NAMES, OF_MASTER)}}))
    for name in (*NAMES, OF_MASTER):
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
    mounts.denied()  # if not, the minions see what a test mounts: they are children of this process
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
def cli(master):
    return master.salt_run_cli(timeout=SECONDS)


@pytest.fixture
def run(master):
    def run(*words, kind="rollout", **settings):
        given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        cli = master.salt_run_cli(timeout=SECONDS)  # one holds the output of one process, and some run at the same time
        return Run(cli.run(f"qmail_doublebounce.{kind}", *(words or ["mx*"]), *given), kind)

    return run


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


@pytest.mark.parametrize("broken", ["its pillar", "asleep", "down", "unknown"])
def test_nothing_changes_where_the_dry_run_is_not_clean(servers, run, minions, roots, broken):
    before = each(servers, Server.snapshot)
    if broken == "its pillar":
        servers["mx5"].choose("dummy")  # no @
        done = run()
        assert "mx5 (failed): Pillar is wrong. qmail_doublebounce:address: 'dummy' is not an address" in done.said
    elif broken == "asleep":
        with Asleep(minions["mx5"]):
            done = run(timeout=20)
        assert "mx5 (silent): It did not answer saltutil.sync_all in" in done.said
    elif broken == "down":
        minions["mx5"].terminate()
        try:
            done = run()
        finally:
            minions["mx5"].start()
        assert "mx5 (silent): It did not answer saltutil.sync_all in" in done.said
        assert done.rows == {**dict.fromkeys(NAMES, "would change"), "mx5": "silent"}
    else:
        done = run(",".join([*NAMES[:4], "mx7"]), tgt_type="list")
        assert "mx7 (silent): It did not answer saltutil.sync_all in" in done.said
        assert done.rows == {**dict.fromkeys(NAMES[:4], "would change"), "mx7": "silent"}
    assert done.status == 1
    assert list(done.states) == ["a dry run is clean everywhere"]
    assert each(servers, Server.snapshot) == before


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


def test_where_the_second_wave_cannot_be_written_to_or_has_another_pillar_by_then_half_is_rolled_back(servers, run):
    why = mounts.denied()
    if why and os.environ.get("CI"):
        pytest.fail(why)
    if why:
        pytest.skip(why)
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


def test_ctrl_c_and_a_kill_leave_rows_and_no_lock_and_another_run_goes_on(servers, run, cli):
    before = each(servers, Server.snapshot)
    process = started(cli, "mx*", "size=1")
    wait_until(lambda: has_sink(servers["mx1"]))
    process.send_signal(signal.SIGINT)
    ended = Run(finished(process))
    assert ended.status == 1
    assert "It was interrupted. Start it again" in ended.said
    assert "Traceback" not in ended.done.stdout + ended.done.stderr
    assert set(ended.rows) == set(NAMES)
    settled = {name: server for name, server in servers.items() if ended.rows[name] != "silent"}
    agree(settled, ended, before)

    def count():
        return sum(each(servers, has_sink).values())

    wait_until(lambda: count() >= len(settled) - list(ended.rows.values()).count("would change"))
    done, process = count(), started(cli, "mx*", "size=1", "canary=0")
    wait_until(lambda: count() > done)
    process.kill()
    finished(process)
    wait_until(lambda: run().status == 0, seconds=SECONDS)  # also once the last state run of the killed one has ended
    assert all(each(servers, has_sink).values())


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


def started(cli, *words):
    """Start a rollout, as from a terminal, and return its process."""
    command = cli.cmdline("qmail_doublebounce.rollout", *words)
    return subprocess.Popen(command, stdin=-3, stdout=-1, stderr=-1, text=True, env=cli.environ)


def finished(process):
    """Return what it printed, and its exit status."""
    stdout, stderr = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def test_where_the_master_dies_meanwhile_it_ends_and_is_taken_up_again(servers, run, master):
    cli = master.salt_run_cli(timeout=SECONDS)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(cli.run, "qmail_doublebounce.rollout", "mx*", "size=1", "timeout=15")
        wait_until(lambda: has_sink(servers["mx1"]))
        master.terminate()
        done = first.result()
    assert done.returncode != 0
    assert "It ends here: 1 of 1 failed." in done.stderr  # salt-run itself needs a master to print a result
    assert "Untouched: " in done.stderr
    master.start()
    wait_until(lambda: run(timeout=60).status == 0, seconds=SECONDS)
    assert all(each(servers, has_sink).values())


def wait_until(true, seconds=600):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "It has not come about."
        time.sleep(0.1)
