"""What the queue is said to hold agrees with what is in it."""

import logging
import os
import pathlib
import re
import signal
import socket
import tarfile
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.queue_on_disk import Queue

DATA = pathlib.Path(__file__).parents[1] / "data" / "queue"


@pytest.fixture
def recorded(tmp_path):
    with tarfile.open(DATA / "queue.tar.gz") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "queue"


def qread():
    """Return what qmail-qread printed: number, size, sender, recipient, time."""
    pattern = r"(.*) GMT  #(\d+)  (\d+)  <(.*)> .*\n\t\w+\t(.*)\n"
    for when, number, size, sender, recipient in re.findall(pattern, (DATA / "qmail-qread.txt").read_text()):
        came = time.strptime(when + " UTC", "%d %b %Y %H:%M:%S %Z")
        yield int(number), int(size), sender, recipient, int(time.mktime(came) - time.timezone)


def test_the_recorded_queue_is_counted_as_qmail_counts_it(modules, recorded):
    listed = list(qread())
    messages, unprocessed = map(int, re.findall(r": (\d+)", (DATA / "qmail-qstat.txt").read_text()))
    summary = modules["qmail_queue.summary"](str(recorded))
    sizes = [path.stat().st_size for path in (recorded / "mess").rglob("*") if path.is_file()]
    assert summary == {
        "messages": messages,
        "double_bounces": sum(sender == "#@[]" for _, _, sender, _, _ in listed),
        "single_bounces": sum(sender == "" for _, _, sender, _, _ in listed),
        "unprocessed": unprocessed,
        "oldest": min(came for _, _, _, _, came in listed),
        "bytes": sum(sizes),
    }
    assert messages == len(listed) + unprocessed


def test_the_recorded_double_bounces_are_listed_as_qmail_lists_them(modules, recorded):
    found = modules["qmail_queue.double_bounces"](str(recorded))
    assert sorted((item["id"], item["bytes"], item["recipient"]) for item in found) == sorted(
        (number, size, recipient) for number, size, sender, recipient, _ in qread() if sender == "#@[]"
    )
    assert {item["queue"] for item in found} == {str(recorded)}


def test_an_empty_queue_has_no_oldest_message(modules, tmp_path):
    Queue(tmp_path / "queue")
    assert modules["qmail_queue.summary"](home=str(tmp_path)) == {
        "messages": 0,
        "double_bounces": 0,
        "single_bounces": 0,
        "unprocessed": 0,
        "oldest": None,
        "bytes": 0,
    }


@pytest.mark.parametrize("bigtodo", (False, True))
@pytest.mark.parametrize("split", (1, 2, 23, 151))
def test_any_split_and_bigtodo_are_seen(modules, tmp_path, split, bigtodo):
    queue = Queue(tmp_path / "queue", split=split, bigtodo=bigtodo)
    for number in range(1000, 1100):
        queue.put(number)
        queue.put(2 * number + 200, sender=b"F\0")
        queue.put(3 * number + 500, sender=b"Fa@b.example\0")
    for number in range(2, 12):
        queue.arrive(number)
    summary = modules["qmail_queue.summary"](home=str(tmp_path))
    assert [summary[key] for key in ("messages", "double_bounces", "single_bounces", "unprocessed")] == [
        310,
        100,
        100,
        10,
    ]


def test_recipients_are_found_in_any_channel(modules, tmp_path):
    channels = ("local", "remote", "suppl0", "suppl1")
    queue = Queue(tmp_path / "queue", channels=channels)
    for number, channel in enumerate(channels, 100):
        queue.put(number, channel=channel, recipient=b"D%s@example.com\0" % channel.encode())
    found = modules["qmail_queue.double_bounces"](home=str(tmp_path))
    assert sorted(item["recipient"] for item in found) == sorted(f"{channel}@example.com" for channel in channels)


