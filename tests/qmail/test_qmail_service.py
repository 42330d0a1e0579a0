"""A restart of the real qmail-send, under daemontools, with real mail in flight. What is changed is put back."""

import os
import signal
import subprocess
import types

import pytest

from tests.qmail import which
from tests.qmail.lent import waits
from tests.support.supervisors import Daemontools, lives, missing, wait_until

ALIAS = ".qmail-restart-test"


class Qmail:
    """The qmail of this machine, with a log and addresses for the test."""

    def __init__(self, home, place):
        self.home = home
        self.supervisor = Daemontools(types.SimpleNamespace(path=home), place)
        self.supervisor.command = f"env - PATH={home}/bin:/usr/bin:/bin QUEUEDIR={home}/queue qmail-start ./Mailbox"
        self.log_directory = place / "qmail-log"
        self.me = "mail.doublebounce.test"
        for name in ("me", "locals"):
            (home / "control" / name).write_text(f"{self.me}\n")
            (home / "control" / name).chmod(0o644)

    def alias(self, name, text):
        path = self.home / "alias" / f"{ALIAS}-{name}"
        path.write_text(text)
        path.chmod(0o644)

    def send(self, name):
        """Queue a message from nobody to an address here."""
        message = f"To: {name}\nSubject: test\n\ntest\n".encode()
        command = [self.home / "bin/qmail-inject", "-f", "", f"restart-test-{name}@{self.me}"]
        environment = {**os.environ, "QUEUEDIR": str(self.home / "queue")}
        subprocess.run(command, input=message, check=True, timeout=20, env=environment)

    def log(self):
        return "".join(path.read_text() for path in sorted(self.log_directory.glob("[@c]*")))

    def wait_for(self, text, times=1):
        wait_until(lambda: self.log().count(text) >= times, why=f"the log has no {text}")


@pytest.fixture
def real(ours, tmp_path):
    why = missing("daemontools")
    if why:
        pytest.skip(why)
    real = Qmail(ours, tmp_path)
    try:
        yield real
        wait_until(lambda: waits(ours) is None)
    finally:
        real.supervisor.close()


@pytest.fixture
def converge(loaders, real):
    """Apply what the formula's SLS says of one control file and the service, and return what became of that."""

    def converge(value, **more):
        home = {"home": str(real.home)}
        service = ["running", home, *({key: given} for key, given in more.items())]
        service.append({"watch": [{"qmail_control": "doublebounceto"}]})
        high = {
            "doublebounceto": {"qmail_control": ["managed", {"value": value}, home]},
            "qmail-send": {"qmail_service": service},
        }
        return next(ret for ret in loaders.modules.state.high(high) if ret.name == "qmail-send")

    return converge


@pytest.mark.usefixtures("draining")
def test_a_change_makes_one_restart_and_mail_in_flight_is_delivered_once(real, converge):
    go = real.home / "alias" / f"{ALIAS}-go"
    real.alias("slow", f"|for n in $(seq 900); do test -e {go} && break; sleep 0.1; done; echo slept\n")
    old = real.supervisor.boot()
    real.send("slow")
    real.wait_for("starting delivery 1:")
    late = converge("restart-test-a", timeout=1)
    assert late.result is False
    assert f"qmail-send {old} still runs: it waits for its deliveries in flight (1)" in late.comment
    assert "daemontools starts it again by itself" in late.comment
    go.touch()
    wait_until(lambda: not lives(old))
    wait_until(real.supervisor.holder)
    assert converge("restart-test-a").result is True
    real.wait_for("delivery 1: success: slept/did_0+0+1/")
    assert real.log().count("starting delivery") == 1
    # Idle, it takes no longer than supervise does; and the run after that leaves it alone.
    ret = converge("restart-test-b")
    assert ret.changes["pid"]["new"] == real.supervisor.holder()
    assert converge("restart-test-b").changes == {}
    assert real.supervisor.holder() == ret.changes["pid"]["new"]
    assert real.log().count("status: exiting") == 2
    assert which.alerts(real.log()) == []


def test_only_a_restart_has_it_read_where_double_bounces_go(real, converge, modules):
    for name in ("a", "b"):
        real.alias(name, "#\n")
    real.supervisor.boot()
    converge("restart-test-a")
    pid = real.supervisor.holder()
    (real.home / "control/doublebounceto").write_text("restart-test-b\n")
    os.kill(pid, signal.SIGHUP)
    real.send("nobody")  # it comes from nobody and reaches nobody: a double bounce
    real.wait_for(f"to local restart-test-a@{real.me}")
    assert modules.qmail_service.status(home=str(real.home))["loaded"] is False
    assert converge("restart-test-b").changes["pid"]["old"] == pid
    assert modules.qmail_service.status(home=str(real.home))["loaded"] is True
    real.send("nobody")
    real.wait_for(f"to local restart-test-b@{real.me}")
    real.wait_for("success: did_0+0+0/", times=2)


def test_one_that_could_not_read_its_control_files_is_left_running(real, converge):
    old = real.supervisor.boot()
    broken = real.home / "control/concurrencylocal"
    broken.mkdir()
    try:
        ret = converge("restart-test-a", timeout=2)
    finally:
        broken.rmdir()
    assert ret.result is False
    assert f"could not start again. qmail-send cannot read {broken}" in ret.comment
    assert real.supervisor.holder() == old
    assert converge("restart-test-a").result is True


def test_a_stop_lasts_until_a_start(real, modules):
    old = real.supervisor.boot()
    given = {"home": str(real.home), "name": real.supervisor.name}
    assert modules.qmail_service.stop(**given) == {"old": old, "new": None}
    assert modules.qmail_service.start(**given) == {"old": None, "new": real.supervisor.holder()}
