"""What the campaigns disturb: how each case begins, what it does, what may be left, and what the next run does."""

import pathlib
import re
import shutil
import subprocess
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.home import Home
from tests.support.queue_on_disk import Queue
from tests.support.supervisors import Qmailctl, wait_until

REPORTED = (CommandExecutionError, SaltInvocationError)
ADDRESS = "dummy@example.com"
BEFORE = "postmaster@mail.example.net"
DOUBLE = b"Return-Path: <#@[]>\nDelivered-To: somebody\n\n"
OWN = re.compile(r"(^|/)\.(go-to-\d+)$")  # a file of the stand-in qmail-send's, for an instant
TEMPORARY = re.compile(r"(^|/)\.new-[0-9a-f]{16}-[0-9a-f]{16}$")


class Case:
    """
    One function on a home of its own. ``left``, ``undone`` and ``after`` return sentences about what is wrong with what
    it left however it ended, with what it has not done although it succeeded, and after the next run.
    """

    is_sure = True  # that it fails where it has not done its work

    def __init__(self, place, modules):
        self.place, self.modules = pathlib.Path(place), modules
        self.path, self.kept = self.place / "qmail", self.place / "kept"
        self.home = self.server = None

    def lay(self):
        self.end()
        for path in (self.path, self.kept):
            shutil.rmtree(path, ignore_errors=True)
        self.home = Home(self.path)
        self.server = Qmailctl(self.home, self.place)

    def boot(self):
        subprocess.run([self.path / "bin/qmailctl", "start"], check=True, timeout=60)
        assert self.home.wait_until_loaded(BEFORE)

    def end(self):
        if self.home:
            self.server.close()
            self.home = None

    def given(self):
        return {"home": str(self.path)}


class Formula(Case):
    """``state.apply`` of the formula, or of its ``clean``, with a qmail-send that has to be restarted."""

    sls, back = "qmail-doublebounce", "qmail-doublebounce.clean"
    goes_to, went_to = ADDRESS, BEFORE

    def __init__(self, place, modules):
        super().__init__(place, modules)
        self.lay()
        self.first = self.snapshot()
        self.succeed(self.sls)
        self.last = self.snapshot()

    def lay(self):
        super().lay()
        self.boot()

    def work(self):
        failed = self.apply(self.sls)
        if "MemoryError" in str(failed):
            raise MemoryError(str(failed))  # Salt shows where, and nobody could say it better
        assert "Traceback" not in str(failed), failed
        if failed:
            raise CommandExecutionError(str(failed))

    def apply(self, sls):
        """Return what failed, as sentences."""
        pillar = {"qmail_doublebounce": {"address": ADDRESS, "qmail": {"home": str(self.path)}}}
        told = self.modules.state.apply(sls, pillar=pillar)
        if getattr(told, "errors", None):
            return [str(told.errors)]
        return [f"{one.name}: {one.comment}" for one in told if one.result is not True]

    def succeed(self, sls):
        failed = self.apply(sls)
        assert not failed, (failed, (self.path / "log").read_text())

    def snapshot(self):
        return {name: about for name, about in self.home.snapshot().items() if not OWN.search(name)}

    def left(self):
        now = self.snapshot()
        allowed = {**dict.fromkeys(self.first), **dict.fromkeys(self.last)}
        return [
            f"{name} is {now.get(name)}: neither as before nor as it shall be"
            for name in {*allowed, *now}
            if not TEMPORARY.search(name) and now.get(name) not in (self.first.get(name), self.last.get(name))
        ]

    def undone(self):
        return self.differs(self.last, self.goes_to)

    def after(self):
        found = self.apply(self.sls) + self.differs(self.last, self.goes_to)
        return found or self.apply(self.back) + self.differs(self.first, self.went_to)

    def differs(self, wanted, goes_to):
        now = self.snapshot()
        found = [f"{name} is {now.get(name)}" for name in {*now, *wanted} if now.get(name) != wanted.get(name)]
        if not self.home.wait_until_loaded(goes_to) or not self.server.holder():
            found.append(f"qmail-send sends to {self.home.loaded()}, holder {self.server.holder()}")
        return found


class Clean(Formula):
    sls, back = Formula.back, Formula.sls
    goes_to, went_to = BEFORE, ADDRESS

    def lay(self):
        super().lay()
        self.succeed(Formula.sls)
        assert self.home.wait_until_loaded(ADDRESS)


