"""Servers of the stand-in qmail, each with a unit of its own in the systemd in whose machine the test runs."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile

from tests.support import python
from tests.support.home import Home
from tests.support.machine import REPOSITORY
from tests.support.supervisors import Systemd, wait_until

ADDRESS = "dummy@example.com"
JOURNALD = pathlib.Path("/etc/systemd/journald.conf.d/test.conf")


class Server:
    """
    A running one, with a sink. ``splogger``: the words of the program that its lines go to, if they don't go to the
    journal directly. Settings go into the section ``Service`` of its unit.
    """

    def __init__(self, place, name, splogger=(), **settings):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="qmail-"))
        self.top.chmod(0o755)
        self.home = Home(self.top / "qmail")
        self.home.write_control("doublebounceto", "dummy\n")
        self.home.write_control("doublebouncehost", "example.com\n")
        (self.home.mailbox() / ".qmail").write_text("|exit 0\n")
        self.unit = Systemd(self.home, place, name)
        start = [python.IN_A_UNIT, "-m", "tests.support.mta", str(self.home.path), *splogger]
        environment = "PYTHONDONTWRITEBYTECODE=1"
        self.unit.write(ExecStart=" ".join(start), WorkingDirectory=REPOSITORY, Environment=environment, **settings)
        self.unit.run("start")

    @property
    def path(self):
        return str(self.home.path)

    def wait(self):
        """Wait until it looks for messages."""
        self.unit.wait()
        self.say()
        return self

    def say(self, *lines):
        """Have it log lines, and wait until it has handed them on."""
        self.put("say", "".join(f"{line}\n" for line in lines))
        wait_until(lambda: not (self.home.path / "say").exists())

    @contextlib.contextmanager
    def before_each_line(self, command):
        """Have it run a command before each line that it logs. What came of that when it ran last is in ``rotated``."""
        self.put("rotate", command)
        try:
            yield self.home.path / "rotated"
        finally:
            (self.home.path / "rotate").unlink()

    def put(self, name, text):
        (self.home.path / f".{name}").write_text(text)
        (self.home.path / f".{name}").rename(self.home.path / name)

    def ask(self, **more):
        """Return what a function needs to know of it."""
        return {"home": self.path, **more}

    def counted(self, modules, **more):
        return modules.qmail_log.count(**self.ask(**more))["double_bounces"]

    def close(self):
        self.unit.close()
        shutil.rmtree(self.top)


class Reader:
    """Whoever follows the log of a server: a call returns the messages that the new lines are about."""

    def __init__(self, modules, server, **more):
        self.modules, self.lost = modules, None
        self.where = modules.qmail_log.position(**server.ask(**more))

    def __call__(self, **more):
        told = self.modules.qmail_log.lines_since(self.where, **more)
        self.where, self.lost = told["position"], told["lost"]
        return [event["msg"] for event in told["events"] if event and event["event"] == "info"]


def journald(**settings):
    """Have the journal's daemon run with these settings; with none, as it was."""
    JOURNALD.unlink(missing_ok=True)
    if settings:
        JOURNALD.parent.mkdir(exist_ok=True)
        JOURNALD.write_text("[Journal]\n" + "".join(f"{name}={value}\n" for name, value in settings.items()))
    subprocess.run(["systemctl", "restart", "systemd-journald"], check=True, timeout=60)


def journalctl(*words):
    return subprocess.run(["journalctl", *words], check=True, capture_output=True, text=True, timeout=60).stdout
