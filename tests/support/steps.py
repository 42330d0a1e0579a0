"""The README's steps on one server, by salt-call, wherever the formula has come from."""

import json
import os
import pathlib
import subprocess
import sys

from tests.support import minion
from tests.support.mta import Mta, lay_out

SALT_CALL = pathlib.Path(sys.executable).with_name("salt-call")


class Steps:
    """A masterless minion, on a qmail home, with the formula in a directory; ``python`` runs salt-call."""

    def __init__(self, place, home, formula, python=sys.executable, **options):
        roots = {"file_roots": {"base": [str(formula)]}}
        self.configuration = minion.configure(place, **{**roots, "module_dirs": [], **options})
        self.home, self.python = home, python
        self.log = place / "maillog"
        pillar = {"address": home.ADDRESS, "qmail": {"home": str(home.path)}}
        minion.write(place / "pillar/top.sls", {"base": {"*": ["qmail"]}})
        minion.write(place / "pillar/qmail.sls", {"qmail_doublebounce": pillar})

    def call(self, *words):
        """Call a function, and return what it returns."""
        command = [self.python, SALT_CALL, "--local", f"--config-dir={self.configuration.parent}", "--out=json", *words]
        # Where nothing of this project is found: it is not a place from which Python takes modules.
        place = self.configuration.parent
        done = subprocess.run(
            command,
            cwd=place,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return json.loads(done.stdout)["local"]

    def apply(self, *words):
        """Apply states, and return whether there were changes."""
        results = self.call("state.apply", *words).values()
        assert all(state["result"] is not False for state in results), results
        return any(state["changes"] for state in results)

    def start(self):
        """Start the qmail-send that the steps restart."""
        subprocess.run([self.home.path / "bin/qmailctl", "start"], check=True, timeout=60)

    def prove(self, modules):
        """Send a probe through a qmail-send that delivers, by the rules that are in these modules."""
        self.home.stop()
        mta = Mta(self.home, modules, self.log)
        try:
            found = self.call("qmail_doublebounce.probe", f"log={self.log}")
        finally:
            mta.stop()
        self.start()
        return found

    def take(self, modules):
        """Take all of them, with a qmail-send that runs, and undo them."""
        lay_out(self.home)
        self.start()
        assert self.home.wait_until_loaded("postmaster@mail.example.net")
        before = self.home.snapshot()
        check = self.call("qmail_mailbox.check", self.home.ADDRESS, f"home={self.home.path}")
        assert check["sink"].startswith("It can be one"), check
        assert self.apply("qmail-doublebounce", "test=True")
        assert self.home.snapshot() == before
        assert self.apply("qmail-doublebounce")
        assert self.home.wait_until_loaded(self.home.ADDRESS)
        assert not self.apply("qmail-doublebounce")
        status = self.call("qmail_doublebounce.status")
        assert status["verdict"] == f"Double bounces vanish at {self.home.ADDRESS}."
        assert "of these modules runs" not in str(status["advice"])
        probe = self.prove(modules)
        assert (probe["end"], probe["left"]) == ("swallowed", ""), probe
        assert self.apply("qmail-doublebounce.clean")
        assert self.home.snapshot() == before
