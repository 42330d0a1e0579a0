"""
What qmail-local does with a dot-qmail file: real files, judged for a user who is not the one running the tests.

As root that user is a number without an entry in passwd; as a plain user it is the user himself.
"""

import json
import os
import pathlib
import shutil
import socket
import tempfile
import time

import pytest
import salt.payload
from hypothesis import example, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

from _modules import qmail_mailbox_dotqmail

ROOT = os.getuid() == 0
UID = 54321 if ROOT else os.getuid()
GID = 54321 if ROOT else os.getgid()
STRANGER = 54322
REPOSITORY = pathlib.Path(qmail_mailbox_dotqmail.__file__).parent.parent
CASES = json.loads((REPOSITORY / "tests/data/oracle/cases.json").read_text())
FATES = {0: ("swallowed", "stored", "forwarded"), 100: ("bounced",), 111: ("deferred",)}

SHELL = ["exit", "true", "false", "0", "9", " ", "\t", "\r", ";", "&", "|", "#", "(", ")"]
SHELL += ["touch X", "$(touch X)", "`touch X`", ">X"]
SIGNS = list(b"\n\n|#./&+ \t\r\0a0")

needs_root = pytest.mark.skipif(not ROOT, reason="needs files of two users, and only root can make them")


@pytest.fixture
def top():
    """A directory that everybody can reach, unlike pytest's own."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="dotqmail-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def box(modules, top):
    return Box(modules, top / "home")


class Box:
    """A home with a Maildir and a dot-qmail file, all of them the user's."""

    def __init__(self, modules, home):
        self.modules = modules
        self.home = home
        self.dotqmail = home / ".qmail"
        for path in (home, *(home / "Maildir" / part for part in ("", "tmp", "new", "cur"))):
            path.mkdir()
            self.give(path, 0o755)

    def give(self, path, mode, uid=UID, gid=GID):
        if ROOT:
            os.chown(path, uid, gid)
        os.chmod(path, mode)

    def write(self, contents, mode=0o644, uid=UID, gid=GID, path=None):
        path = path or self.dotqmail
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        self.give(path, mode, uid, gid)

    def predict(self, contents=None, user=UID, gid=GID, **settings):
        if contents is not None:
            self.write(contents)
        return self.modules.qmail_mailbox_dotqmail.predict(
            str(self.dotqmail), str(self.home), user, gid=gid, **settings
        )

    def fate(self, contents=None, **settings):
        return self.predict(contents, **settings)["fate"]


def counts(result):
    return [len(result[key]) for key in ("files", "forwards", "programs")]


# What was recorded on a real qmail


@needs_root
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_every_recorded_delivery_is_predicted(box, case):
    box.dotqmail = box.home / (".qmail-sink" if case["dash"] else ".qmail")
    owner = {"popuser": (UID, GID), "root": (0, 0), "alias": (STRANGER, STRANGER), None: None}[case["owner"]]
    if case["kind"] == "directory":
        box.dotqmail.mkdir()
    if case["kind"] == "dangling link":
        box.dotqmail.symlink_to("nowhere")
    if case["kind"] == "link":
        box.dotqmail.symlink_to("target")
    if owner:
        path = box.home / "target" if case["kind"] == "link" else box.dotqmail
        box.write(case["contents"], int(case["mode"], 8), *owner, path=path)
    box.home.chmod(int(case["home_mode"], 8))

    result = box.predict(dash=case["dash"])

    assert result["fate"] in FATES[case["exit"]], result
    assert case["did"] in (None, counts(result)), result


# Swallowed, stored, forwarded


@pytest.mark.parametrize(
    "contents", ["|exit 0", "|exit 0\n", "#\n", "# a\n# b\n", "#\n\n", "| true\n", "|\n", "+other\n"]
)
def test_a_sink_swallows(box, contents):
    assert box.fate(contents) == "swallowed"


def test_a_comment_starts_no_shell(box):
    assert counts(box.predict("# sink\n")) == [0, 0, 0]


def test_lines_after_exit_0_still_run(box):
    result = box.predict("|exit 0\n./Maildir/\n&a@example.com\n")
    assert result["fate"] == "stored"
    assert result["files"] == ["./Maildir/"]
    assert result["forwards"] == ["a@example.com"]
    assert result["programs"] == ["exit 0"]


