"""While something works on the queue, what people ask of qmail-send is not lost: it is done afterwards."""

import os
import pathlib
import signal
import subprocess

from salt.exceptions import CommandExecutionError

from tests.support.queue_on_disk import until
from tests.support.supervisors import TREES, deliver, lives, on, wait_until

MAIL = 45
# Stop a supervisor as soon as it says these words, and let the delivery end that is held up.
STOP_IT_BETWEEN = """
words=$1 pid=$2 hold=$3
shift 3
until "$@" | grep -q "$words"; do sleep 0.01; done
kill -STOP "$pid"
rm "$hold"
"""


def during(modules, direct, work):
    """Call work while qmail-send is held still, and return what the work saw."""
    given = dict(direct)
    home = given.pop("home")
    return modules.qmail_queue_pause.during(work, home=home, service=given)


def taken(modules, lock):
    """Take the lock as the work does."""
    until(lambda: modules.qmail_base_lock.take(lock))


def is_up(supervisor):
    return bool(supervisor.holder()) and lives(supervisor.holder())


@on(*TREES)
def test_one_that_was_told_to_stay_down_meanwhile_stays_down(supervisor, modules, direct, caplog):
    supervisor.boot()

    def work(lock):
        taken(modules, lock)
        before = modules.qmail_service_directory.told(supervisor.kind, supervisor.name)
        subprocess.run([*supervisor.take_down, supervisor.name], check=True)
        wait_until(lambda: modules.qmail_service_directory.told(supervisor.kind, supervisor.name) != before)

    during(modules, direct, work)
    assert supervisor.holder() is None
    assert f"somebody took qmail-send of {direct['home']} down meanwhile: it stays down" in caplog.text
    assert modules.qmail_queue_pause.recover(direct["home"], service={"name": direct["name"]}) is False
    assert supervisor.holder() is None


@on(*TREES)
def test_a_supervisor_that_records_the_end_late_is_not_taken_for_somebody_s_command(supervisor, modules, direct):
    """As on a machine that is busy: what runs the service gets no time just when qmail-send has ended."""
    old = supervisor.boot()
    supervise = modules.qmail_base_process.above(old)[1]["pid"]
    (supervisor.home.path / "hold").touch()
    deliver(supervisor.home, "slow", 0)

    # runsv says that much before it has sent the signal.
    words = "got TERM" if supervisor.kind == "runit" else "want down"
    asked = [words, str(supervise), str(supervisor.home.path / "hold"), *supervisor.ask, supervisor.name]

    def work(lock):
        taken(modules, lock)
        os.kill(supervise, signal.SIGCONT)
        wait_until(lambda: modules.qmail_service_directory.told(supervisor.kind, supervisor.name)["ended"])

    # A process of its own: the guardian is forked from this one, and would hold a thread's pipes open.
    meanwhile = subprocess.Popen(["sh", "-c", STOP_IT_BETWEEN, "sh", *asked])
    try:
        during(modules, direct, work)
    finally:
        os.kill(supervise, signal.SIGCONT)
        meanwhile.kill()
        assert meanwhile.wait(60) == 0
    assert is_up(supervisor)
    assert supervisor.holder() != old


@on(*TREES)
def test_one_that_was_told_to_run_meanwhile_runs(supervisor, modules, direct):
    supervisor.boot()
    supervisor.down_on_purpose()

    def work(lock):
        taken(modules, lock)
        subprocess.run([*supervisor.take_up, supervisor.name], check=True)
        wait_until(lambda: modules.qmail_service_directory.told(supervisor.kind, supervisor.name)["up"])

    during(modules, direct, work)
    wait_until(lambda: is_up(supervisor))


@on("systemd-once", "sysv", "qmailctl")
def test_one_that_was_started_in_vain_meanwhile_is_started_again(supervisor, modules, direct):
    supervisor.boot()
    supervisor.run("stop")
    wait_until(lambda: supervisor.holder() is None)

    def work(lock):
        taken(modules, lock)
        supervisor.run("start")
        log = supervisor.home.path / "log"
        said = supervisor.journal if supervisor.kind == "systemd" else log.read_text
        wait_until(lambda: "qmail-send is already running" in said())

    during(modules, direct, work)
    assert is_up(supervisor)


@on("daemontools", "qmailctl")
def test_one_that_is_down_stays_down_though_somebody_reads_its_lock(supervisor, modules, direct):
    """As a backup does, while an administrator has taken qmail-send down."""
    supervisor.boot()
    modules.qmail_service.stop(**direct)

    def work(lock):
        taken(modules, lock)
        (supervisor.home.path / "queue/lock/sendmutex").read_bytes()

    during(modules, direct, work)
    assert supervisor.holder() is None


@on(*TREES, "systemd", "qmailctl")
def test_where_nobody_asks_for_anything_it_is_as_before(supervisor, modules, direct):
    def work(lock):
        taken(modules, lock)
        return "done"

    old = supervisor.boot()
    assert during(modules, direct, work) == "done"
    assert supervisor.holder() not in (None, old)
    note = pathlib.Path(modules.qmail_service_loaded.directory(direct["home"]), "paused")
    assert note.read_bytes() == b""
    modules.qmail_service.stop(**direct)
    assert during(modules, direct, work) == "done"
    assert supervisor.holder() is None


