"""
Counting double bounces per hour in a big log of qmail-send, beside grep, and the whole summary.

    python benchmarks/bench_log.py --size 500M --rounds 5

The log is made of the recorded lines in tests/data, over and over, with their times moved on. grep only counts, and not
by the hour; it runs first once, so that the log is in memory for both.
"""

import argparse
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import beside
import salt.loader

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
GREP = ["grep", "-c", r"from <#@\[\]>"]
AIM_RATIO, AIM_MEMORY = 3, 64
HOURS = 72
MODULES = [
    "qmail_log",
    *(
        f"qmail_log_{part}"
        for part in (
            "age",
            "block",
            "causes",
            "file",
            "form",
            "harm",
            "journal",
            "line",
            "message",
            "part",
            "time",
            "words",
        )
    ),
    *("qmail_log_trail", "qmail_base_process"),
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
    """Run one function, in a process of its own: the most memory it held, in MiB."""
    told = subprocess.run(
        [sys.executable, __file__, "--call", function, path], check=True, capture_output=True, text=True
    )
    return int(told.stdout) / 1024


def called(function, path):
    loaded()[f"qmail_log.{function}"](path=path)
    print(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])


def timed(work):
    """Seconds that pass, and seconds that processors work: these tell on a busy machine as well."""
    before, began = worked(), time.perf_counter()
    work()
    return time.perf_counter() - began, worked() - before


def worked():
    """Seconds that processors have worked for this process and its children."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(path, rounds, functions):
    """Medians of what grep and the functions took, taking turns."""
    modules = loaded()
    env = {**os.environ, "LC_ALL": "C"}
    # Not to /dev/null: grep would stop at the first line it finds.
    works = {"grep": lambda: subprocess.run([*GREP, path], env=env, stdout=subprocess.PIPE, check=True)}
    for function in functions:
        works[function] = lambda function=function: modules[f"qmail_log.{function}"](path=path)
    timed(works["grep"])
    taken = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(timed(work))
    return {name: [statistics.median(times) for times in zip(*pairs)] for name, pairs in taken.items()}


def agree(path):
    modules = loaded()
    counted = modules["qmail_log.count"](path=path)["double_bounces"]
    grepped = int(subprocess.run([*GREP, path], capture_output=True, check=True).stdout)
    assert counted == grepped == modules["qmail_log.summary"](path=path)["double_bounces"], (counted, grepped)


def bench(form, size, rounds, directory):
    path, small, empty = (os.path.join(directory, name) for name in ("log", "small", "empty"))
    make(form, size, path)
    make(form, size // 10, small)
    open(empty, "wb").close()
    agree(small)
    times = measure(path, rounds, ("count", "summary"))
    less = measure(small, rounds, ("count", "summary"))
    idle = call("count", empty)
    for function, aim in (("count", f" (aim {AIM_RATIO})"), ("summary", "")):
        passed, busy = (mine / theirs for mine, theirs in zip(times[function], times["grep"]))
        memory = call(function, path) - idle
        print(
            f"{form} {os.path.getsize(path) // 10**6} MB: {function} {times[function][0]:.2f} s,"
            f" grep {times['grep'][0]:.2f} s, ratio {passed:.1f}{aim}, of processor time {busy:.1f};"
            f" {memory:.0f} MiB above idle (aim {AIM_MEMORY});"
            f" growth from a tenth of it {times[function][0] / less[function][0]:.1f}"
        )


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
