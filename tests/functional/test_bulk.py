"""Work over many files is done on both processors, is told of, and never ends silently."""

import itertools
import logging
import os
import re
import signal
import time

import pytest
from salt.exceptions import SaltReqTimeoutError


def test_both_halves_are_done_and_at_the_same_time(modules):
    def work(half, tell):
        tell(1, 1)
        return [half, os.getpid()]

    first, second = modules["qmail_bulk.halves"](work, "test")
    assert (first[0], second[0]) == (0, 1)
    assert first[1] == os.getpid()
    assert (second[1] != os.getpid()) == (os.cpu_count() > 1)


def test_the_half_of_a_child_that_dies_is_done_here(modules):
    here = os.getpid()

    def work(half, tell):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return half

    assert modules["qmail_bulk.halves"](work, "test") == [0, 1]


def test_what_is_wrong_in_a_half_raises_here(modules):
    def work(half, tell):
        if half:
            raise FileNotFoundError("gone")
        return half

    with pytest.raises(FileNotFoundError, match="gone"):
        modules["qmail_bulk.halves"](work, "test")


def test_where_no_process_can_be_had_both_halves_are_done_here(modules, monkeypatch):
    def fork():
        raise BlockingIOError("too many")

    monkeypatch.setattr(os, "fork", fork)
    assert modules["qmail_bulk.halves"](lambda half, tell: half, "test") == [0, 1]


def test_an_interrupt_ends_the_child_too(modules, tmp_path):
    here = os.getpid()

    def work(half, tell):
        if os.getpid() == here:
            deadline = time.monotonic() + 30
            while not (tmp_path / "child").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt
        (tmp_path / "child").write_text("")
        time.sleep(600)

    if os.cpu_count() < 2:
        pytest.skip("there is no child with one processor")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        modules["qmail_bulk.halves"](work, "test")
    assert time.monotonic() - began < 60


@pytest.fixture
def often(modules, monkeypatch):
    """Progress ten times a second."""
    monkeypatch.setitem(modules["qmail_bulk.progress"].func.__globals__, "SECONDS", 0.1)


def told(modules, seconds=0.55):
    tell = modules["qmail_bulk.progress"]("qmail_queue.remove")
    deadline = time.monotonic() + seconds
    for done in itertools.count(1):
        if time.monotonic() > deadline:
            return
        tell(done, done * 100)
        time.sleep(0.001)


def test_progress_is_told_on_the_log_and_without_a_master_there_alone(modules, often, caplog):
    with caplog.at_level(logging.INFO):
        told(modules, seconds=3)
    lines = [record.getMessage() for record in caplog.records if "qmail_queue.remove" in record.getMessage()]
    assert 2 <= len(lines) <= 30
    assert re.fullmatch(r"qmail_queue\.remove: \d+ messages, \d+00 bytes after [0-3] seconds", lines[0])


def test_progress_is_told_as_an_event(modules, often, monkeypatch):
    events = []
    monkeypatch.setitem(
        modules["qmail_bulk.progress"].func.__globals__,
        "__salt__",
        {"event.send": lambda tag, data: events.append((tag, data)) or True},
    )
    told(modules)
    assert 2 <= len(events) <= 5
    tag, data = events[0]
    assert tag == "qmail-doublebounce/progress"
    assert data["what"] == "qmail_queue.remove"
    assert data["bytes"] == 100 * data["messages"]


@pytest.mark.parametrize("failure", (OSError("no route"), SaltReqTimeoutError("no master"), None))
def test_a_master_that_does_not_listen_is_not_asked_again(modules, often, monkeypatch, failure):
    events = []

    def send(tag, data):
        events.append(tag)
        if failure:
            raise failure
        return False

    monkeypatch.setitem(modules["qmail_bulk.progress"].func.__globals__, "__salt__", {"event.send": send})
    told(modules)
    assert len(events) == 1
