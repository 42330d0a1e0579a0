"""What a run of the runner says, and what is on the disks of the servers that it went over."""

import functools
import json
import os
import signal

import psutil

from tests.support import supervisors

NAMES = [f"mx{number}" for number in range(1, 7)]
OF_MASTER = "rollout-master"  # the master's id, for which it has a pillar of its own
SECONDS = 1200  # for one command: no limit for a slow machine, but one for a hang
wait_until = functools.partial(supervisors.wait_until, seconds=600)


class Run:
    """What a run of the runner says."""

    def __init__(self, done, kind="rollout"):
        self.done, self.status, self.shown = done, done.returncode, done.stderr.splitlines()
        returned = json.loads(done.stdout)  # all of it: nothing else is printed there
        self.states = {state["__id__"]: state for state in returned["data"][kind].values()}

    @property
    def said(self):
        return "\n".join(state["comment"] for state in self.states.values())

    @property
    def rows(self):
        """Return what is said of each minion in the end."""
        return {name: row["result"] for name, row in self.minions.items()}

    @property
    def minions(self):
        """Return the row of each minion in the last step that it was in."""
        found = {}
        for state in self.states.values():
            found.update(state["minions"])
        return found


def has_sink(server):
    return server.where() == server.expected()


def agree(servers, done, before):
    """
    Whoever is said to have changed has the sink, by the files on disk; who failed has changed if changes are named; all
    others are to the byte what they were.
    """
    for name, server in servers.items():
        row, changed = done.minions[name], server.snapshot() != before[name]
        if row["result"] == "changed":
            assert has_sink(server), (name, server.where())
        assert changed == (row["result"] in ("changed", "failed") and bool(row["changes"])), (name, row)


def signal_all(daemon, number):
    """Send a signal to a daemon and to all of its processes."""
    process = psutil.Process(daemon.pid)
    for one in (*process.children(recursive=True), process):
        os.kill(one.pid, number)


class Asleep:
    """A minion that is there, and does nothing while this lasts."""

    def __init__(self, daemon):
        self.daemon = daemon

    def __enter__(self):
        signal_all(self.daemon, signal.SIGSTOP)

    def __exit__(self, *_):
        signal_all(self.daemon, signal.SIGCONT)
