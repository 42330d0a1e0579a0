"""The addresses of a domain: each one listed ends somewhere, and none that is delivered is missing."""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tracemalloc

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import cdb
from tests.support.supervisors import wait_until

DATA = pathlib.Path(__file__).parent.parent / "data"
many = settings(max_examples=150)
DELIVERED = ("dotqmail", "defaultdelivery", "deferred")
VDELIVERMAIL = "| /home/vpopmail/bin/vdelivermail '' {}\n"


@pytest.fixture
def recipients(home, modules):
    return lambda domain="example.com", **named: modules.qmail_route.recipients(domain, home=str(home.path), **named)


@pytest.fixture
def domain(home):
    """Make a directory that receives a whole virtual domain, as vpopmail has it; the files in it are given."""

    def domain(files, users=None):
        directory = home.path / "domain"
        directory.mkdir(exist_ok=True)
        for name, text in files.items():
            (directory / name).write_bytes(os.fsencode(text))
        if users is not None:
            (directory / "vpasswd.cdb").write_bytes(cdb.database([(user.encode(), b"x:1:0:") for user in users]))
        home.add_assign(f"+1-:example.com:{home.uid}:{home.gid}:{directory}:-::")
        return directory

    return domain


def test_the_mailboxes_of_users_assign_are_listed(recipients, home):
    home.add_mailbox("joe")
    found = recipients()
    assert found["how"] == "virtualdomains"
    assert found["recipients"] == ["dummy@example.com", "joe@example.com"]
    assert (found["wildcards"], found["bounces"], found["deferred"], found["notes"]) == ([], [], [], [])
    assert recipients("EXAMPLE.com") == found


def test_a_remote_domain_has_none(recipients):
    found = recipients("elsewhere.example")
    assert (found["how"], found["recipients"]) == ("remote", [])
    with pytest.raises(CommandExecutionError, match="no address that this server delivers"):
        recipients("elsewhere.example", format="plain")


def test_aliases_and_the_wildcards_among_them_are_named(recipients, home):
    for name in (".qmail-postmaster", ".qmail-first:last", ".qmail-list", ".qmail-list-default", ".qmail-UPPER"):
        (home.path / "alias" / name).write_text("&joe@example.net\n")
    found = recipients("localhost")
    assert found["how"] == "locals"
    assert [name.partition("@")[0] for name in found["recipients"]] == [
        *("1-dummy", "first.last", "list", "postmaster")
    ]
    file = str(home.path / "alias/.qmail-list-default")
    assert found["wildcards"] == [{"pattern": "list-*@localhost", "dotqmail": file}]


def test_the_users_of_vpopmail_are_listed_and_its_bounce_is_no_catch_all(recipients, domain):
    directory = domain(
        {".qmail-default": VDELIVERMAIL.format("bounce-no-mailbox"), ".qmail-sales": "&joe@example.com\n"},
        users=["joe", "Jane.Doe", "postmaster"],
    )
    found = recipients()
    assert found["recipients"] == [
        f"{name}@example.com" for name in ("dummy", "jane.doe", "joe", "postmaster", "sales")
    ]
    assert found["wildcards"] == []
    assert found["bounces"] == [{"pattern": "*@example.com", "dotqmail": f"{directory}/.qmail-default"}]
    assert recipients(format="validrcptto").splitlines() == found["recipients"]


@pytest.mark.parametrize("word", ["delete", "postmaster@example.com", "/home/vpopmail/domains/example.com/joe"])
def test_a_catch_all_of_vpopmail_is_named(recipients, domain, word, modules):
    directory = domain({".qmail-default": VDELIVERMAIL.format(word)}, users=["joe"])
    found = recipients()
    assert found["wildcards"] == [{"pattern": "*@example.com", "dotqmail": f"{directory}/.qmail-default"}]
    with pytest.raises(CommandExecutionError, match=r"lack addresses .*\*@example.com goes to"):
        recipients(format="plain")
    assert "joe@example.com\n" in recipients(format="plain", partial=True)
    assert recipients(format="validrcptto") == "@example.com\n"
    told = modules.qmail_route.default_program(f"{directory}/.qmail-default")
    assert told == {"name": "vdelivermail", "nobody": word}


@pytest.mark.parametrize(
    ("contents", "nobody"),
    [
        ("|bouncesaying 'This address no longer accepts mail.'\n", "bounce"),
        ("# said by Plesk\n| bouncesaying 'no such user'\n", "bounce"),
        ("| exit 100\n", "bounce"),
        ("|bouncesaying 'not you' grep -q spam\n", None),
        ("|bouncesaying 'no'\n&joe@example.com\n", None),
        ("&joe@example.com\n", None),
        (f"{VDELIVERMAIL.format('bounce-no-mailbox')}&joe@example.com\n", None),
        ("", None),
    ],
)
def test_only_a_file_that_bounces_everything_is_said_to(recipients, domain, contents, nobody, modules):
    directory = domain({".qmail-default": contents})
    assert modules.qmail_route.default_program(f"{directory}/.qmail-default")["nobody"] == nobody
    assert len(recipients()["bounces" if nobody else "wildcards"]) == 1


