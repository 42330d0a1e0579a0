"""
Run a function where something is missing or odd; look at what is left, and whether the next run puts it right.

    python -m tests.campaign.circumstances PLACE CASE CIRCUMSTANCE SECONDS SEED

A program of its own, as root: a process with threads, as pytest is here, cannot be forked safely. Until its time is up
it lays the case out and runs it in a child, again and again; chance says how odd it is. It ends with a line of JSON.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import resource
import sys
import tempfile
import time

import salt._logging

from tests.campaign.cases import CASES
from tests.campaign.child import control, none_left, start, wait, wrong
from tests.support import minion, mounts

NOBODY = 65534
PAGE = resource.getpagesize()
DAY = 24 * 60 * 60
UNKNOWN = re.compile(r"'qmail_\w+\.\w+'$")  # a function of ours, as the loader calls it


class Circumstance:
    """One that changes nothing. ``before`` and ``after`` are the parent's, ``inside`` is the child's."""

    def __init__(self, place):
        self.place, self.dice = place, None  # of each round

    def before(self):
        pass

    def inside(self):
        pass

    def after(self):
        pass

    def excuses(self, error):
        """Tell whether a child may end so, as nobody could say anything better there."""
        return False


class Daemon(Circumstance):
    """As a job of a minion that nobody watches: no terminal, no standard input, output and error, another umask."""

    def inside(self):
        os.setsid()
        os.chdir("/")
        os.umask(self.dice.choice((0, 0o022, 0o077)))
        os.closerange(0, 3)


class WithoutProc(Circumstance):
    """As in a container in which nobody mounted it."""

    def inside(self):
        mounts.part()
        mounts.mount("tmpfs", "/proc", "tmpfs", "mode=755")


class Clock(Circumstance):
    """Somebody sets it, by seconds or days, now and then."""

    def inside(self):
        clock, moved = time.time, 0

        def moving():
            nonlocal moved
            if self.dice.random() < 0.2:
                moved = self.dice.choice((-400 * DAY, -DAY, -2, 0, 2, DAY, 400 * DAY))
            return clock() + moved

        time.time = moving


class Scarce(Circumstance):
    """Something is used up, and an import may be what needs it."""

    def excuses(self, error):
        """Salt's loader catches what an import raises, and then does not know the functions of that module."""
        return isinstance(error, KeyError) and UNKNOWN.match(f"{error}")


class Files(Scarce):
    """There is hardly a file descriptor left."""

    def inside(self):
        used = set(map(int, os.listdir("/proc/self/fd")))
        free = [number for number in range(len(used) + 20) if number not in used]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[self.dice.randrange(16)],) * 2)


class User(Scarce):
    """As somebody who owns nothing here, and may have hardly any process more."""

    def inside(self):
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        # root has as many as it wants: this only holds for others.
        resource.setrlimit(resource.RLIMIT_NPROC, (self.dice.choice((0, 1, 2, 1000)),) * 2)


class Memory(Scarce):
    """There is hardly any memory left."""

    def inside(self):
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * PAGE
        room = self.dice.randrange(PAGE, self.dice.choice((2**22, 2**26)))
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
        spare = bytearray(room - PAGE)
        self.taken = []
        with contextlib.suppress(MemoryError):
            while True:  # what Python has got already, and does not use
                self.taken.append(bytearray(PAGE))
        del spare

    def excuses(self, error):
        """Python's own code does not always find the words: then it is a SystemError."""
        return isinstance(error, (MemoryError, SystemError)) or super().excuses(error)


class Disk(Circumstance):
    """The file system of qmail and of what is kept is small, and full after so many blocks and files."""

    def __init__(self, place):
        super().__init__(place)
        mounts.mount("tmpfs", place, "tmpfs", "mode=755")

    def before(self):
        about = os.statvfs(self.place)
        blocks = about.f_blocks - about.f_bfree + self.dice.randrange(1, 24)
        files = about.f_files - about.f_ffree + self.dice.randrange(1, 24)
        self._remount(f"size={blocks * about.f_frsize},nr_inodes={files}")

    def after(self):
        self._remount("size=1G,nr_inodes=1000000")

    def _remount(self, options):
        mounts.mount("tmpfs", self.place, "tmpfs", options, mounts.REMOUNT)


CIRCUMSTANCES = {
    "daemon": Daemon,
    "without-proc": WithoutProc,
    "clock": Clock,
    "files": Files,
    "user": User,
    "memory": Memory,
    "disk": Disk,
}


def tried(case, circumstance):
    """Return how it ended, and what is wrong then."""
    case.lay()
    circumstance.before()

    def work():
        circumstance.inside()
        case.work()

    status = wait(start(work, circumstance.excuses))
    circumstance.after()
    return status, wrong(case, status)


def main(place, name, how, seconds, seed):
    salt._logging.shutdown_temp_handler()
    circumstance = CIRCUMSTANCES[how](place)
    kept = {"qmail_file.kept_directory": str(pathlib.Path(place) / "kept")}
    with tempfile.TemporaryDirectory(prefix="qmail-") as own:
        case = CASES[name](place, minion.loaders(minion.options(own, test=False, **kept)).modules)
        told = {"case": name, "how": how, "seed": seed, "rounds": 0, "reported": 0, "none the less": 0, "wrong": []}
        control(case)
        deadline = time.monotonic() + seconds
        while (not told["rounds"] or time.monotonic() < deadline) and len(told["wrong"]) < 5:
            told["rounds"] += 1
            circumstance.dice = random.Random(f"{seed} {told['rounds']}")
            status, found = tried(case, circumstance)
            told["reported" if status else "none the less"] += 1
            if found:
                told["wrong"].append({"round": told["rounds"], "found": found})
        case.end()
    print(json.dumps(told))


if __name__ == "__main__":
    with none_left():
        main(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5]))
