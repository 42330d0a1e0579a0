"""Whether a restart is due: has the running qmail-send read the control files as they are now?"""

import json
import os
import pathlib
import subprocess
import time
import types

import pytest

from tests.support.home import Home
from tests.support.supervisors import wait_until


@pytest.fixture
def status(modules, running):
    return lambda: modules.qmail_service.status(home=str(running.path))


@pytest.fixture
def restart(modules, running):
    return lambda: modules.qmail_service.restart(home=str(running.path), timeout=60, settle=0.1)


@pytest.fixture
def clock(monkeypatch):
    """Set the clock, by seconds from now."""
    right = time.time
    return lambda step: monkeypatch.setattr(time, "time", lambda: right() + step)


@pytest.fixture
def by_hand(running, status):
    """Restart qmail-send without Salt."""

    def by_hand():
        subprocess.run([running.path / "bin/qmailctl", "restart"], check=True, timeout=60)
        wait_until(lambda: status()["running"])

    return by_hand


def test_a_change_after_the_start_is_not_loaded(running, status, by_hand):
    found = status()
    assert (found["running"], found["pid"], found["loaded"]) == (True, running.pid(), True)
    assert 0 <= time.time() - found["since"] < 60
    running.write_control("doublebounceto", "sink\n")
    assert status()["loaded"] is False
    by_hand()
    assert status()["loaded"] is True


def test_without_a_running_qmail_send_nothing_is_loaded(home, modules):
    down = {"running": False, "pid": None, "since": None, "loaded": False}
    assert modules.qmail_service.status(home=str(home.path)) == down


def test_the_name_of_the_host_counts_only_while_it_is_the_default(running, status, by_hand):
    running.write_control("me", "other.example.net\n")
    assert status()["loaded"] is False
    running.write_control("doublebouncehost", "example.com\n")
    by_hand()
    running.write_control("me", "third.example.net\n")
    assert status()["loaded"] is True


def test_a_file_that_came_with_its_old_times_is_a_change_all_the_same(running, status):
    (running.path / "doublebounceto").write_text("sink\n")
    os.utime(running.path / "doublebounceto", (0, 0))
    (running.path / "doublebounceto").rename(running.control / "doublebounceto")
    assert status()["loaded"] is False


def test_a_file_that_was_put_back_is_a_change(running, modules, status, restart, by_hand):
    home = str(running.path)
    modules.qmail_control.put("doublebounceto", "sink", home=home)
    by_hand()
    assert status()["loaded"] is True
    modules.qmail_control.restore("doublebounceto", home=home)
    assert not (running.control / "doublebounceto").exists()
    assert status()["loaded"] is False


@pytest.mark.parametrize("step", [-86400, 86400])
def test_whoever_began_before_a_write_of_ours_has_not_read_it_whatever_the_clock_says(
    running, modules, status, by_hand, clock, step
):
    for write in ("put", "restore"):
        time.sleep(0.05)  # more than a clock tick
        modules[f"qmail_control.{write}"]("doublebounceto", *["sink"] * (write == "put"), home=str(running.path))
        clock(step)
        assert status()["loaded"] is False
        clock(0)
        by_hand()
        assert status()["loaded"] is True


@pytest.mark.parametrize("step", [0, 86400])
@pytest.mark.parametrize("write", ["put", "restore"])
def test_under_another_spelling_of_the_home_it_is_known_as_well(
    running, modules, by_hand, tmp_path, clock, write, step
):
    (tmp_path / "link").symlink_to(running.path)
    modules.qmail_control.put("doublebounceto", "sink", home=str(running.path))
    by_hand()
    time.sleep(0.05)  # more than a clock tick
    arguments = ["other"] if write == "put" else []
    modules[f"qmail_control.{write}"]("doublebounceto", *arguments, home=str(tmp_path / "link"))
    clock(step)
    for home in (running.path, tmp_path / "link"):
        assert modules.qmail_service.status(home=str(home))["loaded"] is False


def test_a_moment_of_another_time_namespace_does_not_count(running, modules, monkeypatch, by_hand):
    seconds = types.SimpleNamespace(
        **{**vars(time), "clock_gettime": lambda clock: time.clock_gettime(clock) + 1_000_000}
    )
    with monkeypatch.context() as patched:
        patched.setitem(modules["qmail_file_ledger.settle"].func.__globals__, "time", seconds)
        modules.qmail_control.put("doublebounceto", "sink", home=str(running.path))
    by_hand()
    assert modules.qmail_service.status(home=str(running.path))["loaded"] is True


@pytest.mark.parametrize("step", [-86400, 86400])
def test_after_a_restart_of_ours_no_clock_matters(running, status, restart, clock, step):
    running.write_control("doublebounceto", "sink\n")
    restart()
    assert status()["loaded"] is True
    clock(step)
    assert status()["loaded"] is True
    running.write_control("doublebounceto", "other\n")
    assert status()["loaded"] is False


def test_after_a_restart_of_ours_values_count_and_not_times(running, status, restart):
    running.write_control("doublebounceto", "sink\n")
    restart()
    running.write_control("doublebounceto", "sink  \n# the same to qmail\n")
    assert status()["loaded"] is True
    (running.control / "doublebounceto").unlink()
    assert status()["loaded"] is False
    running.write_control("doublebounceto", "sink\n")
    assert status()["loaded"] is True


