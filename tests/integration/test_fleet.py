"""A master and two minions: each server gets the sink that its own pillar names, and gets rid of it again."""

import re
import shutil
import subprocess
import time

import pytest

from tests.support import minion
from tests.support.fleet import FORMULA, SECONDS, SINKS, Fleet, Server, all_are, each, quick, told
from tests.support.rollout import Asleep


@pytest.fixture(scope="module")
def master(salt_factories, master_config):
    master = salt_factories.salt_master_daemon("master", overrides=master_config)
    with master.started():
        yield master


@pytest.fixture(scope="module")
def minions(master, place):
    overrides = {name: {**quick("minion"), **minion.roots(place / name)} for name in SINKS}
    minions = [master.salt_minion_daemon(name, overrides=overrides[name]) for name in SINKS]
    with minions[0].started(), minions[1].started():
        yield minions


@pytest.fixture(scope="module")
def unsynced(master, minions):
    """The fleet, to which nobody has brought this project's modules; a test may have."""
    return Fleet(master.salt_cli(timeout=60))


@pytest.fixture(scope="module")
def fleet(unsynced):
    """The fleet, after the one sync that state.apply needs."""
    unsynced.run("saltutil.sync_all")
    return unsynced


def without_modules(fleet, minions, seconds=30):
    """Have the minions be as they are before they ever got this project's modules."""
    deadline = time.monotonic() + seconds
    while any("is not available" not in str(said) for said in fleet.run("qmail_mailbox_sink.split", "a@b.c").values()):
        assert time.monotonic() < deadline, "The minions still have the modules."
        for daemon in minions:
            shutil.rmtree(daemon.config["extension_modules"], ignore_errors=True)
        fleet.run("saltutil.refresh_modules")


@pytest.mark.soak
@pytest.mark.each_salt
def test_a_minion_without_the_modules_shows_the_remedy(unsynced, minions, servers):
    without_modules(unsynced, minions)
    before = each(servers, Server.snapshot)
    status, shown = unsynced.apply_and_show(FORMULA)
    assert status != 0
    assert "has no attribute 'qmail_doublebounce.settings'" in shown
    assert "saltutil.sync_all" in shown
    assert each(servers, Server.snapshot) == before


def test_a_highstate_brings_the_modules_along(unsynced, minions, servers):
    without_modules(unsynced, minions)

    applied = unsynced.apply()
    assert all_are(applied, "result", True), applied
    assert each(servers, Server.where) == each(servers, Server.expected)


def test_a_dry_run_reports_what_the_run_then_does_and_another_run_does_nothing(fleet, servers):
    before = each(servers, Server.snapshot), each(servers, Server.pid)

    dry = fleet.apply(FORMULA, "test=True")
    assert all(state["result"] is None for states in dry.values() for state in states.values() if state["changes"]), dry
    assert (each(servers, Server.snapshot), each(servers, Server.pid)) == before

    first = fleet.apply(FORMULA)
    assert all_are(first, "result", True), first
    assert each(servers, Server.where) == each(servers, Server.expected)
    pids = each(servers, Server.pid)
    for results in (dry, first):  # a dry run cannot know the new process id
        for name, states in told(results, "changes").items():
            (restart,) = (changes["pid"] for changes in states.values() if "pid" in changes)
            assert restart.pop("new") == ("another" if results is dry else pids[name])
    assert told(dry, "changes") == told(first, "changes")

    after = each(servers, Server.snapshot)
    second = fleet.apply(FORMULA)
    assert all_are(second, "result", True), second
    assert all_are(second, "changes", {}), second
    assert each(servers, Server.snapshot) == after
    assert each(servers, Server.pid) == pids