def test_exit_99_ends_the_file(box):
    result = box.predict("&a@example.com\n|exit 99\n./Maildir/\n")
    assert result["fate"] == "forwarded"
    assert counts(result) == [0, 1, 1]


def test_stored_outranks_forwarded_and_forwarded_outranks_swallowed(box):
    assert box.fate("&a@example.com\n./mbox\n|exit 0\n") == "stored"
    assert box.fate("|exit 0\n&a@example.com\n#\n") == "forwarded"


@pytest.mark.parametrize(
    "line, address",
    [
        ("a@b", "a@b"),
        ("&a@b", "a@b"),
        ("&", ""),
        (" |exit 0", " |exit 0"),
        ("\t#", "\t#"),
        ("& a \t", " a"),
        ("&|x", "|x"),
    ],
)
def test_whatever_has_no_sign_of_its_own_is_an_address(box, line, address):
    result = box.predict(f"{line}\n")
    assert result["fate"] == "forwarded"
    assert result["forwards"] == [address]


def test_a_leading_blank_is_named_as_the_thing_to_change(box):
    assert "remove the blank at its beginning" in box.predict(" |exit 0\n")["reason"]


def test_an_address_of_1002_bytes_is_forwarded_and_a_longer_one_bounces(box):
    assert box.fate("&" + "a" * 1002) == "forwarded"
    assert box.predict("./Maildir/\n&" + "a" * 1003) == {
        "fate": "bounced",
        "files": ["./Maildir/"],
        "forwards": [],
        "programs": [],
        "reason": f"a message would be bounced: {box.dotqmail} has an address of more than 1002 bytes; shorten it",
    }


# The file itself


@pytest.mark.parametrize("contents", ["\n|exit 0\n", " \t\n#\n", "\n", "\0\n#\n", "\0|exit 0\n"])
def test_a_blank_first_line_defers(box, contents):
    assert box.fate(contents) == "deferred"


def test_a_blank_line_further_down_is_nothing(box):
    assert box.fate("#\n\n \t\n\0\n") == "swallowed"


@pytest.mark.parametrize("dash, fate", [("", "stored"), ("-", "bounced")])
@pytest.mark.parametrize("kind", ["missing", "dangling link", "directory", "fifo", "socket", "link to itself"])
def test_what_is_no_file_counts_as_missing(box, kind, dash, fate):
    if kind == "dangling link":
        box.dotqmail.symlink_to("nowhere/at/all")
    if kind == "directory":
        box.dotqmail.mkdir()
    if kind == "fifo":
        os.mkfifo(box.dotqmail)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(box.dotqmail))
    if kind == "link to itself":
        box.dotqmail.symlink_to(".qmail")
    if kind in ("directory", "fifo", "socket"):
        box.give(box.dotqmail, 0o755)
    assert box.fate(dash=dash) == fate


@pytest.mark.parametrize("dash", ["", "-"])
def test_an_empty_file_means_the_default_delivery_with_or_without_extension(box, dash):
    result = box.predict("", dash=dash)
    assert result["fate"] == "stored"
    assert "is empty" in result["reason"]


@pytest.mark.parametrize(
    "default, fate",
    [
        ("./Maildir/", "stored"),
        ("./mbox", "stored"),
        ("#", "swallowed"),
        ("|exit 0", "swallowed"),
        ("|exit 99\n./mbox", "swallowed"),
        ("&a@example.com\n#", "forwarded"),
        ("|/bin/cat > /dev/null", "unknown"),
        ("./missing/", "deferred"),
        ("", "deferred"),
        ("|exit 100", "bounced"),
    ],
)
def test_the_default_delivery_is_followed_like_a_file(box, default, fate):
    assert box.fate(default=default) == fate


def test_the_x_bit_of_an_empty_file_does_not_bind_the_default_delivery(box):
    box.write("", mode=0o744)
    assert box.fate() == "stored"


@pytest.mark.parametrize("contents, fate", [("|exit 0\n", "deferred"), ("./mbox\n", "deferred"), ("&a\n", "forwarded")])
def test_the_x_bit_of_the_owner_allows_forwards_only(box, contents, fate):
    box.write(contents, mode=0o744)
    assert box.fate() == fate
    box.write(contents, mode=0o655)
    assert box.fate() != "deferred"


