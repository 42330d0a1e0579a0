"""A flood over three domains of a real qmail: who is named as its cause is who accepted mail for nobody."""

import os
import pwd
import subprocess

import pytest

from tests.qmail.server import GID, UID
from tests.support import cdb
from tests.support.supervisors import wait_until

REJECTS, BOUNCES, CATCHES = (f"{name}.doublebounce.test" for name in ("rejects", "bounces", "catches"))
HOST = "mail.doublebounce.test"
# Stands before qmail-smtpd as spamdyke does: it keeps some recipients from it.
WRAPPER = f"grep -av '^RCPT .*@{REJECTS}' | /var/qmail/bin/qmail-smtpd"


@pytest.fixture
def domains(server):
    for name, default in (("rejects", None), ("bounces", None), ("catches", "./Maildir/\n")):
        server.mailbox(name, "./Maildir/\n")
        if default:
            path = server.top / name / ".qmail-default"
            path.write_text(default)
            os.chown(path, UID, GID)
    server.write(
        "virtualdomains", "".join(f"{name}.doublebounce.test:db{name}\n" for name in ("rejects", "bounces", "catches"))
    )
    server.write("rcpthosts", f"{REJECTS}\n{BOUNCES}\n{CATCHES}\n")
    users = [f"+db{name}-:x:{UID}:{GID}:{server.top / name}:-::" for name in ("rejects", "bounces", "catches")]
    lines = [f"=postmaster:x:{UID}:{GID}:{server.top}/postmaster:::", *users, "."]
    (server.qmail / "users/cdb").write_bytes(cdb.from_assign("".join(f"{line}\n" for line in lines)))
    return server


@pytest.fixture
def smtp(domains):
    """Speak SMTP through the wrapper, as the user that qmail-smtpd runs as on a server."""
    entry = pwd.getpwnam("qmaild")

    def become():
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)

    def smtp(sender, recipients):
        said = ["HELO flood.example", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
        said += ["Subject: flood", "", "text", ".", "QUIT", ""]
        environment = {"PATH": "/usr/bin:/bin", "TCPREMOTEIP": "127.0.0.1", "TCPLOCALIP": "127.0.0.1", "PROTO": "TCP"}
        # indimail's asks for the queue, and would ask the DNS for the sender's domain.
        environment.update(QUEUEDIR="/var/qmail/queue", NODNSCHECK="1")
        done = subprocess.run(
            ["/bin/sh", "-c", WRAPPER],
            input="\r\n".join(said).encode(),
            stdout=subprocess.PIPE,
            env=environment,
            cwd="/",
            preexec_fn=become,
            timeout=30,
            check=False,
        )
        return b"250 ok" in done.stdout.partition(b"\r\n354 ")[2]

    return smtp


def test_the_causes_of_a_flood_are_those_who_accepted_it(domains, smtp, modules):
    domains.start()
    for number in range(12):
        sender = f"forged{number}@{HOST}"  # nobody has it: the notice fails, too
        assert smtp(sender, [f"x{number}@{BOUNCES}"])
        assert smtp(sender, [f"x{number}@{CATCHES}"])
        assert not smtp(sender, [f"x{number}@{REJECTS}"])
    for _ in range(3):
        assert smtp(f"again@{HOST}", [f"same@{BOUNCES}", f"x@{CATCHES}", f"y@{REJECTS}"])
    assert smtp(f"postmaster@{HOST}", [f"single@{BOUNCES}"])  # its notice arrives
    wait_until(lambda: len(domains.stored("postmaster")) == 16 and not domains.queued())
    found = modules.qmail_doublebounce.causes(log=str(domains.log), since=None)
    assert (found["double_bounces"], found["single_bounces"], found["unknown"]) == (15, 16, 0)
    assert len(domains.stored("catches")) == 15
    (row,) = found["domains"]
    assert (row["domain"], row["double_bounces"], row["share"], row["recipients"]) == (BOUNCES, 15, 1.0, 13)
    assert (row["single_bounces"], row["senders"], row["nobody"]) == (16, {HOST: 15}, "bounces")
    assert row["refuses"] is False  # what a stock qmail-smtpd checks
    assert [(one["user"], one["double_bounces"], one["is_smtp"]) for one in found["programs"]] == [("qmaild", 15, True)]
    assert found["relayed"] == []


def test_a_catch_all_that_leads_nowhere_is_seen_where_it_leads(domains, smtp, modules):
    path = domains.top / "catches/.qmail-default"
    path.write_text(f"&gone@{HOST}\n")
    domains.start()
    for number in range(4):
        assert smtp(f"forged{number}@{HOST}", [f"x{number}@{CATCHES}"])
    wait_until(lambda: len(domains.stored("postmaster")) == 4 and not domains.queued())
    found = modules.qmail_doublebounce.causes(log=str(domains.log), since=None)
    (row,) = found["domains"]
    assert (row["domain"], row["double_bounces"], row["recipients"], row["nobody"]) == (HOST, 4, 1, "bounces")
    assert [(one["uid"], one["is_smtp"]) for one in found["programs"]] == [(UID, False)]


def test_who_is_listed_for_a_domain_is_who_receives(domains, smtp, modules):
    for name in ("joe", "first:last", "list-default"):
        (domains.top / f"bounces/.qmail-{name}").write_text("./Maildir/\n")
        os.chown(domains.top / f"bounces/.qmail-{name}", UID, GID)
    found = modules.qmail_route.recipients(BOUNCES)
    assert found["recipients"] == [f"first.last@{BOUNCES}", f"joe@{BOUNCES}"]
    assert [one["pattern"] for one in found["wildcards"]] == [f"list-*@{BOUNCES}"]
    assert [one["pattern"] for one in modules.qmail_route.recipients(CATCHES)["wildcards"]] == [f"*@{CATCHES}"]
    domains.start()
    for address in (*found["recipients"], f"list-any@{BOUNCES}", f"first.other@{BOUNCES}", f"list@{BOUNCES}"):
        assert smtp(f"postmaster@{HOST}", [address])
    wait_until(lambda: len(domains.stored("postmaster")) == 2 and not domains.queued())
    assert len(domains.stored("bounces")) == 3
