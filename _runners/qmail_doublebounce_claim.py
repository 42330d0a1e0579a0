"""
A claim on minions, against other runs on this master. The system lets go of it when its process ends, however it does.
"""

import contextlib
import fcntl
import getpass
import json
import os
import time

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

PLACE = "qmail-doublebounce"  # in the master's cachedir


def held(kind, minions):
    """
    Return a context manager that holds a claim on minions.

    Entering it raises SaltInvocationError if another run works on one of them, and OSError if it cannot be written.

    kind
        What they are claimed for: ``rollout`` or ``rollback``.

    minions
        A list of minion ids.

    For the runner ``qmail_doublebounce_rollout``.
    """
    return _held(os.path.join(__opts__["cachedir"], PLACE), kind, minions)


@contextlib.contextmanager
def _held(place, kind, minions):
    os.makedirs(place, mode=0o700, exist_ok=True)
    mine = os.path.join(place, f"{os.getpid()}-{time.time_ns()}.json")
    about = {"kind": kind, "pid": os.getpid(), "user": getpass.getuser(), "since": time.strftime("%F %T")}
    with open(os.path.join(place, "lock"), "w") as lock, contextlib.ExitStack() as kept:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _refuse_two(place, set(minions))
        file = kept.enter_context(open(mine, "w"))
        kept.callback(os.unlink, mine)
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({**about, "minions": minions}, file)
        file.flush()
        fcntl.flock(lock, fcntl.LOCK_UN)
        yield


def _refuse_two(place, minions):
    for name in sorted(os.listdir(place)):
        if not name.endswith(".json"):
            continue
        path = os.path.join(place, name)
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                other = json.load(file)
            else:
                os.unlink(path)  # its process has ended
                continue
        both = sorted(minions.intersection(other["minions"]))
        if both:
            shown = ", ".join(both[:20]) + (f" and {len(both) - 20} more" if len(both) > 20 else "")
            raise SaltInvocationError(
                f"A {other['kind']} by {other['user']}, process {other['pid']}, works on {shown} since"
                f" {other['since']}. Wait for its end."
            )
