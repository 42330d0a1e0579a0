"""
Counting double bounces per hour in a big log of qmail-send, and following every message, beside grep that only counts.

    python benchmarks/bench_log.py --size 500M --rounds 5

The log is made of the recorded lines in tests/data, over and over, with their times moved on. grep only counts, and not
by the hour; it runs first once, so that the log is in memory for both. causes is held against summary, in the same
rounds.
"""

import argparse
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

import beside
import salt.loader

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
GREP = ["grep", "-c", r"from <#@\[\]>"]
# What each function is held against, and how many times as long it may take.
AIMS = {"count": ("grep", 3), "summary": ("grep", 20), "causes": ("summary", 1.2)}
AIM_MEMORY = 64
HOURS = 72
MODULES = [
    "qmail_log",
    *(path.stem for path in (REPOSITORY / "_modules").glob("qmail_log_*.py")),
    *("qmail_base_bulk", "qmail_base_check", "qmail_base_process"),
]
UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


def bytes_of(text):
    return int(text[:-1]) * UNITS[text[-1]] if text[-1:] in UNITS else int(text)


def moved(text, seconds, by):
    """The same lines, later: each second that occurs in them is replaced."""
    for second in seconds:
        later = second + by
        text = text.replace(b"@%016x" % (second + 2**62 + 10), b"@%016x" % (later + 2**62 + 10))
        text = text.replace(b" %d." % second, b" %d." % later)
        text = text.replace(stamp(second), stamp(later))
    return text


def stamp(second):
    return time.strftime("%b %d %H:%M:%S", time.gmtime(second)).encode()


def make(form, size, path):
    """Write a log of some size, in the order of time."""
    name = {"multilog": "multilog-current", "syslog": "maillog"}[form]
    text = (REPOSITORY / "tests" / "data" / "logs" / name).read_bytes()
    found = re.findall(rb"@([0-9a-f]{16})|: (\d{10})\.", text)
    seconds = sorted({int(label, 16) - 2**62 - 10 if label else int(unix) for label, unix in found}, reverse=True)
    copies = max(1, size // len(text))
    step = max(HOURS * 3600 // copies, seconds[0] - seconds[-1] + 1)
    with open(path, "wb") as file:
        for copy in range(copies):
            file.write(moved(text, seconds, copy * step))


def loaded():
    return salt.loader.minion_mods({**beside.options(), "grains": {}}, whitelist=MODULES)


def call(function, path):
    """Run one function, in a process of its own: the most memory that it and its child held, in MiB."""
    told = subprocess.run(
        [sys.executable, __file__, "--call", function, path], check=True, capture_output=True, text=True
    )
    return [int(kibibytes) / 1024 for kibibytes in told.stdout.split()]


def called(function, path):
    loaded()[f"qmail_log.{function}"](path=path)
    print(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def measure(path, rounds):
    """What grep and the functions took in each round, by their names."""
    modules = loaded()
    env = {**os.environ, "LC_ALL": "C"}
    # Not to /dev/null: grep would stop at the first line it finds.
    works = {"grep": lambda: subprocess.run([*GREP, path], env=env, stdout=subprocess.PIPE, check=True)}
    for function in AIMS:
        works[function] = lambda function=function: modules[f"qmail_log.{function}"](path=path)
    beside.timed(works["grep"])
    return dict(zip(works, beside.turns(rounds, [*works.values()], beside.timed)))


def agree(path):
    modules = loaded()
    counted = modules["qmail_log.count"](path=path)["double_bounces"]
    grepped = int(subprocess.run([*GREP, path], capture_output=True, check=True).stdout)
    assert counted == grepped == modules["qmail_log.summary"](path=path)["double_bounces"], (counted, grepped)
    assert counted == modules["qmail_log.causes"](path=path)["double_bounces"]


def bench(form, size, rounds, directory):
    path, empty = (os.path.join(directory, name) for name in ("log", "empty"))
    make(form, size, path)
    open(empty, "wb").close()
    agree(path)
    taken = measure(path, rounds)
    idle = call("count", empty)[0]
    for function, (other, aim) in AIMS.items():
        memory = sum(max(0, most - idle) for most in call(function, path))
        title = f"{form} {os.path.getsize(path) // 10**6} MB, {function} beside {other}"
        more = f"; {memory:.0f} MiB above idle, aim {AIM_MEMORY}"
        beside.row(title, taken[function], taken[other], aim, more)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--size", type=bytes_of, default="500M", help="of the log, such as 500M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--form", choices=("multilog", "syslog"), action="append")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.call:
        called(*arguments.call)
        return
    for form in arguments.form or ("multilog", "syslog"):
        with tempfile.TemporaryDirectory() as directory:
            bench(form, arguments.size, arguments.rounds, directory)


if __name__ == "__main__":
    main()
