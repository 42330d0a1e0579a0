"""The lock that keeps every qmail-send away is had in both its kinds, or not at all."""

import ctypes
import errno
import fcntl
import os
import signal
import types

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import descriptors


@pytest.fixture
def lock(home, modules):
    fd = modules["qmail_base_lock.opened"](str(home.path))
    yield fd
    os.close(fd)


@pytest.fixture
def mutex(home):
    return home.path / "queue/lock/sendmutex"


@pytest.fixture
def take(modules):
    return modules["qmail_base_lock.take"]


def can(mutex, way):
    """Return whether another process could take the lock this way."""
    child = os.fork()
    if not child:
        try:
            way(os.open(mutex, os.O_WRONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


class Holder:
    """Another process that has the lock."""

    def __init__(self, mutex, way):
        reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                way(os.open(mutex, os.O_WRONLY), fcntl.LOCK_EX)
                os.write(writing, b".")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writing)
        assert os.read(reading, 1) == b"."
        os.close(reading)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("is_old_kernel", [False, True])
def test_whoever_has_it_keeps_both_kinds_of_qmail_send_away(take, lock, mutex, monkeypatch, is_old_kernel):
    if is_old_kernel:
        without_ofd(monkeypatch)
    assert (can(mutex, fcntl.flock), can(mutex, fcntl.lockf)) == (True, True)
    assert take(lock) is True
    assert (can(mutex, fcntl.flock), can(mutex, fcntl.lockf)) == (False, False)
    assert not can(mutex, lambda fd, how: fcntl.lockf(fd, how, 1))  # its first byte
    assert not can(mutex, lambda fd, how: fcntl.lockf(fd, how, 1, 1 << 30))
    assert take(lock) is True


@pytest.mark.parametrize("is_old_kernel", [False, True])
@pytest.mark.parametrize("way", [fcntl.flock, fcntl.lockf])
def test_where_somebody_has_it_in_one_way_it_is_not_had_in_the_other(
    take, lock, mutex, monkeypatch, way, is_old_kernel
):
    if is_old_kernel:
        without_ofd(monkeypatch)
    holder = Holder(mutex, way)
    try:
        assert take(lock) is False
        assert can(mutex, fcntl.lockf if way is fcntl.flock else fcntl.flock)
    finally:
        holder.end()
    assert take(lock) is True


def without_ofd(monkeypatch):
    """As a kernel older than 3.15 is."""

    def fcntl_(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", fcntl_)


@pytest.mark.parametrize("call", ["fcntl", "lockf"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOLCK])
def test_what_else_is_wrong_with_a_lock_is_not_taken_for_held(take, lock, monkeypatch, call, number):
    def broken(*_):
        raise OSError(number, os.strerror(number))

    if call == "lockf":
        without_ofd(monkeypatch)
    monkeypatch.setattr(fcntl, call, broken)
    with pytest.raises(OSError, match=os.strerror(number)):
        take(lock)


@pytest.mark.parametrize("lets_go", (False, True))
def test_a_child_has_it_until_it_ends_or_we_let_go_of_it(modules, take, home, mutex, lets_go):
    before = descriptors.number()
    lock = modules["qmail_base_lock.opened"](str(home.path))
    assert take(lock)
    child = os.fork()
    if not child:
        try:
            signal.pause()
        finally:
            os._exit(1)
    try:
        modules["qmail_base_lock.close"](lock) if lets_go else os.close(lock)
        assert descriptors.number() == before
        assert (can(mutex, fcntl.flock), can(mutex, fcntl.lockf)) == (lets_go, lets_go)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert (can(mutex, fcntl.flock), can(mutex, fcntl.lockf)) == (True, True)


@pytest.mark.parametrize("kind", ["nothing", "link", "fifo", "directory"])
def test_what_is_not_a_lock_is_not_opened_and_none_is_made(modules, home, mutex, kind):
    mutex.unlink()
    if kind == "link":
        (home.path / "other").touch()
        mutex.symlink_to(home.path / "other")
    if kind == "fifo":
        os.mkfifo(mutex)
    if kind == "directory":
        mutex.mkdir()
    signal.alarm(100)  # to open a FIFO for writing waits for a reader
    with pytest.raises(CommandExecutionError, match=f"Cannot open {mutex}, which qmail-send locks"):
        modules["qmail_base_lock.opened"](str(home.path))
    signal.alarm(0)
    assert os.path.lexists(mutex) is (kind != "nothing")


def test_whoever_opens_it_is_noticed_and_nobody_else(modules, home, mutex):
    before = descriptors.number()
    asked = modules["qmail_base_lock.watch"](str(home.path))
    (mutex.parent / "trigger").touch()
    assert asked() is False
    asked = modules["qmail_base_lock.watch"](str(home.path))
    opened = os.open(mutex, os.O_WRONLY)
    assert asked() is True
    os.close(opened)
    assert descriptors.number() == before


@pytest.mark.parametrize("reads_first", [False, True])
def test_who_only_reads_it_is_not_noticed_and_hides_nobody(modules, home, mutex, reads_first):
    """A backup does, and whoever looks for a word in all files."""
    watch = modules["qmail_base_lock.watch"]
    asked = watch(str(home.path))
    for _ in range(3):
        mutex.read_bytes()
    assert asked() is False
    asked = watch(str(home.path))
    first, second = (
        os.open(mutex, os.O_RDONLY if is_reader else os.O_WRONLY) for is_reader in (reads_first, not reads_first)
    )
    os.close(first)
    os.close(second)
    assert asked() is True


def test_who_had_it_open_before_is_not_noticed_whatever_he_does(modules, home, mutex):
    mutex.write_text("text")
    opened = os.open(mutex, os.O_RDWR)
    asked = modules["qmail_base_lock.watch"](str(home.path))
    os.read(opened, 1)
    os.write(opened, b"x")
    fcntl.flock(opened, fcntl.LOCK_EX)
    os.close(opened)
    assert asked() is False


@pytest.mark.parametrize("failure", [OSError("no libc"), "no such function", "too many"])
def test_a_system_without_inotify_tells_nothing(modules, home, mutex, monkeypatch, failure):
    def library(_):
        if isinstance(failure, OSError):
            raise failure
        names = ("inotify_init1", "inotify_add_watch") if failure == "too many" else ()
        return types.SimpleNamespace(**dict.fromkeys(names, lambda *_: -1))

    monkeypatch.setattr(ctypes, "CDLL", library)
    asked = modules["qmail_base_lock.watch"](str(home.path))
    os.close(os.open(mutex, os.O_WRONLY))
    assert asked() is None


def test_a_lock_that_cannot_be_watched_is_reported(modules, home, mutex):
    before = descriptors.number()
    mutex.unlink()
    assert modules["qmail_base_lock.watch"](str(home.path))() is None
    assert descriptors.number() == before
