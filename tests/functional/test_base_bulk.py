"""Work over many files is done on both processors, reports its progress, and never ends silently."""

import contextlib
import logging
import os
import pathlib
import runpy
import signal
import socket
import time
import types

import pytest
from salt.exceptions import SaltInvocationError, SaltReqTimeoutError

from tests.support import descriptors
from tests.support.queue_on_disk import until
from tests.support.supervisors import lives

MODULE = pathlib.Path(__file__).parents[2] / "_modules/qmail_base_bulk.py"


def test_both_halves_are_done_and_at_the_same_time(modules):
    def work(half, tell):
        tell(1, 1)
        return [half, os.getpid()]

    first, second = modules["qmail_base_bulk.halves"](work, "test")
    assert (first[0], second[0]) == (0, 1)
    assert first[1] == os.getpid()
    assert (second[1] != os.getpid()) == (os.cpu_count() > 1)


def test_the_half_of_a_child_that_dies_is_done_here(modules):
    here = os.getpid()

    def work(half, tell):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return half

    assert modules["qmail_base_bulk.halves"](work, "test") == [0, 1]


def test_what_is_wrong_in_a_half_raises_here(modules):
    def work(half, tell):
        if half:
            raise FileNotFoundError("gone")
        return half

    with pytest.raises(FileNotFoundError, match="gone"):
        modules["qmail_base_bulk.halves"](work, "test")


def children():
    return pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_where_no_process_can_be_had_both_halves_are_done_here(modules, monkeypatch, caplog):
    def fork():
        raise BlockingIOError("too many")

    before = descriptors.number()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "fork", fork)
    with caplog.at_level(logging.DEBUG):
        assert modules["qmail_base_bulk.halves"](lambda half, tell: half, "test") == [0, 1]
    assert "no second process: too many" in caplog.text
    assert descriptors.number() == before


def test_nothing_is_left_of_the_child(modules):
    before = descriptors.number(), children()
    assert modules["qmail_base_bulk.halves"](lambda half, tell: half, "test") == [0, 1]
    assert (descriptors.number(), children()) == before


def test_what_is_said_in_a_half_is_no_part_of_what_comes_of_it(modules, tmp_path):
    """Where the standard output was closed, a pipe could get its number."""
    child = os.fork()
    if not child:
        try:
            for number in (0, 1, 2):
                os.close(number)
            said = modules["qmail_base_bulk.halves"](lambda half, tell: [half, os.write(1, b"said")], "test")
            (tmp_path / "said").write_text(str(said))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "said").read_text() == "[[0, 4], [1, 4]]"


def test_an_interrupt_ends_the_child_too(modules, tmp_path):
    here, before = os.getpid(), (descriptors.number(), children())

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
        modules["qmail_base_bulk.halves"](work, "test")
    assert time.monotonic() - began < 500
    assert (descriptors.number(), children()) == before


@pytest.fixture
def clock(modules, monkeypatch):
    """Set the clock of these modules alone, in seconds from its begin; it stands still between."""
    began = 3.0  # as just behind the machine's start
    now = types.SimpleNamespace(second=0)
    stopped = types.SimpleNamespace(monotonic=lambda: began + now.second)
    monkeypatch.setitem(modules["qmail_base_bulk.progress"].func.__globals__, "time", stopped)
    return lambda second: setattr(now, "second", second)


@pytest.fixture
def told(modules, clock):
    """Report a message in each of these seconds."""

    def told(seconds):
        tell = modules["qmail_base_bulk.progress"]("qmail_queue.remove")
        for second in seconds:
            clock(second)
            tell(second, second * 100)

    return told


def send_by(modules, monkeypatch, send):
    monkeypatch.setitem(modules["qmail_base_bulk.progress"].func.__globals__, "__salt__", {"event.send": send})


def test_progress_is_reported_in_the_log_and_without_a_master_only_there(told, caplog):
    with caplog.at_level(logging.INFO):
        told((0, 1, 4, 5, 6, 9, 10, 14, 20))
    lines = [record.getMessage() for record in caplog.records if "qmail_queue.remove" in record.getMessage()]
    assert lines == [f"qmail_queue.remove: {n} messages, {n}00 bytes after {n} seconds" for n in (5, 10, 20)]


def test_progress_is_reported_as_an_event(modules, told, monkeypatch):
    events = []
    send_by(modules, monkeypatch, lambda tag, data: events.append((tag, data)) or True)
    told((4, 5, 9, 10))
    about = {"what": "qmail_queue.remove"}
    assert events == [
        ("qmail-doublebounce/progress", {**about, "messages": number, "bytes": 100 * number, "seconds": number})
        for number in (5, 10)
    ]


@pytest.mark.parametrize("failure", (OSError("no route"), SaltReqTimeoutError("no master"), None))
def test_a_master_that_does_not_listen_is_not_asked_again(modules, told, monkeypatch, caplog, failure):
    events = []

    def send(tag, data):
        events.append(tag)
        if failure:
            raise failure
        return False

    send_by(modules, monkeypatch, send)
    with caplog.at_level(logging.DEBUG):
        told((5, 10, 15))
    assert len(events) == 1
    assert (f"no event qmail-doublebounce/progress: {failure}" in caplog.text) is bool(failure)