def test_an_address_with_a_virtual_domain_of_its_own_is_listed(recipients, home):
    home.write_control("virtualdomains", "example.com:1\nboss@example.com:vip\nnone@example.com:\n")
    assert recipients()["recipients"] == ["dummy@example.com"]
    (home.path / "alias/.qmail-vip-boss").write_text("&joe@example.net\n")
    assert recipients()["recipients"] == ["boss@example.com", "dummy@example.com"]
    home.add_mailbox("none")
    assert "none@example.com" not in recipients()["recipients"]  # it is remote


def test_an_address_with_a_line_of_its_own_is_listed_even_if_a_default_file_receives_it(recipients, home):
    (home.path / "alias/.qmail-list-default").write_text("&joe@example.net\n")
    home.add_assign(f"=1-joe:joe:{home.uid}:{home.gid}:{home.path}/alias:-:list-joe:")
    assert recipients()["recipients"] == ["dummy@example.com", "joe@example.com"]


def test_what_is_deferred_today_is_in_the_list_and_said_to_be(recipients, home):
    home.add_assign(f"=1-gone:gone:{home.uid}:{home.gid}:{home.path}/gone:::")
    assert recipients()["deferred"] == ["gone@example.com"]
    assert recipients(format="plain") == "dummy@example.com\ngone@example.com\n"


def test_the_name_of_a_file_puts_nothing_else_into_a_list(recipients, domain):
    names = (".qmail-x\nevil@example.org", ".qmail-a@b", ".qmail-two words", ".qmail-)|.*(", ".qmail-ok")
    domain(dict.fromkeys(names, "#\n"))
    found = recipients()
    assert found["recipients"] == ["dummy@example.com", "ok@example.com"]
    assert len(found["notes"]) == 4
    assert recipients(format="plain", partial=True) == "dummy@example.com\nok@example.com\n"


@pytest.mark.parametrize("name", ["x\n@mail:example:net\ny", "x\ty", "a@b", "two words", "m\udcfcll", "müll", ")|\\"])
def test_the_name_of_a_default_file_puts_nothing_else_into_a_list(recipients, domain, name):
    domain({f".qmail-{name}-default": "#\n", ".qmail-list-default": "#\n", ".qmail-ok": "#\n"})
    found = recipients()
    assert [one["pattern"] for one in found["wildcards"]] == ["list-*@example.com"]
    assert len(found["notes"]) == 1
    lines = [recipients(format=form, partial=True) for form in ("plain", "validrcptto")]
    assert lines == ["dummy@example.com\nok@example.com\n"] * 2
    text = recipients(format="badrcptto", partial=True)
    assert text.count("\n") == 1
    assert not re.search(text[1:-1], "info@example.com", re.IGNORECASE)
    assert re.search(text[1:-1], "list-x@example.com", re.IGNORECASE)


def test_an_entry_of_virtualdomains_or_of_users_assign_puts_nothing_else_into_a_list(recipients, home):
    home.write_control("virtualdomains", "example.com:1\nthe boss@example.com:vip\nleft it@example.com:\n")
    (home.path / "alias/.qmail-vip-the boss").write_text("&joe@example.net\n")
    home.add_assign(f"+1-any thing-:joe:{home.uid}:{home.gid}:{home.path}/joe:::")
    found = recipients()
    assert (found["recipients"], found["wildcards"]) == (["dummy@example.com"], [])
    assert [note.partition("'")[2].partition("'")[0] for note in found["notes"]] == ["any thing-", "the boss"]
    assert recipients(format="plain", partial=True) == "dummy@example.com\n"
    assert recipients(format="badrcptto", partial=True).count(" ") == 0


def test_a_pipe_for_a_dot_qmail_file_makes_nobody_wait(recipients, domain):
    directory = domain({})
    os.mkfifo(directory / ".qmail-default")
    (directory / ".qmail-joe").symlink_to("nowhere")
    assert recipients()["recipients"] == ["dummy@example.com"]


def test_a_damaged_database_is_named(recipients, domain):
    directory = domain({".qmail-default": VDELIVERMAIL.format("bounce-no-mailbox")}, users=["joe"])
    whole = (directory / "vpasswd.cdb").read_bytes()
    for damaged in (b"", whole[:2050], whole[:2048] + b"\xff" * (len(whole) - 2048)):
        (directory / "vpasswd.cdb").write_bytes(damaged)
        with pytest.raises(CommandExecutionError, match=r"vpasswd\.cdb is damaged"):
            recipients()


