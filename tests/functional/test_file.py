"""One small file is replaced whole, kept as it was, and put back; nothing is followed that others could have laid."""

import os
import pathlib
import stat
import subprocess
import threading

import pytest
from hypothesis import HealthCheck, given, settings
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


def test_read_tells_contents_and_owner_and_nothing_of_a_missing_file(file, path):
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
    assert file.replace(str(path), "dummy\n") == {}
    after = path.stat(), tmp_path.stat()
    assert [found.st_ctime_ns for found in before] == [found.st_ctime_ns for found in after]
    assert before[0].st_ino == after[0].st_ino


def test_test_mode_tells_the_change_and_writes_nothing(file, path, tmp_path):
    path.write_text("postmaster\n")
    before = os.listdir(tmp_path), path.stat()
    assert file.replace(str(path), "dummy\n", test=True)["contents"]["new"] == b"dummy\n"
    assert (os.listdir(tmp_path), path.stat()) == before
    assert file.kept(str(path)) == []


def test_a_wrong_mode_alone_is_mended_and_put_back(file, path):
    path.write_text("dummy\n")
    path.chmod(0o600)
    assert file.replace(str(path), "dummy\n") == {"mode": {"old": "0600", "new": "0644"}}
    assert file.restore(str(path)) == {"mode": {"old": "0644", "new": "0600"}}
    assert about(path)[3] == 0o600


@root_only
def test_owner_and_mode_come_back_with_the_contents(file, path):
    path.write_bytes(b"caf\xe9\0\n")
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
    assert file.restore(str(path)) == {}
    assert path.read_text() == "somebody\n"


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


def test_what_is_kept_can_be_read_by_root_alone(file, path, minion_opts):
    path.write_text("secret\n")
    file.replace(str(path), "dummy\n")
    kept = pathlib.Path(minion_opts["qmail_kept.directory"])
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    files = [found for found in kept.rglob("*") if found.is_file()]
    assert files
    assert all(stat.S_IMODE(found.stat().st_mode) == 0o600 for found in files)


def test_a_store_that_others_can_reach_is_refused(file, path, minion_opts):
    file.replace(str(path), "one\n")
    kept = pathlib.Path(minion_opts["qmail_kept.directory"])
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
def test_a_read_only_file_system_is_told(file, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", tmp_path], check=True)
    try:
        with pytest.raises(CommandExecutionError, match="Read-only file system"):
            file.replace(str(tmp_path / "doublebounceto"), "dummy\n")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


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


def test_changed_tells_when_and_remembers_a_removal(file, path):
    assert file.changed(str(path)) is None
    file.replace(str(path), "dummy\n")
    os.utime(path, (1, 1))  # as cp -p and mv leave it
    assert file.changed(str(path)) == path.stat().st_ctime
    put = file.changed(str(path))
    file.restore(str(path))
    assert file.changed(str(path)) >= put - 0.01


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.binary(max_size=100), mode=st.sampled_from([0o644, 0o600, 0o400, 0o4755]))
def test_whatever_was_there_comes_back_to_the_byte(file, path, contents, mode):
    path.unlink(missing_ok=True)
    path.write_bytes(contents)
    path.chmod(mode)
    before = about(path)
    file.replace(str(path), "dummy\n")
    file.restore(str(path))
    assert about(path) == before
