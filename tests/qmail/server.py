"""The real qmail of this machine, borrowed for tests: its own domain and mailboxes, and everything as it was after."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from tests.support import cdb

UID = GID = 54321
CTL = """#!/bin/sh
# Start, stop and restart the qmail-send of the tests.
case "$1" in
  stop) exec "{top}/stop" ;;
  restart) "{top}/stop" ;;
esac
setsid env - PATH=/var/qmail/bin:/usr/bin:/bin QUEUEDIR=/var/qmail/queue \\
  /var/qmail/bin/qmail-start ./Maildir/ cat </dev/null >>"{log}" 2>&1 &
echo $! >"{top}/pid"
"""
STOP = """#!/bin/sh
pid=$(cat "{top}/pid" 2>/dev/null) || exit 0
kill "$pid" 2>/dev/null
while [ -n "$(readlink "/proc/$pid/exe")" ]; do sleep 0.05; done
"""


class Server:
    """
    A qmail whose host is mail.doublebounce.test, with a virtual domain doublebounce.test and a mailbox sink in it, and
    a postmaster who stores.
    """

    HOST = "mail.doublebounce.test"
    SINK = "sink@doublebounce.test"

    def __init__(self, qmail, top):
        self.qmail, self.top = qmail, top
        self.control = qmail / "control"
        self.log = top / "log"
        self.ctl = top / "qmailctl"
        for name, text in (("qmailctl", CTL), ("stop", STOP)):
            (top / name).write_text(text.format(top=top, log=self.log))
            (top / name).chmod(0o755)
        self.log.touch()
        self.write("me", f"{self.HOST}\n")
        self.write("locals", f"{self.HOST}\n")
        self.write("virtualdomains", "doublebounce.test:dbtest\n")
        self.write("smtproutes", ":[127.0.0.1]:9\n")  # nothing listens there: nothing leaves this machine
        lines = [f"=postmaster:x:{UID}:{GID}:{top}/postmaster:::", f"=dbtest-sink:x:{UID}:{GID}:{top}/sink:::", "."]
        text = "".join(f"{line}\n" for line in lines)
        (qmail / "users/assign").write_text(text)
        (qmail / "users/cdb").write_bytes(cdb.from_assign(text))
        self.mailbox("postmaster", "./Maildir/\n")
        self.mailbox("sink", "./Maildir/\n")

    def write(self, name, text):
        (self.control / name).write_text(text)
        (self.control / name).chmod(0o644)

    def mailbox(self, name, dotqmail):
        home = self.top / name
        for path in (home, *(home / "Maildir" / part for part in ("", "tmp", "new", "cur"))):
            path.mkdir()
            os.chown(path, UID, GID)
        self.dotqmail(name, dotqmail)

    def dotqmail(self, name, contents):
        path = self.top / name / ".qmail"
        path.write_text(contents)
        os.chown(path, UID, GID)
        path.chmod(0o600)

    def stored(self, name):
        return list((self.top / name / "Maildir/new").iterdir())

    def queued(self):
        return [path.name for path in (self.qmail / "queue/mess").glob("*/*")]

    def start(self):
        subprocess.run([self.ctl, "start"], check=True, timeout=20)
        deadline = time.monotonic() + 10
        while "status:" not in self.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)

    def restart(self):
        self.log.write_text("")
        subprocess.run([self.ctl, "restart"], check=True, timeout=30)
        deadline = time.monotonic() + 10
        while "status: local" not in self.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)

    def pid(self):
        return int((self.top / "pid").read_text())

    def stop(self):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(self.pid(), signal.SIGTERM)
            deadline = time.monotonic() + 20
            while _runs(self.pid()) and time.monotonic() < deadline:
                time.sleep(0.02)


def _runs(pid):
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


@contextlib.contextmanager
def borrowed(qmail):
    """Lay a server out over a qmail that is ours for a while: see ``tests/qmail/lent.py``."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="qmail-server-"))
    top.chmod(0o755)
    server = None
    try:
        server = Server(qmail, top)
        yield server
    finally:
        if server:
            server.stop()
        shutil.rmtree(top)
