"""
The minions that a target means, and what each of them answers to a function; none is left out because it is silent.
"""

import contextlib
import time

import salt.client
import salt.utils.minions
from salt.exceptions import SaltException
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Without an answer for so long, Salt asks whether the job still runs, and waits as long for what is said to that.
# Its own 5 and 10 seconds are not enough for a server that drowns in mail.
PATIENCE = 30
PAUSE = 0.02
UNAVAILABLE = "is not available"
BY_NAME = ("glob", "pcre", "list")


def found(target, tgt_type="glob"):
    """
    Return the ids of all minions that are meant, sorted: those that the master knows of, and those that answer. Only
    where it cannot know all of them, they are asked: by what is in grains or pillar, or behind a syndic.

    target, tgt_type
        As for ``salt``; a list of names for ``list``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    opts = dict(__opts__)
    known = salt.utils.minions.CkMinions(opts).check_minions(target, tgt_type, greedy=False)
    names = {*known["minions"], *(target if tgt_type == "list" else ())}
    if tgt_type in BY_NAME and not opts.get("order_masters"):
        return sorted(names)
    with salt.client.get_local_client(mopts=opts) as client:
        answers = client.cmd_iter(target, "test.ping", timeout=PATIENCE, tgt_type=tgt_type)
        return sorted(names.union(*(one for one in answers if one and not _refusal(one))))


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
    if not minions:
        return iter(())
    # One client for each question: an earlier one's still takes what comes late.
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
    patience = {"timeout": PATIENCE, "gather_job_timeout": PATIENCE}
    job = client.cmd_iter_no_block(minions, function, arg, tgt_type="list", kwarg=kwarg, **patience)
    with contextlib.closing(job):
        for one in job:
            if one and _refusal(one):
                raise SaltException(f"The master refused {function}: {_refusal(one)}")
            for name, said in (one or {}).items():
                if name in left and isinstance(said, dict) and "ret" in said:
                    left.discard(name)
                    yield name, said
            if not left or time.monotonic() > deadline:
                return
            if not one:
                time.sleep(PAUSE)


def _refusal(answer):
    """Return why the master did not do it; a minion may have the id ``error``, too."""
    said = answer.get("error")
    return said.get("message", said) if isinstance(said, dict) and "ret" not in said else None
