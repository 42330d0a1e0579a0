"""
A restart of qmail-send step by step, in a world in which each step takes exactly as long as the test says: whom it
signals, what it tells the supervisor and when, and how long it waits.
"""

import fcntl
import math
import os
import signal
import time

import pytest
from salt.exceptions import CommandExecutionError

OLD = 101


class World:
    """A qmail-send, what runs it, and a clock that goes on only where somebody sleeps."""

    def __init__(self, tmp_path, provider="daemontools", returns=True, alone=None):
        self.provider, self.returns = provider, returns
        self.alone = provider in ("daemontools", "runit", "s6") if alone is None else alone
        self.directory = tmp_path
        self.now, self.looks, self.due = 1000.0, 0, []
        self.holder, self.alive, self.last = OLD, {OLD}, OLD
        self.down = self.is_locked_out = False
        self.drain = self.linger = self.slow = self.lasts = 0  # seconds; lasts: 0 is forever
        self.gap = 1
        self.told, self.recorded, self.units, self.given, self.left = [], {}, [], {}, None
        self.trees, self.begun = [], {}  # when each process began
        self.blocks = 0  # seconds
        self.believes = False  # that it runs, until it is stopped: a script with a file below /var/lock/subsys
        self.ended = None  # what its supervisor has recorded of the end of qmail-send, if it records that
        self.obstacles = ""
        self.paused = ()

    # The clock

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def clock_gettime(self, clock):
        assert clock == self.CLOCK_BOOTTIME
        return self.now

    def monotonic(self):
        self.looks += 1
        assert self.looks < 100, "it does nothing but look"
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.looks = 0
        end = self.now + seconds
        assert end < 2000, "it goes on waiting"
        while self.due and min(self.due, key=lambda one: one[0])[0] <= end:
            self.due.sort(key=lambda one: one[0])
            self.now, work = self.due.pop(0)
            work()
        self.now = end

    def later(self, seconds, work):
        if seconds > 0:
            self.due.append((self.now + seconds, work))
        else:
            work()

    def since(self, before=1000.0):
        return self.now - before

    # qmail-send

    def begin(self):
        if self.down or self.holder or (self.alive and not self.returns):
            return
        if self.is_locked_out:
            self.note("in vain")
            self.later(1, self.begin if self.returns else lambda: None)
            return
        self.last += 1
        self.holder = self.last
        self.alive.add(self.last)
        self.begun.setdefault(self.last, math.floor(self.now * 100 + 1e-6) / 100)  # as /proc shows it
        if self.lasts:
            pid = self.last
            self.later(self.lasts, lambda: self.release(pid))

    def kill(self, pid, number):
        assert number == signal.SIGTERM
        self.note(f"TERM {pid}")
        if pid not in self.alive:
            raise ProcessLookupError
        self.later(self.drain, lambda: self.release(pid))

    def release(self, pid):
        if self.holder != pid:
            return
        self.holder = None
        if self.gap == 0:
            self.begin()
        self.later(self.linger, lambda: self.vanish(pid))

    def vanish(self, pid):
        self.alive.discard(pid)
        if self.returns and self.gap:
            self.later(self.gap, self.begin)

    # What runs it

    def note(self, what):
        self.told.append((round(self.now - 1000, 2), what))

    def words(self):
        return [what for _, what in self.told]

    def when(self, what):
        return next(when for when, said in self.told if said == what)

    def start(self, provider, name, left):
        assert (provider, name) == (self.provider, "the name") and left > 0
        self.note("start")
        self.down, self.left = False, left
        if self.blocks:  # as a script does that first does something else
            self.later(self.blocks + 0.1, self.begin)
            self.sleep(min(self.blocks, left))
            return True
        if self.believes:
            return True
        self.later(self.slow, self.begin)
        return True

    def stop(self, provider, name, left):
        assert (provider, name) == (self.provider, "the name") and left > 0
        self.note("stop")
        self.down, self.believes = True, False
        if self.holder:
            self.later(self.drain, lambda pid=self.holder: self.release(pid))

    def find(self, home, queue, provider, name):
        about = {"provider": self.provider, "name": "the name", "pid": self.holder}
        return {**about, "returns": self.returns and not self.down, "alone": self.alone, "down": self.down or None}

    def take(self, lock):
        if self.holder:
            return False
        if not self.is_locked_out:
            self.note("locked")
        self.is_locked_out = True
        return True

    def let_go(self, lock):
        self.is_locked_out = False
        self.note("let go")

    def going(self, pid):
        if pid in self.paused:
            raise CommandExecutionError("It is paused.")

    def remember(self, process, values, home, queue, by=None):
        self.recorded = {"process": process, "values": values, "by": by} if process else {}

    def salt(self):
        return {
            "qmail_base_check.arguments": self.given.update,
            "qmail_base_lock.close": self.let_go,
            "qmail_base_lock.opened": lambda **_: 7,
            "qmail_base_lock.take": self.take,
            "qmail_base_process.begun": self.begun.get,
            "qmail_base_process.ended": lambda pid: pid not in self.alive,
            "qmail_base_process.find": lambda home, queue: self.holder,
            "qmail_base_process.identity": lambda pid: f"process {pid}" if pid in self.alive else None,
            "qmail_base_process.in_flight": lambda pid: 3,
            "qmail_base_process.shown": lambda: True,
            "qmail_base_process.tick": lambda: 0.01,
            "qmail_service_directory.remember": lambda tree, **_: self.trees.append(tree),
            "qmail_service_loaded.current": lambda pid, *_: pid != OLD,
            "qmail_service_loaded.directory": lambda home, queue, make: str(self.directory),
            "qmail_service_loaded.recall": lambda home, queue: self.recorded,
            "qmail_service_loaded.remember": self.remember,
            "qmail_service_loaded.values": lambda home, control: {"doublebounceto": "sink"},
            "qmail_service_startup.check": lambda *_: None,
            "qmail_service_startup.going": self.going,
            "qmail_service_startup.last_words": lambda **_: ["alert: cannot start"],
            "qmail_service_startup.obstacles": lambda **_: self.obstacles,
            "qmail_service_supervisor.find": self.find,
            "qmail_service_supervisor.start": self.start,
            "qmail_service_supervisor.stop": self.stop,
            "qmail_service_supervisor.told": lambda *_: None if self.ended is None else {"ended": self.ended},
            "qmail_service_unit.remember": lambda unit, **_: self.units.append(unit),
        }


