"""
A formula run that changes nothing, beside Salt's own states for the same three files and the same service.

    python benchmarks/bench_formula.py --rounds 21

What is compared is the time of the states, summed, as Salt itself tells it. Needs root, and a machine that systemd does
not run: the service is an init script of the stand-in for qmail-send in tests/support.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile

import beside

from tests.support.home import Home
from tests.support.supervisors import Sysv, missing

# file.managed of the core, with what the formula writes.
FILES = {
    "control/doublebounceto": {"contents": "dummy", "user": "root", "group": "root", "mode": "0644"},
    "control/doublebouncehost": {"contents": "example.com", "user": "root", "group": "root", "mode": "0644"},
    "mailnames/example.com/dummy/.qmail": {"contents": "|exit 0", "user": 4242, "group": 4243, "mode": "0600"},
}


def core(home, service):
    """Return the core's states for the same files and service."""
    high = {
        str(home.path / name): {"file": ["managed", *({key: value} for key, value in wanted.items())]}
        for name, wanted in FILES.items()
    }
    return {**high, service: {"service": ["running"]}}


def spent(returned):
    """Return the seconds that the states took, having seen that they changed nothing."""
    assert isinstance(returned, dict), returned
    for state in returned.values():
        assert state["result"] is True and not state["changes"], state
    return sum(state["duration"] for state in returned.values()) / 1000


@contextlib.contextmanager
def server():
    """A qmail home, and the init script that runs its qmail-send; ends this where there can be none."""
    if os.geteuid() != 0 or missing("sysv"):
        sys.exit(f"not measured: {missing('sysv') or 'this needs root'}")
    with tempfile.TemporaryDirectory(prefix="qmail-") as directory:
        pathlib.Path(directory).chmod(0o755)
        home = Home(pathlib.Path(directory) / "qmail")
        script = Sysv(home, pathlib.Path(directory))
        try:
            script.boot()
            yield home, script
        finally:
            script.close()


def settings(home, script):
    """Return the pillar for them."""
    service = {"provider": "service", "name": script.name}
    return {"qmail_doublebounce": {"address": home.ADDRESS, "qmail": {"home": str(home.path)}, "service": service}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    sys.dont_write_bytecode = False  # a minion compiles its modules once
    with server() as (home, script):
        measure(beside.modules(), home, script, rounds)


def measure(modules, home, script, rounds):
    pillar = settings(home, script)

    def ours():
        return modules["state.apply"]("qmail-doublebounce", pillar=pillar)

    def theirs():
        return modules["state.high"](core(home, script.name))

    for _ in range(2):  # the first run makes the sink, the second one finds everything as it should be
        ours()
    mine, other = beside.turns(rounds, (ours, theirs), lambda way: (spent(way()),))
    beside.row("a formula run that changes nothing, beside file.managed and service.running", mine, other, 1)


if __name__ == "__main__":
    main()
