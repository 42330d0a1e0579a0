"""
Stand in for a whole qmail-send with its deliveries: it takes what qmail-queue queued, routes and delivers it by the
rules of qmail_route and qmail_mailbox, bounces what nobody receives, and logs in the real words.

It is a child of the test's own process, and holds queue/lock/sendmutex as the real one does. Or it is started, by a
systemd for example:

    python -m tests.support.mta QMAIL_HOME [splogger NAME [FACILITY]]

Then it prints its lines, or hands them to a splogger of its own.
"""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import salt.loader

from tests.support import minion
from tests.support.home import Home

BIN = pathlib.Path(__file__).parent / "bin"
QUEUELIFETIME = 604800  # seconds


class Mta:
    """
    A running stand-in. ``log`` is a file, written as syslog writes it, or a multilog directory. ``discard``: it has the
    discard feature. ``drops``: a line that the log loses, by its number. ``wrapped``: its qmail-queue hands messages on
    to another process. ``among``: lines of others that are logged after each line of its own. Files in the home tell it
    to rotate its log at the next line (``rotate``), to log nothing more (``mute``), to look at no new message yet
    (``hold``), to defer mail for recipients
    with certain words in them (``defer``), and to try nothing when it gets an ALRM (``stuck``); it counts these
    (``alarms``).
    """

    def __init__(self, home, modules, log, discard=False, drops=None, wrapped=False, among=()):
        self.home, self.modules, self.log, self.discard = home, modules, log, discard
        self.drops, self.wrapped, self.among, self.lines = drops, wrapped, among, 0
        self.deliveries = 0
        lay_out(home)
        if wrapped:
            (home.path / "bin/qmail-queue").rename(home.path / "bin/qmail-queue.real")
            (home.path / "bin/qmail-queue").write_text('#!/bin/sh\n"$0.real"\nexit $?\n')
            (home.path / "bin/qmail-queue").chmod(0o755)
        if log.is_dir():
            (log / "current").touch()
        else:
            log.touch()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.run()
            finally:
                os._exit(1)
        self.wait_until_it_runs()

    def wait_until_it_runs(self):
        deadline = time.monotonic() + 60
        log = self.log / "current" if self.log.is_dir() else self.log
        # It holds the lock before it has logged its first line: only then does it touch no file of its own accord.
        while self.modules.qmail_base_process.find(str(self.home.path)) != self.pid or "status:" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    # In the child.

    def run(self):
        pathlib.Path("/proc/self/comm").write_text("qmail-send")  # what holds the lock and has another name is none
        mutex = (self.home.path / "queue/lock/sendmutex").open("w")
        fcntl.flock(mutex, fcntl.LOCK_EX)
        shown = self.modules.qmail_control.show(str(self.home.path))
        self.double_bounces_to = shown["recipient"]  # read once, when it starts
        self.discards = self.discard and not shown["doublebounceto"]["value"]
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        self.say("status: local 0/10 remote 0/20")
        while True:
            self.look_around()
            held = (self.home.path / "hold").exists()
            for name in [] if held else sorted(os.listdir(self.home.path / "queue/todo")):
                self.preprocess(name)
            if signal.sigtimedwait({signal.SIGALRM}, 0.02):
                stuck = (self.home.path / "stuck").exists()  # looked at before anybody knows that it has come
                with (self.home.path / "alarms").open("a") as file:
                    file.write("ALRM\n")
                for name in [] if stuck else sorted(os.listdir(self.home.path / "queue/info/0")):
                    self.attempt(name)

    def look_around(self):
        pass

    def say(self, line):
        if (self.home.path / "mute").exists():
            return
        if (self.home.path / "rotate").exists():
            self.rotate()
        self.lines += 1
        if self.lines - 1 == self.drops:  # the first is that of the start
            return
        for said in (line, *self.among):
            self.write(said)

    def write(self, line):
        now = time.time()
        if self.log.is_dir():
            with (self.log / "current").open("a") as file:
                file.write(f"@{(1 << 62) + 10 + int(now):016x}{int(now % 1 * 1e9):08x} {line}\n")
        else:
            with self.log.open("a") as file:
                file.write(f"{time.strftime('%b %e %H:%M:%S')} mx qmail: {now:.6f} {line}\n")

    def rotate(self):
        (self.home.path / "rotate").unlink()
        if self.log.is_dir():
            now = (1 << 62) + 10 + int(time.time())
            (self.log / "current").rename(self.log / f"@{now:016x}00000000.s")
            (self.log / "current").touch()
        else:
            self.log.rename(self.log.with_name(self.log.name + ".1"))
            self.log.touch()

    def preprocess(self, name):
        queue = self.home.path / "queue"
        uid, qp, sender, recipient, _ = (queue / "todo" / name).read_bytes().split(b"\0")
        size = (queue / "mess/0" / name).stat().st_size
        self.say(f"new msg {name}")
        self.say(
            f"info msg {name}: bytes {size} from <{sender[1:].decode()}> qp {qp[1:].decode()} uid {uid[1:].decode()}"
        )
        (queue / "info/0" / name).write_bytes(sender + b"\0")
        (queue / "local/0" / name).write_bytes(recipient + b"\0")
        (queue / "todo" / name).unlink()
        self.attempt(name)

    def attempt(self, name):
        queue = self.home.path / "queue"
        sender = (queue / "info/0" / name).read_bytes()[1:-1].decode()
        recipient = (queue / "local/0" / name).read_bytes()[1:-1].decode()
        self.deliveries += 1
        route = self.modules.qmail_route.resolve(recipient, str(self.home.path))
        self.say(f"starting delivery {self.deliveries}: msg {name} to {route['channel']} {route['recipient']}")
        outcome, report = self.deliver(recipient, route, (queue / "mess/0" / name).read_bytes())
        self.say(f"delivery {self.deliveries}: {outcome}: {report}")
        too_old = (queue / "info/0" / name).stat().st_mtime < time.time() - QUEUELIFETIME
        if outcome == "deferral" and not too_old:
            return
        if outcome != "success":
            self.bounce(name, sender)
        for kind in ("local/0", "info/0", "mess/0"):
            (queue / kind / name).unlink()
        self.say(f"end msg {name}")

    def deliver(self, recipient, route, message):
        defer = self.home.path / "defer"
        if defer.exists() and any(word in recipient for word in defer.read_text().split()):
            return "deferral", "Home_directory_is_sticky:_user_is_editing_his_.qmail_file._(#4.2.1)/"
        checked = self.modules.qmail_mailbox.check(recipient, str(self.home.path))
        fate = checked["fate"]
        stores = bool(checked["programs"]) and (self.home.path / "programs-store").exists()
        for file in checked["files"] + ["./Maildir/"] * stores:
            if file.endswith("/"):
                place = pathlib.Path(route["home"], file, "new", f"{time.time_ns()}.mx")
                place.write_bytes(b"Return-Path: <#@[]>\n" + message)
        did = "+".join(str(len(checked[kind])) for kind in ("files", "forwards", "programs"))
        if fate == "bounced":
            return "failure", "Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/"
        if fate == "remote":
            return "failure", "Sorry,_I_couldn't_find_any_host_by_that_name._(#4.1.2)/"
        if fate == "unknown" and checked["files"]:
            fate = "stored"  # its programs succeed here
        if fate == "deferred":
            return "deferral", "Home_directory_is_sticky:_user_is_editing_his_.qmail_file._(#4.2.1)/"
        return "success", "" if route["outcome"] == "dropped" else f"did_{did}/"

    def bounce(self, name, sender):
        if sender == "#@[]":
            return self.say(f"triple bounce: discarding bounce/{name}")
        if self.discards and not sender:
            return self.say(f"double bounce: discarding bounce/{name}")
        queue = self.home.path / "queue"
        notice = b"Hi. The bounce bounced!\n\n" + (queue / "mess/0" / name).read_bytes()
        new = queue / "pid/notice"
        new.write_bytes(notice)
        number, qp = new.stat().st_ino, 100000 + self.deliveries
        new.rename(queue / "mess/0" / str(number))
        self.say(f"bounce msg {name} qp {qp}")
        envelope = f"u0\0p{qp + self.wrapped}\0F#@[]\0T{self.double_bounces_to}\0"
        (queue / "todo" / str(number)).write_text(envelope)
        return None


