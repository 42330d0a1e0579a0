"""
A claim on minions, against other runs on this master. The system lets go of it when its process ends, however it does.
"""

import contextlib
import fcntl
import json
import os
import stat
import time

import salt.utils.user
from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

MOST_NAMES = 20  # in one sentence
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
    _make(place)
    mine = os.path.join(place, f"{os.getpid()}-{time.time_ns()}.json")
    about = {"kind": kind, "pid": os.getpid(), "user": _user(), "since": time.strftime("%F %T"), "minions": minions}
    with contextlib.ExitStack() as kept:
        with open(os.path.join(place, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _refuse_two(place, set(minions))
            file = kept.enter_context(open(mine, "w"))
            kept.callback(_remove, mine)
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(about, file)
            file.flush()
        yield


def _make(place):
    """Make the directory of claims; what others can write there would have them decide about every run."""
    os.makedirs(place, mode=0o700, exist_ok=True)
    found = os.lstat(place)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SaltInvocationError(
            f"{place} has to be a directory of the user that runs this, and of nobody else, for the claims on minions."
            f" Look what is in it, and remove it."
        )


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _user():
    """Return who runs this: Salt tells who asked the master to do it."""
    asked = globals().get("__user__")
    return asked if asked and asked != "UNKNOWN" else salt.utils.user.get_specific_user()


def _refuse_two(place, minions):
    for name in sorted(os.listdir(place)):
        other = _living(os.path.join(place, name)) if name.endswith(".json") else None
        both = sorted(minions.intersection(other["minions"])) if other else ()
        if both:
            shown = ", ".join(both[:MOST_NAMES]) + (f" and {len(both) - MOST_NAMES} more" if both[MOST_NAMES:] else "")
            raise SaltInvocationError(
                f"A {other['kind']} by {other['user']}, process {other['pid']}, works on {shown} since"
                f" {other['since']}. Wait for its end."
            )


def _living(path):
    """Return what a claim says; ``None`` for one whose process has ended, which is removed."""
    with contextlib.suppress(FileNotFoundError), open(path) as file:  # or it has ended just now
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(path, file)
        os.unlink(path)
    return None


def _read(path, file):
    try:
        found = json.load(file)
        return {**{name: found[name] for name in ("kind", "user", "pid", "since")}, "minions": set(found["minions"])}
    except (ValueError, TypeError, KeyError) as err:
        raise SaltInvocationError(
            f"{path} is held by a process, and it is not the claim of a rollout. See which, with: fuser -v {path}"
        ) from err