def test_progress_of_two_halves_is_twice_that_of_the_own(modules, clock, caplog):
    def work(half, tell):
        clock(1000)
        tell(3, 40)
        return half

    with caplog.at_level(logging.INFO):
        assert modules["qmail_base_bulk.halves"](work, "some work") == [0, 1]
    lines = [record.getMessage() for record in caplog.records if "some work" in record.getMessage()]
    assert lines == ["some work: 6 messages, 80 bytes after 1000 seconds"]


@pytest.fixture
def at(tmp_path):
    """The descriptor of a directory with one of each kind in it."""
    (tmp_path / "file").write_bytes(b"x" * 600)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(f"/proc/self/fd/{handle}/socket")
        yield handle
    os.close(handle)


def test_a_file_is_opened_at_its_beginning_and_nothing_else_is(modules, at):
    opened = modules["qmail_base_bulk.reader"]()
    fd, begin = opened("file", at)
    assert (begin, os.read(fd, 600)) == (b"x" * 512, b"x" * 88)
    os.close(fd)
    before = descriptors.number()
    for name in ("link", "directory", "socket", "none"):
        assert opened(name, at) == (None, b"")
    assert descriptors.number() == before
    # Nobody writes to it: to wait for its other end would be to wait forever.
    signal.alarm(100)
    fd, begin = opened("fifo", at)
    signal.alarm(0)
    assert begin == b""
    os.close(fd)


def test_what_only_the_owner_may_ask_for_is_done_without(modules, at, monkeypatch):
    asked, real = [], os.open

    def refusing(name, flags, **named):
        asked.append(bool(flags & os.O_NOATIME))
        if flags & os.O_NOATIME or name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(name, flags, **named)

    monkeypatch.setattr(os, "open", refusing)
    fd, begin = modules["qmail_base_bulk.reader"]()("file", at)
    assert (begin, asked) == (b"x" * 512, [True, False])
    os.close(fd)
    with pytest.raises(PermissionError):
        modules["qmail_base_bulk.reader"]()("closed", at)
    assert asked == [True, False, True, False]


def test_a_system_that_knows_no_reading_without_a_trace_reads_all_the_same(at, monkeypatch):
    monkeypatch.delattr(os, "O_NOATIME")
    # Beside the loader: what it loads again would not be what the other tests change.
    fd, begin = runpy.run_path(str(MODULE))["reader"]()("file", at)
    assert begin == b"x" * 512
    os.close(fd)


def test_an_error_of_the_disk_is_told_and_nothing_stays_open(modules, at, monkeypatch):
    real = os.read

    def broken(fd, size):
        if size == 512:
            raise OSError(5, "Input/output error")
        return real(fd, size)

    before = descriptors.number()
    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(OSError, match="Input/output error"):
        modules["qmail_base_bulk.reader"]()("file", at)
    monkeypatch.undo()
    assert descriptors.number() == before


def test_what_a_child_had_reported_before_it_failed_is_counted(modules):
    here = os.getpid()

    def work(half, tell):
        if os.getpid() != here:
            tell(7, 70)
            os.kill(os.getpid(), signal.SIGKILL)
        return half

    done = modules["qmail_base_bulk.halves"](work, "test", again=lambda done, size: (done, size))
    assert done == [0, 1, (7, 70)]
    assert modules["qmail_base_bulk.halves"](lambda half, tell: half, "test", again=lambda *_: "again") == [0, 1]


def test_a_child_ends_when_its_parent_has(modules, tmp_path):
    """It would go on alone, beside the next run, and delete."""
    parent = os.fork()
    if not parent:
        here = os.getpid()

        def work(half, tell):
            if os.getpid() == here:
                until(lambda: (tmp_path / "child").exists())
                os.kill(here, signal.SIGKILL)
            (tmp_path / "new").write_text(str(os.getpid()))
            (tmp_path / "new").rename(tmp_path / "child")
            while True:
                tell(1, 1)
                time.sleep(0.01)

        modules["qmail_base_bulk.halves"](work, "test")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == -signal.SIGKILL
    child = int((tmp_path / "child").read_text())
    until(lambda: not lives(child))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is no child with one processor")
def test_with_one_processor_there_is_no_child(modules, monkeypatch):
    for count in (1, None):  # None: the system does not say it
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert modules["qmail_base_bulk.halves"](lambda half, tell: os.getpid(), "test") == [os.getpid()] * 2
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    first, second = modules["qmail_base_bulk.halves"](lambda half, tell: os.getpid(), "test")
    assert first == os.getpid() != second


def test_the_age_is_counted_from_now(modules, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    cutoff = modules["qmail_base_bulk.cutoff"]
    assert [cutoff(None), cutoff(0), cutoff(300)] == [float("inf"), 1000, 700]
    for wrong in ("1d", -1, True):
        with pytest.raises(SaltInvocationError, match="older_than"):
            cutoff(wrong)
