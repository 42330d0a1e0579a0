"""
A report about many minions: each is asked for its overview, and is a row, whatever it answers, and also if it does not.
"""

import shlex
import sys
import time

import salt.cache
from salt.exceptions import SaltException, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

FUNCTION = "qmail_doublebounce.overview"
RUNNER = "qmail_doublebounce.report"
AT_ONCE = 500  # minions in a job: what the master can serve at a time limits it
# Where Salt keeps what the master knows of a minion: 3006 and 3007, then 3008.
CACHED = (("minions/{}", "data"), ("grains", "{}"))
UNHEARD = ("silent", "odd")


def run(target, tgt_type="glob", since="7d", timeout=300, html=None):
    """
    Return what the runner ``qmail_doublebounce.report`` returns, which documents it: text for a person at a terminal,
    data for everybody else. Nothing is raised: a runner that raises shows a traceback.

    target, tgt_type, since, timeout, html
        As there.

    For the runner ``qmail_doublebounce``.
    """
    try:
        target, tgt_type = __salt__["qmail_doublebounce_options.minions"](target, tgt_type, timeout)
        if html is not None:
            __salt__["qmail_doublebounce_page.check"](html)
        report = _report(target, tgt_type, since, timeout)
    except (SaltException, OSError) as err:
        return _told({"error": f"{err}"}, [f"{err}"], 1)
    except KeyboardInterrupt:
        return _told({"error": "It was interrupted."}, ["It was interrupted."], 1)
    told = [*__salt__["qmail_doublebounce_table.lines"](report)]
    unheard = sum(report["totals"]["levels"].get(level, 0) for level in UNHEARD)
    if html is not None:
        report["page"] = _page(html, report)
        told += ["", report["page"]["error"] or f"The page is {html}."]
    return _told(report, told, int(bool(unheard or (html and report["page"]["error"]))))


def _report(target, tgt_type, since, timeout):
    span = __salt__["qmail_doublebounce_row.window"](since, time.time())
    names = __salt__["qmail_doublebounce_minions.found"](target, tgt_type)
    if not names:
        raise SaltInvocationError(f"The target {target!r} ({tgt_type}) matches no minion: look with salt-key.")
    about = target if isinstance(target, str) else ", ".join(target)
    print(f"Asking {len(names)} minions …", file=sys.stderr, flush=True)
    rows = []
    for begin in range(0, len(names), AT_ONCE):
        rows += _rows(names[begin : begin + AT_ONCE], since, timeout, span)
    return __salt__["qmail_doublebounce_totals.report"](rows, span, time.time(), about)


def _rows(names, since, timeout, span):
    make, bare = __salt__["qmail_doublebounce_row.make"], __salt__["qmail_doublebounce_row.bare"]
    ask = __salt__["qmail_doublebounce_minions.ask"]
    for name, said in ask(names, FUNCTION, (), {"since": since}, timeout, is_new=False):
        if said is None:
            why = f"It did not answer within {timeout} s. See whether it is up: salt {shlex.quote(name)} test.ping"
            yield bare(name, "silent", why, _last_heard(name))
        else:
            yield make(name, said["ret"], time.time(), span)


def _last_heard(name):
    """Return when the master last stored something of a minion, in seconds since the epoch; ``None`` if never."""
    cache = salt.cache.factory(dict(__opts__))
    found = [cache.updated(bank.format(name), key.format(name)) for bank, key in CACHED]
    return max((moment for moment in found if moment), default=None)


def _page(html, report):
    try:
        return {**__salt__["qmail_doublebounce_page.write"](html, report), "error": None}
    except (SaltException, OSError) as err:
        return {"path": html, "bytes": None, "error": f"{err}"}


def _told(report, lines, status):
    """
    Return a report as Salt shall show it. Whoever typed the command, and no ``--out``, gets text; a program gets data.
    """
    is_typed = __opts__.get("fun") == RUNNER and not __opts__.get("output")
    if is_typed:
        # This outputter prints text as it is.
        return {"outputter": "highstate", "retcode": status, "data": "\n".join(lines)}
    return {**report, "retcode": status}
