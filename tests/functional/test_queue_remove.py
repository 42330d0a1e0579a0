"""Removing deletes double bounces while qmail-send is stopped, and qmail-send comes back whatever happens."""

import errno
import fcntl
import logging
import os
import pathlib
import re
import select
import shutil
import signal
import syslog
import time
import types

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.queue_on_disk import Queue, until
from tests.support.supervisors import Qmailctl, Systemd, SystemdOnce, SystemdScript, deliver, paused, wait_until


class Server:
    """A qmail home with a queue, and what starts and stops its qmail-send."""

    def __init__(self, home, modules):
        super().__init__(home, None)
        self.modules, self.queue = modules, Queue(home.path / "queue")
        home.account()

    def remove(self, **options):
        # These starts take some hundredths of a second; the real ones are given their second.
        given = {"home": str(self.home.path), "settle": 0.1, "timeout": 60, **options}
        began = time.monotonic()
        ret = self.modules["qmail_queue.remove"](**given)
        assert 0 <= ret.pop("seconds") <= time.monotonic() - began + 0.001
        return ret

    def said(self):
        log = self.home.path / "log"
        if log.exists():
            return log.read_text()
        return self.journal() if isinstance(self, Systemd) else ""

    def starts(self):
        return len((self.home.path / "starts").read_text().split())


class ServerQmailctl(Server, Qmailctl):
    pass


class ServerSystemd(Server, Systemd):
    pass


class ServerSystemdOnce(Server, SystemdOnce):
    pass


class ServerSystemdScript(Server, SystemdScript):
    pass


SERVERS = {
    "qmailctl": ServerQmailctl,
    "systemd": ServerSystemd,
    "systemd-once": ServerSystemdOnce,
    "systemd-sysv": ServerSystemdScript,
}


def under(*kinds):
    """Run a test with a qmailctl and with these kinds of units."""
    units = [pytest.param(kind, marks=pytest.mark.under_systemd) for kind in kinds]
    return pytest.mark.parametrize("server", ["qmailctl", *units], indirect=True)


@pytest.fixture
def server(request, home, modules):
    """Ten double bounces, some with a file in bounce/, and others of every kind."""
    server = SERVERS[getattr(request, "param", "qmailctl")](home, modules)
    for number in range(100, 110):
        server.queue.put(number, message=b"x" * 10, channel="local" if number % 2 else "remote")
    for number in range(100, 103):
        server.queue.file("bounce", number).write_bytes(b"<sink@example.com>:\n")
    for number in range(200, 205):
        server.queue.put(number, sender=b"F\0")
    for number in range(300, 305):
        server.queue.put(number, sender=b"Fyou@example.com\0", channel="remote")
    server.queue.file("bounce", 300).write_bytes(b"<you@example.com>:\n")
    for number in (400, 401):
        server.queue.arrive(number)
    (server.queue.path / "pid" / "77.5").write_bytes(b"a message that is being received")
    yield server
    server.close()


def others(files):
    """Return the files that are not of the ten double bounces, nor of the four hundred."""
    return {name: contents for name, contents in files.items() if not re.search(r"/(10\d|1[0-3]\d\d)$", name)}


@under("systemd", "systemd-once", "systemd-sysv")
def test_double_bounces_go_and_nothing_else(server):
    old = server.boot()
    before = server.queue.files()
    assert server.remove() == {"deleted": 10, "kept": 12, "bytes": 100}
    assert server.queue.files() == others(before)
    assert server.holder() not in (None, old)
    assert server.starts() == 2


@under("systemd")
def test_a_second_run_finds_nothing_and_does_not_stop_qmail_send(server):
    server.boot()
    server.remove()
    assert server.remove() == {"deleted": 0, "kept": 12, "bytes": 0}
    assert server.starts() == 2


def test_what_did_not_run_is_not_started(server):
    assert server.remove()["deleted"] == 10
    assert server.starts() == 0


def test_test_mode_counts_and_touches_nothing(server, minion_opts):
    server.boot()
    before = server.queue.files()
    assert server.remove(test=True) == {"deleted": 10, "kept": 12, "bytes": 100}
    assert server.queue.files() == before
    assert server.starts() == 1
    assert not os.path.exists(minion_opts["qmail_file.kept_directory"])


@pytest.mark.parametrize("test", (True, False))
def test_one_that_nothing_here_could_start_again_is_not_stopped(server, test):
    old = server.boot()
    server.path.rename(server.path.with_name("hidden"))
    before = server.queue.files()
    with pytest.raises(CommandExecutionError, match="Nothing was found that runs qmail-send"):
        server.remove(test=test)
    assert server.queue.files() == before
    assert server.holder() == old


