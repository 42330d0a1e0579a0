"""A minion, the master or the runner itself falls silent in a rollout: nobody is left out, and nothing is half done."""

import concurrent.futures
import signal
import subprocess

import pytest
import salt.client
import salt.loader

from tests.support import minion
from tests.support.fleet import Server, each
from tests.support.rollout import NAMES, SECONDS, Asleep, Run, agree, has_sink, wait_until

pytestmark = pytest.mark.soak


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


@pytest.mark.each_salt
def test_what_salt_loses_on_its_way_is_looked_up_where_the_master_keeps_it(master, minions, monkeypatch):
    real = salt.client.LocalClient.get_iter_returns

    def lossy(*arguments, **named):
        yield from (one for one in real(*arguments, **named) if not (one and "mx3" in one))

    monkeypatch.setattr(salt.client.LocalClient, "get_iter_returns", lossy)
    runners = salt.loader.runner({**master.config, "runner_dirs": [str(minion.REPOSITORY / "_runners")]})
    ask, found = (runners[f"qmail_doublebounce_minions.{name}"] for name in ("ask", "found"))
    said = dict(ask(["mx1", "mx3", "mx7"], "test.retcode", [3]))
    assert said.pop("mx7") is None
    assert {name: (one["ret"], one["retcode"]) for name, one in said.items()} == {"mx1": (True, 3), "mx3": (True, 3)}
    assert found("mx3 or mx4", "compound") == ["mx3", "mx4"]


def test_a_server_that_hangs_in_its_wave_is_silent_and_a_second_run_is_refused_meanwhile(servers, run):
    before = each(servers, Server.snapshot)
    server = servers["mx2"]
    (server.path / "deliver").mkdir(exist_ok=True)
    (server.path / "hold").touch()  # a delivery that does not end: qmail-send waits for it
    server.feed("one", 0)
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


def started(cli, *words):
    """Start a rollout, as from a terminal, and return its process."""
    command = cli.cmdline("qmail_doublebounce.rollout", *words)
    return subprocess.Popen(command, stdin=-3, stdout=-1, stderr=-1, text=True, env=cli.environ)


def finished(process):
    """Return what it printed, and its exit status."""
    stdout, stderr = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
