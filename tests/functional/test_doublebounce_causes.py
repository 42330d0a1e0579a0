"""The domains that make the double bounces are named with what this server does there, and with what ends it."""

import os
import pathlib
import pwd
import shlex
import subprocess
import time

import pytest
import salt.output
from salt.exceptions import CommandExecutionError, SaltInvocationError

BIN = pathlib.Path(__file__).parent.parent / "support/bin"
VDELIVERMAIL = "| /home/vpopmail/bin/vdelivermail '' {}\n"


class Flood:
    """A log in which messages for addresses that nobody has bounced twice, in the words of qmail-send."""

    def __init__(self, log):
        self.log, self.number = log, 0

    def add(self, address, times=1, sender="a@spam.example", uid=1001, channel="local", ends="queued"):
        lines = []
        for _ in range(times):
            self.number += 10
            first, notice, double = self.number, self.number + 1, self.number + 2
            to = address.format(first)
            lines += [f"info msg {first}: bytes 9 from <{sender}> qp {first} uid {uid}"]
            lines += self._fails(first, channel, to)
            lines += [f"bounce msg {first} qp {notice}", f"end msg {first}"]
            lines += [f"info msg {notice}: bytes 9 from <> qp {notice} uid 7"]
            if ends == "single":
                lines += [f"end msg {notice}"]
                continue
            lines += self._fails(notice, "remote", sender)
            lines += [f"bounce msg {notice} qp {double}", f"end msg {notice}"]
            lines += [f"info msg {double}: bytes 9 from <#@[]> qp {double} uid 7", f"end msg {double}"]
        stamp = f"@{(1 << 62) + 10 + int(time.time()) - 60:016x}00000000"
        with (self.log / "current").open("a") as file:
            file.writelines(f"{stamp} {line}\n" for line in lines)

    def _fails(self, number, channel, to):
        return [f"starting delivery {number}: msg {number} to {channel} {to}", f"delivery {number}: failure: no/"]


