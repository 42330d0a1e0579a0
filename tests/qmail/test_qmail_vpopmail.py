"""A domain of a real vpopmail: who gets its mail, and an address in it that becomes a sink without an account."""

import os
import pathlib
import pwd
import shutil
import subprocess

import pytest

from tests.qmail.test_qmail_queue import send
from tests.support.supervisors import wait_until

DOMAIN = "vpopmail.doublebounce.test"
# vadddomain and vdeldomain send HUP to whatever process of the machine has "qmail-send" in its command line.
AMONG_ITSELF = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


class Vpopmail:
    """A domain, and in it the mailbox joe, and the alias sales that leads to joe."""

    def __init__(self, server, programs):
        self.server, self.programs = server, programs
        self.run("vadddomain", "-r", DOMAIN)
        (line,) = (line for line in (server.qmail / "users/assign").read_text().splitlines() if f":{DOMAIN}:" in line)
        self.home = pathlib.Path(line.split(":")[4])
        self.run("vadduser", "-r", f"joe@{DOMAIN}")
        self.run("valias", "-i", f"joe@{DOMAIN}", f"sales@{DOMAIN}")

    def run(self, command, *words):
        apart = [*AMONG_ITSELF, self.programs / command, *words]
        subprocess.run(apart, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def catch_all(self, word):
        """What is done with mail for an address that nobody has: what follows vdelivermail's own first word."""
        (self.home / ".qmail-default").write_text(f"| {self.programs}/vdelivermail '' {word}\n")

    def stored(self, user="joe"):
        return list((self.home / user / "Maildir/new").iterdir())

    def remove(self):
        self.run("vdeldomain", DOMAIN)


@pytest.fixture
def vpopmail(server):
    try:
        programs = pathlib.Path(pwd.getpwnam("vpopmail").pw_dir) / "bin"
    except KeyError:
        pytest.skip("vpopmail is not installed: there is no user vpopmail")
    if not (programs / "vdelivermail").exists():
        pytest.skip(f"vpopmail is not installed: there is no {programs / 'vdelivermail'}")
    if (programs.parent / "domains" / DOMAIN).exists():  # a run was killed, and what it had in qmail's files is gone
        shutil.rmtree(programs.parent / "domains" / DOMAIN)
    vpopmail = Vpopmail(server, programs)
    try:
        yield vpopmail
    finally:
        server.stop()
        vpopmail.remove()


@pytest.fixture
def probe(server, modules):
    """Double bounces go to an address of the domain: return what the probe says, and what the status predicted."""

    def probe(local):
        server.write("doublebounceto", f"{local}\n")
        server.write("doublebouncehost", f"{DOMAIN}\n")
        server.start()
        fate = modules.qmail_doublebounce.status({})["fate"]
        found = modules.qmail_doublebounce.probe({}, log=str(server.log), timeout=60)
        wait_until(lambda: not server.queued(), why=found)  # what is forwarded goes on by itself
        return fate, found

    return probe


def test_the_route_of_a_mailbox_leads_to_the_program_that_knows_it(vpopmail, modules, probe):
    route = modules.qmail_route.resolve(f"joe@{DOMAIN}")
    assert (route["outcome"], route["user"], route["home"]) == ("dotqmail", DOMAIN, str(vpopmail.home))
    assert (route["dotqmail"], route["exact"]) == (f"{vpopmail.home}/.qmail-default", f"{vpopmail.home}/.qmail-joe")
    owner = vpopmail.home.stat()
    assert (route["uid"], route["gid"]) == (owner.st_uid, owner.st_gid)
    fate, found = probe("joe")
    assert (fate, found["end"]) == ("unknown", "stored")
    assert found["hops"][-1]["to"] == f"{DOMAIN}-joe@{DOMAIN}"
    assert vpopmail.stored() == []  # the copy was taken out


def test_an_alias_is_forwarded_to_its_mailbox(vpopmail, modules, probe):
    checked = modules.qmail_mailbox.check(f"sales@{DOMAIN}")
    assert (checked["fate"], checked["forwards"]) == ("forwarded", [f"joe@{DOMAIN}"])
    fate, found = probe("sales")
    assert (fate, found["end"]) == ("forwarded", "forwarded")
    wait_until(lambda: len(vpopmail.stored()) == 1)


def test_its_mailboxes_and_aliases_are_listed(vpopmail, modules):
    vpopmail.catch_all("bounce-no-mailbox")
    found = modules.qmail_route.recipients(DOMAIN)
    assert found["recipients"] == [f"{name}@{DOMAIN}" for name in ("joe", "postmaster", "sales")]
    assert found["wildcards"] == []
    assert [one["pattern"] for one in found["bounces"]] == [f"*@{DOMAIN}"]
    vpopmail.catch_all("delete")
    assert [one["pattern"] for one in modules.qmail_route.recipients(DOMAIN)["wildcards"]] == [f"*@{DOMAIN}"]


def test_vuserinfo_names_the_mailboxes_that_the_database_names(vpopmail, modules, monkeypatch):
    """Where the users are in MySQL there is no vpasswd.cdb; here only this project does not see it."""
    exists = os.path.exists
    vpopmail.catch_all("bounce-no-mailbox")
    wanted = modules.qmail_route.recipients(DOMAIN)
    monkeypatch.setattr(os.path, "exists", lambda path: not str(path).endswith("vpasswd.cdb") and exists(path))
    assert modules.qmail_route.recipients(DOMAIN) == wanted


@pytest.mark.parametrize(
    ("word", "end"), [("bounce-no-mailbox", "triple-bounced"), ("delete", "unseen"), (f"joe@{DOMAIN}", "unseen")]
)
def test_only_the_program_knows_what_becomes_of_mail_for_nobody(vpopmail, server, modules, probe, word, end):
    vpopmail.catch_all(word)
    checked = modules.qmail_mailbox.check(f"nobody@{DOMAIN}")
    assert checked["fate"] == "unknown"
    fate, found = probe("nobody")
    assert (fate, found["end"]) == ("unknown", end)


@pytest.mark.parametrize("word", ["bounce-no-mailbox", "delete", f"joe@{DOMAIN}"])
def test_a_sink_needs_no_account_and_wins_over_the_catch_all(vpopmail, modules, probe, word):
    vpopmail.catch_all(word)
    address = f"sink@{DOMAIN}"
    assert modules.qmail_mailbox.write(address)
    sink = vpopmail.home / ".qmail-sink"
    assert (sink.stat().st_uid, sink.stat().st_gid) == (vpopmail.home.stat().st_uid, vpopmail.home.stat().st_gid)
    assert modules.qmail_mailbox.check(address)["fate"] == "swallowed"
    fate, found = probe("sink")
    assert (fate, found["end"]) == ("swallowed", "swallowed")
    assert vpopmail.stored() == []
    assert modules.qmail_mailbox.write(address) == {}


def test_a_sink_wins_over_a_mailbox_of_the_same_name(vpopmail, server, modules, probe):
    modules.qmail_mailbox.write(f"joe@{DOMAIN}")
    fate, found = probe("joe")
    assert (fate, found["end"]) == ("swallowed", "swallowed")
    os.unlink(vpopmail.home / ".qmail-joe")
    send(server, f"joe@{DOMAIN}", "")
    wait_until(lambda: len(vpopmail.stored()) == 1)


def test_the_formula_makes_such_a_sink_proves_it_and_puts_all_back(vpopmail, server, apply):
    def snapshot():
        places = (server.control, vpopmail.home)
        files = [path for place in places for path in sorted(place.rglob("*")) if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mode, path.stat().st_uid) for path in files}

    server.start()
    before = snapshot()
    pillar = {
        "address": f"sink@{DOMAIN}",
        "verify": True,
        "qmail": {"log": str(server.log)},
        "service": {"provider": "qmailctl", "name": str(server.ctl)},
    }
    results = apply("qmail-doublebounce", pillar)
    assert all(result.result for result in results), [str(result.comment) for result in results]
    assert "The probe was swallowed" in str(results[-1].comment)
    assert all(result.result for result in apply("qmail-doublebounce.clean", pillar))
    assert snapshot() == before
