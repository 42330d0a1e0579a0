"""
Kill ``qmail_queue.remove`` at any moment, with mail in flight and mail coming in, and look at what that leaves.
"""

import contextlib
import itertools
import os
import select
import shutil
import signal
import time

from tests.support.home import Home
from tests.support.queue_on_disk import Queue
from tests.support.supervisors import Qmailctl, wait_until

CALLS = ("open", "kill", "pwrite", "ftruncate", "fork", "close", "stat", "listdir", "rename", *["unlink"] * 6)
DEEPEST = 60  # calls of one of these
LONGEST = 2.0  # seconds until a kill from outside
SECONDS = 120  # for what comes afterwards: no limit for a slow machine, but one for a hang
FIRST = 2000  # the number of the first message that comes in
KINDS = ("mess", "info", "local", "remote", "bounce", "todo")


class Server(Qmailctl):
    """A qmail home with a queue full of messages of every kind."""

    def __init__(self, home, dice):
        super().__init__(home, None)
        self.queue = Queue(home.path / "queue")
        home.account()
        if dice.random() < 0.3:
            (home.path / "lockf").touch()
        numbers = dice.sample(range(100, 1000), dice.randrange(8, 60))
        share = len(numbers) // 2
        self.doomed, others = numbers[:share], numbers[share:]
        for number in self.doomed:
            self.queue.put(number, channel=dice.choice(("local", "remote")))
        for number in others:
            self.queue.put(number, sender=dice.choice((b"F\0", b"Fyou@example.com\0")))
        for number in dice.sample(numbers, len(numbers) // 4):
            self.queue.file("bounce", number).write_bytes(b"<you@example.com>:\n")

    def split(self):
        """Return the files of the double bounces, and all others."""
        names = {str(number) for number in self.doomed}
        found = self.queue.files()
        return (
            {path: text for path, text in found.items() if path.rpartition("/")[2] in names},
            {path: text for path, text in found.items() if path.rpartition("/")[2] not in names},
        )

    def illegal(self):
        """List the double bounces that are in a state that qmail's INTERNALS do not know, and does not clear up."""
        for number in self.doomed:
            there = {kind for kind in KINDS if self.queue.file(kind, number).exists()}
            if not (there in (set(), {"mess"}) or {"mess", "info"} <= there):
                yield f"message {number} is in {sorted(there)}"

    def cut(self):
        """List the deliveries that were cut or made twice."""
        words = (self.home.path / "delivered").read_text().split("\n")[:-1]
        return [word for word in words if words.count(word) > 1 or words.count(f"end {word.split()[1]}") != 1]


def rounds(place, modules, dice):
    """Yield what was wrong in each round."""
    for number in itertools.count():
        home = Home(place / f"kill-{number}")
        server = Server(home, dice)
        try:
            yield list(_round(server, modules, dice))
        finally:
            server.close()
            shutil.rmtree(home.path)


def _round(server, modules, dice):
    server.boot()
    if dice.random() < 0.5:
        server.home.feed("slow", round(dice.uniform(0.05, 0.5), 2))
    _, before = server.split()
    # The process alone, or with it all that it has not set apart: then only the note on disk is left of it.
    is_group, how = dice.random() < 0.3, dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    given = {"home": str(server.home.path), "settle": dice.choice((0, 0.05)), "timeout": 60}
    plan = _plan(dice, how, is_group)
    child, ends = _started(lambda: modules["qmail_queue.remove"](**given), plan)
    came = _mail_comes_in(server, dice)
    if plan["call"] is None:
        time.sleep(plan["after"])
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if is_group else os.kill)(child, how)
    os.waitpid(child, 0)
    yield from _afterwards(server, modules, before, came, ends, is_group)


def _plan(dice, how, is_group):
    is_at_a_call = dice.random() < 0.6
    return {
        "call": dice.choice(CALLS) if is_at_a_call else None,
        "at": dice.randrange(DEEPEST),
        "after": dice.uniform(0, LONGEST),
        "how": how,
        "is_group": is_group,
    }


def _started(run, plan):
    """Run something in a child, and return its process id, and what can be read to its end when all of it is over."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)
        return child, reading
    with contextlib.suppress(BaseException):
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if plan["call"]:
            _arm(plan)
        run()
    os._exit(0)


def _arm(plan):
    """Have this process, and no child of it, killed at a call of a function of the system's."""
    here, real, calls = os.getpid(), getattr(os, plan["call"]), iter(range(plan["at"]))

    def counted(*words, **named):
        if os.getpid() == here and next(calls, None) is None:
            setattr(os, plan["call"], real)
            os.killpg(0, plan["how"]) if plan["is_group"] else os.kill(here, plan["how"])
        return real(*words, **named)

    setattr(os, plan["call"], counted)


def _mail_comes_in(server, dice):
    """Queue some messages while it works, and return their files."""
    for number in range(FIRST, FIRST + dice.randrange(5)):
        server.queue.arrive(number)
    return {path: text for path, text in server.queue.files().items() if int(path.rpartition("/")[2]) >= FIRST}


def _afterwards(server, modules, before, came, ends, is_group):
    is_over = bool(select.select([ends], [], [], SECONDS)[0])
    os.close(ends)
    if not is_over:
        yield "the guardian is still there"
    if not is_group:
        yield from _in_vain(server.holder, "qmail-send has not come back")
    yield from _look(server, before, came)
    # Its end may leave the lock to the next one an instant later.
    again = modules["qmail_queue.remove"](home=str(server.home.path), settle=0, timeout=60)
    yield from _in_vain(server.holder, "qmail-send has not come back after the next run")
    left, _ = server.split()
    yield from (f"{path} is left after {again}" for path in left if not path.startswith("mess/"))
    yield from _look(server, before, came)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not server.home.is_fed(), SECONDS)
    yield from (f"{word}: cut, or made twice" for word in server.cut())


def _in_vain(found, why):
    try:
        wait_until(found, SECONDS)
    except AssertionError:
        yield why


def _look(server, before, came):
    _, now = server.split()
    wanted = {**before, **came}
    yield from (f"{path} is gone or changed" for path in wanted if now.get(path) != wanted[path])
    yield from (f"{path} is new" for path in now if path not in wanted)
    yield from server.illegal()