def test_list_allows_forwards_only_from_there_on(box):
    assert box.fate("|exit 0\n+list \n&a\n") == "forwarded"
    result = box.predict("&a\n+list\n|exit 0\n")
    assert result["fate"] == "deferred"
    assert counts(result) == [0, 0, 0]
    assert "+list" in result["reason"]


def test_a_file_through_links_is_judged_by_its_target(box):
    box.write("|exit 0\n", path=box.home / "target")
    (box.home / "hop").symlink_to(box.home / "target")
    box.dotqmail.symlink_to("hop")
    assert box.fate() == "swallowed"
    (box.home / "target").chmod(0o646)
    assert box.fate() == "deferred"


def test_forty_links_are_followed_and_one_more_counts_as_missing(box):
    box.write("|exit 0\n", path=box.home / "link40")
    for number in range(1, 40):
        (box.home / f"link{number}").symlink_to(f"link{number + 1}")
    box.dotqmail.symlink_to("link1")
    assert box.fate(dash="-") == "swallowed"
    (box.home / "link0").symlink_to("link1")
    box.dotqmail.unlink()
    box.dotqmail.symlink_to("link0")
    assert box.fate(dash="-") == "bounced"


def test_a_huge_file_is_unknown_unless_what_was_read_decides(box):
    filler = "#" * 99 + "\n"
    assert box.fate(filler * 11000) == "unknown"
    assert box.fate("|exit 99\n" + filler * 11000) == "swallowed"
    assert box.fate("|exit 100\n" + filler * 11000) == "bounced"


def test_a_thousand_deliveries_and_more_keep_nobody_busy(box):
    start = time.process_time()
    result = box.predict("./mbox\n" * 100000)
    assert result["fate"] == "unknown"
    assert time.process_time() - start < 100  # to look at each sign again for each takes hours


@pytest.mark.parametrize("command", ["{}$", "exit{}$", "exit 0{};{}$", "a{}$", "a{}b;{}$", "true{};", "a b{}"])
def test_no_command_is_so_long_that_judging_it_takes_long(box, command):
    start = time.process_time()
    for filler in (" ", "\t ", " a", "9", ";", " 9"):
        box.predict("|" + command.format(*[filler * 100000] * command.count("{}")) + "\n")
    assert time.process_time() - start < 100  # to look at each sign again for each takes hours


def test_bytes_that_are_no_text_come_back_as_something_salt_can_send(box):
    result = box.predict(b"&\xff\xfe@example.com\n./\xe9\n|exit 0 # \xff\n")
    assert result["forwards"] == ["\\xff\\xfe@example.com"]
    assert result["files"] == ["./\\xe9"]
    assert salt.payload.loads(salt.payload.dumps(result)) == result


# Modes and owners


@pytest.mark.parametrize(
    "forbidden, fate", [("002", "swallowed"), ("022", "deferred"), (0o22, "deferred"), (2, "swallowed")]
)
def test_the_forbidden_bits_are_those_of_the_build(box, forbidden, fate):
    box.write("|exit 0\n", mode=0o664)
    assert box.fate(forbidden=forbidden) == fate
    box.write("|exit 0\n")
    box.home.chmod(0o775)
    assert box.fate(forbidden=forbidden) == fate


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o1755, 0o1777])
def test_a_writable_or_sticky_home_defers_and_one_chmod_fixes_it(box, mode):
    box.home.chmod(mode)
    result = box.predict("|exit 0\n")
    assert result["fate"] == "deferred"
    box.home.chmod(int(result["reason"].rpartition(" ")[2], 8))
    assert box.fate() == "swallowed"


def test_a_writable_file_defers_and_one_chmod_fixes_it(box):
    box.write("|exit 0\n", mode=0o666)
    result = box.predict()
    assert result["fate"] == "deferred"
    box.dotqmail.chmod(int(result["reason"].rpartition(" ")[2], 8))
    assert box.fate() == "swallowed"


def test_a_missing_home_defers(box):
    shutil.rmtree(box.home)
    result = box.predict()
    assert result["fate"] == "deferred"
    assert f"{box.home} does not exist; make it" in result["reason"]


def test_a_home_that_is_a_file_defers(box):
    shutil.rmtree(box.home)
    box.write("", path=box.home)
    assert box.fate() == "deferred"


