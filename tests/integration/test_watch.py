"""
A master and a minion that is watched: what the beacon fires there is an event on the master, and its reactor puts right
what has drifted. All of it is configured before the minion has the beacon, and nobody restarts it.
"""

import json
import pathlib
import queue
import re
import tempfile
import threading
import time

import pytest
import salt.utils.event
import yaml

from tests.support import minion
from tests.support.fleet import FORMULA, Server, quick
from tests.support.house import REPOSITORY
from tests.support.watched import bounced

pytestmark = [pytest.mark.soak, pytest.mark.each_salt]

NAME = "watched"
SECONDS = 120
BEACON = [{"interval": 1}, {"readings": 1}, {"double_bounces": {"above": 20, "below": 5}}, {"silent": False}]


@pytest.fixture(scope="module")
def roots(place):
    """What the master serves: the formula, the pillar of the one minion, and the reactor that docs/watch.md shows."""
    states, pillar = minion.linked(place / "watch-states"), place / "watch-pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text(json.dumps({"base": {NAME: [NAME]}}))
    (pillar / f"{NAME}.sls").write_text("{}")
    (states / "drift.sls").write_text(example("drift.sls"))
    sendmail = place / "sendmail"
    sendmail.write_text(f"#!/bin/sh\n{{ echo $*; cat; echo; }} >>{place}/mails\n")
    sendmail.chmod(0o755)
    mail = example("mail.sls").replace("/usr/sbin/sendmail", str(sendmail)).replace("monitor.example.com", NAME)
    (states / "mail.sls").write_text(mail)
    return states, pillar


def example(name):
    """Return a file that docs/watch.md shows."""
    page = (REPOSITORY / "docs/watch.md").read_text()
    (found,) = re.findall(rf"```(?:yaml|jinja)\n# /srv/reactor/{re.escape(name)}\n(.*?)```", page, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def master(salt_factories, roots):
    states, pillar = roots
    page = (REPOSITORY / "docs/watch.md").read_text()
    served = {"file_roots": {"base": [str(states)]}, "pillar_roots": {"base": [str(pillar)]}}
    (found,) = re.findall(r"```yaml\n# /etc/salt/master.d/reactor.conf\n(.*?)```", page, re.DOTALL)
    reactor = yaml.safe_load(found.replace("/srv/reactor", str(states)))["reactor"]
    overrides = {**served, **quick("master"), "open_mode": True, "reactor": reactor}
    master = salt_factories.salt_master_daemon("watch-master", overrides=overrides)
    with master.started():
        yield master


@pytest.fixture
def server(place, roots):
    """The server, whose pillar configures the beacon, too."""
    with tempfile.TemporaryDirectory(dir=place, prefix="watch-") as directory:
        root = pathlib.Path(directory)
        root.chmod(0o755)
        path = roots[1] / f"{NAME}.sls"
        server = Server(root / "qmail", path, "dummy")
        server.log = root / "send.log"
        server.log.write_bytes(bounced(1))
        settings = json.loads(path.read_text())
        settings["qmail_doublebounce"]["qmail"]["log"] = str(server.log)
        path.write_text(json.dumps({**settings, "beacons": {"qmail_doublebounce": BEACON}}))
        for name in ("info", "mess", "todo", "local", "remote", "bounce"):
            (server.path / "queue" / name / "0").mkdir(parents=True)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def watched(master, server, place):
    """The minion, which has nothing of this project yet."""
    overrides = {**quick("minion"), **minion.roots(place / NAME)}
    daemon = master.salt_minion_daemon(NAME, overrides=overrides)
    with daemon.started():
        yield daemon


class Events:
    """The events of the beacon on the master's bus, as they come."""

    def __init__(self, master):
        self.found, self.over = queue.Queue(), threading.Event()
        self.bus = salt.utils.event.get_event("master", sock_dir=master.config["sock_dir"], opts=master.config.copy())
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self):
        while not self.over.is_set():
            event = self.bus.get_event(wait=0.5, tag="salt/beacon/", full=True)
            if event:
                self.found.put((event["tag"], event["data"]))

    def wait(self, name):
        """Return the next event of this name, whatever else comes before it."""
        deadline, seen = time.monotonic() + SECONDS, []
        while True:
            try:
                tag, data = self.found.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{name} did not come, but {seen}")
            seen.append(tag)
            if tag == f"salt/beacon/{NAME}/qmail_doublebounce/{name}":
                return data

    def close(self):
        self.over.set()
        self.thread.join()
        self.bus.destroy()


