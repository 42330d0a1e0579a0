"""
Apply and undo three files in several processes at the same time, and look at what one last undoing leaves.
"""

import faulthandler
import itertools
import os
import random
import shutil
import signal
import stat
import time
import traceback

from tests.support.home import Home

ADDRESS = "dummy@example.com"
SECONDS = 120  # for one round: no limit for a slow machine, but one for a hang


class Server:
    """A qmail home whose three files are applied and undone by the functions that the states call."""

    def __init__(self, home, modules):
        self.home, self.modules = home, modules
        self.files = [home.control / "doublebounceto", home.control / "doublebouncehost", home.mailbox() / ".qmail"]

    def begin(self, dice):
        """Lay out the three files as somebody may have left them: each by chance is there or not."""
        for path in self.files:
            path.unlink(missing_ok=True)
            if dice.random() < 0.7:
                path.write_bytes(dice.choice((b"./Maildir/\n", b"./Maildir/\n# by hand", b"&joe@example.org\r\n")))
                if os.geteuid() == 0:
                    os.chown(path, 4242, 4243)
                path.chmod(dice.choice((0o600, 0o640, 0o644)))

    def found(self):
        return {path.name: about(path) for path in self.files}

    def left_over(self):
        """Name the temporary files that lie beside the three."""
        return [path.name for where in {path.parent for path in self.files} for path in where.glob(".new-*")]

    def apply(self, dice):
        self.sink(dice)
        self.put("doublebounceto", dice.choice(("dummy", "double-bounce")))
        self.put("doublebouncehost", "example.com")

    def undo(self, _=None):
        self.restore("doublebounceto")
        self.restore("doublebouncehost")
        self.modules.qmail_mailbox.restore()

    def sink(self, dice):
        instruction = dice.choice(("|exit 0", "#", ["# nobody", "|exit 0"]))
        self.modules.qmail_mailbox.write(ADDRESS, instruction, home=str(self.home.path))

    def put(self, name, value):
        self.modules.qmail_control.put(name, value, home=str(self.home.path))

    def restore(self, name):
        self.modules.qmail_control.restore(name, home=str(self.home.path))

    def any_step(self, dice):
        name = dice.choice(("doublebounceto", "doublebouncehost"))
        dice.choice(
            (
                lambda: self.sink(dice),
                lambda: self.put(name, dice.choice(("dummy", "example.com"))),
                lambda: self.restore(name),
                lambda: self.modules.qmail_mailbox.restore(ADDRESS),
            )
        )()


def about(path):
    if not path.exists():
        return None
    found = path.lstat()
    return path.read_bytes(), found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def at_once(works, told):
    """Run each of these in a process of its own, all from the same moment on, and return what they failed with."""
    start, go = os.pipe()
    pids = []
    try:
        for number, work in enumerate(works):
            pids.append(os.fork())
            if pids[-1] == 0:
                os.close(go)
                _work(start, work, told / str(number))
        os.close(go)
        _wait(pids)
    finally:
        os.close(start)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return [text for path in sorted(told.iterdir()) if (text := path.read_text())]


def _work(start, work, told):
    try:
        faulthandler.dump_traceback_later(SECONDS / 2, exit=True, file=told.with_suffix(".hang").open("w"))
        os.read(start, 1)  # returns when the parent closes the other end
        work()
    except BaseException:
        told.write_text(traceback.format_exc())
    finally:
        os._exit(0)


def _wait(pids):
    deadline = time.monotonic() + SECONDS
    while pids and time.monotonic() < deadline:
        pids[:] = [pid for pid in pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        time.sleep(0.001)
    assert not pids, f"still at work after {SECONDS} s"


def rounds(place, modules, dice):
    """Yield what was wrong in each round."""
    server = Server(Home(place / "qmail"), modules)
    for number in itertools.count():
        server.begin(dice)
        before = server.found()
        told = place / str(number)
        told.mkdir()
        failed = at_once([_steps(server, dice.random()) for _ in range(dice.randint(2, 4))], told)
        server.undo()
        after, left = server.found(), server.left_over()
        shutil.rmtree(told)
        yield failed + ([f"{before} has become {after}"] if after != before else []) + left


def _steps(server, seed):
    def steps():
        dice = random.Random(seed)
        for _ in range(6):
            dice.choice((server.apply, server.undo, server.any_step))(dice)

    return steps
