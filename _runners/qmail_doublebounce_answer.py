"""
What a minion's answer means in a rollout: a dict of what it changes in the row of that minion.

A row has ``result`` (``right``, ``would change``, ``changed``, ``failed``, ``silent``, ``untouched``), ``why``, and
``changes``, the IDs of states.
"""

import shlex

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LONGEST = 2000  # characters of what a minion says
MOST_IDS, LONGEST_ID = 50, 200  # of states, in a row
CONSEQUENCE = "One or more requisite failed"


def synced(said):
    """
    Read what ``saltutil.sync_all`` returned.

    said
        A dict with ``ret`` and ``retcode``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    return {} if isinstance(said["ret"], dict) and not said.get("retcode") else _failure(said["ret"])


def dry(said):
    """
    Read what a dry run of ``state.apply`` returned.

    said
        As for ``synced``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    done = _states(said)
    return {**done, "result": "would change" if done["changes"] else "right"} if done["result"] != "failed" else done


def applied(said):
    """
    Read what ``state.apply`` returned.

    said
        As for ``synced``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    done = _states(said, live=True)
    return {**done, "result": "changed" if done["changes"] else "right"} if done["result"] != "failed" else done


def proved(said):
    """
    Read what ``qmail_doublebounce.holds`` returned.

    said
        As for ``synced``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    if isinstance(said["ret"], dict) and said["ret"].get("holds") is True:
        return {"why": plain(said["ret"].get("why", ""))}
    return _failure(said["ret"].get("why") if isinstance(said["ret"], dict) else said["ret"])


def undone(said):
    """
    Read what a dry run of ``qmail-doublebounce.clean`` returned after it was applied: nothing is left to undo.

    said
        As for ``synced``.

    For the runner ``qmail_doublebounce_rollout``.
    """
    done = _states(said)
    if done["result"] == "failed":
        return _failure(done["why"])
    return _failure(f"This is still to be undone: {', '.join(done['changes'])}.") if done["changes"] else {}


def silent(name, function, seconds):
    """
    Describe a minion that did not answer.

    name
        Its id.

    function, seconds
        What it was asked, and how long ago.

    For the runner ``qmail_doublebounce_rollout``.
    """
    why = (
        f"It did not answer {function} in {seconds:.0f} s. See whether it is up, and what it does:"
        f" salt {shlex.quote(plain(name))} saltutil.running"
    )
    return {"result": "silent", "why": why}


def unfinished(row):
    """
    Describe a minion in whose wave something else has ended the rollout.

    row
        Its row; ``would change`` there, if its answer to ``state.apply`` is not known.

    For the runner ``qmail_doublebounce_rollout``.
    """
    if row["result"] == "would change":
        return {"result": "silent", "why": "It was at work when this ended: it may have changed.", "changes": []}
    return {"result": "failed", "why": "This ended before it was proved."} if row["result"] != "failed" else {}


def plain(text):
    """
    Return a text in one line, without what could write over a terminal.

    text
        A minion's words, or its id.

    For the runner ``qmail_doublebounce_rollout``.
    """
    flat = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in flat)[:LONGEST]


def _states(said, live=False):
    """Read what ``state.apply`` returned: which states change something, or why one failed, in its own words."""
    returned = said["ret"]
    if not isinstance(returned, dict) or not all(isinstance(one, dict) for one in returned.values()) or not returned:
        return {**_failure(returned), "changes": []}
    states = sorted(returned.values(), key=_number)
    done = [one for one in states if one.get("changes") and not (live and one.get("result") is None)]
    changes = [plain(one.get("__id__", "?"))[:LONGEST_ID] for one in done[:MOST_IDS]]
    failed = [str(one.get("comment")) for one in states if one.get("result") is False]
    if live:
        failed += [f"It was only a dry run: {one.get('comment')}" for one in states if one.get("result") is None]
    reasons = [text for text in failed if CONSEQUENCE not in text] or failed
    if reasons or said.get("retcode"):
        return {**_failure(" ".join(reasons) or f"state.apply ended with {said['retcode']}."), "changes": changes}
    return {"result": "right", "why": "", "changes": changes}


def _number(state):
    number = state.get("__run_num__")
    return number if isinstance(number, int) else 0


def _failure(words):
    text = "; ".join(map(str, words)) if isinstance(words, (list, tuple)) else str("" if words is None else words)
    return {"result": "failed", "why": plain(text) or "It said nothing."}
