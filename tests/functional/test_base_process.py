"""Which process runs a queue, where the kernel's list of locks does not say it by itself."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess

import pytest

from tests.support.home import Home

BEFORE = "postmaster@mail.example.net"


@pytest.fixture
def holder(home):
    """The process id of a qmail-send that runs."""
    subprocess.run([home.path / "bin/qmailctl", "start"], check=True, timeout=60)
    assert home.wait_until_loaded(BEFORE)
    return home.pid()


@pytest.fixture
def listed(home, holder, modules, monkeypatch, tmp_path):
    """
    Have the kernel list these locks on a file of the mutex's number, each as the process that holds it and the device
    that is shown, and return which qmail-send is found. ``since``: whether open files show their locks.
    """
    mutex = home.path / "queue/lock/sendmutex"
    device = os.stat(mutex).st_dev
    own = f"{os.major(device):02x}:{os.minor(device):02x}"

    def listed(*locks, since=True):
        proc = tmp_path / "proc"
        proc.mkdir()
        lines = [
            f"{pid}: FLOCK  ADVISORY  WRITE {pid} {shown or own}:{mutex.stat().st_ino} 0 EOF" for pid, shown in locks
        ]
        (proc / "locks").write_text("\n".join(lines))
        for pid, _ in locks:
            if since:
                (proc / str(pid)).symlink_to(f"/proc/{pid}")
            else:
                (proc / str(pid)).mkdir()
                (proc / str(pid) / "fd").symlink_to(f"/proc/{pid}/fd")
                shutil.copy(f"/proc/{pid}/comm", proc / str(pid) / "comm")
        monkeypatch.setitem(modules["qmail_base_process.find"].__globals__, "PROC", str(proc))
        return modules["qmail_base_process.find"](str(home.path))

    return listed


@pytest.fixture
def open_here(home, tmp_path):
    """This process has the mutex open, as before it takes it, and has locked another file."""
    with (home.path / "queue/lock/sendmutex").open("a") as mutex, (tmp_path / "other").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        yield mutex


@pytest.mark.parametrize("since", [True, False])
def test_one_that_is_listed_with_another_device_is_known_by_its_open_files(listed, holder, since):
    """As on overlay and btrfs."""
    assert listed((holder, "00:fff"), since=since) == holder


@pytest.mark.usefixtures("open_here")
def test_a_lock_on_a_file_of_the_same_number_on_another_device_is_not_this_one(listed, holder):
    assert listed((os.getpid(), "00:fff"), (holder, None)) == holder


@pytest.mark.usefixtures("open_here")
def test_nor_is_one_on_a_device_whose_name_only_begins_like_it(listed, holder, home):
    device = os.stat(home.path).st_dev
    longer = f"{os.major(device):02x}:{os.minor(device):02x}f"
    assert listed((os.getpid(), longer), (holder, None)) == holder


def test_one_that_has_locked_nothing_but_another_file_is_none(listed, holder):
    assert listed((os.getpid(), "00:fff")) is None


@pytest.fixture
def other(tmp_path):
    """The process id of another qmail-send."""
    home = Home(tmp_path / "other-home")
    subprocess.run([home.path / "bin/qmailctl", "start"], check=True, timeout=60)
    assert home.wait_until_loaded(BEFORE)
    yield home.pid()
    home.stop()


@pytest.fixture
def hidden(monkeypatch):
    """Which files another process has open is not shown, as to root in a container, without CAP_SYS_PTRACE."""
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("/fd"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


@pytest.mark.usefixtures("hidden")
def test_where_open_files_are_not_shown_the_name_decides(listed, holder):
    assert listed((os.getpid(), "00:fff"), (holder, "00:fff")) == holder


@pytest.mark.usefixtures("hidden")
def test_the_device_says_more_than_the_name(listed, holder, other):
    assert listed((other, "00:fff"), (holder, None)) == holder


def test_a_file_that_is_closed_while_they_are_listed_hides_no_other(listed, holder, monkeypatch):
    """qmail-send opens and closes the files of messages all the time."""
    scandir = os.scandir

    class Closed:
        name = "0"

        def stat(self):
            raise FileNotFoundError

    @contextlib.contextmanager
    def one_is_closed(path):
        with scandir(path) as handles:
            yield [Closed(), *handles] if str(path).endswith("/fd") else handles

    monkeypatch.setattr(os, "scandir", one_is_closed)
    assert listed((holder, "00:fff")) == holder


@pytest.fixture
def looks(home, modules, monkeypatch, tmp_path):
    """
    Have the kernel list the locks of other processes, and the given ones only from some look on: return which
    qmail-send is found, and how many looks that took.
    """
    mutex = os.stat(home.path / "queue/lock/sendmutex")
    other = f"1: POSIX  ADVISORY  WRITE 1 fe:00:{mutex.st_ino + 1} 0 EOF\n"

    def looks(pid, missed, others):
        device = f"{os.major(mutex.st_dev):02x}:{os.minor(mutex.st_dev):02x}"
        held = f"2: FLOCK  ADVISORY  WRITE {pid} {device}:{mutex.st_ino} 0 EOF\n"
        (tmp_path / "without").write_text(other * others)
        (tmp_path / "with").write_text(other * others + held)
        seen = []

        def opened(path, *args, **kwargs):
            if path != "/proc/locks":
                return open(path, *args, **kwargs)
            seen.append(path)
            return open(tmp_path / ("with" if len(seen) > missed else "without"), *args, **kwargs)

        monkeypatch.setitem(modules["qmail_base_process.find"].__globals__, "open", opened)
        return modules["qmail_base_process.find"](str(home.path)), len(seen)

    return looks


def test_a_lock_that_a_long_list_leaves_out_is_looked_for_again(looks, holder):
    """The kernel lists a page at a time, and what is unlocked in between makes it skip others."""
    assert looks(holder, missed=6, others=1000) == (holder, 7)


def test_a_lock_that_no_look_shows_is_none(looks, holder):
    found, times = looks(holder, missed=1000, others=1000)
    assert found is None
    assert times >= 8


def test_a_short_list_is_whole_and_read_once(looks, holder):
    assert looks(holder, missed=1, others=20) == (None, 1)


@pytest.fixture
def opener(tmp_path):
    """Start a process that has a file open, itself or by a child, until it is told to go on; return its id."""
    started = []

    def opener(path, in_a_child):
        path.parent.mkdir(parents=True, exist_ok=True)
        opens = f"exec 3>>{path}; echo; read go"
        command = f"sh -c '{opens}'; :" if in_a_child else opens
        process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process.pid

    yield opener
    for process in started:
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("path", "itself", "child"),
    [
        ("home/queue/lock/sendmutex", False, False),
        ("home/queue/lock/trigger", False, False),
        ("home/queue2/lock/sendmutex", True, False),  # indimail's queues, all started by one process
        ("other/queue/lock/sendmutex", True, True),
    ],
)
def test_the_qmail_send_of_another_queue_is_told_by_what_it_has_open(modules, tmp_path, opener, path, itself, child):
    home = tmp_path / "home"
    (home / "queue/lock").mkdir(parents=True)
    (home / "queue/lock/sendmutex").touch()
    serves_another = modules.qmail_base_process.serves_another
    assert serves_another(opener(tmp_path / path, False), str(home)) is itself
    assert serves_another(opener(tmp_path / path, True), str(home)) is child


@pytest.mark.usefixtures("hidden")
def test_where_open_files_are_not_shown_none_is_known_to_serve_another(modules, tmp_path, opener):
    pid = opener(tmp_path / "other/queue/lock/sendmutex", False)
    assert modules.qmail_base_process.serves_another(pid, str(tmp_path)) is False


def test_a_process_that_is_gone_serves_no_queue(modules, tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert modules.qmail_base_process.serves_another(gone.pid, str(tmp_path)) is False
