"""Lay out a small qmail home on disk, for tests and for the demo."""

import os
import pathlib
import shutil
import signal
import time

from tests.support import cdb

BIN = pathlib.Path(__file__).parent / "bin"


class Home:
    """
    A qmail home with one virtual domain, example.com, and a mailbox dummy@example.com with an ordinary .qmail.

    Every file belongs to the user who runs this; users/assign says so too, so that no root is needed. As root the
    mailbox belongs to another user, as it would on a server.
    """

    DOMAIN = "example.com"
    ADDRESS = "dummy@example.com"

    def __init__(self, path):
        self._know(path)
        for name in ("control", "users", "alias", "bin", "queue/lock", "mailnames"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        (self.path / "queue/lock/sendmutex").touch()
        for name in ("qmail-send", "qmailctl"):
            shutil.copy(BIN / name, self.path / "bin" / name)
        self.write_control("me", "mail.example.net\n")
        self.write_control("locals", "mail.example.net\nlocalhost\n")
        self.write_control("virtualdomains", f"{self.DOMAIN}:1\n")
        # Whoever is nobody goes to ~alias, as qmail-getpw has it; this machine need not have a user of that name.
        self.assign = [f"+:alias:{self.uid}:{self.gid}:{self.path}/alias:-::"]
        self.add_mailbox("dummy", "./Maildir/\n")

    @classmethod
    def at(cls, path):
        """Return the home that is laid out at a place already."""
        home = cls.__new__(cls)
        home._know(path)
        home.assign = (home.path / "users/assign").read_text().split("\n")[:-2]
        return home

    def _know(self, path):
        self.path = pathlib.Path(path)
        self.control = self.path / "control"
        self.uid, self.gid = (4242, 4243) if os.geteuid() == 0 else (os.geteuid(), os.getegid())

    def write_control(self, name, text):
        (self.control / name).write_text(text)
        (self.control / name).chmod(0o644)

    def add_mailbox(self, name, dotqmail=None):
        """Make a mailbox in the virtual domain, and return its directory."""
        directory = self.path / "mailnames" / self.DOMAIN / name
        for part in ("cur", "new", "tmp"):
            (directory / "Maildir" / part).mkdir(parents=True)
        if dotqmail is not None:
            (directory / ".qmail").write_text(dotqmail)
            (directory / ".qmail").chmod(0o600)
        for path in (directory, *directory.rglob("*")):
            os.chown(path, self.uid, self.gid)
        self.add_assign(f"=1-{name}:popuser:{self.uid}:{self.gid}:{directory}:::")
        return directory

    def add_assign(self, line):
        """Add a line to users/assign, and make users/cdb from it as qmail-newu does."""
        self.assign.append(line)
        text = "".join(f"{entry}\n" for entry in (*self.assign, "."))
        (self.path / "users/assign").write_text(text)
        (self.path / "users/cdb").write_bytes(cdb.from_assign(text))

    def mailbox(self, name="dummy"):
        return self.path / "mailnames" / self.DOMAIN / name

    def snapshot(self):
        """Return every file and directory with contents, owner and mode; what qmail-send itself writes is left out."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if name in ("log", "qmail-send.pid", "double-bounces-go-to"):
                continue
            about = path.lstat()
            contents = path.read_bytes() if path.is_file() else None
            found[name] = (about.st_mode, about.st_uid, about.st_gid, contents)
        return found

    def account(self):
        """Have qmail-send write down its starts and its deliveries, and make those that it is fed with."""
        (self.path / "deliver").mkdir()
        for name in ("starts", "delivered"):
            (self.path / name).touch()

    def feed(self, name, seconds):
        """Have qmail-send make a delivery that takes so long. It must not see the message before that is written."""
        new = self.path / "deliver" / f".{name}"
        new.write_text(str(seconds))
        new.rename(self.path / "deliver" / name)

    def is_fed(self):
        """Return whether any of them is still to be made."""
        return any((self.path / "deliver").iterdir())

    def delivered(self):
        """Return what it has written down of them: ``begin NAME`` and ``end NAME``."""
        return (self.path / "delivered").read_text().splitlines()

    def pid(self):
        """Return the process id that qmailctl wrote down, if that process lives."""
        return _pid(self.path / "qmail-send.pid")

    def loaded(self):
        """Return the address that the running qmail-send sends double bounces to, as it says itself."""
        path = self.path / "double-bounces-go-to"
        return path.read_bytes().decode(errors="backslashreplace").rstrip("\n") if path.exists() else None

    def wait_until_loaded(self, address, seconds=60):
        """Wait for a qmail-send that sends double bounces to this address, and return whether there is one."""
        deadline = time.monotonic() + seconds
        while self.loaded() != address and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.loaded() == address

    def stop(self):
        """Stop the qmail-send that qmailctl started."""
        self.stop_pid(self.path / "qmail-send.pid")

    @staticmethod
    def stop_pid(path, seconds=10):
        """Stop the process whose id is in a file, if it lives."""
        pid = _pid(path)
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while _lives(pid, path.parent) and time.monotonic() < deadline:
            time.sleep(0.02)
        if _lives(pid, path.parent):
            os.kill(pid, signal.SIGKILL)


def _pid(path):
    try:
        pid = int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _lives(pid, path.parent) else None


def _lives(pid, home):
    """
    Return whether a process is the qmail-send of a home, or about to become it.

    One that has ended and waits for its parent to notice is gone. Numbers are used again: what has this one now may be
    the qmail-send of another home.
    """
    try:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()  # empty, if it has ended
    except OSError:
        return False
    return os.fsencode(home) in command