class Remove(Case):
    """``qmail_queue.remove`` with a qmail-send that comes back whatever happens."""

    split, function, spared, leftover = 23, "qmail_queue.remove", ("mess/",), ()

    def lay(self):
        super().lay()
        self.queues = [Queue(path, split=self.split) for path in self.paths()]
        self.doubles = range(100, 120)
        for queue in self.queues:
            for number in self.doubles:
                queue.put(number, channel="local" if number % 2 else "remote")
            for number in range(200, 206):
                queue.put(number, sender=b"F\0" if number % 2 else b"Fyou@example.com\0")
            queue.file("bounce", 100).write_bytes(b"<sink@example.com>:\n")
            queue.arrive(300)
        self.begun = [queue.files() for queue in self.queues]
        self.prepare()

    def prepare(self):
        self.boot()

    def paths(self):
        return [self.path / "queue"]

    def given(self):
        return {**super().given(), "settle": 0.1}

    def work(self):
        self.modules[self.function](**self.given())

    def is_double(self, name):
        return int(name.rpartition("/")[2]) in self.doubles

    def left(self):
        found = []
        for queue, begun in zip(self.queues, self.begun):
            now = queue.files()
            found += [f"{name} is gone" for name in begun if not self.is_double(name) and name not in now]
            found += [f"{name} has changed" for name, contents in now.items() if begun.get(name) != contents]
            found += [f"{number} has only {there}" for number in self.doubles if (there := self.illegal(queue, number))]
        return found + self.runs()

    @staticmethod
    def illegal(queue, number):
        kinds = ("mess", "info", "local", "remote", "bounce", "todo")
        there = {kind for kind in kinds if queue.file(kind, number).exists()}
        return None if there in (set(), {"mess"}) or {"mess", "info"} <= there else there

    def runs(self):
        wait_until(self.server.holder, why="qmail-send did not come back")
        return []

    def again(self):
        """Call it once more, and in its turn: who brings qmail-send back may not have finished."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.modules[self.function](**self.given())
            except CommandExecutionError as err:
                if "Another run is working on this queue" not in str(err) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def undone(self):
        rest = [name for queue in self.queues for name in queue.files() if self.is_double(name)]
        return [f"{name} is still there" for name in rest if not name.startswith(self.leftover)]

    def after(self):
        self.again()
        found = []
        for queue, begun in zip(self.queues, self.begun):
            now = queue.files()
            found += [f"{name} is gone" for name in begun if not self.is_double(name) and name not in now]
            rest = [name for name in now if self.is_double(name)]
            # What was killed between info and mess: qmail-send clears that up, one for each of the two halves.
            found += [f"{name} is still there" for name in rest if not name.startswith(self.spared) or len(rest) > 2]
        return found + self.runs()


class RemoveOne(Remove):
    split = 1


class RemoveMany(Remove):
    split = 211


class RemoveQueues(Remove):
    """Several queues at once, none of which is in use."""

    split = 151

    def prepare(self):
        pass

    def paths(self):
        return [self.path / "queue1", self.path / "queue2"]

    def given(self):
        return {**super().given(), "queue": [str(path) for path in self.paths()]}

    def runs(self):
        return []


class Expire(Remove):
    """``qmail_queue.expire``: the running qmail-send drops what is past its time, and nothing else."""

    function, spared = "qmail_queue.expire", ("mess/", "bounce/")
    leftover = ("bounce/",)  # by the stand-in

    def illegal(self, queue, number):
        there = super().illegal(queue, number)
        return None if there == {"bounce"} else there

    def given(self):
        return {"home": str(self.path), "timeout": 60}

    def prepare(self):
        self.boot()
        self.times = self.now()

    def now(self):
        """Return when each message that is no double bounce came, as its file says."""
        return {number: self.queues[0].file("info", number).stat().st_mtime_ns for number in range(200, 206)}

    def left(self):
        now = self.now()
        changed = [number for number in now if now[number] != self.times[number]]
        return super().left() + [f"the time of {number} has changed" for number in changed]


def contents(path):
    """Return what a file holds; ``None`` if it has just gone: the other process of a killed one may be at work."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


class Purge(Case):
    """``qmail_mailbox.purge``: the double bounces of a Maildir, and no other mail."""

    double = DOUBLE

    def lay(self):
        super().lay()
        self.maildir = self.home.mailbox() / "Maildir"
        self.mail = {}
        for number in range(40):
            path = self.maildir / ("new" if number % 2 else "cur") / f"{number}.mail"
            path.write_bytes((self.double if number % 3 else b"Return-Path: <you@example.com>\n\n") + b"x" * 200)
            self.mail[path] = path.read_bytes()

    def work(self):
        self.modules.qmail_mailbox.purge(str(self.maildir), **self.given())

    def left(self):
        others = [path for path, text in self.mail.items() if not self.is_double(text)]
        found = [f"{path} is gone" for path in others if not path.exists()]
        there = {path: contents(path) for path in self.maildir.rglob("*") if path.is_file()}
        changed = [path for path, text in there.items() if text not in (None, self.mail.get(path))]
        return found + [f"{path} has changed" for path in changed]

    def is_double(self, text):
        return text.startswith(self.double)

    def undone(self):
        rest = [path for path, text in self.mail.items() if self.is_double(text) and path.exists()]
        return [f"{path} is still there" for path in rest]

    def after(self):
        self.work()
        return self.left() + self.undone()