def test_a_queue_without_bounce_loses_its_double_bounces_too(server):
    server.boot()
    shutil.rmtree(server.queue.path / "bounce")
    before = others(server.queue.files())
    assert server.remove(test=True)["deleted"] == 10
    assert server.remove()["deleted"] == 10
    assert server.queue.files() == before
    assert server.holder()


def test_single_bounces_go_when_asked_for(server):
    assert server.remove(single=True)["deleted"] == 15
    assert server.queue.numbers("mess") == [*range(300, 305), 400, 401]


def test_only_old_ones_go(server):
    server.queue.put(500, age=1000)
    assert server.remove(older_than=500)["deleted"] == 1
    assert 100 in server.queue.numbers("mess")


def test_all_queues_and_channels_are_cleared(server, tmp_path):
    queues = [Queue(tmp_path / name, split=151, bigtodo=True, channels=("local", "remote", "suppl0")) for name in "ab"]
    for queue in queues:
        for number in range(1000, 1010):
            queue.put(number, channel="suppl0", sender=b"F#@[]\0eX=1\0")
    assert server.remove(queue=[str(queue.path) for queue in queues])["deleted"] == 20
    assert [queue.files() for queue in queues] == [{}, {}]


def test_a_lock_that_somebody_else_holds_is_an_error(server):
    before = server.queue.files()
    with open(server.queue.path / "lock" / "sendmutex", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CommandExecutionError, match="somebody is working on the queue"):
            server.remove()
    assert server.queue.files() == before


@pytest.fixture
def delete(server):
    """The step that deletes, where no qmail-send runs."""
    return lambda **named: server.modules["qmail_queue_delete.bounces"](str(server.queue.path), **named)


def test_by_itself_it_takes_the_lock_deletes_and_lets_go_of_the_lock(server, delete):
    before, opened = server.queue.files(), len(os.listdir("/proc/self/fd"))
    assert delete(test=True) == {"deleted": 10, "kept": 12, "bytes": 100}
    assert server.queue.files() == before
    assert delete() == {"deleted": 10, "kept": 12, "bytes": 100}
    assert server.queue.files() == others(before)
    assert len(os.listdir("/proc/self/fd")) == opened


