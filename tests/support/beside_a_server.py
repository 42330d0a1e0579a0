"""
Run a command beside a mail server that is also Salt's minion, and report what it did to that server: nothing, we hope.

    python3 -m tests.support.beside_a_server make test

As root. The command sees this machine through a layer that takes all it writes, but for this repository, and in it a
qmail at /var/qmail with a qmail-send, a configured Salt, and a pillar that has this formula change that qmail. What it
wrote, read of these, signalled, started, or left in /tmp is listed, and makes it fail. First of all a command that does
all of this shows that nothing goes unnoticed.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

from tests.support import mounts, python
from tests.support.home import Home
from tests.support.queue_on_disk import Queue

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARED = ("/dev", "/proc", "/sys")  # as they are on the machine
SERVER = ("/etc/salt", "/service", "/srv", "/var/lib/qmail-doublebounce", "/var/log", "/var/qmail")
UNREAD = ("/etc/salt/", "/srv/", "/var/lib/qmail-doublebounce/", "/var/log/", "/var/qmail/")  # not even looked at
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in sys/prctl.h

QMAIL_SEND = """#!/usr/bin/python3 -IS
import fcntl, pathlib, signal

def note(number, frame):
    with open("/var/qmail/signals", "a") as file:
        print(number, file=file)

for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, note)
pathlib.Path("/proc/self/comm").write_text("qmail-send")
mutex = open("/var/qmail/queue/lock/sendmutex", "a")
fcntl.flock(mutex, fcntl.LOCK_EX)
pathlib.Path("/service/qmail-send/pid").write_text(str(__import__("os").getpid()))
while True:
    signal.pause()
