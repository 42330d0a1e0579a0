"""Mail servers that Salt reaches by a command line, each with a qmail and a pillar of its own."""

import contextlib
import json
import pathlib
import subprocess
import tempfile

from tests.support import minion
from tests.support.home import Home

FORMULA = "qmail-doublebounce"
SINKS = {"mail1": "dummy", "mail2": "sink"}  # each server, and the mailbox that its pillar makes the sink
SECONDS = 600  # for one command: no limit for a slow machine, but one for a hang


class Server(Home):
    """A mail server: a qmail home, and the pillar that makes one of its mailboxes the sink."""

    BEFORE = "postmaster@mail.example.net"  # where qmail's own defaults send double bounces here

    def __init__(self, path, pillar, mailbox):
        super().__init__(path)
        self.pillar = pillar
        if mailbox != "dummy":  # every home has that one
            self.add_mailbox(mailbox, "./Maildir/\n")
        self.choose(f"{mailbox}@{self.DOMAIN}")

    def choose(self, address, timeout=60):
        """Have the pillar make this address the sink, and give a restart so many seconds."""
        self.sink = address
        service = {"provider": "qmailctl", "timeout": timeout}
        settings = {"address": address, "qmail": {"home": str(self.path)}, "service": service}
        self.pillar.write_text(json.dumps({"qmail_doublebounce": settings}))

    def start(self):
        subprocess.run([self.path / "bin/qmailctl", "start"], check=True, timeout=60)
        assert self.wait_until_loaded(self.BEFORE), (self.path / "log").read_text()

    def start_again(self):
        """Start a qmail-send that could not start before."""
        subprocess.run([self.path / "bin/qmailctl", "start"], check=True, timeout=60)

    def where(self):
        """Return where double bounces go: what the files say, to the byte, and what qmail-send has read."""
        files = {name: self.control / name for name in ("doublebounceto", "doublebouncehost")}
        found = {name: path.read_text() if path.exists() else None for name, path in files.items()}
        dotqmails = {path.parent.name: path.read_text() for path in self.path.glob("mailnames/*/*/.qmail")}
        return {**found, "mailboxes": dotqmails, "loaded": self.loaded()}

    def expected(self):
        """Return what ``where`` must say once the address in pillar is the sink, and no other one is."""
        local, _, host = self.sink.partition("@")
        others = {path.name: "./Maildir/\n" for path in self.path.glob("mailnames/*/*")}
        mailboxes = {**others, local: "|exit 0\n"}
        return {
            "doublebounceto": f"{local}\n",
            "doublebouncehost": f"{host}\n",
            "mailboxes": mailboxes,
            "loaded": self.sink,
        }


@contextlib.contextmanager
def running(place, pillar, sinks):
    """
    Servers with qmail-send running, as they were before this formula came: by name, each with a home of its own below a
    directory, a file in that of the pillar, and the mailbox that this makes the sink.
    """
    with tempfile.TemporaryDirectory(dir=place, prefix="servers-") as directory:
        root = pathlib.Path(directory)
        root.chmod(0o755)
        servers = {name: Server(root / name, pillar / f"{name}.sls", mailbox) for name, mailbox in sinks.items()}
        try:
            for server in servers.values():
                server.start()
            yield servers
        finally:
            for server in servers.values():
                server.stop()


class Fleet:
    """
    The servers, as they are reached by the command line ``salt`` or ``salt-ssh``.

    By ``salt`` one after the other: where two returns come at the same instant, Salt 3007 may show one of them only,
    and waits for the other until its timeout, although its job cache has it.
    """

    def __init__(self, cli, at_once=False):
        self.cli, self.at_once = cli, at_once

    def run(self, *words, to="*"):
        """Run a function on all servers, or on one, and return what each of them returned."""
        if to == "*" and not self.at_once:
            return {name: self.run(*words, to=name)[name] for name in SINKS}
        done = self.cli.run(*words, minion_tgt=to, _timeout=SECONDS)
        returned = done.data if to == "*" else {to: done.data}
        assert returned and set(returned) == (set(SINKS) if to == "*" else {to}), done
        return returned

    def apply(self, *words, to="*"):
        """Apply states, a highstate where none are named, and return the results of each server by the states' IDs."""
        returned = self.run("state.apply", *words, to=to)
        for results in returned.values():
            assert isinstance(results, dict), results  # else these are errors, and nothing was applied
        return {name: {state["__id__"]: state for state in results.values()} for name, results in returned.items()}

    def apply_and_show(self, *words, to="*"):
        """Apply states, and return the exit status and all that a person sees: results, errors and log lines."""
        if to == "*" and not self.at_once:
            shown = [self.apply_and_show(*words, to=name) for name in SINKS]
            return max(status for status, _ in shown), "".join(text for _, text in shown)
        arguments = ("state.apply", *words, "--out=highstate", "--log-level=warning")
        done = self.cli.run(*arguments, minion_tgt=to, _timeout=SECONDS)
        return done.returncode, done.stdout + done.stderr


def quick(role):
    """Return the options for a daemon that logs and loads no more than matters: to do all costs a fifth of the time."""
    return {"log_level_logfile": "warning", f"pytest-{role}": {"log": {"level": "warning"}}, **minion.WITHOUT}


def each(servers, method):
    """Return what a method says of each server."""
    return {name: method(server) for name, server in servers.items()}


def told(applied, field):
    """Return one field of all results, by server and state."""
    return {name: {state: result[field] for state, result in results.items()} for name, results in applied.items()}


def all_are(applied, field, value):
    """Return whether a field is the same in all results, of which there are some on each server."""
    fields = told(applied, field)
    return all(found and all(one == value for one in found.values()) for found in fields.values())
