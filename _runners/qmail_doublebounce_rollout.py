"""
The steps of a rollout: a dry run on all, then a canary, then wave after wave, each proved before the next one begins.

The first failure, refusal or silence ends it, and every minion has a row in the result.
"""

import contextlib
import datetime
import sys
import time

from salt.exceptions import SaltException, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

FORMULA = "qmail-doublebounce"
# Nothing is changed in a dry run: only what the master can serve at a time limits it.
DRY_SIZE = 100
# To bring the modules to a minion for the first time takes about forty requests to the master.
SYNC_SECONDS = 300
MOST_NAMES = 20  # in one sentence
INTERRUPTIONS = (KeyboardInterrupt, SystemExit)  # salt-run makes the second of Ctrl-C, and of a TERM


def run(kind, given):
    """
    Do all steps, and return them, as Salt prints states, whatever happens: a runner that raises shows a traceback.

    kind
        ``rollout`` or ``rollback``.

    given
        The settings of the command, as a dict.

    For the runner ``qmail_doublebounce``.
    """
    steps = _Steps(kind)
    with contextlib.redirect_stdout(sys.stderr):  # Salt's client prints errors, and a reader of JSON chokes on them
        try:
            _Rollout(kind, __salt__["qmail_doublebounce_options.checked"](given), steps).run()
        except (SaltException, OSError) as err:
            steps.add("the work could be done", False, f"{err}")
        except INTERRUPTIONS:
            steps.add("nobody interrupted it", False, "It was interrupted. Start it again: what is done is left alone.")
    return steps.told()


class _Steps:
    """What has been done: one state for each step."""

    def __init__(self, kind):
        self.kind, self.states, self.began = kind, {}, time.time()

    def add(self, name, result, comment, changes=None, rows=None):
        began, self.began = self.began, time.time()
        self.states[f"qmail_doublebounce_|-{name}_|-{name}_|-{self.kind}"] = {
            "__id__": name,
            "__run_num__": len(self.states),
            "__sls__": f"{FORMULA}.{self.kind}",
            "name": name,
            "result": result,
            "comment": comment,
            "changes": changes or {},
            "minions": rows or {},
            "start_time": datetime.datetime.fromtimestamp(began).strftime("%H:%M:%S.%f"),
            "duration": round((self.began - began) * 1000, 3),
        }
        if result is False:
            _print(f"{name}: False: {comment}")  # where the master is gone, Salt itself cannot print the result
        _fire(self.kind, "step", {"step": name, "result": result, "comment": comment})

    def told(self):
        failed = any(state["result"] is False for state in self.states.values())
        return {"outputter": "highstate", "retcode": int(failed), "data": {self.kind: self.states}}


