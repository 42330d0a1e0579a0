"""
Roll the formula out over many minions, or undo it on them: a dry run on all, then a canary, then wave after wave.

Each wave is applied and then proved, before the next one begins. The first failure, refusal or silence ends it, and
every minion has a row in the result. Run it on the master, with ``salt-run``; over salt-ssh there is no such thing, see
docs/fleet.md.
"""

import contextlib
import datetime
import fcntl
import getpass
import json
import os
import sys
import time

import salt.client
import salt.utils.minions
from salt.exceptions import SaltException, SaltInvocationError

FORMULA = "qmail-doublebounce"
PILLAR = "qmail_doublebounce:rollout"
DEFAULTS = {
    "target": None,
    "tgt_type": "glob",
    "canary": 1,
    "size": 10,
    "verify": False,
    "timeout": 300,
    "test": False,
}
# Nothing is changed in a dry run: only what the master can serve at a time limits it.
DRY_SIZE = 100
# To bring the modules to a minion for the first time takes about forty requests to the master.
SYNC_SECONDS = 300
# Without a sign of life for so long, Salt asks whether the job still runs; then it waits on.
PATIENCE = 15
PAUSE = 0.02
LONGEST = 2000  # characters of what a minion says
MOST_NAMES = 20  # in one sentence
UNAVAILABLE = "is not available"
CONSEQUENCE = "One or more requisite failed"


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
    return _run("rollout", {**given, "timeout": timeout, "test": test})


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
    return _run("rollback", {**given, "timeout": timeout, "test": test})


def _run(kind, given):
    """Do all steps, and return them whatever happens: a runner that raises shows a traceback."""
    steps = _Steps(kind)
    try:
        asked = _asked(given)
        with salt.client.get_local_client(mopts=__opts__) as client:
            _Rollout(kind, asked, client, steps).run()
    except (SaltException, OSError) as err:
        steps.add("the work could be done", False, f"{err}")
    except KeyboardInterrupt:
        steps.add("nobody interrupted it", False, "It was interrupted. Start it again: what is done is left alone.")
    return steps.told()


