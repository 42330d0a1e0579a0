"""
The log of the running qmail-send is found by the way that its lines go, whatever lies in the usual places.
"""

import fcntl
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

from _modules import qmail_base_process, qmail_log_trail
from tests.support import needs, supervisors
from tests.support.home import Home

# Takes the lock of a queue and holds it, as qmail-send does, with the name of one.
SEND = """
import fcntl, pathlib, signal, sys
pathlib.Path("/proc/self/comm").write_text("qmail-send")
mutex = open(sys.argv[1], "w")
fcntl.flock(mutex, fcntl.LOCK_EX)
signal.pause()
"""
# Has a name and a file open, and reads a pipe on descriptor 0.
OTHER = """
import pathlib, sys
pathlib.Path("/proc/self/comm").write_text(sys.argv[1])
kept = [open(path, "a") for path in sys.argv[2:]]
print("up", flush=True)
sys.stdin.read()
"""
LINE = "info msg 5: bytes 705 from <#@[]> qp 5 uid 1007\n"


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def send(processes):
    """Start a qmail-send of a home, with some descriptor 0."""

    def send(home, stdin):
        mutex = home.path / "queue/lock/sendmutex"
        processes.append(
            subprocess.Popen(
                [sys.executable, "-IS", "-c", SEND, mutex],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        supervisors.wait_until(lambda: is_locked(mutex))
        return processes[-1].pid

    return send


def is_locked(path):
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def other(processes, name, *files, stdin, stdout=subprocess.PIPE):
    """Start a program of some name that has files open."""
    process = subprocess.Popen([sys.executable, "-IS", "-c", OTHER, name, *map(str, files)], stdin=stdin, stdout=stdout)
    processes.append(process)
    comm = pathlib.Path(f"/proc/{process.pid}/comm")
    supervisors.wait_until(lambda: comm.read_text().strip() == name)
    if stdout == subprocess.PIPE:
        assert process.stdout.readline() == b"up\n"
    return process


@pytest.mark.parametrize("kind", ["daemontools", "runit", "s6"])
def test_under_a_supervisor_it_is_the_directory_of_its_logger(modules, home, tmp_path, kind):
    if supervisors.missing(kind):
        pytest.skip(supervisors.missing(kind))
    if kind == "daemontools":
        (tmp_path / "qmail-log").mkdir()
    supervisor = supervisors.ALL[kind](home, tmp_path)
    try:
        supervisor.boot()
        place = tmp_path / "qmail-log" if kind == "daemontools" else supervisor.directory / "log/main"
        supervisors.wait_until(lambda: (place / "current").exists() and (place / "current").read_bytes())
        found = modules.qmail_log_file.find(home=str(home.path))
        assert (found["kind"], found["path"], found["how"]) == ("multilog", str(place), "followed")
        told = modules.qmail_log.count(home=str(home.path))
        assert (told["log"], told["double_bounces"]) == (str(place), 0)
        assert told["files"] == [str(place / "current")]
        assert told["newest"] >= (place / "current").stat().st_mtime - 60
    finally:
        supervisor.close()


@pytest.fixture
def multilog():
    needs.skip_for(None if shutil.which("multilog") else "multilog of daemontools is not installed")


@pytest.mark.usefixtures("multilog")
def test_the_log_of_each_of_two_qmails_is_its_own(modules, home, send, processes, tmp_path):
    second = Home(tmp_path / "qmail2")
    logs = {}
    for one in (home, second):
        logs[one] = tmp_path / f"log-of-{one.path.name}"
        logs[one].mkdir()
        logger = subprocess.Popen(["multilog", "t", logs[one]], stdin=subprocess.PIPE)
        processes.append(logger)
        send(one, logger.stdin)
        supervisors.wait_until((logs[one] / "current").exists)
    for one, log in logs.items():
        assert modules.qmail_log_file.find(home=str(one.path))["path"] == str(log)
        assert modules.qmail_log_follow.position(home=str(one.path))["path"] == str(log)
    queue = modules.qmail_log_file.find(home=str(home.path), queue=str(second.path / "queue"))
    assert queue["path"] == str(logs[second])


@pytest.mark.usefixtures("multilog")
def test_of_several_directories_of_one_multilog_it_is_the_one_with_its_lines(modules, home, send, processes, tmp_path):
    status, all_of_it = tmp_path / "status", tmp_path / "all"
    command = ["multilog", "t", "-*", "+* alert: *", status, "+*", all_of_it]
    logger = subprocess.Popen(command, stdin=subprocess.PIPE)
    processes.append(logger)
    logger.stdin.write(LINE.encode())
    logger.stdin.flush()
    send(home, logger.stdin)
    supervisors.wait_until(lambda: (all_of_it / "current").exists() and (all_of_it / "current").read_bytes())
    assert modules.qmail_log_file.find(home=str(home.path))["path"] == str(all_of_it)


@pytest.mark.usefixtures("multilog")
def test_a_supervisor_that_has_the_pipe_too_does_not_lead_astray(modules, home, send, processes, tmp_path, pipe):
    """supervise has its logger's pipe on descriptor 0 as the logger has, and its own output goes elsewhere."""
    with (tmp_path / "boot.log").open("w") as boot:
        other(processes, "supervise", stdin=pipe[0], stdout=boot)
    pid = send(home, pipe[1])
    assert modules.qmail_log_trail.follow(pid) is None
    processes.append(subprocess.Popen(["multilog", "t", tmp_path / "main"], stdin=pipe[0]))
    supervisors.wait_until((tmp_path / "main/current").exists)
    assert modules.qmail_log_file.find(home=str(home.path))["path"] == str(tmp_path / "main")


def test_a_program_between_is_followed_to_what_it_writes(modules, home, send, processes, tmp_path, pipe):
    with (tmp_path / "log").open("a") as log:
        between = subprocess.Popen(["cat"], stdin=pipe[0], stdout=subprocess.PIPE)
        processes.append(between)
        processes.append(subprocess.Popen(["cat"], stdin=between.stdout, stdout=log))
    send(home, pipe[1])
    found = modules.qmail_log_file.find(home=str(home.path))
    assert (found["kind"], found["path"]) == ("file", str(tmp_path / "log"))


def test_a_file_that_it_writes_itself_is_its_log(modules, home, send, tmp_path):
    with (tmp_path / "log").open("a") as log:
        send(home, log)
    assert modules.qmail_log_file.find(home=str(home.path))["path"] == str(tmp_path / "log")


def test_splogger_leads_to_the_files_of_the_syslog_daemon(modules, home, send, processes, tmp_path, pipe):
    other(processes, "splogger", stdin=pipe[0])
    other(processes, "rsyslogd", tmp_path / "auth.log", tmp_path / "qmail.log", stdin=subprocess.PIPE)
    pid = send(home, pipe[1])
    found = modules.qmail_log_trail.follow(pid)
    assert found["kind"] == "syslog"
    assert {str(tmp_path / "auth.log"), str(tmp_path / "qmail.log")} <= set(found["paths"])
    (tmp_path / "auth.log").write_text("Nov 24 02:11:15 mx sshd[7]: no\n")
    (tmp_path / "qmail.log").write_text(f"Nov 24 02:11:15 mx qmail: 4095486275.513354 {LINE}")
    found = modules.qmail_log_file.find(home=str(home.path))
    assert (found["path"], found["how"]) == (str(tmp_path / "qmail.log"), "newest")


def test_of_two_sploggers_in_one_file_each_has_its_own_lines(modules, home, send, processes, tmp_path):
    """Both hand on to the same syslog, under names of their own."""
    program = tmp_path / "splogger"
    shutil.copy(shutil.which("tee"), program)  # reads its input, and is told a name
    second = Home(tmp_path / "qmail2")
    for one, name in ((home, "qmail"), (second, "qmail2")):
        logger = subprocess.Popen([program, name], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path)
        processes.append(logger)
        send(one, logger.stdin)
    maillog = tmp_path / "maillog"
    other(processes, "rsyslogd", maillog, stdin=subprocess.PIPE)
    lines = [("qmail", 1), ("qmail2", 2), ("local0.qmail2", 3), ("qmail2[7]", 4), ("qmail[7]", 5), ("qmail22", 6)]
    maillog.write_text("".join(f"Nov 24 02:11:15 mx {tag}: 40954862{n}5.513354 {LINE}" for tag, n in lines))
    counted = {one: modules.qmail_log.count(home=str(one.path)) for one in (home, second)}
    assert {told["log"] for told in counted.values()} == {str(maillog)}
    assert (counted[home]["double_bounces"], counted[second]["double_bounces"]) == (3, 4)
    assert modules.qmail_log.summary(home=str(home.path))["double_bounces"] == 3
    ends = {one: modules.qmail_log.position(str(maillog), str(one.path)) for one in (home, second)}
    new = [("Nov 24 02:11:15 mx ", ": "), ("<22>1 2026-11-24T02:11:15.5+00:00 mx ", " - - -  ")]
    with maillog.open("a") as log:
        for number, ((before, after), (name, time)) in enumerate(itertools.product(new, [("qmail", 8), ("qmail2", 9)])):
            log.write(f"{before}{name}{after}409548628{time}.513354 end msg {number}\n")
    told = {one: modules.qmail_log.lines_since(end) for one, end in ends.items()}
    numbers = {one: [event["msg"] for event in found["events"]] for one, found in told.items()}
    assert numbers == {home: [0, 2], second: [1, 3]}
    newest = {one: modules.qmail_log.about(home=str(one.path))["newest"] for one in (home, second)}
    assert newest == {home: 4095486288, second: 4095486289}
    assert modules.qmail_log.lines_since(told[home]["position"])["lines"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a namespace of processes: needs root")
def test_the_splogger_of_a_container_sends_elsewhere(modules, home, send, processes, tmp_path):
    program = tmp_path / "splogger"
    shutil.copy(shutil.which("tee"), program)
    apart = ["unshare", "--pid", "--fork", "--kill-child"]
    found = []
    for before, name in (([], "qmail"), ([], "qmail2"), (apart, "qmail3")):
        log = subprocess.Popen([*before, program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
        processes.append(log)
        log.stdin.write(b"up\n")
        log.stdin.flush()
        assert log.stdout.readline() == b"up\n"
        found.append(log)
    others = modules.qmail_log_trail.follow(send(home, found[0].stdin))["others"]
    assert "qmail2" in others
    assert "qmail3" not in others


def test_a_pipe_that_nobody_reads_leads_nowhere(modules, home, send, pipe):
    assert modules.qmail_log_trail.follow(send(home, pipe[1])) is None


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """A /proc of a machine on which systemd runs qmail-send, with its output going to the journal."""
    place = tmp_path / "proc"
    (place / "77/fd").mkdir(parents=True)
    monkeypatch.setattr(qmail_log_trail, "PROC", str(place))
    monkeypatch.setattr(qmail_base_process, "PROC", str(place))
    monkeypatch.setattr(
        qmail_log_trail, "__salt__", {"qmail_base_process.unit": qmail_base_process.unit}, raising=False
    )
    return place


@pytest.mark.parametrize("unit", ["qmail-send.service", None])
def test_the_journal_is_asked_for_its_unit(proc, tmp_path, unit):
    with socket.socket(socket.AF_UNIX) as journal:
        journal.bind(str(tmp_path / "stdout"))
        (proc / "77/fd/0").symlink_to(tmp_path / "stdout")
        (proc / "77/cgroup").write_text(f"0::/system.slice/{unit or 'session-1.scope'}\n")
        expected = {"kind": "journald", "paths": [f"journald:{unit}"]} if unit else None
        assert qmail_log_trail.follow(77) == expected


def test_a_file_that_it_only_reads_is_not_its_log(proc, tmp_path):
    (tmp_path / "log").write_text("")
    (proc / "77/fd/0").symlink_to(tmp_path / "log")
    (proc / "77/fdinfo").mkdir()
    (proc / "77/fdinfo/0").write_text("pos:\t0\nflags:\t0102001\n")
    assert qmail_log_trail.follow(77)["paths"] == [str(tmp_path / "log")]
    (proc / "77/fdinfo/0").write_text("pos:\t0\nflags:\t0100000\n")
    assert qmail_log_trail.follow(77) is None
