"""One small file is replaced whole, kept as it was, and put back; nothing is followed that others could have laid."""

import contextlib
import errno
import os
import pathlib
import stat
import subprocess
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")


@pytest.fixture
def file(modules):
    return modules.qmail_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "doublebounceto"


def about(path):
    found = path.lstat()
    return path.read_bytes(), found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def untouched(path):
    """Return what changes if a file is written to, or another one takes its place; reading it changes none of that."""
    found = path.lstat()
    return about(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def test_read_returns_contents_and_owner_and_nothing_for_a_missing_file(file, path):
    assert file.read(str(path)) is None
    path.write_bytes(b"dummy\n")
    path.chmod(0o640)
    found = file.read(str(path))
    assert found == {"contents": b"dummy\n", "uid": os.geteuid(), "gid": path.stat().st_gid, "mode": "0640"}


def test_a_new_file_has_the_contents_and_the_mode_whatever_the_umask(file, path):
    before = os.umask(0o077)
    try:
        changes = file.replace(str(path), "dummy\n")
    finally:
        os.umask(before)
    assert changes == {"contents": {"old": None, "new": b"dummy\n"}}
    assert about(path)[0] == b"dummy\n"
    assert about(path)[3] == 0o644


def test_a_second_replace_writes_nothing_at_all(file, path, tmp_path):
    file.replace(str(path), "dummy\n")
    before = path.stat(), tmp_path.stat()
    assert file.replace(str(path), "dummy\n", test=True) == file.replace(str(path), "dummy\n") == {}
    after = path.stat(), tmp_path.stat()
    assert [found.st_ctime_ns for found in before] == [found.st_ctime_ns for found in after]
    assert before[0].st_ino == after[0].st_ino


def test_test_mode_reports_the_change_and_writes_nothing(file, path, tmp_path):
    path.write_text("postmaster\n")
    before = os.listdir(tmp_path), untouched(path)
    assert file.replace(str(path), "dummy\n", test=True)["contents"]["new"] == b"dummy\n"
    assert (os.listdir(tmp_path), untouched(path)) == before
    assert file.kept(str(path)) == []


def test_a_wrong_mode_alone_is_put_right_and_put_back(file, path):
    path.write_text("dummy\n")
    path.chmod(0o600)
    assert file.replace(str(path), "dummy\n") == {"mode": {"old": "0600", "new": "0644"}}
    assert file.restore(str(path)) == {"mode": {"old": "0644", "new": "0600"}}
    assert about(path)[3] == 0o600


@root_only
def test_owner_and_mode_come_back_with_the_contents(file, path):
    path.write_bytes(b"pat\xe9\0\n")
    os.chown(path, 4242, 4243)
    path.chmod(0o440)
    before = about(path)
    file.replace(str(path), "dummy\n", uid=0, gid=0)
    assert about(path) == (b"dummy\n", 0, 0, 0o644)
    file.restore(str(path))
    assert about(path) == before


def test_a_file_that_was_not_there_is_removed_again(file, path, tmp_path):
    file.replace(str(path), "dummy\n")
    assert file.restore(str(path)) == {"contents": {"old": b"dummy\n", "new": None}}
    assert os.listdir(tmp_path) == []
    assert file.restore(str(path)) == {}


def test_only_what_was_written_here_is_undone(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "dummy\n")
    path.write_text("somebody\n")
    told = {"left": f"{path} has been changed by hand since, and is left as it is."}
    assert file.restore(str(path), test=True) == file.restore(str(path)) == told
    assert path.read_text() == "somebody\n"
    path.write_text("dummy\n")
    assert file.restore(str(path)) == {}
    assert path.read_text() == "dummy\n"


def test_a_removal_by_hand_is_left_and_reported(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "dummy\n")
    path.unlink()
    assert "removed by hand" in file.restore(str(path))["left"]
    assert not path.exists()


def test_what_somebody_has_put_back_by_hand_is_no_news(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "dummy\n")
    path.write_text("postmaster\n")
    path.chmod(0o644)
    assert file.restore(str(path)) == {}
    path.write_text("dummy\n")
    assert file.restore(str(path)) == {}


def test_what_was_written_before_the_last_time_is_not_ours_any_more(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "one\n")
    file.replace(str(path), "two\n")
    path.write_text("one\n")
    assert "by hand" in file.restore(str(path))["left"]
    assert path.read_text() == "one\n"


def test_a_version_that_is_there_already_is_not_put_back_again(file, path):
    for text in ("one\n", "two\n"):
        path.write_text(text)
        file.replace(str(path), "dummy\n")
    file.restore(str(path), version="v1")
    before = untouched(path), file.kept(str(path))
    assert file.restore(str(path), version="v1") == {}
    assert (untouched(path), file.kept(str(path))) == before


def test_a_file_that_may_not_stay_is_exactly_as_it_was_and_still_ours(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "one\n")
    with pytest.raises(CommandExecutionError, match=f"It defers. {path} is as it was."):
        file.replace(str(path), "two\n", refused=lambda: "It defers.")
    assert path.read_text() == "one\n"
    file.restore(str(path))
    assert path.read_text() == "postmaster\n"


def test_what_is_there_already_and_may_not_stay_is_reported_and_in_test_mode_nothing_is_made(file, path, minion_opts):
    path.write_text("dummy\n")
    for test in (True, False):
        with pytest.raises(CommandExecutionError, match=r"^It defers\.$"):
            file.replace(str(path), "dummy\n", refused=lambda: "It defers.", test=test)
        assert os.path.exists(minion_opts["qmail_file.kept_directory"]) is not test
    assert path.read_text() == "dummy\n"


def test_a_new_file_that_may_not_stay_is_gone_again_and_nothing_is_to_undo(file, path, tmp_path):
    with pytest.raises(CommandExecutionError, match="is as it was"):
        file.replace(str(path), "one\n", refused=lambda: "It defers.")
    assert os.listdir(tmp_path) == []
    path.write_text("one\n")
    assert file.restore(str(path)) == {}


def test_an_edit_while_the_new_file_is_written_is_kept(file, path, monkeypatch):
    path.write_text("postmaster\n")
    fchmod = os.fchmod

    def meanwhile(*words):
        monkeypatch.setattr(os, "fchmod", fchmod)
        fchmod(*words)
        (path.parent / "saved").write_text("somebody\n")  # as an editor saves
        os.rename(path.parent / "saved", path)

    monkeypatch.setattr(os, "fchmod", meanwhile)
    assert file.replace(str(path), "dummy\n")["contents"] == {"old": b"somebody\n", "new": b"dummy\n"}
    file.restore(str(path))
    assert path.read_text() == "somebody\n"


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_an_edit_at_the_instant_of_the_change_is_kept(file, path, monkeypatch, call):
    if call == "rename":
        path.write_text("postmaster\n")
    else:
        file.replace(str(path), "dummy\n")
    original = getattr(os, call)

    def meanwhile(name, *words, **named):
        if named.get("dir_fd") is not None or named.get("dst_dir_fd") is not None:
            monkeypatch.setattr(os, call, original)
            with path.open("a") as late:
                late.write("somebody\n")
        original(name, *words, **named)

    monkeypatch.setattr(os, call, meanwhile)
    file.replace(str(path), "dummy\n") if call == "rename" else file.restore(str(path))
    newest = file.kept(str(path))[0]["version"]
    file.restore(str(path), version=newest)
    assert path.read_text().endswith("somebody\n")


def test_a_file_that_never_holds_still_is_given_up(file, path, monkeypatch):
    path.write_text("0")
    fchmod = os.fchmod

    def meanwhile(*words):
        fchmod(*words)
        path.write_text(path.read_text() + "0")

    monkeypatch.setattr(os, "fchmod", meanwhile)
    with pytest.raises(CommandExecutionError, match="Somebody else is changing"):
        file.replace(str(path), "dummy\n")
    assert set(path.read_text()) == {"0"}
    with pytest.raises(CommandExecutionError, match="Somebody else is changing"):
        file.restore(str(path), version=file.kept(str(path))[-1]["version"])
    assert set(path.read_text()) == {"0"}


def test_a_run_that_holds_the_file_too_long_is_reported(file, modules, path, monkeypatch):
    file.replace(str(path), "dummy\n")
    holder = modules.qmail_file_kept.lock(str(path))
    try:
        now = time.monotonic()
        monkeypatch.setattr(time, "sleep", lambda _: monkeypatch.setattr(time, "monotonic", lambda: now + 1000))
        with pytest.raises(CommandExecutionError, match="Another run"):
            file.replace(str(path), "two\n")
    finally:
        os.close(holder)
    assert path.read_text() == "dummy\n"


def test_after_a_restore_the_same_words_by_another_hand_are_not_ours(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "dummy\n")
    file.restore(str(path))
    path.write_text("dummy\n")
    assert file.restore(str(path)) == {}


def test_each_distinct_version_of_others_is_kept_once_and_ours_never(file, path):
    for text in ("one\n", "two\n", "one\n"):
        path.write_text(text)
        file.replace(str(path), "dummy\n")
    file.replace(str(path), "dummy2\n")
    assert [(kept["version"], kept["size"], kept["exists"]) for kept in file.kept(str(path))] == [
        ("v3", 4, True),
        ("v2", 4, True),
    ]
    file.restore(str(path))
    assert path.read_text() == "one\n"


def test_any_kept_version_can_be_asked_for(file, path):
    for text in ("one\n", "two\n"):
        path.write_text(text)
        file.replace(str(path), "dummy\n")
    file.restore(str(path), version="v1")
    assert path.read_text() == "one\n"
    with pytest.raises(SaltInvocationError, match="v2, v1"):
        file.restore(str(path), version="v7")


def test_what_is_kept_can_be_read_by_root_alone(file, modules, path, minion_opts):
    path.write_text("secret\n")
    file.replace(str(path), "dummy\n")
    kept = pathlib.Path(minion_opts["qmail_file.kept_directory"])
    for directory in (kept, pathlib.Path(modules.qmail_file_kept.directory(str(path)))):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = [found for found in kept.rglob("*") if found.is_file()]
    assert files
    assert all(stat.S_IMODE(found.stat().st_mode) == 0o600 for found in files)


def test_a_store_that_others_can_reach_is_refused(file, path, minion_opts):
    file.replace(str(path), "one\n")
    kept = pathlib.Path(minion_opts["qmail_file.kept_directory"])
    kept.chmod(0o755)
    try:
        with pytest.raises(CommandExecutionError, match="chmod 700"):
            file.replace(str(path), "two\n")
    finally:
        kept.chmod(0o700)
    assert path.read_text() == "one\n"


def test_a_path_that_is_no_file_is_refused_and_left(file, path, tmp_path):
    makers = {
        "a directory": path.mkdir,
        "a symbolic link": lambda: path.symlink_to(tmp_path / "elsewhere"),
        "a FIFO": lambda: os.mkfifo(path),
    }
    for kind, make in makers.items():
        make()
        with pytest.raises(CommandExecutionError, match=kind):
            file.replace(str(path), "dummy\n")
        assert not (tmp_path / "elsewhere").exists()
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_missing_directory_and_one_that_cannot_be_written_to_are_named(file, tmp_path):
    with pytest.raises(CommandExecutionError, match="directory is missing"):
        file.replace(str(tmp_path / "none/doublebounceto"), "dummy\n")
    with pytest.raises(CommandExecutionError, match="Cannot write /proc/doublebounceto"):
        file.replace("/proc/doublebounceto", "dummy\n")


def test_a_file_larger_than_any_of_qmails_is_refused(file, path):
    path.write_bytes(b"x" * (1 << 20) + b"y")
    with pytest.raises(CommandExecutionError, match="larger"):
        file.replace(str(path), "dummy\n")


def test_a_path_that_climbs_or_is_relative_is_refused(file):
    for path in ("doublebounceto", "/var/qmail/../etc/passwd", "/var//qmail/x", "/a\0b", None):
        with pytest.raises(SaltInvocationError):
            file.replace(path, "dummy\n")


def test_a_link_in_a_directory_of_our_own_is_followed(file, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "control").symlink_to("real")
    (tmp_path / "again").symlink_to(tmp_path / "control")
    file.replace(str(tmp_path / "again/doublebounceto"), "dummy\n")
    assert (tmp_path / "real/doublebounceto").read_text() == "dummy\n"


def test_a_loop_of_links_ends(file, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CommandExecutionError, match="symbolic links"):
        file.read(str(tmp_path / "a/doublebounceto"))


def test_a_link_in_a_directory_that_others_can_write_to_is_not_followed(file, tmp_path):
    (tmp_path / "real").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "mailbox").symlink_to(tmp_path / "real")
    home.chmod(0o777)
    with pytest.raises(CommandExecutionError, match="symbolic link mailbox"):
        file.replace(str(home / "mailbox/.qmail"), "|exit 0\n")
    if os.geteuid() == 0:
        home.chmod(0o755)
        os.chown(home, 4242, 4243)
        with pytest.raises(CommandExecutionError, match="symbolic link mailbox"):
            file.replace(str(home / "mailbox/.qmail"), "|exit 0\n")
    assert os.listdir(tmp_path / "real") == []


