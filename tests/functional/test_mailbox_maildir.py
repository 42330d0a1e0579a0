"""Purging a Maildir deletes the double bounces in it, and nothing else anywhere."""

import contextlib
import itertools
import logging
import os
import signal
import socket
import time
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

DOUBLE = b"Return-Path: <#@[]>\nDelivered-To: sink@example.com\n\nHi. This is the qmail-send program.\n"
MAIL = b"Return-Path: <you@example.com>\nDelivered-To: sink@example.com\n\nReturn-Path: <#@[]>\n"

root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs a directory of another user, and only root can make one"
)


@pytest.fixture
def maildir(tmp_path):
    return make(tmp_path / "Maildir")


def make(path):
    for name in ("new", "cur", "tmp"):
        (path / name).mkdir(parents=True)
    return path


def purge(modules, maildir, **options):
    ret = modules["qmail_mailbox.purge"](str(maildir), **options)
    assert ret.pop("seconds") >= 0
    assert ret.pop("maildirs") == [str(maildir)]
    return ret


def test_double_bounces_go_from_new_and_cur_and_nothing_else(modules, maildir):
    (maildir / ".Junk" / "new").mkdir(parents=True)
    for place in ("new", "cur", "tmp", ".Junk/new"):
        for number in range(10):
            (maildir / place / f"1.{number}.host").write_bytes(DOUBLE)
            (maildir / place / f"2.{number}.host:2,S").write_bytes(MAIL)
    assert purge(modules, maildir) == {"deleted": 20, "kept": 20, "bytes": 20 * len(DOUBLE)}
    assert [len(list((maildir / place).iterdir())) for place in ("new", "cur", "tmp", ".Junk/new")] == [10, 10, 20, 20]
    assert {path.read_bytes() for place in ("new", "cur") for path in (maildir / place).iterdir()} == {MAIL}


def test_a_second_run_finds_nothing(modules, maildir):
    (maildir / "new" / "1.1.host").write_bytes(DOUBLE)
    (maildir / "cur" / "1.2.host").write_bytes(MAIL)
    assert purge(modules, maildir)["deleted"] == 1
    assert purge(modules, maildir) == {"deleted": 0, "kept": 1, "bytes": 0}


def test_test_mode_counts_and_touches_nothing(modules, maildir):
    for number in range(5):
        (maildir / "new" / f"1.{number}.host").write_bytes(DOUBLE)
    paths = list((maildir / "new").iterdir())
    before = [(path.stat().st_atime_ns, path.stat().st_ctime_ns) for path in paths]
    assert purge(modules, maildir, test=True) == {"deleted": 5, "kept": 0, "bytes": 5 * len(DOUBLE)}
    assert before == [(path.stat().st_atime_ns, path.stat().st_ctime_ns) for path in paths]


def test_a_clock_that_goes_back_makes_no_negative_time(modules, maildir, monkeypatch):
    """Virtual machines have such clocks; less than nothing would be shown as -0.0."""
    ticks = itertools.count(100, -0.0001)
    clock = types.SimpleNamespace(monotonic=lambda: next(ticks), time=time.time)
    monkeypatch.setitem(modules.qmail_mailbox_maildir.purge.__globals__, "time", clock)
    assert str(modules.qmail_mailbox_maildir.purge(str(maildir))["seconds"]) == "0.0"


def test_only_old_ones_go(modules, maildir):
    for name, age in (("old", 1000), ("young", 10)):
        (maildir / "new" / name).write_bytes(DOUBLE)
        os.utime(maildir / "new" / name, (time.time() - age,) * 2)
    assert purge(modules, maildir, older_than=500)["deleted"] == 1
    assert [path.name for path in (maildir / "new").iterdir()] == ["young"]