@pytest.fixture
def flood(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log/current").touch()
    return Flood(tmp_path / "log")


@pytest.fixture
def causes(modules, home, flood):
    def causes(**named):
        return modules.qmail_doublebounce.causes(log=str(flood.log), home=str(home.path), **named)

    return causes


@pytest.fixture
def smtpd(home):
    """Make a qmail-smtpd that contains these strings, as one with these checks does."""
    home.write_control("rcpthosts", "example.com\n")

    def smtpd(*strings):
        (home.path / "bin/qmail-smtpd").write_bytes(b"\x7fELF\0" + b"\0".join(strings) + b"\0")

    smtpd()
    return smtpd


@pytest.fixture
def vpopmail(home):
    """A domain of vpopmail beside example.com; what is done there with mail for nobody can be chosen."""
    directory = home.path / "vpopmail"
    directory.mkdir()
    os.chown(directory, home.uid, home.gid)
    home.write_control("virtualdomains", "example.com:1\nv.example:v.example\n")
    home.add_assign(f"+v.example-:v.example:{home.uid}:{home.gid}:{directory}:-::")

    def vpopmail(word):
        (directory / ".qmail-default").write_text(VDELIVERMAIL.format(word))
        return directory / ".qmail-default"

    return vpopmail


def test_the_worst_domain_comes_first_with_its_figures(causes, flood, smtpd, vpopmail):
    vpopmail("bounce-no-mailbox")
    flood.add("1-u{}@example.com", 3)
    flood.add("1-same@example.com", 2, sender="b@other.example")
    flood.add("1-u{}@example.com", 4, ends="single")
    flood.add("v.example-u{}@V.example", 7)
    found = causes()
    assert (found["double_bounces"], found["single_bounces"], found["unknown"]) == (12, 16, 0)
    worst, other = found["domains"]
    assert (worst["domain"], worst["double_bounces"], worst["recipients"]) == ("v.example", 7, 7)
    assert (worst["nobody"], worst["refuses"]) == ("bounces by program", False)
    assert other["domain"] == "example.com"
    assert (other["double_bounces"], other["share"], other["single_bounces"]) == (5, 0.417, 9)
    assert (other["recipients"], other["exact"]) == (4, True)
    assert other["senders"] == {"spam.example": 3, "other.example": 2}
    assert (other["nobody"], other["to"]) == ("bounces", None)
    lines = found["table"].splitlines()
    assert lines[0] == "12 double bounces, beside 16 single bounces; 0 of unknown cause"
    assert lines[3].split()[:6] == ["7", "58.3%", "7", "7", "v.example:", "bounces"]
    assert any("from spam.example 3, other.example 2" in line for line in lines)


def test_an_empty_log_names_nobody(causes, smtpd):
    found = causes()
    assert (found["double_bounces"], found["domains"], found["programs"], found["relayed"]) == (0, [], [], [])
    assert "empty" in found["table"]


@pytest.mark.parametrize(
    ("contents", "nobody", "to"),
    [
        (None, "bounces", None),
        ("|bouncesaying 'no such address'\n", "bounces by program", ".qmail-default"),
        ("|exit 100\n", "bounces by program", ".qmail-default"),
        ("&boss@example.net\n", "accepts all", "boss@example.net"),
        ("#\n", "accepts all", "nowhere"),
        ("|/bin/ls\n", "unknown", ".qmail-default"),
    ],
)
def test_what_happens_to_mail_for_nobody_is_said(causes, flood, smtpd, home, contents, nobody, to):
    if contents is not None:
        (home.path / "alias/.qmail-default").write_text(contents)
    os.chown(home.path / "alias", home.uid, home.gid)
    flood.add("1-u{}@example.com")
    (row,) = causes()["domains"]
    assert row["nobody"] == nobody
    assert (row["to"] or "").endswith(to or "")
    assert row["remedy"]


def test_a_domain_that_went_away_is_said_to_be_remote_and_has_no_remedy(causes, flood, smtpd):
    flood.add("gone-u{}@gone.example")
    (row,) = causes()["domains"]
    assert (row["nobody"], row["remedy"]) == ("remote", [])


def test_a_domain_whose_recipients_are_checked_is_not_to_blame(causes, flood, smtpd, home):
    smtpd(b"control/validrcptto")
    home.write_control("locals", "mail.example.net\nopen.example\n")
    home.write_control("validrcptto", "joe@example.com\n@open.example\n")
    flood.add("1-u{}@example.com", 9)
    flood.add("u{}@open.example", 1)
    blamed, checked = causes()["domains"]
    assert (blamed["domain"], blamed["refuses"]) == ("open.example", False)
    assert (checked["domain"], checked["nobody"], checked["refuses"]) == ("example.com", "rejects", True)
    assert checked["remedy"] == []


def test_what_spammers_write_into_addresses_changes_no_figure(causes, flood, smtpd):
    flood.add("1-u{}@example.com", 2, sender="info_msg_1:_bytes_9_from_<#@[]>_qp_1@spam.example")
    flood.add("1-bounce_msg_7_qp_8@example.com", 1, sender="#@[]>_qp_3_uid_4@spam.example")
    flood.add("x@;rm_-rf_$(id)`x`", 1)
    flood.add("x@../../etc", 1)
    found = causes()
    assert found["double_bounces"] == 5
    rows = {row["domain"]: row for row in found["domains"]}
    assert rows["example.com"]["double_bounces"] == 3
    assert rows["example.com"]["senders"] == {"spam.example": 3}
    for name in (";rm_-rf_$(id)`x`", "../../etc"):
        assert (rows[name]["nobody"], rows[name]["remedy"]) == ("unknown", [])


def test_who_queued_the_messages_is_named(causes, flood, smtpd):
    nobody = pwd.getpwnam("nobody").pw_uid
    flood.add("1-u{}@example.com", 3, uid=nobody)
    flood.add("u{}@away.example", 2, uid=3999999999, channel="remote")
    found = causes()
    assert [(row["user"], row["uid"], row["double_bounces"], row["is_smtp"]) for row in found["programs"]] == [
        ("nobody", nobody, 3, False),
        (None, 3999999999, 2, False),
    ]
    (relayed,) = found["relayed"]
    assert (relayed["domain"], relayed["double_bounces"], relayed["share"]) == ("away.example", 2, 0.4)
    assert "nobody, by a program of this machine" in found["table"]
    assert "the user 3999999999, by a program" in found["table"]


def test_only_so_many_domains_are_examined(causes, flood, smtpd):
    for number in range(25):
        flood.add(f"u{{}}@d{number}.example")
    found = causes()
    assert (len(found["domains"]), found["others"]) == (20, 5)
    assert "and 5 other domains" in found["table"]


def test_only_what_was_logged_since_is_counted(causes, flood, smtpd):
    flood.add("1-u{}@example.com")
    assert causes(since="1h")["double_bounces"] == 1
    assert causes(since="10s")["double_bounces"] == 0
    with pytest.raises(SaltInvocationError, match="since="):
        causes(since="yesterday")


def test_where_plesk_runs_the_domain_its_own_command_is_the_remedy(causes, flood, smtpd, home, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/plesk").symlink_to(BIN / "plesk")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    flood.add("1-u{}@example.com")
    assert causes()["domains"][0]["remedy"] == ["plesk bin domain_pref --update example.com -no_usr reject"]
    (home.path / "mailnames/example.com").rename(home.path / "mailnames/moved")
    assert "plesk" not in str(causes()["domains"][0]["remedy"])


def test_a_domain_of_vpopmail_is_switched_to_what_chkuser_looks_for(causes, flood, smtpd, vpopmail):
    smtpd(b"5.1.1 - chkuser")
    default = vpopmail("delete")
    flood.add("v.example-u{}@v.example")
    (row,) = causes()["domains"]
    assert (row["nobody"], row["to"], row["refuses"]) == ("accepts all", "nowhere", False)
    (command,) = row["remedy"]
    subprocess.run(command, shell=True, check=True)
    assert default.read_text() == VDELIVERMAIL.format("bounce-no-mailbox")
    (row,) = causes()["domains"]
    assert (row["nobody"], row["refuses"], row["remedy"]) == ("rejects", True, [])


def test_a_chkuser_that_is_off_is_switched_on(causes, flood, smtpd, vpopmail, home):
    smtpd(b"5.1.1 - chkuser", b"CHKUSER_START")
    vpopmail("bounce-no-mailbox")
    run = home.path / "supervise/qmail-smtpd/run"
    run.parent.mkdir(parents=True)
    run.write_text("#!/bin/sh\nexec tcpserver 0 25 /var/qmail/bin/qmail-smtpd\n")
    flood.add("v.example-u{}@v.example")
    (row,) = causes()["domains"]
    assert row["refuses"] is False
    (step,) = row["remedy"]
    assert str(run) in step
    assert "export CHKUSER_START=DOMAIN" in step
    run.write_text("#!/bin/sh\nexport CHKUSER_START=DOMAIN\nexec tcpserver 0 25 /var/qmail/bin/qmail-smtpd\n")
    assert causes()["domains"][0]["refuses"] is True


@pytest.mark.parametrize(
    ("strings", "form", "place"),
    [
        (b"control/validrcptto", "validrcptto", "control/validrcptto"),
        (b"users/recipients.cdb", "plain", "users/recipients"),
        (b"RCPTCHECK", "plain", "control/recipients.list"),
        (b"control/badrcptto", "badrcptto", "control/badrcptto"),
        (b"", "plain", "control/recipients.list"),
    ],
)
def test_elsewhere_the_list_that_this_qmail_smtpd_reads_is_the_remedy(
    causes, flood, smtpd, home, modules, minion_opts, strings, form, place
):
    smtpd(strings)
    flood.add("1-u{}@example.com")
    (row,) = causes()["domains"]
    (command,) = (step for step in row["remedy"] if step.startswith("salt-call"))
    call, _, rest = command.partition(" | ")
    *_, function, domain, asked, place_of_qmail = shlex.split(call)
    assert (function, domain, asked) == ("qmail_route.recipients", "example.com", f"format={form}")
    assert place_of_qmail == f"home={home.path}"
    text = modules[function](domain, format=form, home=str(home.path))
    shown = salt.output.out_format({"local": text}, "txt", {**minion_opts, "color": False})
    assert rest.endswith(f">> {home.path}/{place}")
    subprocess.run(rest, shell=True, check=True, input=shown + "\n", text=True)
    assert (home.path / place).read_text().rstrip("\n") == text.rstrip("\n")
    if form != "plain":
        assert causes()["domains"][0]["nobody"] == "rejects"


def test_a_log_by_name_needs_no_right_pillar(causes, flood, modules, smtpd):
    flood.add("1-u{}@example.com")
    assert causes(pillar={"addr": "x"})["double_bounces"] == 1
    with pytest.raises(SaltInvocationError, match="qmail_doublebounce:addr "):
        modules.qmail_doublebounce.causes(pillar={"addr": "x"})


def test_a_log_that_is_missing_is_an_error(modules, home):
    with pytest.raises((CommandExecutionError, SaltInvocationError)):
        modules.qmail_doublebounce.causes(log="/nonexistent/log", home=str(home.path))