class _Rollout:
    """One run over the minions of a target."""

    def __init__(self, kind, asked, steps):
        self.kind, self.asked, self.steps = kind, asked, steps
        self.sls = FORMULA if kind == "rollout" else f"{FORMULA}.clean"
        self.rows, self.unsettled = {}, set()

    def run(self):
        target, tgt_type = self.asked["target"], self.asked["tgt_type"]
        self.rows = {name: _row("untouched") for name in __salt__["qmail_doublebounce_minions.found"](target, tgt_type)}
        if not self.rows:
            raise SaltInvocationError(f"The target {target!r} ({tgt_type}) matches no minion: look with salt-key.")
        canary = self.asked["canary"]
        strangers = [] if isinstance(canary, int) else [name for name in canary if name not in self.rows]
        if strangers:
            raise SaltInvocationError(f"canary: the target does not match {', '.join(strangers)}.")
        with __salt__["qmail_doublebounce_claim.held"](self.kind, list(self.rows)):
            if not self._dry_run() or self.asked["test"]:
                return
            for name, wave in self._waves():
                if not self._wave(name, wave):
                    return

    def _dry_run(self):
        """Bring the modules, and have everybody say what would change; return whether all of it is clean."""
        limit, read = max(SYNC_SECONDS, self.asked["timeout"]), __salt__["qmail_doublebounce_answer.synced"]
        with self._underway("a dry run is clean everywhere", list(self.rows)) as step:
            for some in _parts(list(self.rows), DRY_SIZE):
                self._ask(some, "saltutil.sync_all", limit=limit, read=read)
                self._apply([name for name in some if not self._is_bad(name)], test=True)
                self._prove([name for name in some if self.rows[name]["result"] == "right"])
        due = self._named("would change")
        said = f"The change is due on {len(due)} of {_counted(self.rows)}." if due else "Everyone is right already."
        return self._end(*step, said, None if due else True)

    def _waves(self):
        """Yield the name of each wave and who is in it: the canary first, and nobody who is right already."""
        due, canary = self._named("would change"), self.asked["canary"]
        first = due[:canary] if isinstance(canary, int) else [name for name in due if name in canary]
        taken = set(first)
        rest = [name for name in due if name not in taken]
        waves = list(_parts(rest, __salt__["qmail_doublebounce_options.wave_size"](self.asked["size"], len(due))))
        if first:
            yield "the canary is right", first
        for number, wave in enumerate(waves, 1):
            yield f"wave {number} of {len(waves)} is right", wave

    def _wave(self, name, wave):
        for one in wave:
            self.rows[one] = {**self.rows[one], "changes": []}  # what it would change is not what it has changed
        with self._underway(name, wave) as step:
            self._apply(wave, test=False)
            self._prove([one for one in wave if not self._is_bad(one)])
        return self._end(*step, f"{_counted(wave)} done and proved.", True)

    def _apply(self, minions, test):
        read = __salt__["qmail_doublebounce_answer.dry" if test else "qmail_doublebounce_answer.applied"]
        self._ask(minions, "state.apply", [self.sls], {"test": test, "concurrent": False}, read=read)

    def _prove(self, minions):
        """Have minions prove that it is done: the sink holds, or nothing is left to undo."""
        if self.kind == "rollout":
            kwarg = {"verify": self.asked["verify"] and any(self.rows[name]["changes"] for name in minions)}
            read = __salt__["qmail_doublebounce_answer.proved"]
            self._ask(minions, "qmail_doublebounce.holds", kwarg=kwarg, read=read, last=True)
        else:
            read = __salt__["qmail_doublebounce_answer.undone"]
            self._ask(minions, "state.apply", [self.sls], {"test": True}, read=read, last=True)

    def _ask(self, minions, function, arg=(), kwarg=None, limit=None, read=None, last=False):
        """
        Ask minions, and note and show what each of them says, as it comes. Who has not answered within the limit is
        silent. ``last``: nothing else is asked of them in this step.
        """
        began, limit = time.monotonic(), limit or self.asked["timeout"]
        for name, said in __salt__["qmail_doublebounce_minions.ask"](minions, function, arg, kwarg, limit):
            gone = time.monotonic() - began
            news = read(said) if said else __salt__["qmail_doublebounce_answer.silent"](name, function, gone)
            self.rows[name] = {**self.rows[name], **news}
            if last or self._is_bad(name) or self.rows[name]["result"] == "would change":
                self._show(name)

    def _is_bad(self, name):
        return self.rows[name]["result"] in ("failed", "silent")

    def _named(self, result):
        return [name for name, row in self.rows.items() if row["result"] == result]

    def _show(self, name):
        """Report how a minion is, as it happens."""
        row = self.rows[name]
        self.unsettled.discard(name)
        _print(f"{_plain(name)}: {row['result']}{': ' if row['why'] else ''}{row['why']}")
        _fire(self.kind, "minion", {"minion": name, **row})

    @contextlib.contextmanager
    def _underway(self, name, minions):
        """Whatever ends a step half-way, everybody in it has a row: who has done what, and of whom it is not known."""
        self.unsettled = set(minions)
        try:
            yield name, minions
        except (SaltException, OSError, *INTERRUPTIONS):
            waved = [one for one in minions if one in self.unsettled and self.rows[one]["result"] != "untouched"]
            for one in waved:
                self.rows[one] = {**self.rows[one], **__salt__["qmail_doublebounce_answer.unfinished"](self.rows[one])}
                self._show(one)
            self._end(name, minions, "It was not finished.", False)
            raise

    def _end(self, name, minions, said, good):
        """Add a step, and return whether the next one may begin."""
        rows = {one: self.rows[one] for one in minions}
        bad = [
            f"Minion {_plain(one)} ({row['result']}): {row['why']}" for one, row in rows.items() if self._is_bad(one)
        ]
        changes = {one: row["changes"] for one, row in rows.items() if row["changes"]}
        if bad:
            rest = [one for one, row in self.rows.items() if row["result"] in ("untouched", "would change")]
            said = "\n".join([f"It ends here: {len(bad)} of {len(rows)} failed.", *bad, f"Untouched: {_some(rest)}."])
        self.steps.add(name, False if bad else good, said, changes, rows)
        return not bad


def _row(result):
    return {"result": result, "why": "", "changes": []}


def _counted(names):
    return f"{len(names)} minion{'s' if len(names) != 1 else ''}"


def _some(names):
    more = len(names) - MOST_NAMES
    return (", ".join(map(_plain, names[:MOST_NAMES])) or "nobody") + (f" and {more} more" if more > 0 else "")


def _parts(names, size):
    for begin in range(0, len(names), size):
        yield names[begin : begin + size]


def _plain(name):
    return __salt__["qmail_doublebounce_answer.plain"](name)


def _print(text):
    """Print for who watches; a rollout goes on when they have left."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _fire(kind, what, data):
    """Tell whoever listens; if the master has gone, nobody does."""
    with contextlib.suppress(OSError, SaltException):
        __salt__["event.send"](f"{FORMULA}/{kind}/{what}", data)