def _asked(given):
    """Return the settings: what was given, over the master's pillar, over the defaults, all of it checked."""
    pillar = __salt__["pillar.show_pillar"](__opts__["id"])
    ours = pillar.get("qmail_doublebounce") if isinstance(pillar, dict) else None
    said = (ours.get("rollout") or {}) if isinstance(ours, dict) else {}
    if not isinstance(said, dict):
        raise SaltInvocationError(f"{PILLAR} is {said!r}, but settings belong there: {', '.join(DEFAULTS)}.")
    unknown = [str(name) for name in said if name not in DEFAULTS]
    if unknown:
        raise SaltInvocationError(f"{PILLAR}:{unknown[0]} is not a setting. The settings are: {', '.join(DEFAULTS)}.")
    asked = {**DEFAULTS, **said, **{name: value for name, value in given.items() if value is not None}}
    if not asked["target"] or not isinstance(asked["target"], (str, list)):
        raise SaltInvocationError("No target is given. Name the minions, as in: rollout 'mx*'.")
    for name in ("verify", "test"):
        if not isinstance(asked[name], bool):
            raise SaltInvocationError(f"{name} is {asked[name]!r}; allowed: True, False.")
    if not _is_number(asked["timeout"]) or not 1 <= asked["timeout"] <= 86400:
        raise SaltInvocationError(f"timeout is {asked['timeout']!r}; allowed: seconds, from 1 to 86400.")
    _wave_size(asked["size"], 1)
    canary = asked["canary"]
    if not (_is_number(canary) and canary >= 0) and not (canary and isinstance(canary, (str, list))):
        raise SaltInvocationError(f"canary is {canary!r}; allowed: how many, 0 for none, or names of minions.")
    return asked


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _wave_size(size, total):
    """Return how many minions a wave has."""
    share = str(size)[:-1] if str(size).endswith("%") else ""
    if share.isdecimal() and 1 <= int(share) <= 100:
        return max(1, total * int(share) // 100)
    if not _is_number(size) or size < 1:
        raise SaltInvocationError(f"size is {size!r}; allowed: how many minions, or a share of them such as 10%.")
    return size


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
            # Where the master is gone, Salt itself cannot print the result.
            print(f"{name}: False: {comment}", file=sys.stderr, flush=True)
        _fire(self.kind, "step", {"step": name, "result": result, "comment": comment})

    def told(self):
        failed = any(state["result"] is False for state in self.states.values())
        return {"outputter": "highstate", "retcode": int(failed), "data": {self.kind: self.states}}


class _Rollout:
    """One run over the minions of a target."""

    def __init__(self, kind, asked, client, steps):
        self.kind, self.asked, self.client, self.steps = kind, asked, client, steps
        self.sls = FORMULA if kind == "rollout" else f"{FORMULA}.clean"
        self.rows = {}

    def run(self):
        self.rows = {name: _row("untouched") for name in self._found()}
        if not self.rows:
            raise SaltInvocationError(
                f"The target {self.asked['target']!r} ({self.asked['tgt_type']}) matches no minion: look with salt-key."
            )
        with _claimed(self.kind, list(self.rows)):
            if not self._dry_run() or self.asked["test"]:
                return
            for name, wave in self._waves():
                if not self._wave(name, wave):
                    return

    def _found(self):
        """Return all minions that are meant, sorted: those that the master knows of, and those that answer."""
        target, tgt_type = self.asked["target"], self.asked["tgt_type"]
        known = salt.utils.minions.CkMinions(__opts__).check_minions(target, tgt_type, greedy=False)
        listed = target.split(",") if isinstance(target, str) else target
        names = {*known["minions"], *(listed if tgt_type == "list" else ())}
        answers = self.client.cmd_iter(target, "test.ping", timeout=PATIENCE, tgt_type=tgt_type)
        return sorted(names.union(*(found for found in answers if found and "error" not in found)))

    def _dry_run(self):
        """Bring the modules, and have everybody say what would change; return whether all of it is clean."""
        for some in _parts(list(self.rows), DRY_SIZE):
            self._ask(some, "saltutil.sync_all", limit=max(SYNC_SECONDS, self.asked["timeout"]), read=_synced)
            self._apply([name for name in some if not self._is_bad(name)], test=True)
            self._prove([name for name in some if self.rows[name]["result"] == "right"])
            self._show(some)
        due = self._named("would change")
        said = f"The change is due on {len(due)} of {_counted(self.rows)}." if due else "Everyone is right already."
        return self._step("a dry run is clean everywhere", list(self.rows), said, None if due else True)

    def _waves(self):
        """Yield the name of each wave and who is in it: the canary first, and nobody who is right already."""
        due, canary = self._named("would change"), self.asked["canary"]
        if _is_number(canary):
            first = due[:canary]
        else:
            wanted = canary if isinstance(canary, list) else canary.split(",")
            strangers = [str(name) for name in wanted if name not in self.rows]
            if strangers:
                raise SaltInvocationError(f"canary: the target does not match {', '.join(strangers)}.")
            first = [name for name in due if name in wanted]
        rest = [name for name in due if name not in first]
        waves = list(_parts(rest, _wave_size(self.asked["size"], len(due))))
        if first:
            yield "the canary is right", first
        for number, wave in enumerate(waves, 1):
            yield f"wave {number} of {len(waves)} is right", wave

    def _wave(self, name, wave):
        self._apply(wave, test=False)
        self._prove([one for one in wave if not self._is_bad(one)])
        self._show(wave)
        return self._step(name, wave, f"{_counted(wave)} done and proved.", True)

    def _apply(self, minions, test):
        kwarg = {"test": test, "concurrent": False}
        self._ask(minions, "state.apply", [self.sls], kwarg, read=_dry if test else _applied)

    def _prove(self, minions):
        """Have minions prove that it is done: the sink holds, or nothing is left to undo."""
        if self.kind == "rollout":
            kwarg = {"verify": self.asked["verify"] and any(self.rows[name]["changes"] for name in minions)}
            self._ask(minions, "qmail_doublebounce.holds", kwarg=kwarg, read=_proved)
        else:
            self._ask(minions, "state.apply", [self.sls], {"test": True}, read=_undone)

    def _ask(self, minions, function, arg=(), kwarg=None, limit=None, read=None):
        """Ask minions, and note what each of them says. Who has not answered within the limit is silent."""
        limit = limit or self.asked["timeout"]
        waiting, deadline = set(minions), time.monotonic() + limit
        while waiting:
            late = set()
            for name, said in self._answers(waiting, function, arg, kwarg, deadline):
                if isinstance(said["ret"], str) and UNAVAILABLE in said["ret"] and time.monotonic() < deadline:
                    late.add(name)  # it has the modules, and has not loaded them yet
                else:
                    self.rows[name] = {**self.rows[name], **read(said, self.rows[name])}
                    waiting.discard(name)
            if not late:
                break
            time.sleep(1)
        for name in waiting:
            self.rows[name] = {
                **self.rows[name],
                "result": "silent",
                "why": f"It did not answer {function} within {limit} s. See whether it is up, and what it does:"
                f" salt {name} saltutil.running",
            }

    def _answers(self, minions, function, arg, kwarg, deadline):
        """Yield each minion that answers, once, with what it returned and its exit status."""
        left = set(minions)
        job = self.client.cmd_iter_no_block(
            sorted(left), function, list(arg), timeout=PATIENCE, tgt_type="list", kwarg=kwarg or {}
        )
        with contextlib.closing(job):
            for found in job:
                for name, said in (found or {}).items():
                    if name == "error":
                        raise SaltException(f"The master refused {function}: {said.get('message', said)}")
                    if name in left and isinstance(said, dict) and "ret" in said:
                        left.discard(name)
                        yield name, said
                if not left or time.monotonic() > deadline:
                    return
                if not found:
                    time.sleep(PAUSE)

    def _is_bad(self, name):
        return self.rows[name]["result"] in ("failed", "silent")

    def _named(self, result):
        return [name for name, row in self.rows.items() if row["result"] == result]

    def _show(self, minions):
        """Report how each of them is, as it happens."""
        for name in minions:
            row = self.rows[name]
            print(f"{name}: {row['result']}{': ' if row['why'] else ''}{row['why']}", file=sys.stderr, flush=True)
            _fire(self.kind, "minion", {"minion": name, **row})

    def _step(self, name, minions, said, good):
        """Add a step, and return whether the next one may begin."""
        rows = {one: self.rows[one] for one in minions}
        bad = [f"Minion {one} ({row['result']}): {row['why']}" for one, row in rows.items() if self._is_bad(one)]
        changes = {one: row["changes"] for one, row in rows.items() if row["changes"]}
        if bad:
            rest = [one for one, row in self.rows.items() if row["result"] in ("untouched", "would change")]
            said = "\n".join([f"It ends here: {len(bad)} of {len(rows)} failed.", *bad, f"Untouched: {_some(rest)}."])
        self.steps.add(name, False if bad else good, said, changes, rows)
        return not bad


def _row(result):
    return {"result": result, "why": "", "changes": []}


def _synced(said, row):
    return {} if isinstance(said["ret"], dict) and not said.get("retcode") else _failure(said["ret"])


def _dry(said, row):
    done = _states(said)
    return {**done, "result": "would change" if done["changes"] else "right"} if done["result"] != "failed" else done


def _applied(said, row):
    done = _states(said)
    return {**done, "result": "changed" if done["changes"] else "right"} if done["result"] != "failed" else done


def _proved(said, row):
    if isinstance(said["ret"], dict) and said["ret"].get("holds") is True:
        return {"why": _plain(said["ret"].get("why", ""))}
    why = said["ret"].get("why") if isinstance(said["ret"], dict) else said["ret"]
    return _failure(why)


def _undone(said, row):
    done = _states(said)
    if done["result"] == "failed" or not done["changes"]:
        return {} if done["result"] != "failed" else _failure(done["why"])
    return _failure(f"This is still to be undone: {', '.join(done['changes'])}.")


def _states(said):
    """Read what ``state.apply`` returned: which states change something, or why one failed, in its own words."""
    returned = said["ret"]
    if not isinstance(returned, dict) or not all(isinstance(one, dict) for one in returned.values()) or not returned:
        return {**_failure(returned), "changes": []}
    states = sorted(returned.values(), key=lambda one: one.get("__run_num__", 0))
    changes = [_plain(one.get("__id__", "?")) for one in states if one.get("changes")]
    failed = [str(one.get("comment")) for one in states if one.get("result") is False]
    reasons = [text for text in failed if CONSEQUENCE not in text] or failed
    if reasons or said.get("retcode"):
        return {**_failure(" ".join(reasons) or f"state.apply ended with {said['retcode']}."), "changes": changes}
    return {"result": "right", "why": "", "changes": changes}


def _failure(words):
    text = "; ".join(map(str, words)) if isinstance(words, (list, tuple)) else str(words)
    return {"result": "failed", "why": _plain(text) or "It said nothing."}


def _plain(text):
    """A minion's words, without what could write over a terminal."""
    flat = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in flat)[:LONGEST]