def test_what_is_known_of_one_process_is_not_believed_of_another(running, status, restart, by_hand):
    running.write_control("doublebounceto", "sink\n")
    restart()
    running.write_control("doublebounceto", "other\n")
    by_hand()
    assert status()["loaded"] is True
    running.write_control("doublebounceto", "sink\n")
    assert status()["loaded"] is False


def test_a_change_while_it_restarts_is_not_taken_for_loaded(running, modules, status):
    """The script writes another value as soon as the new one runs; it is as if somebody had."""
    script = running.path / "bin/qmailctl"
    wait = "until grep -q sink $home/double-bounces-go-to; do sleep 0.02; done"
    change = f"  {wait}; echo other >$home/control/doublebounceto\n"
    script.write_text(script.read_text().replace("  echo $! >", f"{change}  echo $! >"))
    running.write_control("doublebounceto", "sink\n")
    modules.qmail_service.restart(home=str(running.path), timeout=60, settle=0.5)
    assert running.wait_until_loaded("sink@mail.example.net")
    assert status()["loaded"] is False


def test_a_damaged_record_does_not_count(running, status, restart, modules):
    running.write_control("doublebounceto", "sink\n")
    restart()
    record = pathlib.Path(modules.qmail_service_loaded.directory(home=str(running.path))) / "loaded"
    assert record.stat().st_mode & 0o777 == 0o600
    for damaged in ("", "[]", '{"process": 1}', "\0"):
        record.write_text(damaged)
        assert status()["loaded"] is True


def test_a_process_that_is_expected_counts_only_if_it_holds_the_lock(running, modules):
    find = modules.qmail_base_process.find
    pid = running.pid()
    assert [find(str(running.path), expected=expected) for expected in (None, pid, os.getpid(), 1, 2**30)] == [pid] * 5
    other = Home(running.path.parent / "other")
    assert find(str(other.path), expected=pid) is None


@pytest.mark.parametrize(("behind", "is_loaded"), [(-1, True), (0, True), (1, True), (1.5, False), (2, False)])
def test_a_change_within_the_tick_of_the_start_is_taken_for_loaded(running, modules, monkeypatch, behind, is_loaded):
    """Times in ticks, and one that a float holds exactly."""
    inside = modules["qmail_service_loaded.current"].func.__globals__
    of_process = {
        "since": lambda pid: 1024.0,
        "tick": lambda: 0.25,
        "identity": lambda pid: None,
        "begun": lambda pid: 9,
    }
    monkeypatch.setitem(inside, "__salt__", {f"qmail_base_process.{name}": call for name, call in of_process.items()})
    monkeypatch.setitem(inside, "_wrote", lambda *_: 0)
    monkeypatch.setitem(inside, "recall", lambda *_: {})
    monkeypatch.setitem(inside, "_changed", lambda *_: 1024 + behind * 0.25)
    assert modules.qmail_service_loaded.current(running.pid(), str(running.path)) is is_loaded


@pytest.mark.parametrize(
    ("started", "changed", "is_loaded"),
    [(1024.5, 1024, False), (1024.9, 1024, False), (1025, 1024, True), (1024.5, 1023, True), (1024.5, 1024.25, True)],
)
def test_where_times_have_no_fraction_a_change_in_the_second_of_the_start_is_not_taken_for_loaded(
    running, modules, monkeypatch, started, changed, is_loaded
):
    """As on ext3, and on ext4 with inodes of 128 bytes."""
    inside = modules["qmail_service_loaded.current"].func.__globals__
    given = {
        "qmail_base_process.since": lambda pid: started,
        "qmail_base_process.tick": lambda: 0.01,
        "qmail_base_process.begun": lambda pid: 9,
        "qmail_base_process.identity": lambda pid: None,
        "qmail_control.value": lambda *_: {"source": "file"},
        "qmail_control.path": lambda *_: "/",
        "qmail_file.changed": lambda path: changed,
        "qmail_file.moment": lambda path: None,
        "qmail_file.written": list,
    }
    monkeypatch.setitem(inside, "__salt__", given)
    monkeypatch.setitem(inside, "recall", lambda *_: {})
    assert modules.qmail_service_loaded.current(running.pid(), str(running.path)) is is_loaded


def test_what_an_earlier_version_wrote_down_is_known(modules, running):
    home = str(running.path)
    modules.qmail_service.restart(home, settle=0)
    path = pathlib.Path(modules.qmail_service_loaded.directory(home)) / "loaded"
    record = json.loads(path.read_text())
    assert record.pop("by") == ["auto", "auto"]
    path.write_text(json.dumps(record))
    assert modules.qmail_service_loaded.recall(home) == {**record, "by": None}
    assert modules.qmail_service.status(home)["loaded"] is True


def test_what_restarted_it_is_not_looked_for_again_and_anything_else_is(modules, running):
    home = str(running.path)
    modules.qmail_service.restart(home, settle=0)
    (running.path / "bin/qmailctl").rename(running.path / "bin/hidden")
    try:
        assert modules.qmail_service.missing(home) is None
        assert "Nothing was found" in modules.qmail_service.missing(home, provider="qmailctl")
    finally:
        (running.path / "bin/hidden").rename(running.path / "bin/qmailctl")
