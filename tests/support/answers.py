"""Minions that stand in at the runner's boundary: what they return is what real ones were seen to return."""

import json
import pathlib
import re
import time
import tracemalloc

import salt.client
import salt.config
import salt.loader
import salt.utils.minions

from tests.support import minion

KEY = "test_|-the sink is ready_|-the sink is ready_|-nop"
STATE = {"__id__": "the sink is ready", "__run_num__": 0, "result": True, "comment": "It is.", "changes": {}}
HOLDS = {"ret": {"holds": True, "why": "Double bounces vanish at dummy@example.com."}, "retcode": 0}
NAMES = [f"mx{number:02}" for number in range(25)]


def states(**said):
    """What ``state.apply`` returns of one state."""
    failed = said.get("result") is False
    return {"ret": {KEY: {**STATE, **said}}, "retcode": int(failed)}


class Minions:
    """
    Stand in for Salt's client, and for what finds minions: a function says what each returns, by its name, what it is
    asked, and whether dry; ``None`` for the usual. It may raise, too. What ``lost`` ones say is kept, and no event.
    """

    def __init__(self, names, returns=lambda name, function, dry: None):
        self.names, self.returns, self.asked, self.applied, self.pauses = names, returns, [], set(), True
        self.pinged, self.more, self.lost = [], (), ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def check_minions(self, target, tgt_type, greedy):
        return {"minions": list(self.names), "missing": []}

    def run_job(self, target, function, arg, tgt_type, kwarg, listen, **patience):
        assert listen
        if function == "test.ping":
            self.pinged.append((target, function))
            self.job = {name: {"ret": True} for name in self.more}
        else:
            assert tgt_type == "list"
            dry = kwarg.get("test")
            self.asked.append((function, dry, list(target)))
            self.job = dict.fromkeys(target, (function, dry))
        self.kept = {}
        return {"jid": "20261130150000000000", "minions": list(self.job)} if self.job else {}

    def get_iter_returns(self, jid, minions, block, **patience):
        assert not block
        if self.pauses:
            yield None  # as a client does while it waits
        for name, asked in self.job.items():
            said = asked if isinstance(asked, dict) else self.returns(name, *asked) or self.usual(name, *asked)
            if said == "nothing":
                continue
            if "error" not in said:
                self.kept[name] = {"return": said["ret"], **({"retcode": said["retcode"]} if "retcode" in said else {})}
            if name not in self.lost:
                yield said if "error" in said else {name: said}

    def list_job(self, jid):
        """What the master keeps of the last job."""
        return {"jid": jid, "Result": self.kept}

    def usual(self, name, function, dry):
        if function == "saltutil.sync_all":
            return {"ret": {"modules": []}, "retcode": 0}
        if function == "qmail_doublebounce.holds":
            return HOLDS
        changes = {} if name in self.applied else {"old": "a", "new": "b"}
        if not dry:
            self.applied.add(name)
        return states(result=None if dry and changes else True, changes=changes)


def rows(steps):
    """Return what is said of each minion in the end."""
    found = {}
    for step in steps.values():
        found.update({name: row["result"] for name, row in step["minions"].items()})
    return found


def options(place):
    """Return the options of a master that never runs."""
    opts = salt.config.master_config(minion.write(place / "etc/master", {"root_dir": str(place)}))
    opts.update(cachedir=str(place / "cache"), runner_dirs=[str(minion.REPOSITORY / "_runners")])
    return opts


def many(number, place, traced=False):
    """
    Roll out over so many minions that return what a real one does.

    Return a dict: how many have ``changed``, the ``seconds`` of processor time of the runner itself, the size of its
    process (``mib``), the bytes that it ``kept`` for each minion (if ``traced``), and the bytes of the ``result`` for
    each.
    """
    runners = salt.loader.runner(options(pathlib.Path(place)))
    runners["event.send"] = lambda tag, data: None
    runners["pillar.show_pillar"] = lambda minion: {}
    minions = Minions([f"mx{one:05}.example.com" for one in range(number)])
    text, spent = json.dumps(recorded()), 0
    runners["jobs.list_job"] = minions.list_job
    usual, minions.pauses = minions.usual, False

    def returned(name, function, dry):
        nonlocal spent
        began = time.process_time()
        said = usual(name, function, dry)
        if function == "state.apply":
            said["ret"] = {**json.loads(text.replace("example.com", name)), **said["ret"]}
        spent += time.process_time() - began
        return said

    minions.usual = returned
    salt.client.get_local_client = lambda mopts: minions
    salt.utils.minions.CkMinions = lambda opts: minions
    if traced:
        tracemalloc.start()
    began = time.process_time()
    steps = runners["qmail_doublebounce.rollout"]("*", size=100)["data"]["rollout"]
    seconds = time.process_time() - began - spent
    changed = sum(row["result"] == "changed" for step in steps.values() for row in step["minions"].values())
    minions.asked.clear()
    kept = tracemalloc.get_traced_memory()[0] / number if traced else None
    # Not getrusage's: that of a process begins with what the one had that has started it.
    mib = int(re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
    result = len(json.dumps(steps)) / number
    return {"changed": changed, "seconds": seconds, "mib": mib, "kept": kept, "result": result}


def recorded():
    """What a real minion returned of a run that changed nothing."""
    return json.loads((minion.REPOSITORY / "tests/data/returns/no-op.json").read_text())
