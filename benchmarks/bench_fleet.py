"""
Many minions: what this formula costs for each of them, and whether that stays flat as they become more.

    python benchmarks/bench_fleet.py --minions 1 8 32 --rounds 3
    python benchmarks/bench_fleet.py --runner

The first starts a master and real minions on this machine, each with a qmail home and a stand-in qmail-send of its
own, and has all of them do the same at once: an SLS that is empty, a sync, a formula run that changes nothing,
``status``, and a rollout that changes everything. Our own share is what these take longer than the empty SLS. The
second feeds the runner, at its boundary, with returns as a real minion sent them, and measures its processor time.
"""

import argparse
import contextlib
import json
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import beside  # makes the next ones importable, too
import salt.client
import salt.config
import salt.loader
from salt.exceptions import SaltClientError

from tests.support import minion
from tests.support.fleet import Server
from tests.support.rollout import has_sink

FLAT = 1.3
SECONDS = 1800  # for one job: no limit for a slow machine, but one for a hang
BIN = pathlib.Path(sys.executable).parent


class Fleet:
    """A master and so many minions, which are stopped in the end."""

    def __init__(self, place, number):
        self.place, self.names, self.processes = place, [f"mx{one:02}" for one in range(1, number + 1)], []
        states, self.pillar = minion.linked(place / "states"), place / "pillar"
        (states / "empty.sls").write_text("{}\n")
        (states / "top.sls").write_text("{}\n")
        minion.write(self.pillar / "top.sls", {"base": {name: [name] for name in self.names}})
        with contextlib.ExitStack() as free:
            sockets = [free.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            publish, ret = (one.getsockname()[1] for one in sockets)
        at = {"publish_port": publish, "log_level": "error", "log_level_logfile": "quiet", "user": "root"}
        roots = {"file_roots": {"base": [str(states)]}, "pillar_roots": {"base": [str(self.pillar)]}}
        here = {"interface": "127.0.0.1", "ret_port": ret, "open_mode": True, "runner_dirs": [str(states / "_runners")]}
        self.config = minion.write(place / "m/master", {"root_dir": str(place / "m"), **at, **here, **roots})
        for name in self.names:
            there = {"master": "127.0.0.1", "master_port": ret, "id": name, "root_dir": str(place / name)}
            minion.write(place / name / "etc/minion", {**at, **there, **minion.roots(place / name)})
        self.servers = [Server(place / name / "home", self.pillar / f"{name}.sls", "dummy") for name in self.names]

    def __enter__(self):
        self.start("salt-master", self.config.parent)
        for name, server in zip(self.names, self.servers, strict=True):
            server.start()
            self.start("salt-minion", self.place / name / "etc")
        self.opts = salt.config.client_config(str(self.config))
        self.runners = salt.loader.runner(self.opts)
        wait_until(lambda: pathlib.Path(self.opts["sock_dir"], "publish_pull.ipc").exists())
        wait_until(self.are_there)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        for server in self.servers:
            server.stop()

    def start(self, program, config):
        self.processes.append(subprocess.Popen([BIN / program, "-c", config], stdin=-3))

    def are_there(self):
        with contextlib.suppress(SaltClientError):  # the master itself does not answer yet
            return len(self.ask("test.ping", timeout=5)) == len(self.names)
        return False

    def ask(self, function, *arg, timeout=SECONDS, **kwarg):
        """Have all minions run a function at once, and return what each returned."""
        with salt.client.get_local_client(mopts=self.opts) as client:
            return client.cmd("*", function, arg, timeout=timeout, kwarg=kwarg)

    def done(self, function, *arg):
        """The same, and all of them must have answered."""
        returned = self.ask(function, *arg)
        assert set(returned) == set(self.names), (function, returned)
        return returned

    def empty(self):
        self.done("state.apply", "empty")

    def sync(self):
        self.done("saltutil.sync_all")

    def apply(self):
        for name, states in self.done("state.apply", "qmail-doublebounce").items():
            assert all(state["result"] and not state["changes"] for state in states.values()), (name, states)

    def status(self):
        assert all(found["pillar"]["holds"] for found in self.done("qmail_doublebounce.status").values())

    def rollout(self):
        self.run("rollout")
        assert all(has_sink(server) for server in self.servers)

    def run(self, kind):
        returned = self.runners[f"qmail_doublebounce.{kind}"]("*", size=len(self.names))
        assert returned["retcode"] == 0, returned


def measured(number, rounds):
    """Return the median of the seconds that each job takes so many minions, by its name."""
    with tempfile.TemporaryDirectory(prefix="q", ignore_cleanup_errors=True) as directory:
        pathlib.Path(directory).chmod(0o755)
        with Fleet(pathlib.Path(directory), number) as fleet:
            seconds = {job: [] for job in (fleet.rollout, fleet.empty, fleet.sync, fleet.apply, fleet.status)}
            fleet.sync()  # a first one brings the modules, and the next question finds them
            for _ in range(rounds):
                for job, spent in seconds.items():
                    passed, _ = beside.timed(job)  # minions work in processes of their own
                    spent.append(passed)
                fleet.run("rollback")
    return {job.__name__: statistics.median(spent) for job, spent in seconds.items()}


def fleets(numbers, rounds):
    shares = {}
    for number in numbers:
        found = measured(number, rounds)
        empty = found.pop("empty")
        print(f"{number} minions: an empty SLS takes {empty / number:.3f} s for each", flush=True)
        for name, seconds in found.items():
            share = (seconds - empty) / number
            shares.setdefault(name, []).append(share)
            grown = f", ratio {share / shares[name][0]:.2f}, aim {FLAT}" if len(shares[name]) > 1 else ""
            print(f"{number} minions: {name}: our share {share:.3f} s for each{grown}", flush=True)


def runner(numbers):
    first = None
    for number in numbers:
        place = tempfile.mkdtemp()
        code = f"import json; from tests.support.answers import many; print(json.dumps(many({number}, {place!r})))"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=beside.REPOSITORY, check=True, stdout=-1, stderr=-3, text=True)
        shutil.rmtree(place)
        told = json.loads(done.stdout)
        each = told["seconds"] / number
        first = first or each
        print(
            f"the runner, {number} minions: {each * 1e6:.0f} us for each, ratio {each / first:.2f}, aim {FLAT};"
            f" {told['mib']:.0f} MiB; {told['result']:.0f} bytes of the result for each",
            flush=True,
        )


def wait_until(true):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minions", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runner", type=int, nargs="*", help="only the runner, for so many: 100 1000 10000")
    given = parser.parse_args()
    if given.runner is not None:
        return runner(given.runner or [100, 1000, 10_000])
    return fleets(given.minions, given.rounds)


if __name__ == "__main__":
    main()