def _counted(names):
    return f"{len(names)} minion{'s' if len(names) != 1 else ''}"


def _some(names):
    more = len(names) - MOST_NAMES
    return (", ".join(names[:MOST_NAMES]) or "nobody") + (f" and {more} more" if more > 0 else "")


def _parts(names, size):
    for begin in range(0, len(names), size):
        yield names[begin : begin + size]


def _fire(kind, what, data):
    """Tell whoever listens; if the master has gone, nobody does."""
    with contextlib.suppress(OSError, SaltException):
        __salt__["event.send"](f"{FORMULA}/{kind}/{what}", data)


@contextlib.contextmanager
def _claimed(kind, minions):
    """
    Hold a claim on minions, against other runs on this master. The system lets go of it when this process ends, however
    it does.
    """
    place = os.path.join(__opts__["cachedir"], FORMULA)
    os.makedirs(place, mode=0o700, exist_ok=True)
    mine = os.path.join(place, f"{os.getpid()}-{time.time_ns()}.json")
    about = {"kind": kind, "pid": os.getpid(), "user": getpass.getuser(), "since": time.strftime("%F %T")}
    with open(os.path.join(place, "lock"), "w") as lock, contextlib.ExitStack() as held:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _refuse_two(place, set(minions))
        file = held.enter_context(open(mine, "w"))
        held.callback(os.unlink, mine)
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
            raise SaltInvocationError(
                f"A {other['kind']} by {other['user']}, process {other['pid']}, works on {_some(both)} since"
                f" {other['since']}. Wait for its end."
            )
