"""What qmail-smtpd refuses already, by its program, by what starts it, and by its lists."""

import os

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import cdb

RUN = "#!/bin/sh\n# export RCPTCHECK=/commented/out\n{}exec tcpserver -vR{} 0 25 {}/var/qmail/bin/qmail-smtpd 2>&1\n"


class Tree:
    """A root of its own, with a qmail in it whose qmail-smtpd only contains what a real one does."""

    def __init__(self, root):
        self.root, self.home = root, root / "var/qmail"
        for place in ("var/qmail/bin", "var/qmail/control", "var/qmail/alias", "etc", "service/qmail-smtpd", "domain"):
            (root / place).mkdir(parents=True)
        self.write("etc/passwd", "alias:x:1234:1234::/var/qmail/alias:/bin/false\n")
        self.write("var/qmail/control/locals", "local.example\n")
        self.write("var/qmail/control/virtualdomains", "example.com:example.com\n")
        self.assign = "+example.com-:example.com:1234:1234:/domain:-::"
        (self.home / "users").mkdir()
        (self.home / "users/cdb").write_bytes(cdb.from_assign(self.assign))
        self.program()
        self.run()

    def write(self, path, text):
        (self.root / path).write_bytes(os.fsencode(text))

    def program(self, *strings):
        (self.home / "bin/qmail-smtpd").write_bytes(b"\x7fELF\0" + b"\0".join((b"control/rcpthosts", *strings)) + b"\0")

    def run(self, before="", options="", wrapper=""):
        self.write("service/qmail-smtpd/run", RUN.format(before, options, wrapper))

    def default(self, word):
        self.write("domain/.qmail-default", f"| /home/vpopmail/bin/vdelivermail '' {word}\n")


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def checks(tree, modules):
    return lambda domain="example.com": modules.qmail_route.checks(domain, root=str(tree.root))


@pytest.fixture
def refuses(checks):
    return lambda domain="example.com": checks(domain)["refuses"]


def test_a_stock_qmail_smtpd_refuses_nobody(checks, modules, tree):
    found = checks()
    assert (found["refuses"], found["why"]) == (False, "Nothing was found that checks recipients.")
    assert found["scripts"] == ["/service/qmail-smtpd/run"]
    assert (found["can"], found["environment"], found["files"], found["spamdyke"]) == ([], {}, [], [])
    whole = modules.qmail_route.checks(root=str(tree.root))
    assert set(whole) == {"program", "can", "scripts", "environment", "files", "spamdyke"}


def test_without_a_qmail_smtpd_nothing_is_known(refuses, tree):
    (tree.home / "bin/qmail-smtpd").unlink()
    assert refuses() is None


def test_a_program_that_is_asked_checks_every_domain(refuses, tree):
    tree.run(before="RCPTCHECK=/usr/local/bin/check; export RCPTCHECK\n")
    assert refuses() is False  # this qmail-smtpd does not know the variable
    tree.program(b"RCPTCHECK")
    assert refuses() is True
    tree.run()
    assert refuses() is False  # only a comment names it


def test_tcpservers_rule_for_strangers_counts_and_that_for_others_does_not(refuses, tree):
    tree.program(b"RCPTCHECK")
    tree.run(options=" -x /etc/own.cdb")
    rules = tree.root / "etc/own.cdb"
    rules.write_bytes(cdb.database([(b"127.", b"+RCPTCHECK=/bin/check\0"), (b"", b"+OTHER=x\0")]))
    assert refuses() is False
    rules.write_bytes(cdb.database([(b"127.", b"+RELAYCLIENT=\0"), (b"", b"+OTHER=x\0+RCPTCHECK=/bin/check\0")]))
    assert refuses() is True
    rules.write_bytes(b"damaged")
    assert refuses() is False


def test_a_unit_sets_the_environment_too(refuses, tree):
    tree.program(b"RCPTCHECK")
    (tree.root / "etc/systemd/system").mkdir(parents=True)
    tree.write(
        "etc/systemd/system/qmail-smtpd@.service",
        '[Service]\nExecStart=qmail-smtpd\nEnvironment="RCPTCHECK=/bin/check"\n',
    )
    assert refuses() is True