@pytest.fixture
def world(modules, monkeypatch, tmp_path):
    """Have the steps of a restart taken in a world of its own; return what makes one."""

    def world(**named):
        world = World(tmp_path, **named)
        inside = modules["qmail_service_change.restart"].func.__globals__
        monkeypatch.setitem(inside, "time", world)
        monkeypatch.setitem(inside, "__salt__", world.salt())
        monkeypatch.setattr(os, "kill", world.kill)

        def call(verb, timeout=60, settle=1):
            given = ("/home", None, None, "auto", "auto", timeout, settle)
            return modules[f"qmail_service_change.{verb}"](*given)

        world.restarted = lambda **more: call("restart", **more)
        world.started = lambda **more: call("start", **more)
        world.stopped = lambda **more: call("stop", **more)
        return world

    return world


def test_one_that_comes_back_by_itself_is_only_signalled(world):
    one = world()
    one.gap = 2.5
    assert one.restarted() == {"old": OLD, "new": OLD + 1}
    assert one.words() == [f"TERM {OLD}"]
    assert 3.5 <= one.since() < 3.7  # it has stayed up for a second
    assert one.recorded == {
        "process": f"process {OLD + 1}",
        "values": {"doublebounceto": "sink"},
        "by": ["auto", "auto"],
    }


def test_one_that_does_not_come_back_in_time_is_started_and_once_only(world):
    one = world()
    one.gap, one.slow = 100, 5
    assert one.restarted() == {"old": OLD, "new": OLD + 1}
    assert one.words() == [f"TERM {OLD}", "start"]
    assert 3 <= one.when("start") < 3.2


@pytest.mark.parametrize("provider", ["qmailctl", "sysv", "systemd"])
def test_one_that_nothing_brings_back_is_started_when_its_process_is_gone(world, provider):
    one = world(provider=provider, returns=False)
    one.drain, one.linger = 2, 0.5
    assert one.restarted() == {"old": OLD, "new": OLD + 1}
    assert one.words() == [f"TERM {OLD}", "start"]
    assert 2.5 <= one.when("start") < 2.7
    assert one.left == pytest.approx(60 - one.when("start"), abs=0.1)
    assert one.units == ["the name" if provider == "systemd" else None]
    assert one.trees == [None]


@pytest.mark.parametrize("provider", ["daemontools", "runit", "s6"])
def test_the_service_directory_is_recorded_before_anything_ends(world, provider):
    one = world(provider=provider)
    one.stopped()
    assert one.trees == [(provider, "the name")]
    assert one.units == [None]


