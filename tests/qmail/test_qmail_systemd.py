"""
The real qmail under a real systemd, both in a machine of their own: a copy of the one at /var/qmail, which stays as it
is.
"""

import os
import pathlib
import pwd
import re
import signal
import subprocess
import tempfile
import types

import pytest

from tests.support.supervisors import Systemd, wait_until

HOME = "/var/qmail"
# Nothing is copied, and no machine made for it, where these tests are not asked for.
pytestmark = [pytest.mark.under_systemd(copies=[HOME])] if os.environ.get("QMAIL_TEST") else []
ALIAS = ".qmail-restart-test"
ME = "mail.doublebounce.test"


class Qmail:
    """A qmail with a unit, and an address whose mail is stored, and then in flight until there is a file ``go``."""

    def __init__(self, home, place):
        self.home, self.place = home, place
        self.unit = Systemd(types.SimpleNamespace(path=home), place)
        for name in ("me", "locals"):
            (home / "control" / name).write_text(f"{ME}\n")
            (home / "control" / name).chmod(0o644)
        open_to_all = pathlib.Path(tempfile.mkdtemp(prefix="qmail-"))
        open_to_all.chmod(0o755)
        self.go, self.copies = open_to_all / "go", open_to_all / "copies"
        user = pwd.getpwnam("alias")
        for path in (self.copies, *(self.copies / part for part in ("tmp", "new", "cur"))):
            path.mkdir()
            os.chown(path, user.pw_uid, user.pw_gid)
        wait = f"|for n in $(seq 900); do test -e {self.go} && break; sleep 0.1; done"
        (home / "alias" / ALIAS).write_text(f"{self.copies}/\n{wait}\n")
        (home / "alias" / ALIAS).chmod(0o644)

    def boot(self, **settings):
        start = f"{self.home}/bin/qmail-start ./Mailbox"
        environment = f"PATH={self.home}/bin:/usr/bin:/bin QUEUEDIR={self.home}/queue"  # indimail's asks for the queue
        self.unit.write(ExecStart=start, Environment=environment, **settings)
        return self.unit.boot()

    def send(self, number):
        message = f"To: test\nSubject: {number}\n\ntest\n".encode()
        command = [self.home / "bin/qmail-inject", "-f", "", f"restart-test@{ME}"]
        environment = {**os.environ, "QUEUEDIR": str(self.home / "queue")}
        subprocess.run(command, input=message, check=True, env=environment, timeout=20)

    def stored(self):
        return len(list((self.copies / "new").iterdir()))

    def queued(self):
        return [path.name for path in (self.home / "queue/mess").glob("*/*")]

    def all_is_delivered(self):
        """Try what waits for another attempt at once, and return whether nothing is left."""
        pid = self.unit.holder()
        if pid:
            os.kill(pid, signal.SIGALRM)
        return pid and not self.queued()

    def close(self):
        self.unit.close()


@pytest.fixture
def real(ours, tmp_path):
    real = Qmail(ours, tmp_path)
    try:
        yield real
    finally:
        real.close()


def with_five_in_flight(real, restart):
    """Restart with five messages in flight, and return how many copies there are of them when all are delivered."""
    before = real.stored()
    real.go.unlink(missing_ok=True)
    for number in range(5):
        real.send(number)
    wait_until(lambda: real.stored() == before + 5)
    restart()
    real.go.touch()
    wait_until(real.all_is_delivered)
    return real.stored() - before


def salts(loaders, real):
    """Have Salt's own state restart the unit after a change that it watches."""
    path = f"{real.home}/control/doublebounceto"
    high = {
        path: {"file": ["managed", {"contents": f"test-{real.stored()}"}]},
        "qmail-send": {"service": ["running", {"watch": [{"file": path}]}]},
    }
    assert all(ret.result is True and ret.changes for ret in loaders.modules.state.high(high))


def ours_while_it_drains(loaders, real):
    """The same with our state, and the deliveries end while it waits."""
    path = f"{real.home}/control/doublebounceto"
    high = {
        path: {"file": ["managed", {"contents": f"test-{real.stored()}"}]},
        "qmail-send": {"qmail_service": ["running", {"settle": 0.2}, {"watch": [{"file": path}]}]},
    }
    go = subprocess.Popen(["sh", "-c", f"sleep 1; touch {real.go}"])
    assert all(ret.result is True and ret.changes for ret in loaders.modules.state.high(high))
    go.wait()


@pytest.mark.usefixtures("draining")
def test_on_the_same_unit_the_restart_of_salt_itself_makes_ten_copies_of_five_messages_and_ours_five(real, loaders):
    real.boot(Restart="always")
    assert with_five_in_flight(real, lambda: salts(loaders, real)) == 10
    assert with_five_in_flight(real, lambda: ours_while_it_drains(loaders, real)) == 5


@pytest.mark.usefixtures("draining")
@pytest.mark.parametrize("restart", ["always", "on-failure", "no", "on-abnormal"])
@pytest.mark.parametrize("kill", ["control-group", "mixed", "process"])
def test_whatever_the_unit_says_no_delivery_is_cut_or_doubled(real, loaders, modules, restart, kill):
    real.boot(Restart=restart, KillMode=kill)
    assert modules.qmail_service_supervisor.find()["returns"] is (restart == "always")
    assert with_five_in_flight(real, lambda: ours_while_it_drains(loaders, real)) == 5
    assert modules.qmail_service.stop(settle=0.2)["new"] is None
    # systemd may start one before it hears that none is wanted: that one ends at the lock, before it does anything.
    assert "alert" not in real.unit.journal().replace("alert: cannot start: qmail-send is already running", "")


def test_the_journal_says_why_one_cannot_start(real, modules):
    real.boot(Restart="always")
    unreadable = real.home / "control/concurrencylocal"
    unreadable.mkdir()
    os.kill(real.unit.holder(), signal.SIGTERM)
    wait_until(lambda: "Start request repeated too quickly" in real.unit.journal())
    # indimail's also tells its settings when it starts, and names itself and its queue in the alert.
    (alert,) = (line for line in modules.qmail_service_startup.last_words() if not line.startswith("info: "))
    assert re.fullmatch("alert: (?:qmail-send: queue: )?cannot start: unable to read controls", alert)
    unreadable.rmdir()
    assert modules.qmail_service.start(settle=0.2)["new"] == real.unit.holder()