@on("systemd")
def test_a_unit_that_systemd_starts_again_at_once_loses_and_doubles_nothing(supervisor, modules, direct):
    """Between the end of qmail-send and systemctl stop, systemd starts another one, which must not begin a delivery."""
    supervisor.write(RestartSec=0)
    supervisor.boot()
    for number in range(MAIL):  # more than one qmail-send has in flight
        supervisor.home.feed(f"mail{number}", 0.3)
    for _ in range(3):
        wait_until(supervisor.home.delivered)
        modules.qmail_service.stop(**direct)
        assert supervisor.holder() is None
        modules.qmail_service.start(**direct)
    wait_until(lambda: not supervisor.home.is_fed())
    words = sorted(supervisor.home.delivered())
    assert words == sorted(f"{word} mail{number}" for word in ("begin", "end") for number in range(MAIL))


@on("systemd")
def test_one_that_systemd_starts_before_it_is_told_to_stop_begins_no_delivery(
    supervisor, modules, direct, monkeypatch, tmp_path
):
    """It has all the time that it needs: systemctl stop waits until it has begun a delivery, or has found the lock."""
    place = supervisor.home.path
    supervisor.write(RestartSec=0)
    supervisor.boot()
    for number in range(MAIL):
        supervisor.home.feed(f"mail{number}", 1)
    wait_until(supervisor.home.delivered)
    looked = f"journalctl --quiet --output cat --unit {supervisor.unit} --since @{supervisor.since}"
    begun = f"test $(wc -l <{place}/starts) -gt 1 && test $(grep -c begin {place}/delivered) -gt 10"
    wait = f"until {{ {looked} | grep -q 'already running'; }} || {{ {begun}; }}; do sleep 0.1; done"
    (tmp_path / "systemctl").write_text(
        f'#!/bin/sh\nif test "$1" = stop; then {wait}; fi\nexec {supervisor.systemctl} "$@"\n'
    )
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    modules.qmail_service.stop(**direct)
    modules.qmail_service.start(**direct)
    wait_until(lambda: not supervisor.home.is_fed())
    words = sorted(supervisor.home.delivered())
    assert words == sorted(f"{word} mail{number}" for word in ("begin", "end") for number in range(MAIL))


@on("systemd")
def test_a_stop_that_cannot_have_the_lock_does_not_stop_the_unit(supervisor, modules, direct):
    old = supervisor.boot()
    (supervisor.home.path / "hold").touch()
    deliver(supervisor.home, "slow", 0)
    try:
        modules.qmail_service.stop(**{**direct, "timeout": 0.3})
        raise AssertionError("it did not wait")
    except CommandExecutionError as err:
        assert f"qmail-send {old} still runs" in str(err)
    assert "Stopping" not in supervisor.journal()


@on("systemd")
def test_a_unit_that_systemd_has_just_started_is_left_to_come_up(supervisor, modules, direct):
    """Where it takes as long to come back as we wait before we start it: starting it again would end it."""
    supervisor.write(ExecStart=f"/bin/sh -c 'sleep 1; exec {supervisor.command}'", RestartSec=2.7)
    old = supervisor.boot()
    assert modules.qmail_service.restart(**direct) == {"old": old, "new": supervisor.holder()}
    assert "Stopping" not in supervisor.journal()


@on(*TREES)
def test_a_service_directory_that_only_the_process_shows_is_found_again(supervisor, modules):
    """Of no usual name or place: when qmail-send has ended, nothing on the disk but the record says what starts it."""
    (supervisor.home.path / "bin/qmailctl").unlink()
    old = supervisor.boot()
    home = {"home": str(supervisor.home.path)}
    wait_until(lambda: modules.qmail_service.find(**home)["pid"])
    modules.qmail_queue_pause.during(lambda lock: taken(modules, lock), **home, service={"settle": 0.1})
    assert is_up(supervisor) and supervisor.holder() != old


@on("daemontools")
def test_with_two_qmails_the_one_whose_queue_is_named_comes_back(supervisor, modules, monkeypatch):
    """The other one has the usual service directory."""
    (supervisor.home.path / "bin/qmailctl").unlink()
    usual, supervisor.directory = supervisor.directory, supervisor.scan / "qmail2-send"
    supervisor.name = str(supervisor.directory)
    old = supervisor.boot()
    usual.mkdir()
    (usual / "run").write_text("#!/bin/sh\nexec sleep 3600\n")
    (usual / "run").chmod(0o755)
    (usual / "down").touch()
    monkeypatch.setitem(modules["qmail_service_directory.patterns"].__globals__, "PLACES", (str(supervisor.scan),))
    home = {"home": str(supervisor.home.path)}
    wait_until(lambda: modules.qmail_service.find(**home)["pid"])
    wait_until(lambda: (usual / "supervise/ok").exists())
    modules.qmail_queue_pause.during(lambda lock: taken(modules, lock), **home, service={"settle": 0.1})
    assert is_up(supervisor) and supervisor.holder() != old
    assert "down" in subprocess.run([*supervisor.ask, usual], capture_output=True, text=True, check=True).stdout