@pytest.fixture
def events(master):
    events = Events(master)
    yield events
    events.close()


def call(master, *words):
    done = master.salt_cli(timeout=60).run(*words, minion_tgt=NAME, _timeout=SECONDS)
    assert done.returncode == 0, done
    return done.data


def until(true, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "It has not come about."
        time.sleep(0.1)


def test_from_the_beacon_to_the_reactor_and_over_a_restart_of_the_minion(master, watched, server, events, place):
    # Configured before the sync: the minion works, and nothing comes of the beacon.
    assert call(master, "test.ping") is True
    assert call(master, "saltutil.refresh_pillar") is True
    assert "is not available" in str(
        master.salt_cli(timeout=60).run("qmail_doublebounce.holds", minion_tgt=NAME, _timeout=SECONDS)
    )

    # The sync makes it live. The server has no sink yet: the first reading fires, and the reactor applies the formula.
    call(master, "saltutil.sync_all")
    event = events.wait("sink/alarm")
    assert event["id"] == NAME
    assert (event["alarm"], event["state"]) == ("sink", "alarm")
    assert event["message"].startswith("Double bounces do not end as pillar asks. ")
    assert event["remedy"].startswith("state.apply qmail-doublebounce")
    events.wait("sink/clear")
    until(lambda: server.where() == server.expected())

    # Somebody edits the mailbox's file; the same again.
    dotqmail = server.mailbox() / ".qmail"
    dotqmail.write_text("./Maildir/\n")
    events.wait("sink/alarm")
    events.wait("sink/clear")
    assert dotqmail.read_text() == "|exit 0\n"

    # The postmaster has got a mail for each.
    mails = place / "mails"
    until(lambda: mails.exists() and mails.read_text().count("Subject: watched: sink (clear)") >= 2)
    assert (
        "-ti\nTo: postmaster@example.com\nSubject: watched: sink (alarm)\n\nDouble bounces do not" in mails.read_text()
    )

    # A flood, and its end.
    with open(server.log, "ab") as file:
        file.write(bounced(40))
    flood = events.wait("double_bounces/alarm")
    assert flood["value"] > 20
    assert flood["domain"] == "flood.example"
    before = call(master, "qmail_doublebounce.metrics")

    # What comes while the minion is down is counted once, and the alarm is not repeated: it is over.
    watched.terminate()
    with open(server.log, "ab") as file:
        file.write(bounced(7))
    server.log.rename(f"{server.log}.1")
    server.log.write_bytes(bounced(5))
    watched.start()
    again = [events.wait("double_bounces/clear")]
    assert again[0]["state"] == "clear"
    after = call(master, "qmail_doublebounce.metrics")
    assert queued(after) - queued(before) == 12
    assert before.count("# HELP") == after.count("# HELP")

    # Turned off while it runs.
    pillar = json.loads(server.pillar.read_text())
    server.pillar.write_text(json.dumps({"qmail_doublebounce": pillar["qmail_doublebounce"]}))
    assert call(master, "saltutil.refresh_pillar") is True
    until(lambda: "qmail_doublebounce" not in str(call(master, "beacons.list", "return_yaml=False")))
    assert call(master, "test.ping") is True


def queued(text):
    return int(re.search(r'^qmail_double_bounces_total\{outcome="queued"\} (\d+)$', text, re.MULTILINE)[1])


def test_the_example_of_a_reactor_names_the_formula():
    page = (REPOSITORY / "docs/watch.md").read_text()
    assert f"mods: {FORMULA}" in page
