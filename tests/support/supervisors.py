"""Run the stand-in qmail-send of a home under each of the supervisors in use, for tests."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from tests.support import mounts, python
from tests.support.home import BIN
from tests.support.systemd import OWN

UNITS = pathlib.Path(OWN)
LSB = """### BEGIN INIT INFO
# Provides: qmail-send
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
"""
PYTHON = f"{python.PATH} -IS"  # starts faster than env python3


def wait_until(done, seconds=60, why=""):
    """Look again and again until something is true, and return it; fail after this many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = done()
        if found:
            return found
        assert time.monotonic() < deadline, f"in vain for {seconds} s: {why or done}"
        time.sleep(0.02)


def deliver(home, name, seconds):
    """Have qmail-send make a delivery, and wait until it is in flight."""
    home.feed(name, seconds)
    wait_until(lambda: f"begin {name}" in home.delivered())


def deliver_until_let_go(home, name):
    """Have qmail-send make a delivery that is in flight until the file that this returns is deleted."""
    hold = home.path / "hold"
    hold.touch()
    deliver(home, name, 0)
    return hold


def lives(pid):
    """Return whether a process is there, and not only as a zombie that nobody has waited for."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def paused(pid):
    """Have a process do nothing meanwhile, as after ``svc -p``."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_send(pid):
    """Return whether a process is called as qmail-send is. Others may hold a file of the same number elsewhere."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip().endswith("send")
    except OSError:
        return False


def below(pid):
    """List a process and all that came of it, by their ids."""
    parents = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found


def end(pids, seconds=5):
    """End processes: first asked to, then told to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(lives, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while any(map(lives, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)


class Supervisor:
    """What runs the qmail-send of one home. ``kind`` and ``name`` are what ``qmail_service.find`` returns."""

    tools = ()
    returns = True  # whether qmail-send is started again by itself when it has ended
    tells = True  # whether it knows the process

    def __init__(self, home, place):
        self.home, self.place, self.name = home, place, None
        self.command = f"{PYTHON} {home.path / 'bin/qmail-send'} {home.path}"

    def holder(self):
        """Return the process id of the qmail-send that runs, as the kernel tells it."""
        about = (self.home.path / "queue/lock/sendmutex").stat()
        device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
        for line in pathlib.Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] not in ("FLOCK", "POSIX") or not fields[5].endswith(f":{about.st_ino}"):
                continue
            if fields[5].startswith(f"{device}:") or is_send(fields[4]):
                return int(fields[4])
        return None

    def wait(self):
        return wait_until(self.holder, why="no qmail-send came up")


class Tree(Supervisor):
    """A directory of services, with one of them, and its log. What scans it and what writes the log is different."""

    scanner = ()
    logger = ""

    def __init__(self, home, place):
        super().__init__(home, place)
        self.scan = place / "service"
        self.directory = self.scan / "qmail-send"
        self.name = str(self.directory)
        self.process = None

    def lay_out(self, command=None):
        (self.directory / "log").mkdir(parents=True)
        self.directory.chmod(0o1755)  # daemontools: this one has a log
        self.script("run", f"exec 2>&1\nexec {command or self.command}\n")
        self.script("log/run", f"exec {self.logger}\n")

    def script(self, name, text):
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    def boot(self, up=True):
        if not self.directory.exists():
            self.lay_out()
        if not up:
            (self.directory / "down").touch()
        self.process = subprocess.Popen(
            [*self.scanner, str(self.scan)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self.wait() if up else wait_until(lambda: (self.directory / "supervise/status").exists())

    def unsupervise(self):
        """End what supervises, then qmail-send, and leave the directory as it lies there."""
        if not self.process:
            return
        pids = below(self.process.pid)
        for pid in pids:
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in self.tools:
                    os.kill(pid, signal.SIGKILL)  # supervisors go down their own way when asked
        end(pids)
        self.process.wait()
        self.process = None

    def down_on_purpose(self):
        (self.directory / "down").touch()
        subprocess.run([*self.take_down, self.name], check=True)
        wait_until(lambda: not self.holder())

    def close(self):
        self.unsupervise()


class Daemontools(Tree):
    kind = "daemontools"
    tools = ("svscan", "supervise", "svc", "svstat", "multilog")
    scanner = ("svscan",)
    ask, take_up, take_down = ("svstat",), ("svc", "-u"), ("svc", "-d")

    @property
    def logger(self):
        return f"multilog t {self.place / 'qmail-log'}"  # a place of its own, as LWQ has it

    def log(self):
        return "".join(path.read_text() for path in (self.place / "qmail-log").glob("[@c]*"))


class Runit(Tree):
    kind = "runit"
    tools = ("runsvdir", "runsv", "svlogd", "sv")
    scanner = ("runsvdir",)
    ask, take_up, take_down = ("sv", "status"), ("sv", "up"), ("sv", "down")
    logger = "sh -c 'mkdir -p main && exec svlogd -tt ./main'"


class S6(Tree):
    kind = "s6"
    tools = ("s6-svscan", "s6-supervise", "s6-svc", "s6-svstat", "s6-log")
    scanner = ("s6-svscan",)
    ask, take_up, take_down = ("s6-svstat",), ("s6-svc", "-u"), ("s6-svc", "-d")
    logger = "s6-log t ./main"


class Systemd(Supervisor):
    """A unit of the systemd in whose machine the test runs: see inside.py. Settings go into the section ``Service``."""

    kind = "systemd"
    ask = ("systemctl", "show")
    restart = "always"

    def __init__(self, home, place, name="qmail-send"):
        super().__init__(home, place)
        self.name = name
        self.unit = name if name.endswith(".service") else f"{name}.service"
        self.path = UNITS / self.unit
        self.settings = {"ExecStart": self.command, "Restart": self.restart}
        self.files, self.since = [], time.time()
        self.systemctl = shutil.which("systemctl")
        self.write()

    def write(self, limit="", **settings):
        """Have the unit say something else, too; ``limit`` goes into the section ``Unit``."""
        self.settings.update(settings)
        lines = "".join(f"{key}={value}\n" for key, value in self.settings.items())
        self.lay(self.path, f"[Unit]\n{limit}\n[Service]\n{lines}\n[Install]\nWantedBy=multi-user.target\n")

    def lay(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.files.append(path)
        self.run("daemon-reload")

    def run(self, verb, *words):
        """Tell systemctl something; of the unit, where the verb is about one."""
        about = [] if verb == "daemon-reload" else [self.unit]
        told = [self.systemctl, verb, *words, *about]
        return subprocess.run(told, check=True, timeout=100, capture_output=True, text=True).stdout

    def shown(self, *names):
        """Return what systemd says of the unit under these names."""
        said = self.run("show", *(f"--property={name}" for name in names))
        found = dict(line.partition("=")[::2] for line in said.splitlines())
        return [found[name] for name in names]

    def journal(self):
        """Return what the journal has of this unit since it is there, by its own processes and by systemd."""
        about = ["--unit", self.unit, "--since", f"@{self.since}"]
        command = ["journalctl", "--no-pager", "--quiet", "--output", "cat", *about]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    log = journal

    def boot(self, up=True):
        if not up:
            return None
        self.run("enable")
        self.run("start")
        return self.wait()

    def disable(self):
        self.run("disable")

    def down_on_purpose(self):
        self.disable()
        self.run("stop")
        wait_until(lambda: not self.holder())

    def close(self):
        self.run("stop", "--no-block")
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("kill", "--signal=KILL")  # it may wait for a delivery that never ends
        wait_until(lambda: self.shown("ActiveState")[0] in ("inactive", "failed"))
        (UNITS / "multi-user.target.wants" / self.unit).unlink(missing_ok=True)
        for path in self.files:
            path.unlink(missing_ok=True)
        self.run("daemon-reload")
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("reset-failed")


class SystemdOnce(Systemd):
    """A unit that systemd does not start again."""

    returns = False
    restart = "no"


class SystemdScript(Systemd):
    """An init script, of which systemd has made a unit: it is started, and looked after by nobody."""

    returns = tells = False
    links = tuple(pathlib.Path(f"/etc/rc{level}.d/S20qmail-send") for level in "2345")

    def write(self):
        self.path = pathlib.Path("/etc/init.d/qmail-send")
        self.files += [self.path, *self.links]
        self.path.write_text(script(self).replace("#!/bin/sh\n", f"#!/bin/sh\n{LSB}", 1))
        self.path.chmod(0o755)
        self.run("daemon-reload")

    def boot(self, up=True):
        for link in self.links:
            link.symlink_to(self.path)
        self.run("daemon-reload")
        if not up:
            return None
        self.run("start")
        return self.wait()

    def disable(self):
        for link in self.links:
            link.unlink()
        self.run("daemon-reload")

    def close(self):
        pid = self.holder()
        end(below(pid) if pid else [])
        super().close()


def script(supervisor):
    """Return an init script for the qmail-send of a home."""
    text = (BIN / "qmailctl").read_text()
    text = text.replace('home=$(cd "$(dirname "$0")/.." && pwd)', f"home={supervisor.home.path}")
    return text.replace('"$home/bin/qmail-send" "$home"', supervisor.command)


class Script(Supervisor):
    returns = tells = False

    def boot(self, up=True):
        if up:
            self.run("start")
            return self.wait()
        return None

    def close(self):
        pid = self.holder()
        end(below(pid) if pid else [])


class Qmailctl(Script):
    kind = "qmailctl"

    def __init__(self, home, place):
        super().__init__(home, place)
        self.path = home.path / "bin/qmailctl"
        self.name = str(self.path)
        self.path.write_text(self.path.read_text().replace('"$home/bin/qmail-send" "$home"', self.command))

    def run(self, verb):
        subprocess.run([self.name, verb], check=True, timeout=60)


class Sysv(Script):
    """A real init script, in the real place: a directory that only this process and its children see there."""

    kind = "sysv"
    tools = ("service",)

    def __init__(self, home, place):
        super().__init__(home, place)
        self.covers = contextlib.ExitStack()
        for directory in ("/etc/init.d", "/etc/rc2.d"):
            self.covers.enter_context(mounts.covered(directory))
        # Not a digit in it: Salt on Debian takes the name of an enabled one for what follows the last digit.
        self.name = "qmail-test-" + "".join(chr(ord("a") + int(digit)) for digit in str(os.getpid()))
        self.path = pathlib.Path("/etc/init.d") / self.name
        self.link = pathlib.Path("/etc/rc2.d") / f"S20{self.name}"
        self.path.write_text(script(self))
        self.path.chmod(0o755)
        self.link.symlink_to(f"../init.d/{self.name}")

    def run(self, verb):
        subprocess.run(["service", self.name, verb], check=True, timeout=60)

    def disable(self):
        self.link.unlink()

    def down_on_purpose(self):
        self.disable()
        self.run("stop")

    def close(self):
        super().close()
        self.covers.close()


ALL = {
    "daemontools": Daemontools,
    "runit": Runit,
    "s6": S6,
    "systemd": Systemd,
    "systemd-once": SystemdOnce,
    "systemd-sysv": SystemdScript,
    "sysv": Sysv,
    "qmailctl": Qmailctl,
}


TREES = [kind for kind, made in ALL.items() if issubclass(made, Tree)]


def params(kinds):
    """Have what needs a systemd run where there is one, and under each Salt one that needs it and one that does not."""
    each_salt = {"daemontools", "systemd"}.intersection(kinds) or kinds
    return [pytest.param(kind, marks=list(_marks(kind, kind in each_salt))) for kind in kinds]


def _marks(kind, each_salt):
    if issubclass(ALL[kind], Systemd):
        yield pytest.mark.under_systemd
    if not each_salt:
        yield pytest.mark.newest_salt


def on(*kinds):
    """Run a test on these supervisors only."""
    return pytest.mark.parametrize("supervisor", params(kinds), indirect=True)


def booted(monkeypatch, whether):
    """Have the modules think that systemd runs this system, or that it does not. Each state run loads them again."""
    isdir = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: whether if path == "/run/systemd/system" else isdir(path))


def missing(kind):
    """Return why this machine cannot run a kind of supervisor; ``None`` where it can."""
    gone = [tool for tool in ALL[kind].tools if not shutil.which(tool)]
    if gone:
        return f"{kind} is not installed: no {', '.join(gone)}"
    if kind == "sysv" and mounts.denied():
        return f"an init script needs a place of its own: {mounts.denied()}"
    if kind == "sysv" and os.path.isdir("/run/systemd/system"):
        return "systemd runs this system, and takes init scripts for units"
    return None