"""
NOTE = '#!/bin/sh\necho "$0 $*" >>/var/qmail/called\n'
PROGRAMS = (
    "/etc/init.d/qmail",
    "/etc/init.d/qmail-send",
    "/usr/local/bin/qmailctl",
    "/usr/local/psa/bin/mail",
    "/usr/local/sbin/plesk",
    *(f"/var/qmail/bin/{name}" for name in ("qmail-inject", "qmail-local", "qmail-queue", "qmailctl")),
)
ROOTS = {"file_roots": {"base": ["/srv/salt"]}, "pillar_roots": {"base": ["/srv/pillar"]}}
SALT = {
    "/etc/salt/minion": {**ROOTS, "file_client": "local", "id": "server", "grains": {"of": "the server"}},
    "/etc/salt/minion.d/server.conf": {"qmail_file.kept_directory": "/var/lib/qmail-doublebounce/kept"},
    "/etc/salt/minion_id": "server",
    "/etc/salt/grains": {"of": "the server"},
    "/etc/salt/proxy": ROOTS,
    "/etc/salt/master": {**ROOTS, "ext_pillar": [{"cmd_json": "cat /srv/pillar/qmail.sls"}]},
    "/etc/salt/master.d/server.conf": ROOTS,
    "/etc/salt/roster": {"server": "127.0.0.1"},
    "/srv/pillar/top.sls": {"base": {"*": ["qmail"]}},
    "/srv/pillar/qmail.sls": {"qmail_doublebounce": {"address": Home.ADDRESS}},
    "/srv/salt/top.sls": {"base": {"*": ["qmail-doublebounce"]}},
}
LOG = "Nov 24 02:11:15 server qmail: 1795486275.513354 info msg 7: bytes 705 from <#@[]> qp 8 uid 1007\n"

MISCHIEF = """
echo root >>/var/qmail/control/me
chmod 600 /var/qmail/control/locals
chown 1:1 /var/qmail/users/assign
touch --date=2020-01-01 /var/qmail/users/cdb
rm -r /var/qmail/queue/mess
touch /var/qmail/alias/new && rm /var/qmail/alias/new
cat /srv/pillar/qmail.sls /etc/salt/minion >/dev/null
echo >>/etc/passwd
mkdir /run/something
plesk bin mail --create a@example.com
kill -HUP $(cat /service/qmail-send/pid)
touch /tmp/left
setsid sleep 1000 </dev/null >/dev/null 2>&1 &
svc -t /service/qmail-send
sleep 1
kill -KILL $(cat /service/qmail-send/pid)
sleep 1
"""
NOTICED = (
    "/var/qmail/control/me has other contents",
    "/var/qmail/control/locals has another mode",
    "/var/qmail/users/assign has another owner",
    "/var/qmail/users/cdb has another time",
    "/var/qmail/queue/mess is gone",
    "/var/qmail/alias has another time",
    "/srv/pillar/qmail.sls was read",
    "/etc/salt/minion was read",
    "/etc/passwd is new",
    "/run/something is new",
    "/var/qmail/called is new",
    "/usr/local/sbin/plesk bin mail --create a@example.com",
    "/var/qmail/signals is new",
    "/tmp/left is left",
    "sleep 1000 is left running",
    "qmail-send is not the process that it was",
)


class Machine:
    """
    This machine as the command sees it, from ``root`` on; ``place`` is a directory for it. The command works in
    ``repository``, and may write there.
    """

    def __init__(self, place, repository=REPOSITORY):
        self.repository = repository
        self.own = place / "own"  # in memory, with all that is mounted: what is removed at the end is not below it
        self.tmp = place / "tmp"
        self.own.mkdir()
        self.tmp.mkdir()
        self.tmp.chmod(0o1777)
        mounts.mount("tmpfs", self.own, "tmpfs", "mode=755")
        self.root = self.own / "root"
        self.layers = {}  # where it is: what holds all that was written there

    def lay_out(self):
        for place in _mounted(self.repository):
            if place.is_dir():
                self.layer(place)
            else:
                mounts.bind(place, self.at(place))
        for name in SHARED:
            mounts.bind(name, self.at(name))
        mounts.bind(self.tmp, self.at("/tmp"))
        self.at(self.repository).mkdir(parents=True, exist_ok=True)
        mounts.bind(self.repository, self.at(self.repository))
        for name in SERVER:
            self.at(name).mkdir(parents=True, exist_ok=True)
            # Not a layer: /proc/locks names a file of one by another device than stat does.
            mounts.mount("tmpfs", self.at(name), "tmpfs", "mode=755", mounts.EVERY_ATIME)
            self.layers[pathlib.Path(name)] = self.at(name)
        self.run(plant)

    def layer(self, place):
        here = self.own / f"layer-{len(self.layers)}"
        for part in ("upper", "work"):
            (here / part).mkdir(parents=True)
        self.root.mkdir(exist_ok=True)
        options = f"lowerdir={place},upperdir={here / 'upper'},workdir={here / 'work'}"
        mounts.mount("overlay", self.at(place), "overlay", options)
        self.layers[place] = here / "upper"

    def at(self, path):
        return self.root / str(path).lstrip("/")

    def run(self, work):
        """Do some work in a child that sees this machine, and wait for it."""
        child = os.fork()
        if child == 0:
            try:
                self.enter()
                work()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    def enter(self):
        os.chroot(self.root)
        os.chdir(self.repository)

    def start(self, command, **more):
        environment = {**os.environ, "SALT_CONFIG_DIR": "/etc/salt", "SALT_MINION_CONFIG": "/etc/salt/minion"}
        for name in ("TMPDIR", "TEMP", "TMP"):
            environment.pop(name, None)
        return subprocess.Popen(command, preexec_fn=self.enter, env=environment, **more)

    def files(self):
        """Return all that was written, by its path: mode, owner, time and contents."""
        return {str(place / path): about for place, top in self.layers.items() for path, about in _files(top)}

    def read(self):
        """Return when each file was last read."""
        paths = [path for name in SERVER for path in self.at(name).rglob("*") if path.is_file()]
        return {f"/{path.relative_to(self.root)}": path.stat().st_atime_ns for path in paths}

    def called(self):
        """List how the server's programs were called."""
        noted = self.at("/var/qmail/called")
        return noted.read_text().splitlines() if noted.exists() else []

    def left(self):
        # Where the repository itself is mounted.
        kept = self.repository.parts[2] if self.repository.parts[1] == "tmp" else None
        return [f"/tmp/{name} is left" for name in sorted(os.listdir(self.tmp)) if name != kept]

    def close(self):
        mounts.unmount(self.own)
        shutil.rmtree(self.tmp)
        self.own.rmdir()


def _mounted(repository):
    """List what is mounted on this machine, without what the command shall see as it is."""
    shown = pathlib.Path("/proc/self/mountinfo").read_bytes().splitlines()
    places = {pathlib.Path(line.split()[4].decode("unicode_escape")) for line in shown}
    apart = [pathlib.Path(name) for name in (*SHARED, "/tmp", tempfile.gettempdir(), repository)]
    return sorted(place for place in places if place.exists() and not any(map(place.is_relative_to, apart)))


def _files(top):
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = pathlib.Path(directory, name)
            about = path.lstat()
            if top.name == "service" and "supervise" in path.relative_to(top).parts:
                continue  # supervise itself writes there
            contents = (about.st_rdev, os.readlink(path) if path.is_symlink() else None)
            if stat.S_ISREG(about.st_mode):
                contents = hashlib.sha256(path.read_bytes()).digest()
            found = {"mode": about.st_mode, "owner": (about.st_uid, about.st_gid), "time": about.st_mtime_ns}
            yield path.relative_to(top), {"contents": contents, **found}