def test_a_file_closed_to_its_own_user_defers(box):
    box.write("|exit 0\n", mode=0o044)
    assert box.fate() == "deferred"


def test_a_home_closed_to_its_own_user_defers(box):
    box.write("|exit 0\n")
    box.home.chmod(0o655)
    try:
        assert box.fate() == "deferred"
    finally:
        box.home.chmod(0o755)


@needs_root
@pytest.mark.parametrize(
    "uid, gid, mode, fate",
    [
        (0, 0, 0o600, "deferred"),
        (0, 0, 0o640, "deferred"),
        (0, 0, 0o644, "swallowed"),
        (0, GID, 0o640, "swallowed"),
        (0, GID, 0o604, "deferred"),
        (STRANGER, STRANGER, 0o644, "swallowed"),
        (STRANGER, STRANGER, 0o640, "deferred"),
    ],
)
def test_the_first_class_that_fits_decides_who_reads(box, uid, gid, mode, fate):
    box.write("|exit 0\n", mode, uid, gid)
    assert box.fate() == fate


@needs_root
@pytest.mark.parametrize("mode, fate", [(0o711, "swallowed"), (0o700, "deferred"), (0o755, "swallowed")])
def test_every_directory_on_the_way_must_let_the_user_through(box, top, mode, fate):
    box.write("|exit 0\n")
    top.chmod(mode)
    assert box.fate() == fate


@needs_root
def test_a_link_through_a_closed_directory_defers_instead_of_counting_as_missing(box, top):
    closed = top / "closed"
    closed.mkdir(0o700)
    box.dotqmail.symlink_to(closed / "nowhere")
    assert box.fate(dash="-") == "deferred"


@needs_root
def test_the_group_from_the_route_counts_and_no_other(box):
    box.write("|exit 0\n", 0o640, uid=0, gid=STRANGER)
    assert box.fate(gid=GID) == "deferred"
    assert box.fate(gid=STRANGER) == "swallowed"


@needs_root
def test_what_root_may_do_is_of_no_use(box):
    for path in (box.home, box.home / "Maildir", box.home / "Maildir/new"):
        box.write("./Maildir/\n")
        box.give(path, 0o700, uid=0, gid=0)
        assert box.fate() == "deferred", path
        box.give(path, 0o755)


def test_root_never_gets_a_delivery(box):
    assert box.fate("|exit 0\n", user=0, gid=0) == "deferred"


# Maildirs and mboxes


def break_maildir(box, how):
    maildir = box.home / "Maildir"
    if how in ("no tmp", "no new", "no cur", "tmp is new"):
        (maildir / how.rpartition(" ")[2]).rmdir()
    if how == "tmp is new":
        (maildir / "new").symlink_to("tmp")
    if how == "tmp is a file":
        (maildir / "tmp").rmdir()
        box.write("", path=maildir / "tmp")
    if how == "new not writable":
        (maildir / "new").chmod(0o555)
    if how == "not searchable":
        maildir.chmod(0o644)


@pytest.mark.parametrize(
    "how, fate",
    [
        ("no cur", "stored"),
        ("no tmp", "deferred"),
        ("no new", "deferred"),
        ("tmp is new", "deferred"),
        ("tmp is a file", "deferred"),
        ("new not writable", "deferred"),
        ("not searchable", "deferred"),
    ],
)
def test_a_maildir_needs_a_writable_tmp_and_new(box, how, fate):
    break_maildir(box, how)
    try:
        assert box.fate("./Maildir/\n") == fate
    finally:
        (box.home / "Maildir").chmod(0o755)


def test_a_missing_maildir_defers_and_is_named(box):
    result = box.predict("./missing/\n")
    assert result["fate"] == "deferred"
    assert f"{box.home}/missing does not exist" in result["reason"]


@pytest.mark.parametrize("name, fate", [("./mbox", "stored"), ("./nodir/mbox", "deferred"), ("./Maildir", "deferred")])
def test_an_mbox_is_made_where_its_directory_exists(box, name, fate):
    assert box.fate(f"{name}\n") == fate
    assert not (box.home / "mbox").exists()