@pytest.mark.parametrize("is_let_go", (True, False))
def test_a_lock_that_is_let_go_in_time_is_had_and_another_is_told(server, delete, monkeypatch, is_let_go):
    before, began, now = server.queue.files(), 1000.0, types.SimpleNamespace(second=0.0)
    mutex = server.queue.path / "lock" / "sendmutex"

    def monotonic():
        now.second += 0.001
        assert now.second < 60, "it goes on waiting"
        return began + now.second

    def sleep(seconds):
        assert seconds > 0
        now.second += seconds
        if is_let_go and now.second > 1.5:
            fcntl.flock(held, fcntl.LOCK_UN)

    clock = types.SimpleNamespace(monotonic=monotonic, sleep=sleep)
    monkeypatch.setitem(server.modules["qmail_queue_delete.bounces"].func.__globals__, "time", clock)
    with open(mutex, "w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if is_let_go:
            assert delete()["deleted"] == 10
            return
        with pytest.raises(CommandExecutionError, match=f"A qmail-send works on {server.queue.path}: it holds {mutex}"):
            delete()
    assert server.queue.files() == before


@pytest.mark.parametrize("doubles", range(4))
def test_whatever_lies_side_by_side_is_counted_apart(server, doubles):
    shutil.rmtree(server.queue.path)
    queue = Queue(server.queue.path, split=1)
    for number in range(1, 5 + doubles):
        queue.put(number, sender=b"Fyou@example.com\0" if number < 5 else b"F#@[]\0", message=b"xyz")
    assert server.remove(test=True) == server.remove() == {"deleted": doubles, "kept": 4, "bytes": 3 * doubles}


def test_how_far_it_is_is_told(server, delete, monkeypatch, caplog):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setitem(server.modules["qmail_base_bulk.progress"].func.__globals__, "SECONDS", 0)
    with caplog.at_level(logging.INFO):
        delete()
    told = [record.getMessage() for record in caplog.records if "qmail_queue.remove: " in record.getMessage()]
    # Of one half, and twice that is what both come to.
    assert told[0].startswith("qmail_queue.remove: 2 messages, 20 bytes after ")


@under("systemd")
def test_mail_in_flight_is_waited_for(server):
    server.boot()
    deliver(server.home, "slow", 1)
    assert server.remove()["deleted"] == 10
    assert server.home.delivered() == ["begin slow", "end slow"]


@under("systemd")
def test_a_drain_beyond_the_timeout_deletes_nothing_and_qmail_send_comes_back_by_itself(server):
    old = server.boot()
    before = server.queue.files()
    (server.home.path / "hold").touch()
    deliver(server.home, "slow", 0)
    with pytest.raises(CommandExecutionError, match=f"qmail-send {old} still runs"):
        server.remove(timeout=0.2)
    with pytest.raises(CommandExecutionError, match="Another run is working on this queue, or is bringing"):
        server.remove()
    assert server.queue.files() == before
    (server.home.path / "hold").unlink()
    wait_until(lambda: server.holder() not in (None, old))
    assert server.home.delivered() == ["begin slow", "end slow"]
    wait_until(lambda: _is_free(server))
    assert server.remove()["deleted"] == 10


def _is_free(server):
    try:
        return server.modules["qmail_queue_pause.recover"](home=str(server.home.path)) is False
    except CommandExecutionError:
        return False


@under("systemd")
def test_a_start_that_fails_is_an_error_and_is_tried_again(server):
    server.boot()
    blocked = server.home.control / "concurrencylocal"

    def run():
        with pytest.raises(CommandExecutionError, match="does not stay up"):
            server.modules["qmail_queue_pause.during"](
                lambda lock: blocked.mkdir(), home=str(server.home.path), service={"timeout": 5, "settle": 0.1}
            )
        blocked.rmdir()

    assert ended(run) == 0
    assert server.holder()


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_an_interrupt_leaves_the_rest_for_the_next_run(server, number):
    server.boot()
    before = server.queue.files()
    assert interrupted(server, number, at=6) == number
    assert server.holder()
    assert others(server.queue.files()) == others(before)
    wait_until(lambda: is_removed(server))
    # The other half was ended wherever it was: what had lost its sender there, and had its message still.
    rest = set(server.queue.files()) - set(others(before))
    assert others(server.queue.files()) == others(before)
    assert all(name.startswith("mess/") for name in rest) and len(rest) <= 1


def is_removed(server):
    """Remove, and return whether that could be: a process closes its pipe an instant before it gives up its lock."""
    try:
        return server.remove()
    except CommandExecutionError as err:
        assert "Another run is working on this queue" in str(err)
        return None


def interrupted(server, number, at):
    """
    Run remove in a child that sends itself a signal at some unlink; return what ended it, 0 where that never came.

    Returns only when the guardian has ended, too.
    """
    calls = iter(range(at))
    real = os.unlink

    def counted(*args, **kwargs):
        if "dir_fd" in kwargs and next(calls, None) is None:
            os.kill(os.getpid(), number)
        return real(*args, **kwargs)

    def run():
        # Whoever started the tests in the background of a script has had them ignore SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.unlink = counted
        try:
            server.remove()
        except KeyboardInterrupt:
            os._exit(number)

    return ended(run)


def started(run, quick=True):
    """Run something in a child; return its process id, and what can be read to its end when all of it is over."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            # The guardian watches for a while whether qmail-send stays up. The stand-in does.
            sleep = time.sleep
            if quick:
                time.sleep = lambda seconds: sleep(min(seconds, 0.1))
            run()
            os._exit(0)
        finally:
            os._exit(99)
    os.close(writing)
    return child, reading


def over(child, reading):
    """Wait for a child and its guardian, which has a copy of the writing end; programs that it starts have none."""
    status = os.waitpid(child, 0)[1]
    assert select.select([reading], [], [], 60)[0], "the guardian is still there"
    os.close(reading)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def ended(run):
    """Run something in a child; return the signal or the exit status that ended it, when all of it is over."""
    return over(*started(run))


def legal(queue, number):
    """Return whether a message is in a state that qmail's INTERNALS know, or has only what qmail-send clears up."""
    kinds = ("mess", "info", "local", "remote", "bounce", "todo")
    there = {kind for kind in kinds if queue.file(kind, number).exists()}
    return there in (set(), {"mess"}) or {"mess", "info"} <= there


def check_what_a_kill_has_left(server, before):
    left = server.queue.files()
    assert others(left) == others(before)
    assert all(before[name] == contents for name, contents in left.items())
    assert all(legal(server.queue, number) for number in (*range(100, 110), *range(1000, 1400)))


@pytest.mark.parametrize("at", range(42))
def test_killed_at_any_file_the_queue_is_sound(server, at):
    before = server.queue.files()
    assert interrupted(server, signal.SIGKILL, at) in (0, signal.SIGKILL)
    check_what_a_kill_has_left(server, before)
    server.remove()
    # What was killed between info and mess has no sender any more, one for each half: qmail-send clears that up.
    rest = {name for name in server.queue.files() if name not in others(before)}
    assert all(name.startswith("mess/") for name in rest) and len(rest) <= 2


@under("systemd", "systemd-once", "systemd-sysv")
@pytest.mark.parametrize("at", (0, 5, 15))
def test_killed_while_it_deletes_qmail_send_comes_back(server, at):
    old = server.boot()
    before = server.queue.files()
    assert interrupted(server, signal.SIGKILL, at) == signal.SIGKILL
    assert server.holder() not in (None, old)
    check_what_a_kill_has_left(server, before)


@pytest.mark.soak
@under("systemd")
def test_killed_at_any_moment_qmail_send_comes_back(server):
    server.boot()
    for number in range(1000, 1400):
        server.queue.put(number)
    before = server.queue.files()
    began = time.monotonic()
    assert ended(server.remove) == 0
    whole = time.monotonic() - began
    for part in range(16):
        for name, contents in before.items():
            (server.queue.path / name).write_bytes(contents)
        child, reading = started(server.remove)
        time.sleep(whole * part / 15)
        os.kill(child, signal.SIGKILL)
        assert over(child, reading) in (0, signal.SIGKILL)
        wait_until(server.holder, why=f"killed after {part}/15")
        check_what_a_kill_has_left(server, before)


def without_a_guardian(run):
    """Run something in a child whose guardian is killed at its birth."""
    real = os.fork

    def fork():
        guardian = real()
        if guardian:
            os.kill(guardian, signal.SIGKILL)
        return guardian

    def alone():
        os.fork = fork
        run()

    assert ended(alone) == signal.SIGKILL


def killed(lock):
    os.kill(os.getpid(), signal.SIGKILL)


@under("systemd", "systemd-once", "systemd-sysv")
def test_after_the_end_of_guardian_and_process_the_next_run_starts_qmail_send(server):
    server.boot()
    without_a_guardian(lambda: server.modules["qmail_queue_pause.during"](killed, home=str(server.home.path)))
    assert server.holder() is None
    assert server.remove()["deleted"] == 10
    assert server.holder()


def test_what_an_earlier_boot_has_left_behind_is_not_started(server):
    server.boot()
    during, recover = (server.modules[f"qmail_queue_pause.{name}"] for name in ("during", "recover"))
    home = str(server.home.path)
    assert recover(home) is False
    without_a_guardian(lambda: during(killed, home=home))
    note = pathlib.Path(server.modules["qmail_service_loaded.directory"](home), "paused")
    of_this_boot = note.read_bytes()
    assert of_this_boot == pathlib.Path("/proc/sys/kernel/random/boot_id").read_bytes()
    for other in (b"0" * len(of_this_boot), of_this_boot[:-2] + b"x\n", b"", b"unknown"):
        note.write_bytes(other)
        assert recover(home) is False
        assert server.remove()["kept"] == 22 - 10
        assert server.holder() is None
    note.write_bytes(of_this_boot)
    assert recover(home) is True
    assert server.holder()
    assert recover(home) is False


@under("systemd")
def test_what_somebody_has_started_since_is_not_started_again_when_it_is_stopped_later(server):
    server.boot()
    home = str(server.home.path)
    without_a_guardian(lambda: server.modules["qmail_queue_pause.during"](killed, home=home))
    server.run("start")
    until(server.holder)
    assert server.modules["qmail_queue_pause.recover"](home) is False
    server.run("stop")
    until(lambda: not server.holder())
    assert server.modules["qmail_queue_pause.recover"](home) is False
    assert server.holder() is None


def test_the_guardian_outlives_the_end_of_all_its_processs_group(server):
    server.boot()

    def run():
        os.setsid()
        server.modules["qmail_queue_pause.during"](
            lambda lock: os.killpg(0, signal.SIGKILL), home=str(server.home.path)
        )

    assert ended(run) == signal.SIGKILL
    assert server.holder()


@pytest.mark.parametrize("number", (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
def test_the_guardian_does_not_end_by_what_ends_a_session(server, number):
    server.boot()

    def catches(pid):
        caught = re.search(r"SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]
        return int(caught, 16) >> (number - 1) & 1

    def work(lock):
        (guardian,) = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        until(lambda: catches(guardian) and os.getsid(int(guardian)) == int(guardian))
        os.kill(int(guardian), number)
        killed(lock)

    assert ended(lambda: server.modules["qmail_queue_pause.during"](work, home=str(server.home.path))) == signal.SIGKILL
    assert server.holder()


def test_a_start_that_does_not_last_is_tried_again_and_noted_meanwhile(server):
    """The guardian watches what it has started; if it were killed then, the next run would know what to start."""
    server.boot()
    home = str(server.home.path)
    ctl = server.home.path / "bin/qmailctl"
    whole = ctl.read_text()
    # It ends behind the second in which a start is watched, however long that took.
    short = (
        '( had=$(wc -l <"$home/starts"); \\1 & while kill -0 $! && [ $(wc -l <"$home/starts") = $had ]; do sleep 0.02; '
        "done; sleep 1.6; kill $!; wait ) \\2"
    )
    ctl.write_text(re.sub(r"(.*qmail-send.*) (>>.*)", short, whole))
    assert ctl.read_text() != whole
    note = pathlib.Path(server.modules["qmail_service_loaded.directory"](home), "paused")
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_bytes()
    starts = server.home.path / "starts"
    starts.write_text("")
    child, *rest = started(lambda: server.modules["qmail_queue_pause.during"](killed, home=home), quick=False)
    until(lambda: len(starts.read_text().splitlines()) >= 2 and note.read_bytes() == boot)
    ctl.write_text(whole)
    assert over(child, *rest) == signal.SIGKILL
    assert server.holder()
    assert note.read_bytes() == b""


def test_where_no_note_can_be_written_qmail_send_is_left_as_it_is(server):
    old = server.boot()
    home = str(server.home.path)
    note = pathlib.Path(server.modules["qmail_service_loaded.directory"](home, make=True), "paused")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.symlink_to(server.home.path / "elsewhere")
    with pytest.raises(CommandExecutionError, match=f"qmail-send is left as it is: cannot write {note}"):
        server.modules["qmail_queue_pause.during"](lambda lock: None, home=home)
    assert server.holder() == old


def test_with_nothing_to_remove_the_next_run_starts_qmail_send_too(server):
    server.remove()
    server.boot()
    without_a_guardian(lambda: server.modules["qmail_queue_pause.during"](killed, home=str(server.home.path)))
    assert server.holder() is None
    server.remove(test=True)
    assert server.holder() is None
    server.remove()
    assert server.holder()


@under("systemd")
def test_a_highstate_starts_it_as_well(server, states):
    server.boot()
    without_a_guardian(lambda: server.modules["qmail_queue_pause.during"](killed, home=str(server.home.path)))
    assert states.qmail_service.running("qmail-send", home=str(server.home.path), settle=0.1).changes
    assert server.holder()


def test_what_was_stopped_on_purpose_is_not_taken_for_left_behind(server):
    server.boot()
    server.remove()
    server.run("stop")
    until(lambda: not server.holder())
    server.queue.put(700)
    assert server.remove()["deleted"] == 1
    assert server.holder() is None


def test_two_runs_at_once_take_turns_or_say_so(server):
    server.boot()

    def work(lock):
        with pytest.raises(CommandExecutionError, match=r"somebody is working on|Another run is working on"):
            server.remove()

    server.modules["qmail_queue_pause.during"](work, home=str(server.home.path), service={"settle": 0.1})
    assert server.remove()["deleted"] == 10


def test_a_message_that_arrives_meanwhile_survives(server):
    server.boot()

    def work(lock):
        server.queue.arrive(450)
        return server.modules["qmail_queue_delete.bounces"](str(server.queue.path), lock=lock)

    during = server.modules["qmail_queue_pause.during"]
    assert during(work, home=str(server.home.path), service={"settle": 0.1})["deleted"] == 10
    assert server.queue.numbers("todo") == [400, 401, 450]
    assert 450 in server.queue.numbers("mess")


def test_a_new_message_with_the_number_of_a_lost_one_survives(server):
    server.queue.put(600)
    server.queue.file("mess", 600).unlink()
    server.queue.file("mess", 600).write_bytes(b"being received")
    late = server.queue.file("info", 600).stat().st_ctime + 30
    os.utime(server.queue.file("mess", 600), (late, late))
    assert server.remove()["deleted"] == 10
    assert server.queue.file("mess", 600).exists()


@under("systemd")
def test_nothing_can_start_qmail_send_while_files_go(server):
    """Whoever is told to start one meanwhile starts one that dies at once, as it cannot have the lock."""
    real, told = os.unlink, []

    def unlink(*args, **kwargs):
        if "dir_fd" in kwargs and not told:
            server.run("start")
            until(lambda: "qmail-send is already running" in server.said())
            told.append(True)
        return real(*args, **kwargs)

    try:
        os.unlink = unlink
        server.remove()
    finally:
        os.unlink = real
    assert told and server.starts() == 1  # it is started again when they are gone, as somebody wants it to run
    assert server.holder()


@pytest.mark.parametrize(
    "wrong",
    (
        {"settle": "2s"},
        {"timeout": "1m"},
        {"timeout": None},
        {"older_than": "1d"},
        {"single": "some"},
        {"test": "maybe"},
        {"home": None},
        {"name": 5},
        {"provider": "supervisord"},
    ),
    ids=str,
)
def test_a_wrong_argument_is_reported_before_qmail_send_is_stopped(server, wrong):
    old = server.boot()
    before = server.queue.files()
    with pytest.raises(SaltInvocationError, match=next(iter(wrong))):
        server.remove(**wrong)
    assert (server.holder(), server.queue.files()) == (old, before)


def test_the_guardian_tries_on_whatever_is_wrong_reports_it_once_and_rests_between(server, tmp_path):
    server.boot()
    pause = server.modules["qmail_queue_pause.during"].func.__globals__
    start, failures = pause["_start"], [TypeError("wrong"), KeyError("missing"), OSError("full"), OSError("full")]
    told = tmp_path / "told"

    def failing(*arguments):
        if failures:
            raise failures.pop()
        start(*arguments)

    def note(*words):
        with told.open("a") as file:
            print(*words, file=file)

    def sleep(seconds):
        note(seconds)
        time.sleep(0.01)

    def run():
        pause["_start"] = failing
        pause["time"] = types.SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
        log = {name: getattr(syslog, name) for name in ("LOG_MAIL", "LOG_ERR")}
        pause["syslog"] = types.SimpleNamespace(**log, syslog=note)
        server.modules["qmail_queue_pause.during"](killed, home=str(server.home.path))

    assert ended(run) == signal.SIGKILL
    assert server.holder()
    lines = told.read_text().splitlines()
    about = f"{syslog.LOG_MAIL | syslog.LOG_ERR} qmail-send does not start again yet:"
    said = [line for line in lines if "qmail-send" in line]
    assert said == [f"{about} full", f"{about} 'missing'", f"{about} wrong"]
    assert lines.count("2") == 4 + 1  # behind each failure, and behind the start


def children():
    return pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_nothing_is_left_of_the_guardian_when_all_is_done(server):
    server.boot()
    during = server.modules["qmail_queue_pause.during"]
    before = len(os.listdir("/proc/self/fd")), children()
    assert during(lambda lock: "done", home=str(server.home.path), service={"settle": 0.1}) == "done"
    assert (len(os.listdir("/proc/self/fd")), children()) == before


def test_what_is_no_work_is_refused_before_qmail_send_is_stopped(server):
    old = server.boot()
    with pytest.raises(SaltInvocationError, match="work must be a function"):
        server.modules["qmail_queue_pause.during"]("work", home=str(server.home.path))
    assert server.holder() == old


def test_where_a_boot_has_no_id_qmail_send_is_stopped_and_started_as_well(server, monkeypatch):
    def refused(*_):
        raise PermissionError("/proc/sys is not for everybody")

    old = server.boot()
    during = server.modules["qmail_queue_pause.during"]
    monkeypatch.setitem(during.func.__globals__, "open", refused)
    assert during(lambda lock: "done", home=str(server.home.path), service={"settle": 0.1}) == "done"
    assert server.holder() not in (None, old)


@pytest.mark.parametrize("boot", [b"b", b"b" * 64])
def test_what_was_left_stopped_in_this_boot_is_started_however_the_boot_is_called(server, monkeypatch, boot):
    server.boot()
    pause = server.modules["qmail_queue_pause.during"].func.__globals__
    monkeypatch.setitem(pause, "_boot", lambda: boot)
    without_a_guardian(lambda: server.modules["qmail_queue_pause.during"](killed, home=str(server.home.path)))
    assert server.holder() is None
    assert server.modules["qmail_queue_pause.recover"](str(server.home.path)) is True
    assert server.holder()


def test_the_guardian_says_nothing_to_whoever_has_started_it(server):
    server.boot()
    before = children()

    def work(lock):
        (guardian,) = set(children()) - set(before)
        until(lambda: {os.readlink(f"/proc/{guardian}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"})

    server.modules["qmail_queue_pause.during"](work, home=str(server.home.path), service={"settle": 0.1})


def test_the_guardian_leaves_a_run_alone_however_long_it_takes(server, tmp_path, monkeypatch):
    """It asks to be woken every second, to look whether the run has ended; here it is, a thousand times as often."""
    server.boot()
    pause = server.modules["qmail_queue_pause.during"].func.__globals__
    looks = tmp_path / "looks"
    looks.touch()

    def look(*words):
        with looks.open("a") as file:
            print(words[3], file=file)
        return select.select(*words[:3], 0.001)

    monkeypatch.setitem(pause, "select", types.SimpleNamespace(select=look))
    before = children()

    def work(lock):
        guardian = set(children()) - set(before)
        until(lambda: len(looks.read_text().split()) > 20)
        assert set(looks.read_text().split()) == {"1"}
        assert server.holder() is None
        return len(guardian) == 1 and set(children()) - set(before) == guardian

    assert server.modules["qmail_queue_pause.during"](work, home=str(server.home.path), service={"settle": 0.1})
    assert server.starts() == 2


def test_the_guardian_goes_on_when_the_killed_process_is_gone_and_not_before(server, tmp_path, monkeypatch):
    inside = server.modules["qmail_queue_pause.during"].func.__globals__
    ask, answer = os.pipe()

    def sleep(seconds):
        os.write(answer, b".")  # now it may end
        time.sleep(0.01)

    parent = os.fork()
    if not parent:
        if os.fork():
            os.read(ask, 1)
            os._exit(0)
        try:
            # A clock that stands still: it must not be the time that ends this.
            inside["time"] = types.SimpleNamespace(monotonic=lambda: 1.0, sleep=sleep)
            inside["_wait_for_the_end_of"](os.getppid())
            (tmp_path / "new").write_text(str(os.getppid()))
            (tmp_path / "new").rename(tmp_path / "above")
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    until((tmp_path / "above").exists)
    assert int((tmp_path / "above").read_text()) != parent
    os.close(ask)
    os.close(answer)


@pytest.mark.parametrize("wrong", [{"settle": "2s"}, {"timeout": None}, {"provider": "supervisord"}], ids=str)
def test_a_wrong_argument_leaves_no_guardian_that_tries_on(server, wrong):
    old, before = server.boot(), children()
    with pytest.raises(SaltInvocationError, match=next(iter(wrong))):
        server.modules["qmail_queue_pause.during"](lambda lock: None, home=str(server.home.path), service=wrong)
    assert (server.holder(), children()) == (old, before)


def test_where_no_guardian_can_be_started_qmail_send_is_left_running(server, monkeypatch):
    old, before = server.boot(), len(os.listdir("/proc/self/fd"))
    home = str(server.home.path)

    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    server.modules["qmail_queue_pause.check"](home)
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(
        CommandExecutionError, match=r"left running: no process can be started .* \(Resource temporarily"
    ):
        server.modules["qmail_queue_pause.during"](lambda lock: None, home=home)
    monkeypatch.undo()
    assert (server.holder(), len(os.listdir("/proc/self/fd"))) == (old, before)
    note = pathlib.Path(server.modules["qmail_service_loaded.directory"](home), "paused")
    assert note.read_bytes() == b""


def test_where_the_guardian_would_have_no_memory_qmail_send_is_left_running(server, monkeypatch):
    old, before = server.boot(), len(os.listdir("/proc/self/fd"))
    inside = server.modules["qmail_queue_pause.during"].func.__globals__
    monkeypatch.setitem(inside, "RESERVE", 2**62)
    with pytest.raises(
        CommandExecutionError, match=r"left running: no process can be started .* \(Cannot allocate memory\)"
    ):
        server.remove()
    assert (server.holder(), len(os.listdir("/proc/self/fd"))) == (old, before)


def test_where_none_runs_and_nothing_would_start_one_it_deletes_all_the_same(server):
    server.path.rename(server.path.with_name("hidden"))
    assert server.remove()["deleted"] == 10
    assert server.holder() is None


def test_the_guardian_brings_qmail_send_back_though_its_notes_cannot_be_written(server):
    """A full disk, for instance; the first note was written before qmail-send was stopped."""
    server.boot()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def work(lock):
        killed(lock)

    def run():
        fork = os.fork

        def forked():
            pid = fork()
            if not pid:
                os.pwrite = os.ftruncate = full
            return pid

        os.fork = forked
        server.modules["qmail_queue_pause.during"](work, home=str(server.home.path))

    assert ended(run) == signal.SIGKILL
    assert server.holder()


def test_with_all_standard_descriptors_closed_it_works_as_well(server, tmp_path):
    server.boot()

    def run():
        for number in (0, 1, 2):
            os.close(number)
        (tmp_path / "done").write_text(str(server.remove()["deleted"]))

    assert ended(run) == 0
    assert (tmp_path / "done").read_text() == "10"
    assert server.holder()


def test_what_is_opened_meanwhile_is_never_a_standard_descriptor(server, tmp_path):
    """Otherwise the guardian would put others in the place of its note and of the pipe that it waits at."""
    server.boot()

    def run():
        for number in (0, 1, 2):
            os.close(number)
        server.modules["qmail_queue_pause.during"](
            lambda lock: (tmp_path / "found").write_text(" ".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3))),
            home=str(server.home.path),
            service={"settle": 0.1},
        )

    assert ended(run) == 0
    assert (tmp_path / "found").read_text() == "/dev/null /dev/null /dev/null"


@pytest.mark.parametrize("at", range(13))
def test_what_a_killed_half_had_done_is_counted(server, monkeypatch, at):
    here, real, calls = os.getpid(), os.unlink, iter(range(at))

    def counted(*args, **kwargs):
        if os.getpid() != here and "dir_fd" in kwargs and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "unlink", counted)
    done = server.remove()
    left = server.queue.numbers("mess")
    assert done["deleted"] == 22 - len(left)
    assert (done["kept"], done["bytes"]) == (len(left), 10 * done["deleted"])


def test_how_old_is_counted_from_the_call_and_not_from_the_end_of_the_drain(server, monkeypatch):
    server.boot()
    server.queue.put(500, age=1000)
    real, kill, shift = time.time, os.kill, [0]

    def drain(pid, number):
        kill(pid, number)
        shift[0] = 3600

    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(os, "kill", drain)
    assert server.remove(older_than=900)["deleted"] == 1
    assert shift == [3600]
    assert 100 in server.queue.numbers("mess")


class TestOtherKindOfLock:
    """A qmail-send that was built with fehQlibs locks by lockf, which flock does not exclude."""

    @pytest.fixture(autouse=True)
    def lockf(self, server):
        (server.home.path / "lockf").touch()

    def test_under_a_running_one_nothing_is_deleted(self, server):
        server.boot()
        before = server.queue.files()
        with pytest.raises(CommandExecutionError, match="A qmail-send works on"):
            server.modules["qmail_queue_delete.bounces"](str(server.queue.path))
        assert server.queue.files() == before

    def test_it_is_found_stopped_and_started_again(self, server):
        old = server.boot()
        assert server.modules["qmail_base_process.find"](str(server.home.path)) == old
        assert server.modules["qmail_base_process.find"](str(server.home.path), expected=old) == old
        assert server.remove()["deleted"] == 10
        assert server.holder() not in (None, old)

    def test_nothing_can_start_it_while_files_go(self, server):
        test_nothing_can_start_qmail_send_while_files_go(server)


name = st.one_of(st.integers(0, 60).map(str), st.sampled_from(["x", "-1", "007", "1.tmp", "٣"]))
contents = st.sampled_from([b"F#@[]\0", b"F#@[]\0", b"F\0", b"F#@[]", b"Fa@b\0", b"", b"F#@[]\0Fa@b\0", b"junk"])


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["info", "mess", "local", "todo", "bounce"]), name, contents), max_size=30))
@example([("info", "٣", b"F#@[]\0"), ("mess", "٣", b"F#@[]\0")])
def test_whatever_the_queue_holds_only_double_bounces_go(tmp_path_factory, modules, files):
    home = tmp_path_factory.mktemp("any")
    queue = Queue(home / "queue", split=3)
    for kind, file, text in files:
        split = str(int(file) % 3) if file.isdigit() and kind not in ("todo", "bounce") else ""
        (queue.path / kind / split / file).write_bytes(text)
    before = queue.files()
    modules["qmail_queue.remove"](home=str(home))
    doomed = {
        path.rpartition("/")[2]
        for path, text in before.items()
        if path.startswith("info/") and text == b"F#@[]\0" and "mess" + path[4:] in before
    }
    doomed = {number for number in doomed if re.fullmatch("[1-9][0-9]*", number) and f"todo/{number}" not in before}
    gone = set(before) - set(queue.files())
    assert {path for path in before if path.rpartition("/")[2] in doomed and "/" in path} >= gone
    assert {path.rpartition("/")[2] for path in gone} == doomed