@pytest.mark.parametrize("provider", ["qmailctl", "sysv"])
def test_a_script_that_believes_it_runs_is_stopped_and_started_again(world, provider):
    one = world(provider=provider, returns=False)
    one.believes = True
    assert one.restarted(timeout=5) == {"old": OLD, "new": OLD + 1}
    assert one.words() == [f"TERM {OLD}", "start", "stop", "start"]
    assert 3 <= one.when("stop") < 3.2


@pytest.mark.parametrize(("blocks", "timeout"), [(2, 60), (3.3, 60), (50, 60), (8, 5), (8, 60)])
def test_a_script_that_takes_long_to_start_it_is_not_told_to_stop(world, blocks, timeout):
    one = world(provider="sysv", returns=False)
    one.blocks = blocks
    assert one.restarted(timeout=timeout) == {"old": OLD, "new": OLD + 1}
    assert one.words() == [f"TERM {OLD}", "start"]


@pytest.mark.parametrize("at", [0, 0.001, 0.004, 0.0099])
def test_one_that_begins_in_the_tick_of_its_start_is_known_to_have_read_its_files(world, at):
    """A start is rounded down to a clock tick."""
    one = world()
    one.now += at
    one.gap = 0
    assert one.restarted() == {"old": OLD, "new": OLD + 1}
    assert one.recorded["process"] == f"process {OLD + 1}"
    one.stopped()
    one.told.clear()
    assert one.restarted() == {"old": None, "new": OLD + 2}
    assert one.words() == ["start"]
    assert one.recorded["process"] == f"process {OLD + 2}"


def test_but_not_where_nothing_was_ended(world):
    """What it stops may be more than qmail-send."""
    one = world(provider="sysv", returns=False)
    one.holder, one.alive, one.believes = None, set(), True
    with pytest.raises(CommandExecutionError, match="qmail-send does not"):
        one.started()
    assert one.words() == ["start"]


def test_one_that_was_there_before_is_not_recorded_as_one_that_knows(world):
    """It reads its files before it takes the lock, by which it is seen."""
    one = world()
    one.holder, one.alive = None, set()
    one.begun[OLD + 1] = 999.99
    assert one.started() == {"old": None, "new": OLD + 1}
    assert one.recorded == {}


def test_one_that_was_there_before_and_does_not_know_the_files_is_replaced(world):
    """It had read them just before they changed, and was seen by nobody: the state starts where it sees none."""
    one = world()
    one.holder, one.alive, one.last = None, set(), OLD - 1
    one.begun[OLD] = 999.99
    assert one.started() == {"old": OLD, "new": OLD + 1}
    assert one.words() == ["start", f"TERM {OLD}"]
    assert one.recorded["process"] == f"process {OLD + 1}"


@pytest.mark.parametrize("verb", ["started", "restarted"])
def test_where_nothing_shows_when_it_began_one_start_is_enough(world, verb):
    one = world()
    one.holder, one.alive = None, set()
    one.begun[OLD + 1] = None
    assert getattr(one, verb)() == {"old": None, "new": OLD + 1}
    assert one.words() == ["start"]


def test_one_that_no_look_has_shown_is_restarted_all_the_same(world):
    one = world()
    one.holder, one.alive = None, set()
    one.begun[OLD + 1] = 999.99
    assert one.restarted() == {"old": OLD + 1, "new": OLD + 2}
    assert one.words() == ["start", f"TERM {OLD + 1}"]
    assert one.recorded["process"] == f"process {OLD + 2}"


@pytest.mark.parametrize("returns", [True, False])
def test_one_that_is_not_there_is_started_at_once(world, returns):
    one = world(returns=returns)
    one.holder, one.alive = None, set()
    assert one.restarted() == {"old": None, "new": OLD + 1}
    assert one.words() == ["start"]
    assert one.when("start") < 0.2
    assert one.units == []


@pytest.mark.parametrize(("obstacles", "why"), [("", "Its log ends: alert: cannot start"), ("chmod it", "chmod it")])
@pytest.mark.parametrize("gap", [0.1, 0])
def test_one_that_dies_again_and_again_is_not_taken_for_one_that_runs(world, obstacles, why, gap):
    one = world()
    one.lasts, one.gap, one.obstacles = 0.5, gap, obstacles
    with pytest.raises(CommandExecutionError, match=f"does not stay up after its start: no mail is delivered. {why}"):
        one.restarted(timeout=10)
    assert 10 <= one.since() < 11.2


