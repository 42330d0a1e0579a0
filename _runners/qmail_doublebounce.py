"""
Roll the formula out over many minions, undo it on them, or show their double bounces in one table.

A rollout is a dry run on all, then a canary, then wave after wave. Each wave is applied and then proved, before the
next one begins. The first failure, refusal or silence ends it, and every minion has a row in the result. Run it on the
master, with ``salt-run``; over salt-ssh there is no such thing, see
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
        How many make a wave: a number, or a share such as ``10%`` of all that are due. Default 10.

    verify
        ``True``: each minion that was applied sends a probe, as ``qmail_doublebounce.probe`` does. Default ``False``:
        its ``qmail_doublebounce.holds`` must say that double bounces go where its pillar says.

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


def report(target=None, tgt_type="glob", since="7d", timeout=300, html=None):
    """
    Show the double bounces of many servers in one table, the worst server first: how it is and what is wrong, how many
    there were, what became of them, how many wait, and what causes most. Nothing is changed.

    Each minion is asked for ``qmail_doublebounce.overview``. Whoever does not answer, or answers something else, is a
    row, too.

    Returns text to whoever types the command; data with ``--out json``, or to a program: a dict with

    - ``servers``: a row for each, the worst first: ``server``, ``level`` (``down``, ``wrong``, ``silent``, ``odd``: it
      answered something else, ``untold``: its state could not be read, ``due``: a restart is, ``warned``: it holds,
      but something is wrong, ``unset``: it has no pillar, ``holds``) and ``why``; ``sink``, ``mode``, ``fate``,
      ``holds``, ``restart_due``, ``down``; ``double_bounces`` of the last 24 hours, ``day`` and ``all``, what became of
      these and of those of the whole time, ``counts``, one for each part of that; ``came``, ``before``, ``after``;
      ``waiting`` of ``messages`` in the queue, ``oldest``; ``problems``, ``causes``, ``log``, ``newest``; and when it
      was ``heard``, or for a silent one, when the master last stored something of it. ``None`` is what is not known;
    - ``totals``: the same for all together; ``levels``: how many servers are how; the same problem on several servers
      once, with their names; causes by domain; ``before`` and ``after`` for the ``sinks`` that came in this time;
    - ``of``, ``made``, ``since``, ``step`` and ``parts``: the target, when this was, and which time ``counts`` is
      about, in seconds;
    - ``page``: ``path``, ``bytes`` and ``error`` of the page, if one was asked for;
    - ``retcode``: 1 if a minion did not answer, or not as these modules do, or there is no page; what is wrong on a
      server does not change it. ``salt-run`` ends with it.

    target, tgt_type
        Which minions, as for ``salt``: ``'mx*'``, or with ``tgt_type=compound`` ``'mx* and not mx7'``.

    since
        How far back: an age such as ``24h``, ``7d`` or ``4w``, from a day to 92. By the hour up to 8 days, else by the
        day.

    timeout
        Seconds to wait for the answers, while minions are at work. One without a sign of life is given up sooner.

    html
        Also write all of it as a page to this path: an absolute one that ends in ``.html``, on the master. It needs
        nothing else, and loads nothing. What is there must be such a page. Its mode is 0640.

    CLI Example:

    .. code-block:: bash

        salt-run qmail_doublebounce.report 'mx*'
        salt-run qmail_doublebounce.report 'mx*' since=4w html=/srv/www/mail.html
        salt-run qmail_doublebounce.report 'mx*' --out json
    """
    return __salt__["qmail_doublebounce_survey.run"](target, tgt_type, since, timeout, html)
