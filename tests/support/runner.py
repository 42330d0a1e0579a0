"""
Run tests again and again, each time in a process of its own, which has what all of them import from the beginning:
otherwise most of the time of a short run goes into that.

    python3 -m tests.support.runner

As root. Each line of the standard input is a list of arguments for pytest, as JSON; a line is written for each,
``passed`` or ``failed``. The tests see no process but their own, and whatever they have started ends with them.
"""

import json
import os
import signal
import sys

import hypothesis  # noqa: F401
import pytest
import salt.loader
import salt.state  # noqa: F401
import saltfactories.utils.functional  # noqa: F401

from tests.support import mounts
from tests.support.machine import END_WITH_PARENT, PROCESSES

PASSED = 77  # and not 0: broken code may end the process of the tests with that
QUIETLY = ["-x", "-q", "-n0", "-p", "no:cacheprovider"]


def main():
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _end_with(_apart, json.loads(line))
        print("passed" if _status(child) == PASSED else "failed", flush=True)


def _apart(tests):
    """Have the tests run where they see no process but their own."""
    mounts.call(mounts.LIBC.prctl, END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    mounts.call(mounts.LIBC.unshare, PROCESSES)
    mounts.part()
    first = os.fork()
    if not first:
        _end_with(_reap, tests)
    return _status(first)


def _reap(tests):
    """Be the first process there: wait for those whose parents have ended, as the tests look at their own children."""
    mounts.call(mounts.LIBC.prctl, END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    mounts.mount("proc", "/proc", "proc")
    running = os.fork()
    if not running:
        _end_with(_run, tests)
    while True:
        ended, status = os.wait()
        if ended == running:
            return os.waitstatus_to_exitcode(status)


def _run(tests):
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    return pytest.main([*QUIETLY, *tests]) or PASSED


def _end_with(work, tests):
    """Do some work in a child, and end it with what that returns: it never comes back into the code of its parent."""
    status = 1
    try:
        status = work(tests)
    finally:
        os._exit(status if status >= 0 else 1)


def _status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
