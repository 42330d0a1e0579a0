"""What a probe left in the queue is found by its token alone, and nothing else is touched."""

import os
import time

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.queue_on_disk import Queue

TOKEN = "doublebounce-probe-0123456789abcdef"


@pytest.fixture
def queue(home):
    return Queue(home.path / "queue")


@pytest.fixture
def waits(modules, home):
    def waits(since=None, age=0, known=()):
        since = time.time() if since is None else since
        # Nothing is given up before its time, and nobody waits for it here.
        places = {"home": str(home.path), "grace": 60, "timeout": 0}
        return modules.qmail_queue_leftover.clear(TOKEN, since, age, known, **places)["waits"]

    return waits


def put(queue, number, text=f"Subject: {TOKEN}\n"):
    queue.put(number, sender=b"F#@[]\0")
    path = queue.path / "mess" / str(number % 23) / str(number)
    path.write_text(text)
    return path


def test_only_what_holds_the_token_is_found(queue, waits):
    put(queue, 100)
    put(queue, 101, "Subject: something else\n")
    assert waits() == [100]


def test_stray_entries_change_nothing(queue, waits):
    put(queue, 100)
    for name in ("lost+found", "23x", "core"):
        (queue.path / "mess" / name).mkdir()
        (queue.path / "info" / f"{name}.old").mkdir()
    (queue.path / "mess/8/100x").write_text(TOKEN)
    (queue.path / "mess/9").joinpath("200").mkdir()
    assert waits() == [100]


def test_a_clock_that_is_set_meanwhile_hides_nothing(queue, waits):
    put(queue, 100)
    assert waits(since=time.time() + 3600, age=5) == [100]  # it was set back by an hour
    assert waits(since=time.time() - 3600, age=5) == [100]


def test_an_old_time_of_the_file_hides_nothing(queue, waits):
    os.utime(put(queue, 100), (1, 1))
    assert waits() == [100]


def test_one_that_is_known_is_found_whatever_its_time_is(queue, waits):
    put(queue, 100)
    later = time.time() + 3600
    assert waits(since=later, age=-3600) == []
    assert waits(since=later, age=-3600, known=[100]) == [100]


def test_a_message_of_somebody_else_is_never_aged(modules, home, queue):
    put(queue, 100, "Subject: something else\n")
    before = (queue.path / "info/8/100").stat().st_mtime
    places = {"known": [100], "home": str(home.path)}
    assert modules.qmail_queue_leftover.clear(TOKEN, time.time(), 0, **places) == {"given_up": [], "waits": []}
    assert (queue.path / "info/8/100").stat().st_mtime == before


def test_what_does_not_go_is_reported(modules, home, queue):
    put(queue, 100)
    found = modules.qmail_queue_leftover.clear(TOKEN, time.time(), 0, home=str(home.path), timeout=0.5)
    assert found == {"given_up": [100], "waits": [100]}
    assert (queue.path / "info/8/100").stat().st_mtime == 1  # as qmail_queue.expire ages them


def test_a_missing_queue_is_reported(modules, home):
    with pytest.raises(CommandExecutionError, match="queue"):
        modules.qmail_queue_leftover.clear(TOKEN, time.time(), 0, home=str(home.path))