@pytest.fixture
def joe(home):
    """A user of the machine, whose own files lie in his home."""
    directory = home.path / "joe"
    directory.mkdir()
    home.add_assign(f"+joe-:joe:{home.uid}:{home.gid}:{directory}:-::")
    (home.path / "alias/.qmail-info").write_text("&joe@example.net\n")
    (directory / ".qmail-default").write_text(VDELIVERMAIL.format("bounce-no-mailbox"))
    return directory


@pytest.mark.parametrize("database", [None, b"", b"\xff" * 4096])
def test_a_user_with_a_default_file_of_vpopmails_holds_up_no_list(recipients, joe, database):
    if database is not None:
        (joe / "vpasswd.cdb").write_bytes(database)
    found = recipients("localhost")
    assert "info@localhost" in found["recipients"]
    assert found["wildcards"] == [{"pattern": "joe-*@localhost", "dotqmail": f"{joe}/.qmail-default"}]
    assert (found["bounces"], len(found["notes"])) == ([], 1)
    assert f"{joe}/vpasswd.cdb" in found["notes"][0]
    expression = re.compile(recipients("localhost", format="badrcptto", partial=True)[1:-1])
    assert [bool(expression.search(f"{name}@localhost")) for name in ("info", "joe-any", "x")] == [True, True, False]


def test_a_domain_of_vpopmail_that_cannot_be_listed_is_returned_if_it_may_be_partial(recipients, domain):
    directory = domain({".qmail-default": VDELIVERMAIL.format("bounce-no-mailbox"), ".qmail-ok": "#\n"})
    with pytest.raises(CommandExecutionError, match=r"Cannot list the mailboxes of example\.com"):
        recipients()
    found = recipients(partial=True)
    assert found["recipients"] == ["dummy@example.com", "ok@example.com"]
    assert found["wildcards"] == [{"pattern": "*@example.com", "dotqmail": f"{directory}/.qmail-default"}]
    assert "Cannot list the mailboxes of example.com" in found["notes"][0]
    assert recipients(format="plain", partial=True) == "dummy@example.com\nok@example.com\n"
    assert recipients(format="validrcptto", partial=True) == "@example.com\n"


def hole(path, size):
    """Make a database of empty records that takes no room on the disk."""
    with open(path, "wb") as file:
        file.write(struct.pack("<II", size, 0) * 256)
        file.truncate(size)


def test_a_database_that_is_a_hole_on_the_disk_takes_no_memory(recipients, joe):
    hole(joe / "vpasswd.cdb", 1 << 21)
    recipients("localhost")
    tracemalloc.start()
    recipients("localhost")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 21


def test_a_database_of_long_names_takes_no_memory(recipients, joe):
    names, size = 400, 1 << 16
    with open(joe / "vpasswd.cdb", "wb") as file:
        end = 2048 + names * (8 + size)
        file.write(struct.pack("<II", end, 0) * 256)
        for number in range(names):
            file.seek(2048 + number * (8 + size))
            file.write(struct.pack("<II", size, 0) + b"%08d" % number)
        file.truncate(end)
    assert recipients("localhost")["notes"] == []


def test_names_that_no_address_can_have_are_listed_up_to_a_bound(recipients, joe):
    for number in range(1010):
        (joe / f".qmail-a {number}").touch()
    assert len(recipients("localhost")["notes"]) == 1001  # and that there is no vpasswd.cdb


@pytest.mark.parametrize("name", ["vpasswd.cdb", ".qmail-pipe-default"])
def test_what_is_no_file_is_not_even_opened(recipients, joe, name):
    """A link to a device may be there: to open a watchdog starts it."""
    os.mkfifo(joe / name)
    writer = subprocess.Popen(["sh", "-c", f"exec echo >{joe / name}"])  # waits until somebody opens it
    try:
        wait_until(lambda: psutil.Process(writer.pid).status() == psutil.STATUS_SLEEPING)
        recipients("localhost")
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.5)
    finally:
        writer.kill()
        writer.wait()


def test_a_database_of_too_many_records_is_named(recipients, joe):
    hole(joe / "vpasswd.cdb", 1 << 28)
    told = f"{joe}/vpasswd.cdb has more than 2097152 records, and is read no further."
    assert recipients("localhost")["notes"] == [told]


def test_a_domain_in_percenthack_is_said_to_take_more(recipients, home):
    home.write_control("percenthack", "example.com\n")
    assert "percenthack" in recipients()["notes"][0]


@pytest.mark.parametrize("wrong", ["", "a b", "joe@example.com", "exa\nmple.com", "-x", None, 7])
def test_what_is_not_a_domain_is_refused(recipients, wrong):
    with pytest.raises(SaltInvocationError, match="is not a domain"):
        recipients(wrong)