def test_one_that_comes_up_at_the_last_moment_has_its_time_to_show_that_it_stays(world):
    one = world()
    one.holder, one.alive, one.slow = None, set(), 9.9
    assert one.restarted(timeout=10) == {"old": None, "new": OLD + 1}
    assert 10.9 <= one.since() < 11.1


@pytest.mark.parametrize("settle", [1, 2])
def test_the_new_one_has_the_time_that_it_needs_however_late_the_old_one_ended(world, settle):
    one = world()
    one.drain, one.gap = 9.9, 2.5
    assert one.restarted(timeout=10, settle=settle) == {"old": OLD, "new": OLD + 1}
    assert 12.4 + settle <= one.since() < 12.6 + settle


@pytest.mark.parametrize(
    ("returns", "then"), [(True, "daemontools starts it again by itself"), (False, "run this again")]
)
def test_a_drain_is_waited_for_until_the_timeout_and_the_rest_is_left_to_whoever_comes(world, returns, then):
    one = world(returns=returns)
    one.drain = 100
    with pytest.raises(CommandExecutionError, match=rf"{OLD} still runs: .* \(3\) .* When it has ended, {then}\."):
        one.restarted(timeout=10)
    assert 10 <= one.since() < 10.2
    assert one.words() == [f"TERM {OLD}"]
    assert bool(one.recorded) is not returns  # the next run has to know that this one was told to end


def test_while_another_run_has_its_turn_nothing_is_done(world, tmp_path):
    one = world()
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        for call in (one.restarted, one.started, one.stopped):
            before = one.now
            with pytest.raises(CommandExecutionError, match="Another run was restarting qmail-send the whole time"):
                call(timeout=5)
            assert 5 <= one.since(before) < 5.2
        assert one.told == []
    finally:
        os.close(held)
    assert one.restarted()["new"] == OLD + 1


@pytest.mark.parametrize(
    ("pid", "values", "is_busy", "is_forgotten"),
    [
        (OLD + 1, None, False, True),
        (OLD, None, False, False),  # it is still to end
        (OLD + 1, {"doublebounceto": "sink"}, False, False),  # nobody was told to
        (OLD + 1, None, True, False),
    ],
)
def test_once_another_one_runs_nobody_was_told_to_end(world, modules, tmp_path, pid, values, is_busy, is_forgotten):
    one = world(provider="sysv", returns=False)
    one.alive.add(OLD + 1)
    before = one.recorded = {"process": f"process {OLD}", "values": values, "by": ["auto", "auto"]}
    held = os.open(tmp_path, os.O_RDONLY)
    try:
        if is_busy:
            fcntl.flock(held, fcntl.LOCK_EX)
        modules["qmail_service_change.came_back"](pid, "/home")
    finally:
        os.close(held)
    assert one.recorded == ({} if is_forgotten else before)
    assert one.now == 1000 and one.told == []


def test_one_that_is_paused_is_neither_signalled_nor_waited_for(world):
    one = world()
    one.paused = {OLD}
    for call in (one.restarted, one.stopped):
        with pytest.raises(CommandExecutionError, match="It is paused"):
            call()
    assert (one.told, one.recorded) == ([], {})
    assert one.since() < 0.1


# To stop


def test_one_that_its_supervisor_takes_down_alone_gets_no_signal_of_ours(world):
    one = world()
    one.drain = 5
    assert one.stopped(settle=2) == {"old": OLD, "new": None}
    assert one.words() == ["stop", "locked", "let go"]
    assert 7 <= one.since() < 7.3
    assert one.recorded == {}


@pytest.mark.parametrize("provider", ["systemd", "sysv"])
def test_one_that_is_stopped_with_all_its_children_is_stopped_when_it_has_none(world, provider):
    one = world(provider=provider, returns=provider == "systemd")
    one.drain, one.linger = 5, 0.5
    assert one.stopped() == {"old": OLD, "new": None}
    assert one.words() == [f"TERM {OLD}", "locked", "stop", "let go"]
    assert 5 <= one.when("locked") < 5.1
    assert 5.5 <= one.when("stop") < 5.6
    assert one.since() < 7


def test_a_process_that_stays_without_its_lock_is_waited_for_until_the_timeout(world):
    one = world(provider="systemd")
    one.linger = 1000
    assert one.stopped(timeout=10) == {"old": OLD, "new": None}
    assert 10 <= one.when("stop") < 10.2


