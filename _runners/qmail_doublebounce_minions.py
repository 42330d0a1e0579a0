"""
The minions that a target means, and what each of them answers to a function; none is left out because it is silent.
"""

import contextlib
import logging
import time

import salt.client
import salt.utils.minions
from salt.exceptions import SaltException
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

# Without an answer for so long, Salt asks whether the job still runs, and waits as long for what is said to that.
# Its own 5 and 10 seconds are not enough for a server that drowns in mail.
PATIENCE = 30
WAITING = {"timeout": PATIENCE, "gather_job_timeout": PATIENCE}
PAUSE = 0.02
UNAVAILABLE = "is not available"
BY_NAME = ("glob", "pcre", "list")


def found(target, tgt_type="glob"):
    """
    Return the ids of all minions that are meant, sorted: those that the master knows of, and those that answer. Only
    where it cannot know all of them, they are asked: by what is in grains or pillar, or behind a syndic.

    Raises SaltException if the master refuses, and OSError if it is gone.

    target, tgt_type
        As for ``salt``; a list of names for ``list``.

    For the runner ``qmail_doublebounce_rollout`` and the runner ``qmail_doublebounce_survey``.
    """
    opts = dict(__opts__)
    known = salt.utils.minions.CkMinions(opts).check_minions(target, tgt_type, greedy=False)
    names = {*known["minions"], *(target if tgt_type == "list" else ())}
    if tgt_type in BY_NAME and not opts.get("order_masters"):
        return sorted(names)
    with salt.client.get_local_client(mopts=opts) as client:
        job = _begin(client, target, tgt_type, "test.ping")
        return sorted(names.union(dict(_events(client, job)), _kept(job, __salt__["jobs.list_job"])))


def ask(minions, function, arg=(), kwarg=None, limit=300, is_new=True):
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

    is_new
        Whether the minions may have got the module just now: those that do not have it yet are asked again.

    For the runner ``qmail_doublebounce_rollout`` and the runner ``qmail_doublebounce_survey``.
    """
    if not minions:
        return iter(())
    # One client for each question: an earlier one's still takes what comes late.
    client = salt.client.get_local_client(mopts=dict(__opts__))
    # Found here, where Salt knows whose ``__salt__`` it is: whoever iterates need not be in a runner.
    question = function, list(arg), kwarg or {}
    return _answers(client, __salt__["jobs.list_job"], minions, question, time.monotonic() + limit, is_new)


def _answers(client, list_job, minions, question, deadline, is_new):
    asked = sorted(minions)
    with client:
        while asked:
            silent, early = set(asked), []
            for name, said in _job(client, list_job, asked, question, deadline):
                silent.discard(name)
                if is_new and _is_early(said) and time.monotonic() < deadline:
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


def _job(client, list_job, minions, question, deadline):
    """Yield each minion that answers, once, with what it returned and its exit status."""
    left = set(minions)
    job = _begin(client, minions, "list", *question)
    with contextlib.closing(_events(client, job, deadline)) as events:
        for name, said in events:
            if name in left:
                left.discard(name)
                yield name, said
            if not left:
                return
    kept = _kept(job, list_job)
    yield from ((name, kept[name]) for name in minions if name in left and name in kept)


def _begin(client, target, tgt_type, function, arg=(), kwarg=None):
    """Have minions run a function. Return the job: its ``function``, its ``jid``, and the ``minions`` to wait for."""
    job = client.run_job(target, function, arg, tgt_type, kwarg=kwarg, listen=True, **WAITING)
    return {"function": function, "jid": None, "minions": [], **job}


def _events(client, job, deadline=float("inf")):
    """Yield minions that answer, with what they say, as the events of it come; one may come twice."""
    if job["jid"] is None:
        return
    answers = client.get_iter_returns(job["jid"], job["minions"], block=False, **WAITING)
    with contextlib.closing(answers):
        for one in answers:
            if one and _refusal(one):
                raise SaltException(f"The master refused {job['function']}: {_refusal(one)}")
            yield from ((name, said) for name, said in (one or {}).items() if _is_answer(said))
            if time.monotonic() > deadline:
                return
            if not one:
                time.sleep(PAUSE)


def _kept(job, list_job):
    """
    Return what the master has kept of a job: a dict, each minion that has answered with what it said. That is more than
    came as events where Salt has lost one, as 3007 does of two at the same instant.
    """
    if job["jid"] is None:
        return {}
    try:
        kept = list_job(job["jid"])["Result"].items()
        return {name: {"ret": said["return"], "retcode": said.get("retcode", 0)} for name, said in kept}
    except Exception as err:  # whatever keeps the jobs may fail in its own way; then the events are what there is
        log.error("What minions said to %s was not looked up in the job cache: %s", job["function"], err)
        return {}


def _is_answer(said):
    return isinstance(said, dict) and "ret" in said


def _refusal(answer):
    """Return why the master did not do it; a minion may have the id ``error``, too."""
    said = answer.get("error")
    return said.get("message", said) if isinstance(said, dict) and "ret" not in said else None
