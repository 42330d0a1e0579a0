"""The tools of supervisors are run also where no disk has room, and what they leave running is not disturbed."""

import os
import signal
import tempfile
import time

import pytest

from tests.support.supervisors import wait_until


@pytest.fixture
def full(monkeypatch):
    """No temporary file can be made."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc")


@pytest.fixture
def run(modules):
    return lambda script, timeout=20, leaves=False: modules.qmail_service_tool.run(
        ["sh", "-c", script], timeout, leaves
    )


@pytest.mark.parametrize("leaves", (False, True))
def test_what_it_says_and_how_it_exits_come_back(run, leaves):
    assert run("echo one; echo two >&2; exit 3", leaves=leaves) == {"exit": 3, "output": "one\ntwo"}
    assert run("exit 0", leaves=leaves) == {"exit": 0, "output": ""}


@pytest.mark.parametrize("leaves", (False, True))
def test_no_disk_is_needed(run, full, leaves):
    assert run("echo said", leaves=leaves) == {"exit": 0, "output": "said"}


def test_with_no_room_at_all_the_command_still_runs(modules, run, full, monkeypatch, tmp_path):
    monkeypatch.setitem(modules["qmail_base_output.file"].func.__globals__, "SHARED_MEMORY", "/proc")
    assert run(f"echo said; touch {tmp_path}/done", leaves=True) == {"exit": 0, "output": ""}
    assert (tmp_path / "done").exists()


def test_what_is_left_running_may_speak_later(run, tmp_path):
    said = run(
        f"(while ! test -e {tmp_path}/go; do sleep 0.02; done; echo later; touch {tmp_path}/done) & echo now",
        leaves=True,
    )
    assert said == {"exit": 0, "output": "now"}
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists)


def test_what_keeps_a_pipe_open_is_not_waited_for(run, tmp_path):
    began = time.monotonic()
    assert run(f"sleep 300 & echo $! >{tmp_path}/pid; echo now")["output"] == "now"
    assert time.monotonic() - began < 200
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


@pytest.mark.parametrize("leaves", (False, True))
def test_one_that_takes_too_long_is_left_to_finish(run, tmp_path, leaves):
    script = f"echo begun; while ! test -e {tmp_path}/go; do sleep 0.02; done; touch {tmp_path}/done"
    assert run(script, 0.5, leaves)["exit"] is None
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists)


def test_much_that_is_said_is_cut_and_does_not_stop_the_tool(run):
    told = run("i=0; while test $i -lt 20000; do echo 0123456789; i=$((i+1)); done; exit 4")
    assert told["exit"] == 4
    assert len(told["output"]) <= 4000