def test_a_double_bounce_whose_recipients_are_done_has_no_recipient(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    queue.put(7)
    queue.file("local", 7).unlink()
    assert [item["recipient"] for item in modules["qmail_queue.double_bounces"](home=str(tmp_path))] == [None]


def test_age_and_size_are_reported_and_old_ones_chosen(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    queue.put(1, age=100, message=b"z" * 321)
    queue.put(2, age=10)
    (old,) = modules["qmail_queue.double_bounces"](home=str(tmp_path), older_than=50)
    assert (old["id"], old["bytes"]) == (1, 321)
    assert 100 <= old["age"] <= 160
    assert len(modules["qmail_queue.double_bounces"](home=str(tmp_path), limit=1)) == 1
    assert {item["id"] for item in modules["qmail_queue.each_double_bounce"](home=str(tmp_path))} == {1, 2}


def test_one_that_came_when_a_clock_was_wrong_is_as_old_as_its_time_says(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    now = time.time()
    queue.put(1, age=now - 1000)  # in 1970
    queue.put(2, age=-1000)
    ages = {row["id"]: row["age"] for row in modules["qmail_queue.double_bounces"](home=str(tmp_path))}
    assert ages.pop(1) >= now - 1001
    assert ages == {2: 0}


def test_how_far_it_is_is_told(modules, tmp_path, monkeypatch, caplog):
    queue = Queue(tmp_path / "queue", split=2)
    for number in (2, 4, 6):
        queue.put(number, sender=b"Fyou@example.com\0", message=b"x" * 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setitem(modules["qmail_base_bulk.progress"].func.__globals__, "SECONDS", 0)
    with caplog.at_level(logging.INFO):
        modules["qmail_queue.summary"](home=str(tmp_path))
    # Twice what one half holds.
    assert "qmail_queue.summary: 6 messages, 60 bytes after " in caplog.text


@pytest.mark.parametrize("limit", (-1, True, "all", 1.5))
def test_a_limit_that_is_none_is_an_error(modules, tmp_path, limit):
    Queue(tmp_path / "queue")
    with pytest.raises(SaltInvocationError, match="limit"):
        modules["qmail_queue.double_bounces"](home=str(tmp_path), limit=limit)


@pytest.mark.parametrize("queue", ("queue*", ["queue1", "queue2"], ["queue1", "queue*"], None))
def test_several_queues_are_one_sum(modules, tmp_path, queue):
    for name in ("queue1", "queue2"):
        Queue(tmp_path / name).put(5)
    meant = [str(tmp_path / name) for name in queue] if isinstance(queue, list) else queue and str(tmp_path / queue)
    assert modules["qmail_queue.summary"](meant, home=str(tmp_path))["double_bounces"] == 2
    found = modules["qmail_queue.double_bounces"](meant, home=str(tmp_path))
    assert sorted(item["queue"] for item in found) == [str(tmp_path / "queue1"), str(tmp_path / "queue2")]


def test_queues_inside_of_the_queue_directory_are_found(modules, tmp_path):
    for name in ("queue1", "slowq"):
        Queue(tmp_path / "queue" / name).put(5)
    assert modules["qmail_queue.summary"](home=str(tmp_path))["double_bounces"] == 2


@pytest.mark.parametrize("queue", ("queue", "/nowhere/queue", ["/nowhere"], [], 7, [None]))
def test_what_is_no_queue_is_an_error(modules, tmp_path, queue):
    with pytest.raises((CommandExecutionError, SaltInvocationError), match="queue"):
        modules["qmail_queue.summary"](queue, home=str(tmp_path))


@pytest.mark.parametrize("older_than", (-1, True, "1 day", float("nan"), float("inf")))
def test_a_wrong_age_is_an_error(modules, tmp_path, older_than):
    Queue(tmp_path / "queue")
    with pytest.raises(SaltInvocationError, match="older_than"):
        modules["qmail_queue.double_bounces"](home=str(tmp_path), older_than=older_than)


DOUBLE = (
    b"F#@[]\0",
    b"F#@[]\0hX-Env: 1\0",
    b"eQUEUE=1\0F#@[]\0",
    b"h" + b"x" * 2000 + b"\0F#@[]\0",
    b"F#@[]\0e" + b"x" * 60000 + b"\0",
)
OTHER = (
    b"",
    b"\0",
    b"F",
    b"F#@[]",
    b"F#@[]\n",
    b"F#@[] \0",
    b"f#@[]\0",
    b"#@[]\0",
    b"FF#@[]\0",
    b"Fa-@b-@[]\0",
    b"Fa@bc\0",
    b"Fsomebody#@[]\0",
    b"F#@[].example.com\0",
    b"Fa@b\0F#@[]\0",
    b"F#@[]\0F#@[]\0",
    b"F#@[]\0e",
    b"F#@[]\0e" + b"x" * 70000 + b"\0",
    b"Fa@b\0e#@[]\0",
)


@pytest.mark.parametrize("contents", DOUBLE)
def test_the_sender_record_makes_a_double_bounce(modules, tmp_path, contents):
    Queue(tmp_path / "queue").put(9, sender=contents)
    assert modules["qmail_queue.summary"](home=str(tmp_path))["double_bounces"] == 1
    assert len(modules["qmail_queue.double_bounces"](home=str(tmp_path))) == 1


@pytest.mark.parametrize("contents", OTHER)
def test_anything_else_makes_none(modules, tmp_path, contents):
    Queue(tmp_path / "queue").put(9, sender=contents)
    summary = modules["qmail_queue.summary"](home=str(tmp_path))
    assert (summary["double_bounces"], summary["single_bounces"], summary["messages"]) == (0, 0, 1)
    assert modules["qmail_queue.double_bounces"](home=str(tmp_path)) == []


def test_a_message_in_todo_is_no_double_bounce_yet(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    queue.put(9)
    queue.file("todo", 9).write_bytes(b"Fsomebody@example.com\0Tyou@example.com\0")
    assert modules["qmail_queue.double_bounces"](home=str(tmp_path)) == []
    assert modules["qmail_queue.summary"](home=str(tmp_path))["double_bounces"] == 0


def test_a_sender_file_without_a_message_does_not_count(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    queue.put(9)
    queue.file("mess", 9).unlink()
    assert modules["qmail_queue.double_bounces"](home=str(tmp_path)) == []
    assert modules["qmail_queue.summary"](home=str(tmp_path))["messages"] == 0


def test_a_message_younger_than_its_sender_file_is_another_one(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    queue.put(9)
    os.utime(queue.file("mess", 9), (time.time() + 60, time.time() + 60))
    assert modules["qmail_queue.double_bounces"](home=str(tmp_path)) == []


def test_a_file_in_the_wrong_directory_is_no_message(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    for name in ("1/25", "2/x", "3/03", "0/0", "4/٤"):
        for kind in ("mess", "info"):
            (queue.path / kind / name).write_bytes(b"F#@[]\0")
    assert modules["qmail_queue.double_bounces"](home=str(tmp_path)) == []
    assert modules["qmail_queue.summary"](home=str(tmp_path))["messages"] == 0


def test_what_is_no_file_is_passed_over(modules, tmp_path, monkeypatch):
    queue = Queue(tmp_path / "queue")
    for number in range(1, 6):
        queue.put(number)
    for number in range(1, 5):
        queue.file("info", number).unlink()
    outside = tmp_path / "outside"
    outside.write_bytes(b"F#@[]\0")
    os.mkfifo(queue.file("info", 1))
    queue.file("info", 2).mkdir()
    queue.file("info", 3).symlink_to(outside)
    monkeypatch.chdir(queue.file("info", 4).parent)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("4")
    assert modules["qmail_queue.summary"](home=str(tmp_path))["double_bounces"] == 1
    assert [item["id"] for item in modules["qmail_queue.double_bounces"](home=str(tmp_path))] == [5]


def test_a_link_in_place_of_a_directory_is_not_followed(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    other = Queue(tmp_path / "other")
    other.put(24)
    (queue.path / "info" / "1").rmdir()
    (queue.path / "info" / "1").symlink_to(other.path / "info" / "1")
    with pytest.raises(CommandExecutionError):
        modules["qmail_queue.summary"](home=str(tmp_path))


def test_reading_leaves_no_trace(modules, tmp_path):
    queue = Queue(tmp_path / "queue")
    queue.put(9, age=1000)
    files = [path for path in queue.path.rglob("9") if path.is_file()]
    before = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in files]
    modules["qmail_queue.summary"](home=str(tmp_path))
    modules["qmail_queue.double_bounces"](home=str(tmp_path))
    assert before == [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in files]


@pytest.mark.soak
def test_messages_that_come_and_go_meanwhile_are_no_error(modules, tmp_path):
    queue = Queue(tmp_path / "queue", split=1)
    queue.put(5_000_000)
    coming = os.fork()
    if not coming:
        try:
            while os.getppid() > 1:
                for number in range(1, 400):
                    queue.put(number)
                for number in range(1, 400):
                    for kind in ("local", "info", "mess"):
                        queue.file(kind, number).unlink()
        finally:
            os._exit(0)
    try:
        for _ in range(40):
            assert modules["qmail_queue.summary"](home=str(tmp_path))["double_bounces"] >= 1
            found = modules["qmail_queue.double_bounces"](home=str(tmp_path))
            assert 5_000_000 in {item["id"] for item in found}
    finally:
        os.kill(coming, signal.SIGKILL)
        os.waitpid(coming, 0)


record = st.one_of(
    st.sampled_from([b"F#@[]", b"F", b"e", b"h1", b"Fa@b.example", b"F#@[]x"]),
    st.binary(max_size=8).map(lambda text: text.replace(b"\0", b"")),
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(record, max_size=4), st.sampled_from([b"", b"F", b"F#@[]", b"e"]))
def test_only_one_sender_record_that_says_so_is_a_double_bounce(tmp_path_factory, modules, records, unfinished):
    home = tmp_path_factory.mktemp("any")
    contents = b"".join(item + b"\0" for item in records) + unfinished
    Queue(home / "queue", split=1).put(1, sender=contents)
    senders = [item for item in records if item[:1] == b"F"] if not unfinished else []
    summary = modules["qmail_queue.summary"](home=str(home))
    assert summary["double_bounces"] == (senders == [b"F#@[]"])
    assert summary["single_bounces"] == (senders == [b"F"])
    assert len(modules["qmail_queue.double_bounces"](home=str(home))) == (senders == [b"F#@[]"])