@pytest.mark.parametrize("name", ["validrcptto", "validrcptto.cdb", "morevalidrcptto.cdb"])
def test_a_list_of_recipients_checks_all_but_whole_domains_in_it(refuses, tree, name):
    def write(*lines):
        contents = cdb.database([(line.encode(), b"") for line in lines])
        (tree.home / "control" / name).write_bytes(
            contents if name.endswith("cdb") else "\n".join(lines).encode() + b"\n"
        )

    write("joe@example.com")
    assert refuses() is False  # this qmail-smtpd does not read it
    tree.program(f"control/{name}".encode())
    assert refuses() is True
    write("joe@example.org", "@example.com")
    assert refuses() is False
    assert refuses("local.example") is True


def test_a_damaged_list_is_named(checks, tree):
    tree.program(b"control/validrcptto.cdb")
    (tree.home / "control/validrcptto.cdb").write_bytes(b"damaged")
    with pytest.raises(CommandExecutionError, match=r"validrcptto\.cdb is damaged"):
        checks()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("@example.com", True),
        ("joe@example.com", False),
        ("!^joe@example", True),
        ("!@example\\.com$", False),
        ("!(", None),
    ],
)
def test_badrcptto_refuses_a_domain_or_by_an_expression(refuses, tree, line, expected):
    tree.write("var/qmail/control/badrcptto", f"# comment\n{line}\n")
    assert refuses() is False
    tree.program(b"control/badrcptto")
    assert refuses() is expected


def test_the_list_that_recipients_writes_for_badrcptto_is_known_to_refuse(refuses, tree, modules):
    tree.program(b"control/badrcptto")
    tree.write("domain/.qmail-joe", "#\n")
    text = modules.qmail_route.recipients("example.com", format="badrcptto", root=str(tree.root))
    tree.write("var/qmail/control/badrcptto", text)
    assert refuses() is True
    assert refuses("local.example") is False


@pytest.mark.parametrize(
    ("strings", "start", "word", "expected"),
    [
        ((b"5.1.1 - chkuser",), None, "bounce-no-mailbox", True),
        ((b"5.1.1 - chkuser",), None, "delete", False),
        ((b"chkuser", b"CHKUSER_START"), None, "bounce-no-mailbox", False),
        ((b"chkuser", b"CHKUSER_START"), "NONE", "bounce-no-mailbox", False),
        ((b"chkuser", b"CHKUSER_START"), "DOMAIN", "bounce-no-mailbox", True),
        ((b"chkuser", b"CHKUSER_START"), "DOMAIN", "delete", False),
        ((b"chkuser", b"CHKUSER_START"), "ALWAYS", "delete", True),
        ((), "ALWAYS", "bounce-no-mailbox", False),
    ],
)
def test_chkuser_checks_domains_of_vpopmail_as_it_was_started(refuses, tree, strings, start, word, expected):
    tree.program(*strings)
    tree.run(before=f'export CHKUSER_START="{start}"\n' if start else "")
    tree.default(word)
    assert refuses() is expected
    assert refuses("local.example") is False


@pytest.mark.parametrize(
    ("value", "expected"), [("invalid", True), ("none", False), ("unavailable", True), ("same-as-sender", False)]
)
def test_spamdyke_refuses_if_it_was_told_to_and_is_started(refuses, tree, value, expected):
    tree.write("etc/spamdyke.conf", f"log-level=info\n#reject-recipient=invalid\nreject-recipient={value}\n")
    assert refuses() is False
    tree.run(wrapper="/usr/local/bin/spamdyke -f /etc/spamdyke.conf ")
    assert refuses() is expected


def test_a_list_that_is_not_read_here_leaves_it_open(checks, tree):
    tree.write("var/qmail/users/recipients.cdb", "x")
    assert checks()["refuses"] is False
    tree.program(b"users/recipients.cdb")
    assert checks()["refuses"] is None
    assert "/var/qmail/users/recipients.cdb" in checks()["why"]


def test_the_route_of_nobody_is_shown(checks, tree):
    assert checks()["nobody"]["outcome"] == "bounce"
    tree.default("delete")
    assert checks()["nobody"]["dotqmail"] == "/domain/.qmail-default"


def test_bytes_that_are_not_utf_8_are_opened_as_they_are_and_shown_as_escapes(checks, tree):
    tree.program(b"RCPTCHECK")
    tree.run(options=" -x /etc/r\udcfcles.cdb")
    with open(os.fsencode(tree.root) + b"/etc/r\xfcles.cdb", "wb") as file:
        file.write(cdb.database([(b"", b"+RCPTCHECK=/usr/bin/pr\xfcfen\0")]))
    found = checks()
    assert found["environment"] == {"RCPTCHECK": "/usr/bin/pr\\xfcfen"}
    assert found["why"].endswith("RCPTCHECK=/usr/bin/pr\\xfcfen.")
