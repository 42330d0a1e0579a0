"""
Roll the formula out over many minions, or undo it on them: a dry run on all, then a canary, then wave after wave.

Each wave is applied and then proved, before the next one begins. The first failure, refusal or silence ends it, and
every minion has a row in the result. Run it on the master, with ``salt-run``; over salt-ssh there is no such thing, see
docs/fleet.md.
"""

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def rollout(target=None, tgt_type=None, canary=None, size=None, verify=None, timeout=None, test=None):
    """
    Apply the formula to many minions, wave by wave, and stop at the first one that is not right.

    The minions are found and sorted. In a dry run, each gets the formula's modules, says what would change, and those
    where nothing would change prove that double bounces go where pillar says. If all of that is clean, the canary is
    applied and proved, then each wave. A run that was stopped can be started again: what is right already is left
    alone.

    Returns what Salt prints as states, one for each step: ``changes`` names who has changed and what, ``comment`` who
    failed, in the minion's own words, and who is untouched. ``minions`` in each step has a row for everyone in it, with
    ``result`` (``right``, ``would change``, ``changed``, ``failed``, ``silent``, ``untouched``), ``why``, and
    ``changes``, the IDs of states. The exit status is 0, or 1 if anything failed. Progress goes to standard error, a
    line for each minion, and to the event bus, as ``qmail-doublebounce/rollout/minion`` and ``…/step``.

    target, tgt_type
        Which minions, as for ``salt``: ``'mx*'``, or with ``tgt_type=compound`` ``'mx* and not mx7'``.

    canary
        How many go first, alone, or which: a number, a name, or a list of names. Default 1; 0 for none.

    size
        How many make a wave: a number, or a share of all such as ``10%``. Default 10.

    verify
        ``True``: each minion that was applied sends a probe, as ``qmail_doublebounce.probe`` does. Default ``False``:
        its ``qmail_doublebounce.status`` must have no problem.

    timeout
        Seconds to wait for the answers in each step, while a minion is at work. Default 300. One that gives no sign of
        life is given up sooner.

    test
        ``True``: only the dry run.

    Settings that are not given come from ``qmail_doublebounce:rollout`` in the master's pillar.

    CLI Example:

    .. code-block:: bash

        salt-run qmail_doublebounce.rollout 'mx*' test=True
        salt-run qmail_doublebounce.rollout 'mx*' canary=mx1.example.com size=10 verify=True
    """
    given = {"target": target, "tgt_type": tgt_type, "canary": canary, "size": size, "verify": verify}
    return __salt__["qmail_doublebounce_rollout.run"]("rollout", {**given, "timeout": timeout, "test": test})


def rollback(target=None, tgt_type=None, canary=None, size=None, timeout=None, test=None):
    """
    Undo the formula on many minions, wave by wave, with ``qmail-doublebounce.clean``.

    It works as ``rollout`` does, and returns the same. What is proved after each wave is that another dry run of
    ``clean`` has nothing left to undo, and that qmail-send runs with what was put back.

    target, tgt_type, canary, size, timeout, test
        As for ``rollout``.

    CLI Example:

    .. code-block:: bash

        salt-run qmail_doublebounce.rollback 'mx*'
    """
    given = {"target": target, "tgt_type": tgt_type, "canary": canary, "size": size}
    return __salt__["qmail_doublebounce_rollout.run"]("rollback", {**given, "timeout": timeout, "test": test})
