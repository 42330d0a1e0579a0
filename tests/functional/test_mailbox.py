"""An address becomes a sink only where mail for it would really vanish, and becomes again what it was."""

import os
import shutil

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

ADDRESS = "dummy@example.com"


@pytest.fixture
def mailbox(modules, home):
    class Mailbox:
        def check(self, address=ADDRESS):
            return modules.qmail_mailbox.check(address, home=str(home.path))

        def write(self, address=ADDRESS, **named):
            return modules.qmail_mailbox.write(address, home=str(home.path), **named)

        restore = staticmethod(modules.qmail_mailbox.restore)
        history = staticmethod(modules.qmail_mailbox.history)

    return Mailbox()


def refused(home, mailbox, match, address=ADDRESS, error=CommandExecutionError, **named):
    before = home.snapshot()
    with pytest.raises(error, match=match):
        mailbox.write(address, **named)
    assert home.snapshot() == before


def test_an_ordinary_mailbox_stores_until_it_is_a_sink(mailbox, home):
    assert mailbox.check()["fate"] == "stored"
    changes = mailbox.write()
    assert changes == {"instruction": {"old": ["./Maildir/"], "new": ["|exit 0"]}}
    assert (home.mailbox() / ".qmail").read_text() == "|exit 0\n"
    assert mailbox.check()["fate"] == "swallowed"


def test_the_file_keeps_its_owner_and_mode_where_they_work(mailbox, home):
    before = (home.mailbox() / ".qmail").stat()
    mailbox.write()
    after = (home.mailbox() / ".qmail").stat()
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")
@pytest.mark.parametrize(("owner", "mode"), [(4242, 0o700), (4242, 0o666), (0, 0o600), (4242, 0o200)])
def test_owner_and_mode_that_qmail_local_cannot_use_are_put_right_and_put_back(mailbox, home, owner, mode):
    file = home.mailbox() / ".qmail"
    os.chown(file, owner, owner and 4243)
    file.chmod(mode)
    before = home.snapshot()
    mailbox.write()
    assert mailbox.check()["fate"] == "swallowed"
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (4242, 4243, 0o600)
    mailbox.restore(ADDRESS)
    assert home.snapshot() == before


def test_whether_an_address_can_be_a_sink_is_reported_before_anything_is_written(mailbox, home):
    def sink(address=ADDRESS):
        return mailbox.check(address)["sink"]

    own = home.mailbox() / ".qmail"
    would_vanish = "It can be one if it is nobody's: its mail is stored now, and would vanish."
    assert sink() == f"{would_vanish} Its file is {own}."
    fresh = "new@mail.example.net"
    assert mailbox.check(fresh)["fate"] == "bounced"
    assert sink(fresh) == f"It can be one: nobody gets its mail now. The formula makes {home.path}/alias/.qmail-new."
    assert sink("new@elsewhere.example").startswith("It cannot be one: new@elsewhere.example leaves this server: ")
    assert sink("new").startswith("It cannot be one: it holds no @")
    assert sink("Postmaster@example.com") == "It should not be one: people write to postmaster."
    mailbox.write()
    assert sink() == f"It can be one: its mail vanishes already, by {own}."
    home.mailbox().chmod(0o1755)
    assert sink().startswith("It cannot be one yet: a message would be deferred: ")
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    assert sink(fresh).startswith("It cannot be one: new@mail.example.net ends at a catch-all, ")


def test_what_the_outlook_says_is_what_write_does(mailbox, home):
    for address in (ADDRESS, "new@mail.example.net", "new@elsewhere.example", "new@example.com"):
        told = mailbox.check(address)["sink"]
        try:
            mailbox.write(address, test=True)
        except (CommandExecutionError, SaltInvocationError) as err:
            assert told == f"It cannot be one: {err}"
        else:
            assert told.startswith("It can be one")


def test_a_mailbox_without_a_dot_qmail_file_gets_one_and_loses_it_again(mailbox, home):
    (home.mailbox() / ".qmail").unlink()
    before = home.snapshot()
    assert mailbox.write() == {"instruction": {"old": None, "new": ["|exit 0"]}}
    assert (home.mailbox() / ".qmail").stat().st_uid == home.uid
    assert mailbox.check()["fate"] == "swallowed"
    mailbox.restore(ADDRESS)
    assert home.snapshot() == before


def test_a_second_write_changes_nothing(mailbox, home):
    mailbox.write()
    before = home.snapshot(), (home.mailbox()).stat().st_ctime_ns
    assert mailbox.write() == {}
    assert (home.snapshot(), (home.mailbox()).stat().st_ctime_ns) == before