class TakeOut(Purge):
    """``qmail_mailbox.take_out``: the message of a probe, and no other mail."""

    token = "doublebounce-probe-0123456789abcdef"
    double = DOUBLE + token.encode() + b"\n"

    def work(self):
        self.modules.qmail_mailbox.take_out(self.token, str(self.maildir))


def said(words):
    """Return a line of qmail-send's in syslog, of this moment."""
    now = time.time()
    return f"{time.strftime('%b %e %H:%M:%S', time.localtime(now))} mx qmail: {now:.6f} {words}\n"


class Count(Case):
    """``qmail_doublebounce.metrics``: each double bounce of a log is counted once, also by the next call."""

    doubles, is_sure = 30, False  # what is not known is left out

    def lay(self):
        super().lay()
        self.log = self.path / "maillog"
        self.log.write_text("")
        self.append("status: local 0/10 remote 0/20")
        self.read()
        self.append(*(f"info msg {number}: bytes 705 from <#@[]> qp 8 uid 1007" for number in range(self.doubles)))
        self.text = self.log.read_bytes()

    def append(self, *lines):
        with open(self.log, "a") as file:
            file.writelines(said(line) for line in lines)

    def read(self):
        return self.modules.qmail_doublebounce.metrics({}, log=str(self.log), **self.given())

    def work(self):
        self.read()

    def left(self):
        return [] if self.log.read_bytes() == self.text else ["the log has changed"]

    def undone(self):
        """It was saved, or the next call would not know it once the log is empty."""
        self.log.write_text("")
        return self.counted()

    def after(self):
        return self.counted() + self.counted()

    def counted(self):
        counts = [line for line in self.read().splitlines() if 'total{outcome="queued"}' in line]
        return [] if counts == [f'qmail_double_bounces_total{{outcome="queued"}} {self.doubles}'] else [str(counts)]


class Page(Case):
    """``qmail_doublebounce.report`` with ``html``: the page before or the new one, whole, and no other file."""

    def lay(self):
        super().lay()
        self.log, self.page = self.path / "maillog", self.path / "pages/mail.html"
        self.page.parent.mkdir()
        self.log.write_text(said("status: local 0/10 remote 0/20"))
        self.work()
        self.before = self.page.read_text()
        with open(self.log, "a") as file:
            file.write(said("info msg 7: bytes 7054321 from <#@[]> qp 8 uid 7"))

    def work(self):
        self.modules.qmail_doublebounce.report({}, html=str(self.page), log=str(self.log), **self.given())

    def left(self):
        page = self.page.read_text()
        is_whole = page == self.before or page.endswith("</html>")
        others = [path for path in self.page.parent.iterdir() if path != self.page and path.name[:8] != ".report-"]
        return [] if is_whole and not others else [f"a page of {len(page)} characters, and {others}"]

    def undone(self):
        return ["it is the page before"] if self.page.read_text() == self.before else []

    def after(self):
        self.work()
        return self.left() + self.undone()


class Restart(Case):
    """``qmail_service.restart``: there is one qmail-send, or the next start makes one."""

    def lay(self):
        super().lay()
        self.boot()
        self.before = self.server.holder()

    def given(self):
        return {**super().given(), "settle": 0.1, "timeout": 30}

    def work(self):
        self.modules.qmail_service.restart(**self.given())

    def left(self):
        return []

    def undone(self):
        return ["it is the same qmail-send"] if self.server.holder() in (None, self.before) else []

    def after(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # the tool that was started goes on without us
            self.modules.qmail_service.start(**self.given())
            if self.server.holder() and self.home.wait_until_loaded(BEFORE, seconds=1):
                return []
        return ["no qmail-send runs"]


CASES = {
    "apply": Formula,
    "clean": Clean,
    "remove-1": RemoveOne,
    "remove-23": Remove,
    "remove-211": RemoveMany,
    "remove-queues": RemoveQueues,
    "expire": Expire,
    "purge": Purge,
    "take-out": TakeOut,
    "count": Count,
    "page": Page,
    "restart": Restart,
}