@pytest.mark.parametrize("kind", ["fifo", "read-only", "/dev/null"])
def test_what_is_no_writable_file_is_no_mbox(box, kind):
    if kind == "fifo":
        os.mkfifo(box.home / "mbox", 0o666)
    if kind == "read-only":
        box.write("", mode=0o444, path=box.home / "mbox")
    assert box.fate("/dev/null\n" if kind == "/dev/null" else "./mbox\n") == "deferred"


def test_an_mbox_through_a_dangling_link_is_made_at_its_end(box):
    (box.home / "mbox").symlink_to("made")
    assert box.fate("./mbox\n") == "stored"


def test_a_home_closed_for_writing_takes_an_existing_mbox_but_makes_none(box):
    box.write("./mbox\n")
    box.write("", mode=0o600, path=box.home / "old")
    box.home.chmod(0o555)
    assert box.fate() == "deferred"
    box.write("./old\n")
    assert box.fate() == "stored"
    box.home.chmod(0o755)


def test_a_carriage_return_makes_a_maildir_an_mbox(box):
    assert box.predict("./Maildir/\r\n")["files"] == ["./Maildir/\r"]


def test_what_was_stored_before_a_failure_is_reported(box):
    result = box.predict("./Maildir/\n&a@example.com\n|exit 100\n")
    assert result["fate"] == "bounced"
    assert counts(result) == [1, 0, 1]


# Programs


@pytest.mark.parametrize(
    "status, fate",
    [(0, "swallowed"), (99, "swallowed")]
    + [(status, "bounced") for status in (64, 65, 70, 76, 77, 78, 100, 112)]
    + [(status, "deferred") for status in (1, 2, 63, 66, 71, 75, 101, 111, 127, 255)]
    + [(256, "swallowed"), (355, "swallowed"), (356, "bounced")],
)
def test_the_exit_status_decides(box, status, fate):
    assert box.fate(f"|exit {status}\n") == fate


@pytest.mark.parametrize(
    "command",
    ["exit", " \texit\t0", "exit 0 \t", "exit 0;", "exit 0 ; ", "exit 0 # why", "exit 0;# why", "# why", "exit 000"]
    + ["true", "/bin/true", "exit 0; exit 100", "true && exit 0", "false || exit 0"],
)
def test_other_ways_to_say_exit_0_are_understood(box, command):
    assert box.fate(f"|{command}\n") == "swallowed"


@pytest.mark.parametrize("command", ["false", "/bin/false", " false ", "true; false", "true && exit 1", "exit -1"])
def test_other_ways_to_fail_are_understood(box, command):
    assert box.fate(f"|{command}\n") == "deferred"


@pytest.mark.parametrize("command", ["|exit 0", "& exit 0", "; exit 0", ")"])
def test_a_command_that_starts_with_an_operator_defers(box, command):
    assert box.fate(f"|{command}\n") == "deferred"


def test_a_carriage_return_after_exit_0_is_as_good_as_this_shell_takes_it(box):
    taken = os.system("/bin/sh -c 'exit 0\r' 2>/dev/null") == 0
    result = box.predict("|exit 0\r\n")
    assert result["fate"] == ("swallowed" if taken else "deferred")
    assert taken or "remove the carriage return" in result["reason"]


@pytest.mark.parametrize(
    "command", ["no-such-program", "no-such-program -x a@b", "./missing", "/nowhere/program x", "./Maildir"]
)
def test_a_program_that_is_not_there_defers(box, command):
    assert box.fate(f"|{command}\n") == "deferred"


def test_a_program_the_user_may_not_run_defers(box):
    box.write("#!/bin/sh\n", mode=0o644, path=box.home / "program")
    assert box.fate("|./program\n") == "deferred"
    (box.home / "program").chmod(0o744)
    assert box.fate() == "unknown"


@pytest.mark.parametrize(
    "command",
    ["cat", "/bin/cat > /dev/null", "exit $X", "exit 0#x", "(exit 0)", "no-such-program || exit 0", ":"]
    + ["if true; then exit 0; fi"],
)
def test_where_another_program_decides_nobody_knows(box, command):
    result = box.predict(f"|{command}\n./Maildir/\n")
    assert result["fate"] == "unknown"
    assert counts(result) == [1, 0, 1]


