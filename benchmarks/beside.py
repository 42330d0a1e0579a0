"""
What the benchmarks share: this formula's execution modules, and two ways of one job side by side.

Every round does the job once in each way, in turn, each time over data of its own made in the same manner, after a
sync. A row is the two medians, and the ratio within each round: its median, and in brackets the least and the most. It
is given by the wall clock, and by the time that processors worked for both, their children included: that says more on
a busy machine. Each is met when the median is at most the aim.
"""

import argparse
import atexit
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

import salt.loader

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # for tests.support, wherever this is run from

from tests.support import minion  # noqa: E402

SIZES = (10_000, 100_000, 250_000)


def options():
    """Return the options of a masterless minion that has this repository for its modules and its files."""
    root = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return minion.options(root, id="benchmark")


def modules():
    """Return the execution modules."""
    opts = options()
    opts["grains"] = salt.loader.grains(opts)
    return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))


def double_bounce():
    """Return a double bounce as qmail-send wrote it, bytes."""
    with tarfile.open(REPOSITORY / "tests/data/queue/queue.tar.gz") as archive:
        for member in filter(tarfile.TarInfo.isfile, archive.getmembers()):
            if member.name.startswith("queue/info/") and archive.extractfile(member).read() == b"F#@[]\0":
                return archive.extractfile(member.name.replace("info", "mess", 1)).read()
    raise LookupError("the recorded queue holds no double bounce")


def arguments(what):
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=os.path.abspath, help="where the data goes: on a disk, not in memory")
    parser.add_argument("--growth", action="store_true", help="only 10,000, 100,000 and 250,000 messages, ours alone")
    return parser.parse_args()


class Place(tempfile.TemporaryDirectory):
    """A directory for the data, which is gone afterwards."""

    def __enter__(self):
        return pathlib.Path(super().__enter__())


def shell(command, *words):
    """Run a shell command with the words as $1 and so on, and return what it prints."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["sh", "-c", command, "sh", *map(str, words)], check=True, env=environment, stdout=-1).stdout


def timed(work, words=()):
    """Return the seconds that pass, and the seconds that processors work, for a job and its children."""
    os.sync()
    before, began = _worked(), time.perf_counter()
    work(*words)
    return time.perf_counter() - began, _worked() - before


def _worked():
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def row(title, mine, other, aim, more=""):
    """Print what the two ways took, in seconds, and their ratios; each is a list of what ``timed`` returns."""
    passed = [statistics.median(spent[0] for spent in them) for them in (mine, other)]
    ratios = [
        _ratio(clock, [one[number] / max(two[number], 1e-9) for one, two in zip(mine, other, strict=True)], aim)
        for number, clock in enumerate(("by the wall", "by processor time")[: len(mine[0])])
    ]
    print(
        f"{title}: {passed[0]:.3f} s beside {passed[1]:.3f} s, aim {aim}, ratio {', '.join(ratios)}{more}", flush=True
    )


def _ratio(clock, each, aim):
    median = statistics.median(each)
    return f"{clock} {median:.2f} ({min(each):.2f}-{max(each):.2f}, {'met' if median <= aim else 'MISSED'})"


def beside(title, rounds, ours, others, make):
    """
    Do a job in our way and in others, in turn, and print a row for each other way.

    ``others`` is by name: the work, and the aim. ``make`` makes the data, and returns the words for all of them.
    """
    ways = [ours, *(work for work, _ in others.values())]
    mine, *rest = turns(rounds, ways, lambda way: timed(way, make()))
    for (name, (_, aim)), other in zip(others.items(), rest, strict=True):
        row(f"{title}, beside {name}", mine, other, aim)


def turns(rounds, ways, spent):
    """Do a job in each way, in turn, and return for each way what ``spent`` returned in each round."""
    taken = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 else reversed(ways):
            taken[way].append(spent(way))
    return [taken[way] for way in ways]


def growth(title, rounds, ours, make, sizes=SIZES):
    """Print how long a job takes by size, and how long for each message."""
    for messages in sizes:
        median = statistics.median(timed(ours, make(messages))[0] for _ in range(rounds))
        print(f"{title}, {messages} messages: {median:.3f} s, {median / messages * 1e6:.1f} us each", flush=True)


def emptied(path):
    """Return the path, with nothing there any more."""
    shutil.rmtree(path, ignore_errors=True)
    return path
