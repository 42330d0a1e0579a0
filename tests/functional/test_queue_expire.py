"""Expiring makes a running qmail-send drop double bounces, and touches nothing else."""

import logging
import os
import subprocess
import time
import types

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.queue_on_disk import Queue
from tests.support.supervisors import wait_until


@pytest.fixture
def queue(home):
    """Ten double bounces, five single bounces, and six others."""
    queue = Queue(home.path / "queue")
    for number in range(100, 110):
        queue.put(number, message=b"x" * 10)
    for number in range(200, 205):
        queue.put(number, sender=b"F\0")
    for number in range(300, 305):
        queue.put(number, sender=b"Fyou@example.com\0", channel="remote")
    queue.arrive(400)
    return queue


@pytest.fixture
def expire(modules, home):
    def expire(**options):
        began = time.monotonic()
        ret = modules["qmail_queue.expire"](home=str(home.path), **options)
        assert 0 <= ret.pop("seconds") <= time.monotonic() - began + 0.001
        return ret

    return expire


def times(queue):
    return [(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in queue.path.rglob("*")]


def test_double_bounces_go_and_nothing_else(queue, running, expire):
    (running.path / "starts").touch()
    assert expire() == {"expired": 10, "left": 0, "bytes": 100}
    assert queue.numbers("mess") == [*range(200, 205), *range(300, 305), 400]
    assert queue.numbers("info") == [*range(200, 205), *range(300, 305)]
    assert (running.path / "starts").read_text() == ""


def test_single_bounces_go_when_asked_for(queue, running, expire):
    assert expire(single=True)["expired"] == 15
    assert queue.numbers("mess") == [*range(300, 305), 400]


def test_only_old_ones_go(queue, running, expire):
    queue.put(500, age=1000)
    assert expire(older_than=500)["expired"] == 1
    assert 500 not in queue.numbers("mess")
    assert 100 in queue.numbers("mess")


def test_test_mode_counts_and_touches_nothing(queue, running, expire):
    before = times(queue)
    assert expire(test=True) == {"expired": 10, "left": 0, "bytes": 100}
    assert times(queue) == before


def test_what_stays_is_reported_at_the_timeout_and_goes_in_the_next_run(queue, running, expire):
    (running.path / "stuck").touch()
    assert expire(timeout=0.3) == {"expired": 0, "left": 10, "bytes": 0}
    (running.path / "stuck").unlink()
    assert expire(older_than=3600)["expired"] == 0  # as old as they are, not as old as they were made
    assert expire()["expired"] == 10


def test_one_that_is_being_given_up_is_as_old_as_it_is(queue, running, expire, modules):
    queue.put(600, age=1000)
    (running.path / "stuck").touch()
    assert expire(timeout=0)["left"] == 11
    home = str(running.path)
    assert abs(time.time() - 1000 - modules.qmail_queue.summary(home=home)["oldest"]) < 100
    ages = {row["id"]: row["age"] for row in modules.qmail_queue.double_bounces(home=home)}
    assert 1000 <= ages.pop(600) < 1100
    assert max(ages.values()) < 100
    assert [row["id"] for row in modules.qmail_queue.double_bounces(home=home, older_than=500)] == [600]


def test_the_qmail_send_that_runs_when_all_are_aged_gets_the_alarm(queue, running, expire, modules, monkeypatch):
    old, utime, kill, told = running.pid(), os.utime, os.kill, []

    def restart_first(*args, **kwargs):
        if running.pid() == old:
            subprocess.run([running.path / "bin/qmailctl", "restart"], check=True, timeout=60)
            wait_until(lambda: modules["qmail_base_process.find"](str(running.path)))
        utime(*args, **kwargs)

    monkeypatch.setattr(os, "utime", restart_first)
    monkeypatch.setattr(os, "kill", lambda pid, number: (told.append(pid), kill(pid, number)))
    assert expire()["expired"] == 10
    assert told == [running.pid()]
    assert told != [old]


@pytest.mark.parametrize("other", ["message", "link"])
def test_another_one_of_the_same_number_counts_as_gone(queue, running, expire, monkeypatch, caplog, modules, other):
    (running.path / "stuck").touch()
    kill = os.kill

    def told(pid, number):
        kill(pid, number)
        if other == "message":
            queue.put(100, sender=b"Fyou@example.com\0", age=time.time())  # even if a clock had it come in 1970
        else:
            queue.file("info", 100).unlink()
            queue.file("info", 100).symlink_to(queue.file("info", 101))

    monkeypatch.setattr(os, "kill", told)
    monkeypatch.setitem(modules["qmail_base_bulk.progress"].func.__globals__, "SECONDS", 0)
    with caplog.at_level(logging.INFO):
        assert expire(timeout=0.3) == {"expired": 1, "left": 9, "bytes": 10}
    assert "qmail_queue.expire: 1 messages, 10 bytes after " in caplog.text


@pytest.fixture
def clock(modules, monkeypatch):
    """A clock of its own for what expires: it goes on where that sleeps, and a little with each look."""
    clock = types.SimpleNamespace(now=5.0, slept=[], time=time.time)

    def monotonic():
        clock.now += 0.001
        return clock.now

    def sleep(seconds):
        assert seconds >= 0
        clock.slept.append(seconds)
        assert len(clock.slept) < 100, "it does nothing but look"
        clock.now += seconds

    clock.monotonic, clock.sleep = monotonic, sleep
    monkeypatch.setitem(modules["qmail_queue.expire"].func.__globals__, "time", clock)
    return clock


def test_it_watches_as_long_as_it_is_told_and_ever_less_often(queue, running, modules, clock):
    (running.path / "stuck").touch()
    ret = modules["qmail_queue.expire"](home=str(running.path), timeout=9.5)
    assert 9.5 <= ret["seconds"] < 9.6
    assert clock.slept[0] < 0.5
    assert clock.slept[:-1] == sorted(clock.slept[:-1])
    assert all(later <= 2 * earlier for earlier, later in zip(clock.slept, clock.slept[1:]))
    assert 1 < max(clock.slept) <= 2
    assert len(clock.slept) < 20


@pytest.mark.parametrize("call", ["expire", "remove"])
@pytest.mark.parametrize(("end", "seconds"), [(99.9999, "0.0"), (100.98765, "0.988")])
def test_the_time_is_in_milliseconds_and_not_negative_where_a_clock_goes_back(
    modules, queue, home, clock, call, end, seconds
):
    clock.monotonic = iter([100.0, end]).__next__
    assert str(modules[f"qmail_queue.{call}"](home=str(home.path), test=True)["seconds"]) == seconds


def test_without_a_running_qmail_send_nothing_is_aged(queue, home, expire):
    before = times(queue)
    with pytest.raises(CommandExecutionError, match=r"No qmail-send works on .* use qmail_queue\.remove"):
        expire()
    assert times(queue) == before


def test_an_empty_queue_is_no_reason_to_wait_or_to_disturb(home, running, expire, monkeypatch):
    Queue(home.path / "queue")
    done = []
    with monkeypatch.context() as patched:  # what ends qmail-send behind the test needs the real ones
        patched.setattr(time, "sleep", done.append)
        patched.setattr(os, "kill", lambda *words: done.append(words))
        assert expire() == {"expired": 0, "left": 0, "bytes": 0}
    assert done == []


@pytest.mark.parametrize("timeout", (None, "1m", True))
def test_a_wrong_timeout_is_an_error(queue, expire, timeout):
    with pytest.raises(SaltInvocationError, match="timeout"):
        expire(timeout=timeout)
