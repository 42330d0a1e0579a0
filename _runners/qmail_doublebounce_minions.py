"""
The minions that a target means, and what each of them answers to a function; none is left out because it is silent.
"""

import contextlib
import time

import salt.client
import salt.utils.minions
from salt.exceptions import SaltException
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Without a sign of life for so long, Salt asks whether the job still runs; then it waits on.
PATIENCE = 15
PAUSE = 0.02
UNAVAILABLE = "is not available"


def found(target, tgt_type="glob"):
    """
    Return the ids of all minions that are meant, sorted: those that the master knows of, and those that answer.

    target, tgt_type
        As for ``salt``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    opts = dict(__opts__)
    known = salt.utils.minions.CkMinions(opts).check_minions(target, tgt_type, greedy=False)
    listed = target.split(",") if isinstance(target, str) else target
    names = {*known["minions"], *(listed if tgt_type == "list" else ())}
    with salt.client.get_local_client(mopts=opts) as client:
        answers = client.cmd_iter(target, "test.ping", timeout=PATIENCE, tgt_type=tgt_type)
        return sorted(names.union(*(one for one in answers if one and "error" not in one)))


def ask(minions, function, arg=(), kwarg=None, limit=300):
    """
    Have minions run a function, and return an iterator of pairs, one for each minion as it answers: its id, and a dict
    with ``ret``, what it returned, and ``retcode``. Of those that do not answer, the pairs are last, and have ``None``
    for the dict.

    Iterating raises SaltException if the master refuses, and OSError if it is gone.

    minions
        A list of minion ids.

    function, arg, kwarg
        What they run, and its arguments.

    limit
        Seconds to wait while a minion is at work. One that gives no sign of life is given up sooner.

    For the runner ``qmail_doublebounce_rollout``.
    """
    client = salt.client.get_local_client(mopts=dict(__opts__))
    return _answers(client, minions, function, list(arg), kwarg or {}, time.monotonic() + limit)


def _answers(client, minions, function, arg, kwarg, deadline):
    asked = sorted(minions)
    with client:
        while asked:
            silent, early = set(asked), []
            for name, said in _job(client, asked, function, arg, kwarg, deadline):
                silent.discard(name)
                if _is_early(said) and time.monotonic() < deadline:
                    early.append(name)
                else:
                    yield name, said
            yield from ((name, None) for name in sorted(silent))
            if early:
                time.sleep(1)
            asked = sorted(early)


def _is_early(said):
    """Return whether a minion has a module, and has not loaded it yet."""
    return isinstance(said["ret"], str) and UNAVAILABLE in said["ret"]


def _job(client, minions, function, arg, kwarg, deadline):
    """Yield each minion that answers, once, with what it returned and its exit status."""
    left = set(minions)
    job = client.cmd_iter_no_block(minions, function, arg, timeout=PATIENCE, tgt_type="list", kwarg=kwarg)
    with contextlib.closing(job):
        for one in job:
            for name, said in (one or {}).items():
                if name == "error":
                    raise SaltException(f"The master refused {function}: {said.get('message', said)}")
                if name in left and isinstance(said, dict) and "ret" in said:
                    left.discard(name)
                    yield name, said
            if not left or time.monotonic() > deadline:
                return
            if not one:
                time.sleep(PAUSE)