@root_only
def test_a_read_only_file_system_is_reported(file, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", tmp_path], check=True)
    try:
        with pytest.raises(CommandExecutionError, match="Read-only file system"):
            file.replace(str(tmp_path / "doublebounceto"), "dummy\n")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture
def small(tmp_path):
    """A file system of a few pages, and a function that fills it."""
    where = tmp_path / "small"
    where.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", where], check=True)

    def fill():
        with open(where / "big", "ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    yield where, fill
    subprocess.run(["umount", where], check=True)


@root_only
def test_a_full_store_is_told_leaves_nothing_behind_and_works_when_there_is_room(small, path, loaded_with):
    where, fill = small
    file = loaded_with(**{"qmail_file.kept_directory": str(where)}).qmail_file
    path.write_text("postmaster\n")
    fill()
    for _ in range(3):
        with pytest.raises(CommandExecutionError, match=r"No space left on device\. Make room there\.$"):
            file.replace(str(path), "dummy\n")
    assert [found for found in where.rglob("*") if found.is_file()] == [where / "big"]
    assert path.read_text() == "postmaster\n"
    (where / "big").unlink()
    file.replace(str(path), "dummy\n")
    fill()
    with pytest.raises(CommandExecutionError, match="is as it was before, but that cannot be recorded"):
        file.restore(str(path))
    assert path.read_text() == "postmaster\n"
    (where / "big").unlink()
    assert file.restore(str(path)) == {}


@root_only
def test_a_file_that_cannot_be_put_back_is_not_called_as_it_was(small, file):
    where, fill = small
    path = where / "doublebounceto"
    path.write_text("postmaster\n")

    def refused():
        fill()
        return "It defers."

    with pytest.raises(CommandExecutionError) as caught:
        file.replace(str(path), "dummy\n", refused=refused)
    assert str(caught.value).startswith(f"It defers. Putting {path} back failed: No space left on device. Make room")
    assert "as it was" not in str(caught.value)
    assert path.read_text() == "dummy\n"
    (where / "big").unlink()
    file.restore(str(path))
    assert path.read_text() == "postmaster\n"


def test_the_remedy_fits_what_the_system_said(modules, monkeypatch):
    def told(number):
        return modules.qmail_base_refusal.told(OSError(number, os.strerror(number)))

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert told(errno.EACCES) == "Permission denied. Run Salt as root."
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "Run Salt as root" not in told(errno.EPERM)
    assert told(errno.EDQUOT) == "Disk quota exceeded. Make room there, or raise the quota."
    assert told(errno.EIO) == "Input/output error."


def test_the_store_may_be_written_with_slashes_at_its_ends(path, tmp_path, loaded_with):
    path.write_text("postmaster\n")
    modules = loaded_with(**{"qmail_file.kept_directory": f"/{tmp_path}/store//"})
    modules.qmail_file.replace(str(path), "dummy\n")
    assert [entry["path"] for entry in modules.qmail_file_ledger.files()] == [str(path)]
    modules.qmail_file.restore(str(path))
    assert path.read_text() == "postmaster\n"


@pytest.mark.parametrize("setting", ["kept", "", "/", "//..", 5, ["/a"], "/a\0"])
def test_a_store_that_is_no_place_is_refused_by_the_name_of_the_setting(path, loaded_with, setting):
    path.write_text("postmaster\n")
    modules = loaded_with(**{"qmail_file.kept_directory": setting})
    with pytest.raises(SaltInvocationError, match=r"qmail_file\.kept_directory"):
        modules.qmail_file.replace(str(path), "dummy\n")
    assert path.read_text() == "postmaster\n"


@root_only
def test_a_file_that_cannot_be_completed_leaves_no_trace(file, path, tmp_path, monkeypatch):
    path.write_text("postmaster\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(CommandExecutionError, match="No space left on device"):
        file.replace(str(path), "dummy\n")
    assert os.listdir(tmp_path) == ["doublebounceto"]
    assert path.read_text() == "postmaster\n"


def test_a_reader_never_sees_half_a_file(file, path):
    versions = [f"{letter * 5000}\n" for letter in "ab"]
    path.write_text(versions[0])
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(50):
            file.replace(str(path), versions[number % 2])
    finally:
        stop.set()
        reader.join()
    assert seen <= set(versions)
    assert seen


def test_what_a_file_was_written_for_is_remembered_until_it_is_said_again(file, modules, path, tmp_path):
    def told():
        (found,) = modules.qmail_file_ledger.files()
        return found["note"], found["home"], found["written"]

    file.replace(str(path), "one\n")
    assert told() == (None, None, True)
    file.replace(str(path), "two\n", note="a@example.com", home="/one")
    assert told() == ("a@example.com", "/one", True)
    file.replace(str(path), "three\n")
    assert told() == ("a@example.com", "/one", True)
    file.replace(str(path), "four\n", note="b@example.com", home="/two")
    assert told() == ("b@example.com", "/two", True)
    file.restore(str(path))
    assert told() == ("b@example.com", "/two", False)


def test_between_the_claim_and_the_write_both_count_as_ours_and_what_is_theirs_never(file, modules, path):
    """Whatever moment a run is killed at, the next one takes neither for the other."""
    ledger = modules.qmail_file_ledger

    def ours():
        return [text for text in ("one\n", "two\n", "three\n", "somebody\n") if ledger.ours(str(path), text.encode())]

    file.replace(str(path), "one\n")
    ledger.claim(str(path), file.read(str(path)), "two\n")
    assert ours() == ["one\n", "two\n"]
    path.write_text("somebody\n")
    ledger.claim(str(path), file.read(str(path)), "three\n")
    assert ours() == ["three\n"]
    ledger.claim(str(path), None, "one\n")
    assert ours() == ["one\n"]
    ledger.settle(str(path), None)
    assert ours() == []


def test_changed_tells_when_and_remembers_a_removal(file, path):
    assert file.changed(str(path)) is None
    file.replace(str(path), "dummy\n")
    os.utime(path, (1, 1))  # as cp -p and mv leave it
    assert file.changed(str(path)) == path.stat().st_ctime
    put = file.changed(str(path))
    file.restore(str(path))
    assert file.changed(str(path)) >= put - 0.01


def test_below_a_file_nothing_has_changed(file, path):
    path.touch()
    assert file.changed(str(path / "doublebounceto")) is None


def test_a_mode_is_octal_text_or_the_number_or_that_of_the_file(file, path):
    least = "0" if os.geteuid() == 0 else "0400"  # a file without any is read by root alone
    same = ((least, int(least, 8)), (None, int(least, 8)))
    for mode, meant in (("0600", 0o600), ("644", 0o644), ("7777", 0o7777), (0o700, 0o700), *same):
        file.replace(str(path), "dummy\n", mode=mode)
        assert about(path)[3] == meant
    path.unlink()
    file.replace(str(path), "dummy\n", mode=None)
    assert about(path)[3] == 0o644
    before = about(path)
    for wrong in ("0888", "rw", "", "10000", 0o10000, -1, True, 4.0):
        with pytest.raises(SaltInvocationError, match="is not an octal number such as 0644"):
            file.replace(str(path), "other\n", mode=wrong)
    for wrong in (None, 5, ["dummy"]):
        with pytest.raises(SaltInvocationError, match="is neither text nor bytes"):
            file.replace(str(path), wrong)
    assert about(path) == before


def test_after_a_version_was_found_in_its_place_what_was_ours_is_not_any_more(file, path):
    path.write_text("postmaster\n")
    file.replace(str(path), "dummy\n")
    path.write_text("postmaster\n")
    assert file.restore(str(path), version="v1") == {}
    path.write_text("dummy\n")
    assert file.restore(str(path)) == {}
    assert path.read_text() == "dummy\n"


@settings(max_examples=60)
@given(contents=st.binary(max_size=100), mode=st.sampled_from([0o644, 0o600, 0o400, 0o4755]))
def test_whatever_was_there_comes_back_to_the_byte(file, path, contents, mode):
    path.unlink(missing_ok=True)
    path.write_bytes(contents)
    path.chmod(mode)
    before = about(path)
    file.replace(str(path), "dummy\n")
    file.restore(str(path))
    assert about(path) == before


def test_of_many_versions_the_first_and_the_newest_stay(modules, tmp_path):
    """An owner who changes a file before every run does not fill the disk."""
    path = tmp_path / "file"
    for number in range(60):
        path.write_text(f"theirs {number}\n")
        modules.qmail_file.replace(str(path), "ours\n")
    kept = modules.qmail_file.kept(str(path))
    assert [one["version"] for one in kept] == [*(f"v{number}" for number in range(60, 11, -1)), "v1"]
    assert modules.qmail_file.version(str(path), "v1")["contents"] == b"theirs 0\n"
    modules.qmail_file.restore(str(path))
    assert path.read_text() == "theirs 59\n"


@pytest.mark.parametrize("who", [{"uid": "root"}, {"gid": "root"}, {"uid": -1}, {"gid": 1.5}])
def test_an_owner_who_is_no_number_is_refused_before_anything_is_recorded(modules, tmp_path, who):
    (name,) = who
    with pytest.raises(SaltInvocationError, match=f"{name} is a whole number, or None, not"):
        modules.qmail_file.replace(str(tmp_path / "file"), "ours\n", **who)
    assert modules.qmail_file.written() == []
    assert not (tmp_path / "file").exists()