def test_one_that_is_exactly_so_old_is_not_older(modules, maildir, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    for name, age in (("older", 501), ("as-old", 500), ("younger", 499)):
        (maildir / "new" / name).write_bytes(DOUBLE)
        os.utime(maildir / "new" / name, (1_800_000_000 - age,) * 2)
    assert purge(modules, maildir, older_than=500, test=True)["deleted"] == 1
    assert purge(modules, maildir, older_than=500) == {"deleted": 1, "kept": 2, "bytes": len(DOUBLE)}
    assert sorted(path.name for path in (maildir / "new").iterdir()) == ["as-old", "younger"]


@pytest.mark.parametrize(
    "contents",
    (
        b"",
        b"Return-Path: <#@[]>",
        b"Return-Path: <#@[]>\r\n",
        b"Return-Path: <>\n",
        b"return-path: <#@[]>\n",
        b"Return-Path:  <#@[]>\n",
        b"Return-Path: <#@[]>x\n",
        b"Return-Path: <x#@[]>\n",
        b"\nReturn-Path: <#@[]>\n",
        b"Received: x\nReturn-Path: <#@[]>\n",
        b"Subject: failure notice\n\nReturn-Path: <#@[]>\n",
    ),
)
def test_only_the_first_line_as_qmail_local_writes_it_counts(modules, maildir, contents):
    (maildir / "new" / "1.1.host").write_bytes(contents)
    assert purge(modules, maildir) == {"deleted": 0, "kept": 1, "bytes": 0}


def test_what_is_no_message_is_passed_over(modules, maildir, tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_bytes(DOUBLE)
    new = maildir / "new"
    os.mkfifo(new / "pipe")
    (new / "directory").mkdir()
    (new / "link").symlink_to(outside)
    (new / "dangling").symlink_to("nowhere")
    (new / ".nfs0001").write_bytes(DOUBLE)
    monkeypatch.chdir(new)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("socket")
    assert purge(modules, maildir) == {"deleted": 0, "kept": 0, "bytes": 0}
    assert len(list(new.iterdir())) == 6
    assert outside.exists()


def test_a_hard_link_loses_its_name_only(modules, maildir, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(DOUBLE)
    os.link(outside, maildir / "new" / "1.1.host")
    assert purge(modules, maildir)["deleted"] == 1
    assert outside.read_bytes() == DOUBLE


@pytest.mark.parametrize("name", ("new", "cur"))
def test_a_link_in_place_of_a_directory_is_refused(modules, maildir, tmp_path, name):
    other = make(tmp_path / "other")
    (other / name / "1.1.host").write_bytes(DOUBLE)
    (maildir / name).rmdir()
    (maildir / name).symlink_to(other / name)
    with pytest.raises(CommandExecutionError):
        modules["qmail_mailbox.purge"](str(maildir))
    assert (other / name / "1.1.host").exists()


@root_only
@pytest.mark.parametrize("target", ("../other", "{}/other"))
def test_a_link_that_a_user_can_put_there_is_not_followed(modules, tmp_path, target):
    other = make(tmp_path / "other")
    (other / "new" / "1.1.host").write_bytes(DOUBLE)
    user = tmp_path / "user"
    user.mkdir()
    os.chown(user, 12345, 12345)
    (user / "Maildir").symlink_to(target.format(tmp_path))
    with pytest.raises(CommandExecutionError, match="leads through the symbolic link"):
        modules["qmail_mailbox.purge"](str(user / "Maildir"))
    assert (other / "new" / "1.1.host").exists()


def test_a_link_that_only_root_can_put_there_is_followed(modules, maildir):
    # /proc is root's, and so is this link in it.
    (maildir / "new" / "1.1.host").write_bytes(DOUBLE)
    assert purge(modules, f"/proc/self/root{maildir}")["deleted"] == 1


def test_an_mbox_is_refused_with_the_reason(modules, tmp_path):
    (tmp_path / "Mailbox").write_bytes(b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n" + DOUBLE)
    with pytest.raises(CommandExecutionError, match="is an mbox: one file with all messages"):
        modules["qmail_mailbox.purge"](str(tmp_path / "Mailbox"))


def test_a_directory_that_is_no_maildir_is_an_error(modules, tmp_path):
    with pytest.raises(CommandExecutionError, match="is not a Maildir"):
        modules["qmail_mailbox.purge"](str(tmp_path))


@pytest.mark.parametrize("maildir", ("Maildir", "", None, 7, ["/var"], "/var\0"))
def test_what_is_neither_a_path_nor_an_address_is_an_error(modules, maildir):
    with pytest.raises(SaltInvocationError, match=r"is not an address|is an absolute path"):
        modules["qmail_mailbox.purge"](maildir)


def test_a_missing_maildir_is_an_error(modules, tmp_path):
    with pytest.raises(CommandExecutionError, match="nowhere"):
        modules["qmail_mailbox.purge"](str(tmp_path / "nowhere"))


def store(maildir, doubles, mails):
    for number in range(doubles + mails):
        (maildir / "new" / f"1.{number}.host").write_bytes(DOUBLE if number < doubles else MAIL)


def by_address(modules, home, address=None, **options):
    ret = modules["qmail_mailbox.purge"](address or home.ADDRESS, home=str(home.path), **options)
    return ret["deleted"], ret["kept"], ret["maildirs"]


def test_an_address_stands_for_the_maildir_that_its_mail_is_stored_in(modules, home):
    maildir = home.mailbox() / "Maildir"
    store(maildir, doubles=3, mails=2)
    assert by_address(modules, home, test=True) == (3, 2, [str(maildir)])
    assert by_address(modules, home) == (3, 2, [str(maildir)])
    assert by_address(modules, home) == (0, 2, [str(maildir)])


def test_a_sink_stands_for_the_maildirs_that_its_mail_was_stored_in_before(modules, home):
    (home.mailbox() / ".qmail").write_text("./old/\n")
    store(make(home.mailbox() / "old"), doubles=4, mails=1)
    store(home.mailbox() / "Maildir", doubles=2, mails=1)
    modules["qmail_mailbox.write"](home.ADDRESS, home=str(home.path))
    both = [str(home.mailbox() / name) for name in ("old", "Maildir")]
    assert by_address(modules, home) == (6, 2, both)


def test_an_alias_stands_for_the_maildir_that_it_names(modules, home):
    for directory in (home.path / "alias", make(home.path / "alias/list")):
        os.chown(directory, home.uid, home.gid)
    (home.path / "alias/.qmail-list").write_text("# bounces\n./list/\n&somebody@example.org\n")
    store(home.path / "alias/list", doubles=1, mails=1)
    assert by_address(modules, home, "list@localhost") == (1, 1, [str(home.path / "alias/list")])


@pytest.mark.parametrize("line", ("{}/Maildir/", "../other/Maildir/", "./../other/Maildir/"))
def test_an_owner_who_names_the_maildir_of_somebody_else_reaches_nothing_there(modules, home, line):
    other = home.add_mailbox("other", "./Maildir/\n")
    store(other / "Maildir", doubles=1, mails=0)
    (home.mailbox() / ".qmail").write_text(line.format(other) + "\n")
    assert by_address(modules, home) == (0, 0, [str(home.mailbox() / "Maildir")])
    assert len(list((other / "Maildir/new").iterdir())) == 1


@pytest.mark.parametrize(
    ("address", "why"),
    (
        ("joe@example.org", "has no Maildir here: example.org is neither"),
        ("list@localhost", "No Maildir of list@localhost is known below .*alias. Give the path"),
        ("box@localhost", "Its mail goes to .*alias/Mailbox. Give the path"),
    ),
)
def test_an_address_without_a_maildir_is_an_error(modules, home, address, why):
    (home.path / "alias/.qmail-box").write_text("./Mailbox\n")
    (home.path / "alias/Mailbox").write_bytes(b"")
    with pytest.raises(CommandExecutionError, match=why):
        by_address(modules, home, address)


def in_the_background(work):
    """Do something again and again in another process until the test is over."""
    child = os.fork()
    if not child:
        try:
            for number in itertools.count():
                if os.getppid() == 1:
                    break
                work(number)
        finally:
            os._exit(0)
    return child


def over(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.soak
def test_messages_that_come_and_go_meanwhile_are_no_error(modules, maildir):
    def work(number):
        for place, text in itertools.product(("new", "cur"), (DOUBLE, MAIL)):
            path = maildir / place / f"{number % 50}.{len(text)}.host"
            path.write_bytes(text)
            path.rename(maildir / "new" / "moved")
            (maildir / "new" / "moved").rename(maildir / "cur" / "moved:2,S")
            path.write_bytes(text)

    writer = in_the_background(lambda number: swallow(work, number))
    try:
        for _ in range(60):
            purge(modules, maildir)
    finally:
        over(writer)
    purge(modules, maildir)
    assert DOUBLE not in {path.read_bytes() for place in ("new", "cur") for path in (maildir / place).iterdir()}


def swallow(work, number):
    """Do something that another process may be undoing."""
    with contextlib.suppress(FileNotFoundError):
        work(number)


@pytest.mark.soak
def test_an_owner_who_swaps_names_for_links_reaches_nothing_outside(modules, maildir, tmp_path):
    outside = make(tmp_path / "outside")
    for number in range(20):
        (outside / "new" / f"{number}.host").write_bytes(DOUBLE)
    (tmp_path / "bait").write_bytes(DOUBLE)

    def work(number):
        path = maildir / "new" / f"{number % 20}.host"
        path.unlink(missing_ok=True)
        os.link(tmp_path / "bait", path)
        path.unlink(missing_ok=True)
        path.symlink_to(outside / "new" / path.name)
        (maildir / "cur").rename(maildir / "gone")
        (maildir / "cur").symlink_to(outside / "new")
        (maildir / "cur").unlink()
        (maildir / "gone").rename(maildir / "cur")

    owner = in_the_background(work)
    refused = 0
    try:
        for _ in range(150):
            try:
                purge(modules, maildir)
            except CommandExecutionError:
                refused += 1
    finally:
        over(owner)
    assert len(list((outside / "new").iterdir())) == 20
    assert (tmp_path / "bait").exists()
    assert refused < 150


def test_killed_on_the_way_it_can_be_run_again(modules, maildir):
    for number in range(3000):
        (maildir / "new" / f"1.{number}.host").write_bytes(MAIL if number % 100 == 0 else DOUBLE)
    child = os.fork()
    if not child:
        real, calls = os.unlink, iter(range(500))
        os.unlink = lambda *args, **keys: real(*args, **keys) if next(calls, None) is not None else os._exit(9)
        modules["qmail_mailbox.purge"](str(maildir))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = len(list((maildir / "new").iterdir()))
    assert 30 < left < 3000
    ret = purge(modules, maildir)
    assert ret["kept"] == 30
    assert ret["deleted"] >= 1
    assert len(list((maildir / "new").iterdir())) == 30


TOKEN = "doublebounce-probe-0123456789abcdef"


def test_one_message_is_taken_out_by_its_token_wherever_it_lies(modules, maildir):
    for place in ("new", "cur"):
        (maildir / place / "1.1.host:2,S").write_bytes(DOUBLE + TOKEN.encode())
        (maildir / place / "1.2.host").write_bytes(DOUBLE)
        (maildir / place / "directory").mkdir()
        os.mkfifo(maildir / place / "fifo")
        (maildir / place / "closed").write_bytes(TOKEN[:-1].encode())
    assert modules.qmail_mailbox_maildir.take_out(TOKEN, str(maildir)) == 2
    left = sorted(path.name for path in maildir.glob("[nc]*/*"))
    assert left == sorted(["1.2.host", "directory", "fifo", "closed"] * 2)
    assert modules.qmail_mailbox_maildir.take_out(TOKEN, str(maildir)) == 0


def test_a_token_is_looked_for_in_the_first_64_kib(modules, maildir):
    for name, place in (("far", (1 << 16) - len(TOKEN)), ("too-far", (1 << 16) - len(TOKEN) + 1)):
        (maildir / "new" / name).write_bytes(b"x" * place + TOKEN.encode())
    before = len(os.listdir("/proc/self/fd"))
    assert modules.qmail_mailbox_maildir.take_out(TOKEN, str(maildir)) == 1
    assert [path.name for path in (maildir / "new").iterdir()] == ["too-far"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_room_deletes_unless_it_is_told_not_to_and_refuses_what_is_not_a_path(modules, maildir):
    (maildir / "new" / "1.1.host").write_bytes(DOUBLE)
    before = len(os.listdir("/proc/self/fd"))
    assert modules.qmail_mailbox_maildir.purge(str(maildir))["deleted"] == 1
    assert len(os.listdir("/proc/self/fd")) == before
    for wrong in ("Maildir", "./Maildir", 7, None, f"{maildir}\0"):
        for call in (
            modules.qmail_mailbox_maildir.purge,
            lambda path: modules.qmail_mailbox_maildir.take_out(TOKEN, path),
        ):
            with pytest.raises(SaltInvocationError, match="A Maildir is an absolute path"):
                call(wrong)


def test_what_the_disk_refuses_is_reported_by_its_words(modules, maildir, monkeypatch):
    (maildir / "new" / "1.1.host").write_bytes(DOUBLE)

    def refused(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "unlink", refused)
    with pytest.raises(CommandExecutionError, match=f"^Cannot clear {maildir}: Read-only file system\\.$"):
        modules.qmail_mailbox_maildir.purge(str(maildir))


def test_the_progress_of_a_purge_is_reported(modules, maildir, monkeypatch, caplog):
    store(maildir, doubles=4, mails=0)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setitem(modules["qmail_base_bulk.progress"].func.__globals__, "SECONDS", 0)
    with caplog.at_level(logging.INFO):
        purge(modules, maildir)
    assert any("qmail_mailbox.purge: " in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("at", range(4))
def test_what_a_killed_half_had_purged_is_counted(modules, maildir, monkeypatch, at):
    store(maildir, doubles=20, mails=4)
    here, real, calls = os.getpid(), os.unlink, iter(range(at))

    def counted(*args, **kwargs):
        if os.getpid() != here and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "unlink", counted)
    assert purge(modules, maildir) == {"deleted": 20, "kept": 4, "bytes": 20 * len(DOUBLE)}


@pytest.mark.parametrize("way", ["purge", "take_out"])
@pytest.mark.parametrize("other", [MAIL, None])
def test_what_came_in_the_place_of_a_message_that_was_looked_at_stays(modules, maildir, monkeypatch, way, other):
    file = maildir / "new" / "1.1.host"
    file.write_bytes(DOUBLE + TOKEN.encode())
    fstat = os.fstat

    def swapped(fd):
        found = fstat(fd)
        if os.path.realpath(f"/proc/self/fd/{fd}") == str(file):
            if other is None:
                file.unlink()
            else:
                (maildir / "tmp" / "other").write_bytes(other)
                (maildir / "tmp" / "other").rename(file)
        return found

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(os, "fstat", swapped)
    if way == "purge":
        done = purge(modules, maildir)
        assert (done["deleted"], done["bytes"]) == (0, 0)  # whether the other one is kept or unseen, its inode says
    else:
        assert modules.qmail_mailbox_maildir.take_out(TOKEN, str(maildir)) == 0
    assert [path.read_bytes() for path in maildir.rglob("*.host")] == ([] if other is None else [other])


@root_only
@pytest.mark.parametrize("name", ["Maildir", "new", "cur"])
def test_both_ways_into_a_maildir_refuse_the_same_link(modules, tmp_path, name):
    other = make(tmp_path / "other")
    (other / "new" / "1.1.host").write_bytes(DOUBLE + TOKEN.encode())
    user = tmp_path / "user"
    user.mkdir()
    if name != "Maildir":
        make(user / "Maildir")
        (user / "Maildir" / name).rmdir()
    link = user / "Maildir" / ("" if name == "Maildir" else name)
    link.symlink_to(other if name == "Maildir" else other / name)
    for path in (user, *user.glob("Maildir")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    for call in (modules.qmail_mailbox_maildir.purge, lambda path: modules.qmail_mailbox_maildir.take_out(TOKEN, path)):
        with pytest.raises(CommandExecutionError):
            call(str(user / "Maildir"))
    assert (other / "new" / "1.1.host").exists()


def test_the_places_of_a_route_are_named(modules, home):
    (home.mailbox() / ".qmail").write_text("./other/\n&joe@example.org\n|cat\n/var/mail/../mail/box\n")
    route = modules.qmail_route.resolve(home.ADDRESS, str(home.path))
    places = [f"{home.mailbox()}/other/", "/var/mail/box", f"{home.mailbox()}/Maildir/"]
    assert modules.qmail_mailbox_maildir.named(route) == places
    (home.mailbox() / ".qmail").unlink()
    (home.mailbox() / ".qmail").symlink_to("/etc/passwd")
    assert modules.qmail_mailbox_maildir.named(route) == places[-1:]
    assert (
        modules.qmail_mailbox_maildir.named(modules.qmail_route.resolve("joe@elsewhere.example", str(home.path))) == []
    )


def test_the_maildir_of_a_user_of_vpopmail_is_named(modules, home, tmp_path):
    domain = tmp_path / "vpopmail"
    for user in ("joe", "joe.example", "a/b/jane", "0/max"):
        (domain / user / "Maildir/new").mkdir(parents=True)
    home.add_assign(f"+1-:vpopmail:{home.uid}:{home.gid}:{domain}:-::")
    default = domain / ".qmail-default"

    def named(local, program="/home/vpopmail/bin/vdelivermail '' delete"):
        default.write_text(f"| {program}\n")
        route = modules.qmail_route.resolve(f"{local}@{home.DOMAIN}", str(home.path))
        assert route["dotqmail"] == str(default)
        return [place[len(f"{domain}/") :] for place in modules.qmail_mailbox_maildir.named(route)]

    assert named("joe") == named("JOE") == ["Maildir/", "joe/Maildir/"]
    assert named("jane") == ["Maildir/", "a/b/jane/Maildir/"]
    assert named("max") == ["Maildir/", "0/max/Maildir/"]
    assert named("joe.example") == ["Maildir/", "joe.example/Maildir/"]
    for strange in ("nobody", "j*e", "..", "0/max", "joe/Maildir/.."):
        assert named(strange) == ["Maildir/"]
    assert named("joe", "/usr/bin/another") == ["Maildir/"]


first = st.sampled_from([DOUBLE, MAIL, b"Return-Path: <#@[]>", b"Return-Path: <#@[]>\n", b"", b"\n", b"\0"])
text = st.one_of(first, st.builds(bytes.__add__, first, st.binary(max_size=20)), st.binary(max_size=40))


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["new", "cur", "tmp"]), text), max_size=12))
def test_whatever_the_maildir_holds_only_double_bounces_go(tmp_path_factory, modules, messages):
    maildir = make(tmp_path_factory.mktemp("any") / "Maildir")
    for number, (place, contents) in enumerate(messages):
        (maildir / place / f"{number}.host").write_bytes(contents)
    doomed = {
        f"{number}.host"
        for number, (place, contents) in enumerate(messages)
        if place != "tmp" and contents.startswith(b"Return-Path: <#@[]>\n")
    }
    before = {path.name for path in maildir.rglob("*.host")}
    assert purge(modules, maildir)["deleted"] == len(doomed)
    assert before - {path.name for path in maildir.rglob("*.host")} == doomed