def plant():
    """Lay the server out, its home and queue as the tests' own are."""
    home = Home("/var/qmail")
    queue = Queue(home.path / "queue")
    queue.put(7, sender=b"F#@[]\0")
    for name in PROGRAMS:
        _write(name, NOTE)
    _write("/var/qmail/bin/qmail-send", QMAIL_SEND.replace("/usr/bin/python3", python.PATH, 1))
    _write("/service/qmail-send/run", "#!/bin/sh\nexec /var/qmail/bin/qmail-send\n")
    for name, value in SALT.items():
        _write(name, f"{json.dumps(value)}\n")
    for name in ("/var/log/maillog", "/var/log/mail.log", "/var/log/qmail/send/current"):
        _write(name, LOG)


def _write(name, text):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class QmailSend:
    """The server's qmail-send, under a supervise."""

    def __init__(self, machine):
        self.machine = machine
        self.supervise = machine.start(["supervise", "/service/qmail-send"])
        deadline = time.monotonic() + 20
        while not self.told().exists() or not self.told().read_text():
            assert time.monotonic() < deadline, "qmail-send did not come up"
            time.sleep(0.02)
        self.before = self.now()

    def told(self):
        return self.machine.at("/service/qmail-send/pid")

    def now(self):
        """Return the process id and when it was started, and whether it runs."""
        pid = int(self.told().read_text())
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return pid, None, False
        return pid, fields[19], fields[0] in "SRD"

    def changes(self):
        return [] if self.now() == self.before else ["qmail-send is not the process that it was"]

    def stop(self):
        self.supervise.kill()
        self.supervise.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.now()[0], signal.SIGKILL)


def beside(command, patience=10):
    """
    Run a command on such a machine, and return its exit status and what it did there; what it has started has this many
    seconds to end.
    """
    place = pathlib.Path(tempfile.mkdtemp(prefix="beside-a-server-"))
    machine = Machine(place)
    try:
        machine.lay_out()
        qmail_send = QmailSend(machine)
        try:
            files, read = machine.files(), machine.read()
            status = _status(machine.start(command), qmail_send.supervise.pid)
            found = [*_running(qmail_send.supervise.pid, patience), *qmail_send.changes(), *machine.left()]
            found += [f"{path} was read" for path, when in machine.read().items() if _is_news(path, when, read)]
            found += [*differences(files, machine.files()), *machine.called()]
        finally:
            qmail_send.stop()
    finally:
        machine.close()
        place.rmdir()
    return status, found


def _is_news(path, when, read):
    return path.startswith(UNREAD) and path in read and read[path] != when


def differences(before, after):
    gone = [f"{path} is gone" for path in before if path not in after]
    new = [f"{path} is new" for path in after if path not in before]
    other = []
    for path in filter(after.get, before):
        other += [f"{path} has {_other(key)}" for key, value in before[path].items() if after[path][key] != value]
    return sorted([*gone, *new, *other])


def _other(key):
    return {"contents": "other contents", "owner": "another owner"}.get(key, f"another {key}")


def _status(process, apart):
    """Wait for the command, and return its exit status. What has ended is reaped at once: some wait for that."""
    while process.poll() is None:
        _children(apart, process.pid)
        time.sleep(0.05)
    return process.returncode


def _running(apart, seconds):
    """List what still runs of what the command has started, and end it; what is about to end may do so."""
    deadline = time.monotonic() + seconds
    while (children := _children(apart)) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = []
    for pid in children:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        told.append(f"{b' '.join(words).decode(errors='replace').strip()} is left running")
        os.kill(pid, signal.SIGKILL)
    while _children(apart):
        time.sleep(0.02)
    return told


def _children(*apart):
    """List what came to this process when its parent ended, and take leave of what has ended itself."""
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, children) if pid not in apart and os.waitpid(pid, os.WNOHANG)[0] == 0]


def main(command):
    why = mounts.denied() or (None if shutil.which("supervise") else "daemontools is not installed")
    if why or not command:
        sys.exit(why or __doc__.strip())
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    _, found = beside(["sh", "-c", MISCHIEF], patience=1)
    unseen = [what for what in NOTICED if what not in found]
    if unseen:
        sys.exit("\n  ".join(["What was done on purpose went unnoticed:", *unseen, "Noticed was:", *found]))
    status, found = beside(command)
    if found:
        sys.exit("\n  ".join([f"{' '.join(command)} ended with {status}, and did this to the machine:", *found]))
    print(f"{' '.join(command)} ended with {status}, and did nothing to the machine.")
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