def test_after_an_unknown_program_a_failure_is_unknown_too(box):
    assert box.fate("|cat\n|exit 100\n") == "unknown"
    assert box.fate("|exit 100\n|cat\n") == "bounced"


@example("exit 0\r#$(touch X)")
@example("true;touch X")
@example("true #;\t#$(touch X)")
@given(st.lists(st.sampled_from(SHELL), max_size=12).map("".join))
@settings(max_examples=300)
def test_nothing_but_harmless_commands_ever_reaches_a_shell(modules, top, command):
    trace = top / "trace"
    modules.qmail_mailbox_command.exit_status(command.replace("X", str(trace)), str(top), UID, GID)
    assert not trace.exists()


# The caller's mistakes, and the machine's


@pytest.mark.parametrize(
    "change",
    [
        {"user": "no-such-user-here", "gid": None},
        {"user": -1, "gid": None},
        {"user": True, "gid": None},
        {"gid": "staff"},
        {"forbidden": "rwx"},
        {"forbidden": 1.5},
        {"default": None},
        {"default": "a\0b"},
    ],
)
def test_a_wrong_argument_is_refused(box, change):
    with pytest.raises(SaltInvocationError):
        box.predict("#\n", **change)


@pytest.mark.parametrize("dotqmail, home", [(".qmail", "/"), ("/.qmail", "home"), ("/.qmail\0", "/"), (None, "/")])
def test_an_impossible_path_is_refused(modules, dotqmail, home):
    with pytest.raises(SaltInvocationError):
        modules.qmail_mailbox_dotqmail.predict(dotqmail, home, UID, gid=GID)


def test_a_user_is_known_by_name_and_by_number(modules):
    by_name = modules.qmail_base_access.identity("nobody")
    assert modules.qmail_base_access.identity(by_name["uid"])["gid"] == by_name["gid"]
    assert modules.qmail_base_access.identity(str(by_name["uid"]))["uid"] == by_name["uid"]
    assert modules.qmail_base_access.identity(3999999999)["gid"] == 3999999999


def test_a_file_swapped_for_a_link_to_a_secret_is_not_read(box, top):
    box.write("#\n")
    seen = os.stat(box.dotqmail)
    found = {"path": str(box.dotqmail), "dev": seen.st_dev, "ino": seen.st_ino}
    secret = top / "secret"
    secret.write_text("secret")
    box.dotqmail.unlink()
    box.dotqmail.symlink_to(secret)
    with pytest.raises(CommandExecutionError, match="Too many levels of symbolic links"):  # it is not even opened
        qmail_mailbox_dotqmail._read(found)
    box.dotqmail.unlink()
    os.link(secret, box.dotqmail)
    with pytest.raises(CommandExecutionError):
        qmail_mailbox_dotqmail._read(found)


# Any contents at all


@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(SIGNS), max_size=40).map(bytes)))
@settings(max_examples=300)
def test_any_contents_have_a_fate_and_a_sendable_answer(box, contents):
    result = box.predict(contents)
    assert result["fate"] in ("swallowed", "stored", "forwarded", "deferred", "bounced", "unknown")
    assert result["reason"].count("\n") == 0
    assert salt.payload.loads(salt.payload.dumps(result)) == result


@given(st.binary(max_size=200))
def test_parse_has_one_instruction_for_each_line(contents):
    lines = contents.count(b"\n") + (not contents.endswith(b"\n") and contents != b"")
    assert len(qmail_mailbox_dotqmail.parse(contents)) == lines


def test_parse_names_each_kind_as_qmail_local_sees_it():
    contents = "#c\n\n./Maildir/\n./mbox \n| exit 0\n+list\n+x\n&a@b\nc@d\r\n./a\0/"
    assert qmail_mailbox_dotqmail.parse(contents) == [
        ("comment", "#c"),
        ("blank", ""),
        ("maildir", "./Maildir/"),
        ("mbox", "./mbox"),
        ("program", " exit 0"),
        ("list", "+list"),
        ("ignored", "+x"),
        ("forward", "a@b"),
        ("forward", "c@d\r"),
        ("maildir", "./a"),
    ]


def test_looking_changes_nothing(box):
    def picture():
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in box.home.rglob("*")}

    box.write("./mbox\n./Maildir/\n|exit 0\n&a@b\n")
    before = picture()
    box.predict()
    assert picture() == before