class Printing(Mta):
    """
    One that prints its lines, and is this process. Before each line it runs what is in the file ``rotate``, in a shell;
    what is in the file ``say`` it prints as it is, and removes that.
    """

    def __init__(self, home, modules, handle=1):
        self.home, self.modules, self.handle = home, modules, handle
        self.discard, self.drops, self.wrapped, self.among = False, None, False, ()
        self.lines = self.deliveries = 0
        lay_out(home)

    def look_around(self):
        say = self.home.path / "say"
        if say.exists():
            for line in say.read_text().splitlines():
                self.write(line)
            say.unlink()

    def write(self, line):
        os.write(self.handle, f"{line}\n".encode())

    def rotate(self):
        try:
            command = (self.home.path / "rotate").read_text()
        except FileNotFoundError:  # since it was seen
            return
        told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        (self.home.path / "rotated").write_text(f"{told.returncode} {told.stdout}{told.stderr}")


def lay_out(home):
    """Make what it needs in a home: the queue's directories, and a qmail-queue."""
    for name in ("mess/0", "info/0", "todo", "intd", "pid", "local/0", "remote/0", "bounce"):
        (home.path / "queue" / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(BIN / "qmail-queue", home.path / "bin/qmail-queue")


def main(path, *splogger):
    with tempfile.TemporaryDirectory(prefix="qmail-mta-") as place:
        modules = salt.loader.minion_mods(minion.options(place, test=False))
        mta = Printing(Home.at(path), modules, 0 if splogger else 1)
        if splogger:
            _begin(splogger)
        mta.run()


def _begin(splogger):
    """As qmail-start does it: splogger reads a pipe, into which qmail-send's descriptor 0 leads."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(reading, 0)
        os.closerange(3, writing + 1)
        os.execv(BIN / "splogger", splogger)
    os.dup2(writing, 0)
    os.closerange(reading, writing + 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