def test_one_that_a_supervisor_has_started_before_we_had_the_lock_has_to_end_too(world):
    one = world(provider="systemd")
    one.gap, one.linger = 0, 1
    begin = one.begin

    def once():
        if one.last == OLD:
            begin()

    one.begin = once
    assert one.stopped() == {"old": OLD, "new": None}
    assert one.words() == [f"TERM {OLD}", f"TERM {OLD + 1}", "locked", "stop", "let go"]


@pytest.mark.parametrize(
    ("provider", "then"), [("daemontools", "it stays down"), ("systemd", "systemd starts it again by itself")]
)
def test_a_stop_that_cannot_wait_says_what_comes(world, provider, then):
    one = world(provider=provider)
    one.drain = 100
    with pytest.raises(CommandExecutionError, match=rf"{OLD} still runs: .*When it has ended, {then}\."):
        one.stopped(timeout=10)
    assert 10 <= one.since() < 10.2
    assert one.words() == (["stop", "let go"] if provider == "daemontools" else [f"TERM {OLD}", "let go"])
    assert one.recorded["values"] is None


@pytest.mark.parametrize(
    ("provider", "told"),
    [("systemd", ["locked", "stop", "let go"]), ("daemontools", ["stop"]), ("sysv", []), ("qmailctl", [])],
)
def test_where_none_runs_only_what_could_start_one_is_told(world, provider, told):
    one = world(provider=provider, returns=provider in ("systemd", "daemontools"))
    one.holder, one.alive = None, set()
    assert one.stopped() == {}
    assert one.words() == told
    assert 1 <= one.since() < 1.2


def test_it_is_stopped_when_none_has_come_up_for_as_long_as_was_asked_for(world):
    one = world()
    one.due = [(1000.5, lambda: setattr(one, "holder", 500)), (1000.9, lambda: setattr(one, "holder", None))]
    assert one.stopped(settle=1) == {"old": OLD, "new": None}
    assert 1.9 <= one.since() < 2


def test_one_that_somebody_starts_again_is_reported_with_its_process(world):
    one = world()
    one.due = [(1000.5, lambda: setattr(one, "holder", 500))]
    with pytest.raises(CommandExecutionError, match="told to stay down, but was started again, and 500 runs"):
        one.stopped(timeout=5)
    assert 5 <= one.since() < 5.2


@pytest.mark.parametrize("ended", [2.5, 100])
def test_a_stop_waits_until_the_supervisor_has_recorded_the_end_but_not_forever(world, ended):
    one = world()
    one.ended, one.due = False, [(1000 + ended, lambda: setattr(one, "ended", True))]
    assert one.stopped(settle=1) == {"old": OLD, "new": None}
    assert min(ended, 1 + 3) <= one.since() < min(ended, 1 + 3) + 0.2


# To start


def test_one_that_runs_is_left_alone(world):
    one = world()
    assert one.started() == {}
    assert one.told == []


def test_one_that_was_told_to_end_is_waited_for_and_another_started(world):
    one = world(provider="systemd", returns=False)
    one.recorded = {"process": f"process {OLD}", "values": None}
    one.drain = 2
    assert one.started() == {"old": OLD, "new": OLD + 1}
    assert 2 <= one.when("start") < 2.2


def test_what_another_process_was_told_before_is_no_matter(world):
    one = world()
    one.recorded = {"process": f"process {OLD - 1}", "values": None}
    assert one.started() == {}
    assert one.told == []


@pytest.mark.parametrize("verb", ["restarted", "started", "stopped"])
def test_all_arguments_are_checked(world, verb):
    one = world()
    getattr(one, verb)(timeout=5, settle=2)
    places = {"home": "/home", "control": None, "queue": None}
    assert one.given == {**places, "provider": "auto", "name": "auto", "timeout": 5, "settle": 2}


@pytest.mark.parametrize("drain", [5, 100])
def test_one_that_still_ends_is_waited_for_and_comes_back_in_any_case(world, drain):
    one = world()
    one.drain = drain
    with pytest.raises(CommandExecutionError):
        one.stopped(timeout=1)
    one.told.clear()
    if drain == 5:
        assert one.started(timeout=10) == {"old": OLD, "new": OLD + 1}
    else:
        with pytest.raises(CommandExecutionError, match="daemontools starts it again by itself"):
            one.started(timeout=10)
    assert one.words()[0] == "start"
    assert "start" not in one.words()[1:]