def test_a_script_that_calls_it_a_failure_that_nothing_is_left_to_stop_is_no_obstacle(server):
    fails = '  stop) running || { echo "qmail-send: no process found"; exit 1; }; stop ;;'
    server.path.write_text(server.path.read_text().replace("  stop) stop ;;", fails))
    assert fails in server.path.read_text()
    old = server.boot()
    assert server.remove()["deleted"] == 10
    assert server.holder() not in (None, old)


def test_a_script_that_takes_longer_to_stop_than_is_left_is_waited_for(server):
    """It stops more than qmail-send, and would end the next one."""
    slow = "  stop) sleep 4; stop ;;"
    server.path.write_text(server.path.read_text().replace("  stop) stop ;;", slow))
    assert slow in server.path.read_text()
    old = server.boot()
    began = time.monotonic()
    assert server.remove(timeout=1)["deleted"] == 10
    assert time.monotonic() - began >= 4
    new = server.holder()
    assert new not in (None, old)
    assert not server.home.wait_until_loaded("nobody@example.com", seconds=1)  # for it to be ended in
    assert server.holder() == new


def test_a_qmail_send_that_is_paused_is_left_alone(server):
    old = server.boot()
    with paused(old):
        for test in (True, False):
            with pytest.raises(CommandExecutionError, match=f"qmail-send {old} is paused"):
                server.remove(test=test)
    assert server.holder() == old
    assert server.remove()["deleted"] == 10


def test_the_control_files_may_be_elsewhere(server):
    old = server.boot()
    place = server.home.path / "etc"
    server.home.control.rename(place)
    with pytest.raises(CommandExecutionError, match="could not start again"):
        server.remove(test=True)
    assert server.remove(test=True, control=str(place))["deleted"] == 10
    server.home.control.symlink_to(place)  # where the stand-in reads them when it starts
    assert server.remove(control=str(place))["deleted"] == 10
    assert server.holder() not in (None, old)
