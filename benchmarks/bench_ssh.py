"""
A formula run over salt-ssh that changes nothing, beside Salt's own states for the same three files and service.

    python benchmarks/bench_ssh.py --rounds 9

What is compared is the time of the whole command ``salt-ssh``, to an sshd of its own on 127.0.0.1. Needs root, sshd,
and a machine that systemd does not run, as bench_formula.py does.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import beside
from bench_formula import core, server, settings, spent

from tests.support import minion, sshd

SALT_SSH = pathlib.Path(sys.executable).with_name("salt-ssh")
SERVER = "mail1"


def master(loopback, place, pillar, states):
    """Write the configuration of a master that never runs, and a roster with one server; return the command for it."""
    linked = minion.linked(place / "states")
    minion.write(linked / "theirs.sls", states)
    minion.write(place / "pillar/top.sls", {"base": {"*": ["mail"]}})
    minion.write(place / "pillar/mail.sls", pillar)
    minion.write(
        place / "etc/master",
        {
            "root_dir": str(place),
            "file_roots": {"base": [str(linked)]},
            "pillar_roots": {"base": [str(place / "pillar")]},
            "extension_modules": str(place / "extmods"),
            "known_hosts_file": str(loopback.known_hosts),
        },
    )
    roster = sshd.roster(loopback, place / "roster", {SERVER: place / "thin"}, {SERVER: {}})
    return [SALT_SSH, "-c", place / "etc", "--roster-file", roster, "--priv", loopback.client_key, "--out=json", SERVER]


def apply(command, sls):
    """Apply an SLS, and return the results of its states."""
    done = subprocess.run([*command, "state.apply", sls], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)[SERVER]


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if sshd.missing():
        sys.exit(f"not measured: {sshd.missing()}")
    with server() as (home, script), sshd.started(home.path.parent / "sshd") as loopback:
        command = master(loopback, home.path.parent / "salt", settings(home, script), core(home, script.name))
        measure(command, rounds)


def measure(command, rounds):
    def ours():
        return spent(apply(command, "qmail-doublebounce"))

    def theirs():
        return spent(apply(command, "theirs"))

    apply(command, "qmail-doublebounce")  # takes Salt to the server, and makes the sink
    ours()
    mine, other = beside.turns(rounds, (ours, theirs), beside.timed)
    beside.row("a run over salt-ssh that changes nothing, beside file.managed and service.running", mine, other, 1.3)


if __name__ == "__main__":
    main()