def test_test_mode_reports_the_same_and_writes_nothing(mailbox, home):
    before = home.snapshot()
    told = mailbox.write(test=True)
    assert home.snapshot() == before
    assert told == mailbox.write()
    told = mailbox.restore(ADDRESS, test=True)
    assert mailbox.check()["fate"] == "swallowed"
    assert told == mailbox.restore(ADDRESS)


def test_drift_is_put_right_and_what_it_was_is_kept(mailbox, home):
    mailbox.write()
    (home.mailbox() / ".qmail").write_text("| true\n| /usr/bin/deliverquota ./Maildir\n")
    changes = mailbox.write()
    assert changes["instruction"]["old"] == ["| true", "| /usr/bin/deliverquota ./Maildir"]
    (versions,) = mailbox.history(ADDRESS).values()
    assert [version["size"] for version in versions] == [41, 11]
    mailbox.restore(ADDRESS)
    assert "deliverquota" in (home.mailbox() / ".qmail").read_text()


def test_a_sink_is_undone_though_its_route_has_changed(mailbox, home):
    before = home.snapshot()
    mailbox.write()
    home.write_control("virtualdomains", "\n")
    mailbox.restore(ADDRESS)
    home.write_control("virtualdomains", "example.com:1\n")
    assert home.snapshot() == before


def test_every_sink_is_undone_where_none_is_named(mailbox, home):
    home.add_mailbox("other", "./Maildir/\n")
    before = home.snapshot()
    mailbox.write()
    mailbox.write("other@example.com")
    changed = mailbox.restore()
    assert len(changed) == 2
    assert home.snapshot() == before


def test_the_state_undoes_the_address_that_it_is_named_after(mailbox, home, states):
    home.add_mailbox("other", "./Maildir/\n")
    mailbox.write()
    mailbox.write("other@example.com")
    returned = states.qmail_mailbox.restored(name=ADDRESS)
    assert list(returned.changes) == [str(home.mailbox() / ".qmail")]
    assert mailbox.check("other@example.com")["fate"] == "swallowed"
    assert list(states.qmail_mailbox.restored(name="every sink").changes) == [str(home.mailbox("other") / ".qmail")]


def test_a_sink_whose_mailbox_is_not_there_is_reported_and_undone_when_it_is_there_again(mailbox, home, tmp_path):
    before = home.snapshot()
    mailbox.write()
    shutil.move(home.mailbox(), tmp_path / "elsewhere")  # as a mount that is missing
    (left,) = mailbox.restore(ADDRESS).values()
    assert "nor is its directory" in left["left"]
    shutil.move(tmp_path / "elsewhere", home.mailbox())
    mailbox.restore(ADDRESS)
    assert home.snapshot() == before


def test_a_sink_is_undone_by_its_address_in_any_case(mailbox, home):
    before = home.snapshot()
    mailbox.write("Dummy@Example.COM")
    mailbox.restore(ADDRESS)
    assert home.snapshot() == before


def test_what_undoing_has_left_to_others_once_it_leaves_forever(mailbox, home, states):
    file = home.mailbox() / ".qmail"
    mailbox.write()
    file.write_text("&joe@example.org\n")
    dry = states.qmail_mailbox.restored(name=ADDRESS, test=True)
    first = states.qmail_mailbox.restored(name=ADDRESS)
    assert first.comment == dry.comment == f"{file} has been changed by hand since, and is left as it is."
    assert (first.result, first.changes, dry.result, dry.changes) == (True, {}, True, {})
    file.write_text("|exit 0\n")  # the recipe of many a guide
    again = states.qmail_mailbox.restored(name=ADDRESS)
    assert again.comment == "No mailbox holds anything that this formula wrote."
    assert file.read_text() == "|exit 0\n"


@pytest.mark.parametrize(
    ("instruction", "fate"),
    [
        ("#", "swallowed"),
        (["# first", "|true"], "swallowed"),
        ("./Maildir/", "stored"),
        ("&joe@example.org", "forwarded"),
    ],
)
def test_other_instructions_do_what_they_say(mailbox, instruction, fate):
    mailbox.write(instruction=instruction)
    assert mailbox.check()["fate"] == fate
    assert mailbox.write(instruction=instruction) == {}


@pytest.mark.parametrize(
    "instruction", ["", " ", [], ["", "|exit 0"], " |exit 0", "|exit 0\n", "|exit 0\r", "a\0", None, 5, {"a": 1}, [1]]
)
def test_a_wrong_instruction_is_refused(home, mailbox, instruction):
    refused(home, mailbox, "instruction", instruction=instruction, error=SaltInvocationError)


def test_a_wrong_flag_is_refused_before_anything_is_written(home, mailbox):
    refused(home, mailbox, "test is True or False", test="yes", error=SaltInvocationError)
    mailbox.write()
    before = home.snapshot()
    with pytest.raises(SaltInvocationError, match="test is True or False"):
        mailbox.restore(test="yes")
    assert home.snapshot() == before


