"""
Kill a function at its system calls, or have them fail; look at what is left, and whether the next run puts it right.

A program of its own, because a process with threads, as pytest is here, cannot be forked safely.

    python -m tests.campaign.injected PLACE CASE HOW SECONDS SEED

strace lists the system calls of an undisturbed run, from the first that writes to the last. Then it has a new run end,
or fail, just before one of them, and another before the next, in an order that the seed shuffles, until all were had or
the time is over: those that write come first. It ends with a line of JSON.
"""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import salt._logging

from tests.campaign.cases import CASES
from tests.campaign.child import PATIENCE, control, none_left, start, wait, wrong
from tests.support import minion

CALL = re.compile(r"^(\w+)\(")
CHANGES = {
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "link", "linkat"),
    *("symlinkat", "ftruncate", "truncate", "fchmod", "fchmodat", "chmod", "fchown", "fchownat", "chown", "write"),
    *("pwrite64", "fsync", "utimensat"),
}
OPENS = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC")
FORKS = ("clone", "clone3", "fork", "vfork")
# What a system call fails with: a full disk, a broken one, one that became read-only; no room for another process.
ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
NO_ROOM = "EAGAIN"


def traced(work, *options):
    """Run something in a child under strace, and return how it ended, as os.waitpid tells it."""

    def stopped_first():
        os.kill(os.getpid(), signal.SIGSTOP)
        work()

    child = start(stopped_first)
    os.waitpid(child, os.WUNTRACED)
    with subprocess.Popen(["strace", "-qq", "-p", str(child), *options], stdin=subprocess.DEVNULL) as tracer:
        deadline = time.monotonic() + PATIENCE
        while "\nTracerPid:\t0\n" in pathlib.Path(f"/proc/{child}/status").read_text():
            assert tracer.poll() is None and time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.005)
        os.kill(child, signal.SIGCONT)
        return wait(child)


def points(case):
    """
    Return the system calls from the first that writes to the one after the last, each with its name, which one of that
    name it is, and whether it writes.
    """
    case.lay()
    told = case.place / "strace"
    status = traced(case.work, "-y", "-o", str(told), "-e", "trace=all")
    assert status == 0, status
    found, names = [], {}
    for line in told.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if match:
            names[match[1]] = names.get(match[1], 0) + 1
            is_ours = str(case.path) in line or str(case.kept) in line
            changes = is_ours and (match[1] in CHANGES or (match[1].startswith("open") and OPENS.search(line)))
            found.append((match[1], names[match[1]], bool(changes)))
    at = [index for index, call in enumerate(found) if call[2]] or [0, len(found)]
    return [call for call in found[at[0] : at[-1] + 2] if call[0] not in ("exit", "exit_group")]


def tampering(how, call, number, dice):
    """Return what strace does to a system call."""
    if how == "kill":
        return f"inject={call}:signal=SIGKILL:when={number}"
    error = NO_ROOM if call in FORKS else dice.choice(ERRORS)
    return f"inject={call}:error={error}:when={number}"


def tried(case, option):
    """Run a case with one call tampered with; return how it ended, whether it met that call, and what is wrong then."""
    case.lay()
    told = case.place / "strace"
    status = traced(case.work, "-o", str(told), "-e", option)
    has_met = os.WIFSIGNALED(status) or "(INJECTED)" in told.read_text(errors="replace")
    return status, has_met, wrong(case, status)


def main(place, name, how, seconds, seed):
    salt._logging.shutdown_temp_handler()
    dice = random.Random(seed)
    case = CASES[name](place, minion.loaders(minion.options(place, test=False)).modules)
    control(case)
    case.lay()
    assert not case.after()  # from here on everything is loaded: each run makes the same calls
    todo = points(case)
    told = {"case": name, "how": how, "seed": seed, "calls": len(todo), "writes": sum(call[2] for call in todo)}
    told.update({"met": 0, "killed": 0, "reported": 0, "none the less": 0, "wrong": []})
    dice.shuffle(todo)
    # Taken from the end: first those that write, for between two of them nothing changes on the disk.
    todo.sort(key=lambda call: (call[2], call[0] in FORKS))
    if how == "fail":
        todo = [call for call in todo if call[2] or call[0] in FORKS]
    deadline = time.monotonic() + seconds
    while todo and time.monotonic() < deadline and len(told["wrong"]) < 5:
        call, number, _ = todo.pop()
        option = tampering(how, call, number, dice)
        status, has_met, found = tried(case, option)
        told["met"] += has_met
        ended = "killed" if os.WIFSIGNALED(status) else "reported" if os.WEXITSTATUS(status) else "none the less"
        told[ended] += 1
        if found:
            told["wrong"].append({"at": option, "found": found})
    case.end()
    print(json.dumps(told))


if __name__ == "__main__":
    with none_left():
        main(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5]))
