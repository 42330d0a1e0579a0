"""A case at work in a process of its own, which may be killed, or come to grief."""

import contextlib
import os
import re
import signal
import time
import traceback

import psutil

from tests.campaign.cases import REPORTED
from tests.support import mounts

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in sys/prctl.h
PATIENCE = 120  # seconds for one run: no limit for a slow machine, but one for a hang
TRACEBACK = 9  # how a child ends in which our code did not catch what went wrong
OURS = re.compile(r"/_(modules|states)/qmail_")  # a call of Salt's own may fail as well, and how that ends is Salt's


def start(work, excuses=lambda error: False):
    """
    Have a child do something, and end by how that went: 0, 1 if it was reported or is excused, or ``TRACEBACK``. Return
    its id.
    """
    child = os.fork()
    if child:
        return child
    said, status = os.dup(2), TRACEBACK  # it may close its own
    try:
        work()
        status = 0
    except REPORTED:
        status = 1
    except BaseException as error:
        status = 1 if excuses(error) else _shown(said)
    finally:
        os._exit(status)


def _shown(said):
    """Write the traceback, and return how to end for it."""
    told = traceback.format_exc()
    os.write(said, told.encode())
    return TRACEBACK if OURS.search(told) else 1


def wait(child):
    """Return how it ended, as os.waitpid tells it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"still at work after {PATIENCE} s")
        time.sleep(0.005)


@contextlib.contextmanager
def none_left():
    """End in the end what the runs have left: what watches over one, and tries again, may do so for an hour."""
    mounts.call(mounts.LIBC.prctl, SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def control(case):
    """Assert that a case does its work where nothing disturbs it: otherwise nothing is shown by it."""
    case.lay()
    status = wait(start(case.work))
    assert status == 0 and not case.undone(), (status, case.undone())


def wrong(case, status):
    """Return what is wrong with what it left, with the next run, and with how it ended, as sentences."""
    succeeded = case.is_sure and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    try:
        found = case.left() or (succeeded and case.undone()) or case.after()
    except Exception:
        found = [traceback.format_exc()]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == TRACEBACK:
        found.append("it ended in a traceback")
    return found