@pytest.mark.parametrize("call", ["make", "write"])
def test_all_that_is_wrong_with_the_arguments_is_told_at_once(modules, call):
    with pytest.raises(SaltInvocationError, match=r"home is .* control is .* test is "):
        modules[f"qmail_mailbox.{call}"](ADDRESS, home="home", control=5, test="maybe")


def test_an_instruction_that_forwards_to_itself_is_refused(home, mailbox):
    for forward in ("&dummy@example.com", "Dummy@EXAMPLE.com"):
        refused(home, mailbox, "to itself", instruction=forward, error=SaltInvocationError)


def test_a_build_that_forbids_group_writable_homes_is_asked_for(home, mailbox, modules):
    mailbox.write()
    home.mailbox().chmod(0o775)
    assert mailbox.check()["fate"] == "swallowed"
    strict = modules.qmail_mailbox.check(ADDRESS, home=str(home.path), forbidden="022")
    assert strict["fate"] == "deferred"
    assert "775" in strict["reason"] or "writable" in strict["reason"]


def test_an_earlier_version_is_put_back_though_the_sink_was_undone(mailbox, home):
    mailbox.write()
    (home.mailbox() / ".qmail").write_text("&second@example.org\n")
    mailbox.write()
    mailbox.restore(ADDRESS)
    (versions,) = mailbox.history(ADDRESS).values()
    assert [version["version"] for version in versions] == ["v2", "v1"]
    mailbox.restore(ADDRESS, version="v1")
    assert (home.mailbox() / ".qmail").read_text() == "./Maildir/\n"
    (versions,) = mailbox.history(ADDRESS).values()
    assert [version["version"] for version in versions] == ["v3", "v1"]  # what it replaced is the newest now


def test_an_instruction_that_cannot_work_is_refused(home, mailbox):
    refused(home, mailbox, "deferred", instruction="|./no-such-program")
    refused(home, mailbox, "deferred", instruction="./NoMaildir/")
    refused(home, mailbox, "bounced", instruction="|exit 100")


@pytest.mark.parametrize(
    "address",
    [
        "dummy",
        "a@b@example.com",
        "@example.com",
        "dummy@",
        "d\u00fcmmy@example.com",
        "d\nummy@example.com",
        "d\x07ummy@example.com",
        "../dummy@example.com",
        "dummy@../example.com",
        "dummy@example..com",
        "a b@example.com",
        "dummy%example.com@example.com",
        None,
        5,
    ],
)
def test_a_wrong_address_is_refused(home, mailbox, address):
    refused(home, mailbox, "is not an address for double bounces", address, SaltInvocationError)


def test_a_route_that_ends_remote_is_refused(home, mailbox):
    refused(home, mailbox, "leaves this server: elsewhere.example is neither", "dummy@elsewhere.example")


def test_a_route_that_ends_nowhere_is_refused(home, mailbox):
    home.add_assign(f"=1-gone:popuser:{home.uid}:{home.gid}:{home.path}/mailnames/gone:::")
    refused(home, mailbox, "ends nowhere: .*missing", "gone@example.com")


def test_a_route_that_ends_at_a_catch_all_is_refused_unless_asked_for(home, mailbox):
    home.add_assign(f"+1-:alias:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias").chmod(0o755)
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    refused(home, mailbox, "ends at a catch-all, .*qmail_doublebounce:mailbox", "typo@example.com")
    mailbox.write("typo@example.com", mailbox="dotqmail")
    assert mailbox.check("typo@example.com")["fate"] == "swallowed"
    assert (home.path / "alias/.qmail-default").read_text() == "./Maildir/\n"