def test_clean_puts_every_byte_back_also_of_a_sink_that_pillar_has_moved_away_from(fleet, servers):
    before = each(servers, Server.snapshot)
    fleet.apply(FORMULA)

    servers["mail2"].choose("dummy@example.com")
    moved = fleet.apply(FORMULA)  # a run reads pillar again: nobody has to refresh it
    assert all_are(moved, "result", True), moved
    assert all_are({"mail1": moved["mail1"]}, "changes", {}), moved
    assert servers["mail2"].where() == servers["mail2"].expected()

    cleaned = fleet.apply(f"{FORMULA}.clean")
    assert all_are(cleaned, "result", True), cleaned
    assert each(servers, Server.snapshot) == before
    assert set(each(servers, Server.loaded).values()) == {Server.BEFORE}

    again = fleet.apply(f"{FORMULA}.clean")
    assert all_are(again, "result", True), again
    assert all_are(again, "changes", {}), again


def test_a_pillar_that_is_wrong_stops_its_own_server_only_and_says_why(fleet, servers):
    servers["mail1"].choose("dummy")  # no @
    before = (servers["mail1"].snapshot(), servers["mail1"].pid())

    status, shown = fleet.apply_and_show(FORMULA)
    assert status != 0, shown
    assert "qmail_doublebounce:address: 'dummy' is not an address" in shown
    assert "Traceback" not in shown
    assert (servers["mail1"].snapshot(), servers["mail1"].pid()) == before
    assert servers["mail2"].where() == servers["mail2"].expected()


@pytest.fixture
def runner(master, fleet, servers):
    """The command line of the master's runners, with this project's; the minions know the pillar of these servers."""
    cli = master.salt_run_cli(timeout=120)
    cli.run("saltutil.sync_runners")
    fleet.run("saltutil.refresh_pillar", "wait=True")
    return cli


@pytest.mark.soak
@pytest.mark.each_salt
def test_the_report_has_the_words_of_each_minion_as_data_and_on_a_page(runner, fleet, servers, place):
    servers["mail1"].choose("dummy")  # no @
    fleet.run("saltutil.refresh_pillar", "wait=True")
    page = place / "report.html"

    done = runner.run("qmail_doublebounce.report", "mail*", f"html={page}", _timeout=SECONDS)
    assert done.returncode == 0, done
    rows = {row["server"]: row for row in done.data["servers"]}
    assert rows["mail1"]["why"].startswith("Pillar is wrong. qmail_doublebounce:address: 'dummy' is not an address")
    assert {name: row["level"] for name, row in rows.items()} == {"mail1": "untold", "mail2": "wrong"}
    assert rows["mail2"]["sink"] == Server.BEFORE
    assert page.stat().st_size == done.data["page"]["bytes"]
    assert "Double bounces on 2 servers" in page.read_text()


@pytest.mark.soak
@pytest.mark.each_salt
def test_whoever_types_it_sees_the_table_and_nothing_else(runner, fleet, servers):
    fleet.apply(FORMULA)
    words = [word for word in runner.cmdline("qmail_doublebounce.report", "mail*") if not word.startswith("--out")]
    typed = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert typed.returncode == 0, typed
    lines = typed.stdout.splitlines()
    assert lines[0].startswith("server"), lines
    rows = sorted(re.split(" {2,}", line)[:2] for line in lines if line.startswith("mail"))
    assert rows == [["mail1", "holds, but"], ["mail2", "holds, but"]]  # the stand-in's log has no times
    assert "2 servers: 2 holds, but" in lines


@pytest.mark.soak
def test_a_minion_that_is_silent_is_a_row_and_an_exit_status(runner, minions, fleet, servers):
    with Asleep(minions[1]):
        done = runner.run("qmail_doublebounce.report", "mail*", _timeout=SECONDS)
    assert done.returncode == 1, done
    rows = {row["server"]: row for row in done.data["servers"]}
    assert {name: row["level"] for name, row in rows.items()} == {"mail1": "wrong", "mail2": "silent"}
    assert rows["mail2"]["why"].startswith("It did not answer within 300 s.")
    assert rows["mail2"]["heard"] is not None
    assert "Traceback" not in done.stdout + done.stderr