def test_the_expression_lets_in_who_is_listed_and_leaves_other_domains_alone(recipients, home, domain):
    domain(dict.fromkeys((".qmail-a+b", ".qmail-x*y", ".qmail-list-default"), "#\n"))
    text = recipients(format="badrcptto")
    assert text.startswith("!")
    assert text.count("\n") == 1
    expression = re.compile(text[1:-1], re.IGNORECASE)
    fine = ("dummy@example.com", "DUMMY@Example.Com", "a+b@example.com", "x*y@example.com", "list-any@example.com")
    others = ("anybody@example.org", "joe@sub.example.com", "joe@xexample.com", "joe@example.co", "joe", "@e", "m")
    assert all(expression.search(address) for address in (*fine, *others))
    assert not any(
        expression.search(f"{name}@example.com") for name in ("nobody", "aab", "xdummy", "dummyx", "list", "")
    )


# Small alphabets, so that entries, files and addresses meet. A dash before a colon is left out only by chance.
part = st.text("ab-.", min_size=1, max_size=5)
files = st.lists(st.tuples(part, st.booleans(), st.sampled_from(["#\n", "|exit 100\n", "&x@y\n", ""])), max_size=5)
entry = st.tuples(
    st.booleans(),
    st.sampled_from(["", "1-", "1-a-", "1-b", "a-"]) | part,
    st.sampled_from(["", "-"]),
    st.sampled_from(["", "a", "b-"]),
)


@many
@given(
    entries=st.lists(st.tuples(entry, files), max_size=4),
    prefix=st.sampled_from(["1", "1-a", "b", ""]),
    locals_=st.lists(part, min_size=20, max_size=20),
)
def test_whatever_is_delivered_is_in_the_list_or_in_a_wildcard(modules, home, tmp_path, entries, prefix, locals_):
    lines = []
    for number, ((whole, key, dash, begin), named) in enumerate(entries):
        place = tmp_path / "homes" / str(number)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, is_default, text in named:
            (
                place
                / (
                    f".qmail{dash}{name}".replace(".q", "\0").replace(".", ":").replace("\0", ".q")
                    + "default" * is_default
                )
            ).write_text(text)
        if whole or not key or key.endswith("-"):
            lines.append(f"{'=' if whole else '+'}{key}:u{number}:{home.uid}:{home.gid}:{place}:{dash}:{begin}:")
    (home.path / "users/cdb").write_bytes(cdb.from_assign("\n".join(lines)))
    host = "example.com" if prefix else "localhost"
    home.write_control("virtualdomains", f"example.com:{prefix}\n")
    found = modules.qmail_route.recipients(host, home=str(home.path))
    begins = [one["pattern"].rpartition("*")[0] for one in (*found["wildcards"], *found["bounces"])]
    for local in {*locals_, *(name.partition("@")[0] for name in found["recipients"])}:
        address = f"{local}@{host}"
        route = modules.qmail_route.resolve(address, home=str(home.path))
        listed = address in found["recipients"] or address in found["deferred"]
        if route["outcome"] in DELIVERED and route["source"] == "assign":
            assert listed or any(local.startswith(begin) for begin in begins), (address, route)
        elif listed:
            assert route["outcome"] in DELIVERED, (address, route)
    assert all(pathlib.PurePath(one["dotqmail"]).is_absolute() for one in found["wildcards"] if one["dotqmail"])


@pytest.mark.skipif(os.geteuid() != 0, reason="the owners of the recorded homes decide: needs root")
@pytest.mark.parametrize("recording", sorted(path.parent.name for path in DATA.glob("routing-*/routes.json")))
def test_what_a_real_qmail_delivered_is_in_the_list_or_in_a_wildcard(recording, modules, tmp_path):
    unpack = ["tar", "--extract", "--gzip", "--preserve-permissions", "--numeric-owner", f"--directory={tmp_path}"]
    subprocess.run([*unpack, f"--file={DATA / recording / 'tree.tar.gz'}"], check=True)
    routes = json.loads((DATA / recording / "routes.json").read_text())
    delivered = {
        route["address"].lower().replace(":", ".")
        for route in routes
        if "dotqmail" in route and re.fullmatch(r"[\w.+=-]+@[\w.-]*\w", route["address"])
    }
    assert len(delivered) > 10
    for domain in sorted({address.rpartition("@")[2] for address in delivered}):
        found = modules.qmail_route.recipients(domain, root=str(tmp_path))
        begins = [one["pattern"].rpartition("*")[0] for one in (*found["wildcards"], *found["bounces"])]
        missing = [
            address
            for address in delivered - set(found["recipients"])
            if address.endswith(f"@{domain}") and not any(address.startswith(begin) for begin in begins)
        ]
        assert missing == [], domain