def test_the_catch_all_itself_is_never_made_a_sink(home, mailbox):
    home.add_assign(f"+1-:alias:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    for name in ("default", "a-default"):
        refused(home, mailbox, "receives other addresses too", f"{name}@example.com")


def test_a_vpopmail_address_needs_no_account(home, mailbox):
    """There .qmail-default is the program that knows the mailboxes, and the address's own file is read before it."""
    home.add_assign(f"+1-:vpopmail:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias/.qmail-default").write_text("| /home/vpopmail/bin/vdelivermail '' bounce-no-mailbox\n")
    mailbox.write("sink@example.com")
    assert (home.path / "alias/.qmail-sink").read_text() == "|exit 0\n"
    assert (home.path / "alias/.qmail-sink").stat().st_uid == home.uid


def test_an_alias_that_nobody_has_made_yet_is_made(home, mailbox):
    home.add_assign(f"+alias-:alias:{home.uid}:{home.gid}:{home.path}/alias:-::")
    home.write_control("virtualdomains", "example.org:alias\n")
    mailbox.write("double.bounce@example.org")
    assert (home.path / "alias/.qmail-double:bounce").read_text() == "|exit 0\n"


def test_a_home_that_makes_qmail_local_defer_is_refused_before_anything_is_written(home, mailbox):
    home.mailbox().chmod(0o777)
    refused(home, mailbox, "writable")
    home.mailbox().chmod(0o1755)
    refused(home, mailbox, "sticky")


def test_a_dot_qmail_file_that_is_a_link_is_left(home, mailbox):
    (home.mailbox() / ".qmail").unlink()
    (home.mailbox() / ".qmail").symlink_to("Maildir/../.other")
    refused(home, mailbox, "symbolic link")


@pytest.mark.parametrize(
    ("instruction", "done"),
    [
        ("|exit 0", "swallowed"),
        ("#", "swallowed"),
        ("./Maildir/", "stored"),
        ("&joe@example.org", "forwarded"),
        ("|cat >/dev/null", "given to a program"),
    ],
)
def test_the_state_says_what_becomes_of_mail_and_which_file_does_it(states, home, instruction, done):
    path = home.mailbox() / ".qmail"
    path.write_text("# another\n./Maildir/\n")

    def said(**named):
        return states.qmail_mailbox.sink(name=ADDRESS, instruction=instruction, home=str(home.path), **named).comment

    assert said(test=True) == f"Mail for {ADDRESS} would be {done}, by {path}."
    assert said() == f"Mail for {ADDRESS} is now {done}, by {path}."
    assert said() == f"Mail for {ADDRESS} is {done} already, by {path}."


def test_the_state_fails_and_silences_its_watch(states, home):
    returned = states.qmail_mailbox.sink(name="dummy@elsewhere.example", home=str(home.path))
    assert returned.result is False
    assert returned.full_return["skip_watch"] is True


def test_a_sink_that_does_not_swallow_once_it_is_written_is_as_it_was(mailbox, home, monkeypatch):
    """Somebody closes the mailbox between the look and the write: qmail-local defers mail to a sticky home."""
    file, rename = home.mailbox() / ".qmail", os.rename
    before = file.read_bytes(), file.stat().st_mode, file.stat().st_uid

    def meanwhile(old, new, **named):
        rename(old, new, **named)
        if named.get("dst_dir_fd") is not None:
            home.mailbox().chmod(0o1755)

    monkeypatch.setattr(os, "rename", meanwhile)
    with pytest.raises(CommandExecutionError, match=rf"cannot be a sink: .*sticky.* {file} is as it was\.$"):
        mailbox.write()
    assert (file.read_bytes(), file.stat().st_mode, file.stat().st_uid) == before
    assert mailbox.restore(ADDRESS) == {}


def test_what_ends_otherwise_than_the_instruction_means_is_an_error_were_it_to_vanish(mailbox, home, monkeypatch):
    file, rename = home.mailbox() / ".qmail", os.rename

    def meanwhile(old, new, **named):
        rename(old, new, **named)
        if named.get("dst_dir_fd") is not None:
            file.write_text("|exit 0\n")

    monkeypatch.setattr(os, "rename", meanwhile)
    with pytest.raises(CommandExecutionError, match=r"cannot be a sink: .* Somebody else changed"):
        mailbox.write(instruction=["./Maildir/", "# all of it"])
    assert file.read_text() == "|exit 0\n"


def test_a_sink_that_is_there_and_does_not_swallow_is_an_error_all_the_same(mailbox, home):
    mailbox.write()
    home.mailbox().chmod(0o1755)
    refused(home, mailbox, "sticky")
    refused(home, mailbox, "sticky", test=True)


@pytest.mark.parametrize("mailbox", ["Auto", "dotqmial", None, ["auto"]])
@pytest.mark.parametrize("function", ["write", "make"])
def test_another_maker_of_mailboxes_is_refused(modules, home, function, mailbox):
    """It would have been taken for one that minds no catch-all."""
    before = home.snapshot()
    with pytest.raises(SaltInvocationError, match="mailbox is auto, dotqmail or plesk, not"):
        modules[f"qmail_mailbox.{function}"](home.ADDRESS, home=str(home.path), mailbox=mailbox)
    assert home.snapshot() == before


@pytest.mark.parametrize("function", ["sinks", "restore"])
@pytest.mark.parametrize("place", [5, ["/var/qmail"], "var/qmail"])
def test_a_home_that_is_none_is_refused(modules, home, function, place):
    modules.qmail_mailbox.write(home.ADDRESS, home=str(home.path))
    with pytest.raises(SaltInvocationError, match="home is an absolute path, not"):
        modules[f"qmail_mailbox.{function}"](home=place)
