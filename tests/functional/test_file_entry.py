"""Each step of reading, writing and keeping one name in a directory where others may be at work at that moment."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import threading
import time

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.descriptors import opened

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")
LARGEST = 1 << 20


@pytest.fixture
def entry(modules):
    return modules.qmail_file_entry


@pytest.fixture
def at(tmp_path):
    """The descriptor of a directory."""
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "doublebounceto"


@pytest.fixture(autouse=True)
def in_time():
    """What would wait for a FIFO's other end does not wait forever."""

    def late(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def meanwhile(monkeypatch, call, what):
    """Have something done right behind the next call of one of the system's functions."""
    real = getattr(os, call)

    def called(*words, **named):
        monkeypatch.setattr(os, call, real)
        try:
            return real(*words, **named)
        finally:
            what()

    monkeypatch.setattr(os, call, called)


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_all_is_said_to_be_done(
    modules, path, minion_opts, monkeypatch
):
    path.write_text("postmaster\n")
    calls = []
    fsync, rename = os.fsync, os.rename

    def synced(handle):
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        assert os.fstat(handle).st_size > 0  # nothing of it is in a buffer any more
        fsync(handle)

    def renamed(old, new, **named):
        calls.append(("rename", str(new)))
        rename(old, new, **named)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    modules.qmail_file.replace(str(path), "dummy\n")
    kept = minion_opts["qmail_file.kept_directory"] + str(path)

    def safely(name, temporary, directory):
        return [("fsync", temporary), ("rename", name), ("fsync", directory)]

    temporary = next(what for call, what in calls if call == "fsync" and "/.new-" in what)
    assert calls == [
        *safely(f"{kept}/v1", f"{kept}/v1.new", kept),
        *safely(f"{kept}/ledger", f"{kept}/ledger.new", kept),
        *safely("doublebounceto", temporary, str(path.parent)),
    ] + ([] if len(calls) == 9 else safely(f"{kept}/ledger", f"{kept}/ledger.new", kept))


def test_a_removal_is_on_the_disk_before_it_is_said_to_be_done(modules, path, monkeypatch):
    modules.qmail_file.replace(str(path), "dummy\n")
    gone = []
    fsync = os.fsync

    def synced(handle):
        if os.readlink(f"/proc/self/fd/{handle}") == str(path.parent):
            gone.append(not path.exists())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    modules.qmail_file.restore(str(path))
    assert gone == [True]


def test_reading_leaves_nothing_open_whatever_is_there(entry, at, path):
    before = opened()
    assert entry.read(at, path.name, str(path)) is None
    path.write_bytes(b"dummy\n")
    assert entry.read(at, path.name, str(path))["contents"] == b"dummy\n"
    path.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(CommandExecutionError, match=f"{path} is larger than 1048576 bytes"):
        entry.read(at, path.name, str(path))
    assert opened() == before


def test_the_largest_file_is_read_whole_also_in_small_pieces(entry, at, path, monkeypatch):
    contents = os.urandom(LARGEST)
    path.write_bytes(contents)
    assert entry.read(at, path.name, str(path))["contents"] == contents
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, size, place: pread(handle, min(size, 99_999), place))
    assert entry.read(at, path.name, str(path))["contents"] == contents


def test_a_file_that_is_one_byte_too_large_is_refused_in_whatever_pieces_it_comes(entry, at, path, monkeypatch):
    path.write_bytes(b"x" * (LARGEST + 1))
    pread = os.pread
    for most in (LARGEST, LARGEST // 2, LARGEST + 1):
        monkeypatch.setattr(os, "pread", lambda handle, size, place, most=most: pread(handle, min(size, most), place))
        with pytest.raises(CommandExecutionError, match="is larger"):
            entry.read(at, path.name, str(path))


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "nothing"])
def test_what_takes_the_place_of_a_file_at_the_last_instant_is_not_opened(entry, at, path, monkeypatch, kind):
    path.write_text("postmaster\n")
    (path.parent / "secret").write_text("secret\n")

    def swap():
        path.unlink()
        if kind == "link":
            path.symlink_to("secret")
        if kind == "fifo":
            os.mkfifo(path)
        if kind == "directory":
            path.mkdir()

    before = opened()
    meanwhile(monkeypatch, "stat", swap)
    if kind == "nothing":
        assert entry.read(at, path.name, str(path)) is None
    else:
        with pytest.raises(OSError if kind == "link" else CommandExecutionError):
            entry.read(at, path.name, str(path))
    assert opened() == before


def test_a_device_is_not_even_opened(entry, monkeypatch):
    handle = os.open("/dev", os.O_RDONLY | os.O_DIRECTORY)
    tried = []
    monkeypatch.setattr(os, "open", lambda *words, **named: tried.append(words))
    try:
        with pytest.raises(CommandExecutionError, match="/dev/null is a device or socket, not a file"):
            entry.read(handle, "null", "/dev/null")
    finally:
        monkeypatch.undo()
        os.close(handle)
    assert tried == []


def new(text, **more):
    return {"contents": text.encode(), "uid": os.geteuid(), "gid": os.getegid(), "mode": "0644", **more}


def test_a_file_that_was_swapped_for_its_twin_is_not_replaced(entry, at, path, monkeypatch):
    path.write_text("postmaster\n")
    old = entry.read(at, path.name, str(path))

    def swap():
        (path.parent / "twin").write_text("postmaster\n")
        (path.parent / "twin").rename(path)

    meanwhile(monkeypatch, "fchmod", swap)
    before = opened()
    assert entry.put(at, path.name, new("dummy\n"), old, str(path)) is False
    assert path.read_text() == "postmaster\n"
    assert os.listdir(path.parent) == [path.name]
    assert opened() == before


def test_a_link_to_the_file_that_was_read_is_not_that_file(entry, at, path, monkeypatch):
    path.write_text("postmaster\n")
    old = entry.read(at, path.name, str(path))

    def swap():
        path.rename(path.parent / "aside")
        path.symlink_to("aside")

    meanwhile(monkeypatch, "fchmod", swap)
    assert entry.put(at, path.name, new("dummy\n"), old, str(path)) is False
    assert path.is_symlink()
    assert path.read_text() == "postmaster\n"


def test_a_file_that_comes_or_goes_at_the_last_instant_is_left_so(entry, at, path, monkeypatch):
    meanwhile(monkeypatch, "fchmod", lambda: path.write_text("somebody\n"))
    assert entry.put(at, path.name, new("dummy\n"), None, str(path)) is False
    assert path.read_text() == "somebody\n"
    old = entry.read(at, path.name, str(path))
    meanwhile(monkeypatch, "fchmod", path.unlink)
    assert entry.put(at, path.name, new("dummy\n"), old, str(path)) is False
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("what", [{"contents": b"somebody\n"}, {"mode": "0600"}, {"uid": 4242}, None])
def test_what_is_other_than_it_was_read_is_not_replaced(entry, at, path, what):
    path.write_text("postmaster\n")
    old = entry.read(at, path.name, str(path))
    assert entry.put(at, path.name, new("dummy\n"), old and what and {**old, **what}, str(path)) is False
    assert entry.put(at, path.name, None, what and {**old, **what}, str(path)) is False
    assert path.read_text() == "postmaster\n"


def test_a_file_is_put_replaced_and_removed(entry, at, path):
    before = opened()
    assert entry.put(at, path.name, new("one\n"), None, str(path)) is True
    assert entry.put(at, path.name, new("two\n", mode="0400"), new("one\n"), str(path)) is True
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("two\n", 0o400)
    assert entry.put(at, path.name, None, new("two\n", mode="0400"), str(path)) is True
    assert entry.put(at, path.name, None, None, str(path)) is True
    assert os.listdir(path.parent) == []
    assert opened() == before


@root_only
def test_a_file_is_closed_to_all_until_it_has_its_owner(entry, at, path, monkeypatch):
    seen = []
    real = os.fchown

    def fchown(handle, uid, gid):
        found = os.fstat(handle)
        seen.append((found.st_mode & 0o7777, uid, gid))
        real(handle, uid, gid)

    monkeypatch.setattr(os, "fchown", fchown)
    for uid, gid in ((4242, 0), (0, 4243), (4242, 4243), (0, 0)):
        path.unlink(missing_ok=True)
        entry.put(at, path.name, new("dummy\n", uid=uid, gid=gid, mode="4711"), None, str(path))
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (uid, gid, 0o4711)
    assert [mode for mode, _, _ in seen] == [0o600] * len(seen)
    assert (4242, 4243) in [owner for _, *owner in seen] or [0o600, 4242, 4243] in map(list, seen)


@root_only
def test_a_new_file_has_its_own_group_in_a_directory_that_gives_its_group_to_all(entry, at, path):
    os.chown(path.parent, 0, 4243)
    path.parent.chmod(0o2755)
    for gid in (0, 4242, 4244):
        path.unlink(missing_ok=True)
        assert entry.put(at, path.name, new("dummy\n", gid=gid), None, str(path))
        assert path.stat().st_gid == gid


# What is kept.


@pytest.mark.parametrize("mode", [0o740, 0o720, 0o710, 0o704, 0o702, 0o701])
def test_a_store_that_a_group_can_reach_is_refused(modules, path, minion_opts, mode):
    modules.qmail_file.replace(str(path), "one\n")
    kept = pathlib.Path(minion_opts["qmail_file.kept_directory"])
    kept.chmod(mode)
    with pytest.raises(CommandExecutionError, match=f"{kept} is open to others. Fix it: chown root"):
        modules.qmail_file.replace(str(path), "two\n")
    kept.chmod(0o700)
    assert path.read_text() == "one\n"


@root_only
def test_a_store_of_somebody_else_is_refused_and_roots_or_ones_own_is_not(modules, path, minion_opts, monkeypatch):
    modules.qmail_file.replace(str(path), "one\n")
    kept = minion_opts["qmail_file.kept_directory"]
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    for owner, is_taken in ((4242, True), (0, True), (4243, False), (1, False)):
        os.chown(kept, owner, 0)
        with contextlib.nullcontext() if is_taken else pytest.raises(CommandExecutionError, match="open to others"):
            os.close(modules.qmail_file_kept.lock(str(path)))


def test_of_two_processes_one_waits_until_the_other_has_done_with_the_file(modules, path, tmp_path, monkeypatch):
    held, release = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            modules.qmail_file_kept.lock(str(path))
            os.write(held[1], b".")
            os.read(release[0], 1)
            (tmp_path / "done").touch()
        os._exit(0)
    sleep, asked = time.sleep, []

    def waited(seconds):
        if not asked:
            os.write(release[1], b".")
        asked.append(seconds)
        sleep(0.01)

    try:
        assert os.read(held[0], 1) == b"."
        monkeypatch.setattr(time, "sleep", waited)
        handle = modules.qmail_file_kept.lock(str(path))
        assert (tmp_path / "done").exists()
        os.close(handle)
        assert asked
    finally:
        os.write(release[1], b".")
        os.waitpid(child, 0)
        for end in (*held, *release):
            os.close(end)


def test_a_lock_that_was_not_had_is_not_left_open(modules, path, monkeypatch):
    holder = modules.qmail_file_kept.lock(str(path))
    before = opened()
    now = time.monotonic()
    monkeypatch.setattr(time, "sleep", lambda _: monkeypatch.setattr(time, "monotonic", lambda: now + 1000))
    with pytest.raises(CommandExecutionError, match=r"has worked on .* for 60 seconds"):
        modules.qmail_file_kept.lock(str(path))
    assert opened() == before
    os.close(holder)


def test_versions_are_counted_on_and_the_tenth_is_newer_than_the_ninth(modules, path):
    kept = modules.qmail_file_kept
    os.close(kept.lock(str(path)))
    for number in range(11):
        kept.keep(str(path), new(f"{number}\n"))
    kept.keep(str(path), new("3\n"))
    home = pathlib.Path(kept.directory(str(path)))
    for name in ("vx", "v", "w1", "v12x"):
        (home / name).write_text("none of ours")
    listed = [found["version"] for found in kept.versions(str(path))]
    assert listed == [f"v{number}" for number in (12, 11, 10, 9, 8, 7, 6, 5, 3, 2, 1)]
    assert kept.version(str(path))["contents"] == b"3\n"
    assert kept.version(str(path), "v10")["contents"] == b"9\n"
    for missing in ("v4", "v13", "vx", "../v1"):
        with pytest.raises(SaltInvocationError, match="v12, v11"):
            kept.version(str(path), missing)


def test_without_a_store_nothing_is_kept_and_one_that_cannot_be_read_is_reported(modules, path, minion_opts):
    assert modules.qmail_file_kept.paths("ledger") == []
    modules.qmail_file.replace(str(path), "dummy\n")
    assert modules.qmail_file_kept.paths("ledger") == [str(path)]
    assert modules.qmail_file_kept.paths("none") == []
    shutil.rmtree(minion_opts["qmail_file.kept_directory"])
    store = pathlib.Path(minion_opts["qmail_file.kept_directory"])
    store.touch()
    try:
        for look in (
            lambda: modules.qmail_file_kept.paths("ledger"),
            lambda: modules.qmail_file_kept.versions(str(path)),
        ):
            with pytest.raises(CommandExecutionError, match=r"Cannot keep a record of .*: Not a directory"):
                look()
    finally:
        store.unlink()


def test_a_file_of_which_nothing_is_kept_is_reported(modules, path):
    for name, told in (
        (None, f"no kept version of {path}. Kept: none."),
        ("v1", f"no kept version 'v1' of {path}. Kept"),
    ):
        with pytest.raises(SaltInvocationError, match=re.escape(told)):
            modules.qmail_file_kept.version(str(path), name)


def test_a_kept_version_says_when_and_what_it_was(modules, path, monkeypatch):
    os.close(modules.qmail_file_kept.lock(str(path)))
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 11, 24, 2, 11, 15, 1, 328, 0)))
    modules.qmail_file_kept.keep(str(path), {"contents": b"pat\xe9\n", "uid": 7, "gid": 8, "mode": "0640"})
    modules.qmail_file_kept.keep(str(path), None)
    at = "2026-11-24T02:11:15Z"
    assert modules.qmail_file_kept.versions(str(path)) == [
        {"version": "v2", "time": at, "exists": False, "uid": None, "gid": None, "mode": None, "size": None},
        {"version": "v1", "time": at, "exists": True, "uid": 7, "gid": 8, "mode": "0640", "size": 5},
    ]
    assert modules.qmail_file_kept.version(str(path)) is None
    found = {"contents": b"pat\xe9\n", "uid": 7, "gid": 8, "mode": "0640"}
    assert modules.qmail_file_kept.version(str(path), "v1") == found


def test_what_is_damaged_is_named_and_nothing_is_written(modules, path):
    modules.qmail_file.replace(str(path), "dummy\n")
    ledger = pathlib.Path(modules.qmail_file_kept.directory(str(path)), "ledger")
    ledger.write_text("{")
    with pytest.raises(CommandExecutionError, match=f"{ledger} is damaged"):
        modules.qmail_file.replace(str(path), "two\n")
    assert path.read_text() == "dummy\n"


def test_what_a_kill_has_left_half_written_is_written_over(modules, path):
    modules.qmail_file.replace(str(path), "one\n")
    pathlib.Path(modules.qmail_file_kept.directory(str(path)), "ledger.new").write_text("x" * 10_000)
    modules.qmail_file.replace(str(path), "two\n")
    modules.qmail_file.restore(str(path))
    assert not path.exists()


def killed_before_its_rename(modules, path):
    """Replace a file in a child that is killed when the new one lies ready, and return the name of that."""
    before = set(os.listdir(path.parent))
    child = os.fork()
    if not child:
        rename = os.rename

        def kill(*names, **more):
            if "src_dir_fd" in more:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(*names, **more)

        os.rename = kill
        try:
            modules.qmail_file.replace(str(path), "dummy\n")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (left,) = set(os.listdir(path.parent)) - before
    return path.parent / left


@pytest.mark.parametrize("does", ["replace", "restore"])
def test_what_a_kill_has_left_beside_a_file_goes_with_the_next_run(modules, path, does):
    path.write_text("postmaster\n")
    other = killed_before_its_rename(modules, path.with_name("doublebouncehost"))
    left = killed_before_its_rename(modules, path)
    mine = [path.with_name(".new-mine"), path.with_name(f"{left.name}0")]
    for one in mine:
        one.touch()
    if does == "replace":
        modules.qmail_file.replace(str(path), "dummy\n")
    else:
        modules.qmail_file.restore(str(path))
        assert path.read_text() == "postmaster\n"
    assert not left.exists()
    assert all(one.exists() for one in (*mine, other))


def test_a_directory_of_that_name_is_left_alone(modules, path):
    left = killed_before_its_rename(modules, path)
    left.unlink()
    left.mkdir()
    modules.qmail_file.replace(str(path), "dummy\n")
    assert left.is_dir() and path.read_text() == "dummy\n"


@root_only
def test_a_link_in_place_of_what_is_to_be_kept_is_not_written_through(modules, path, tmp_path):
    modules.qmail_file.replace(str(path), "dummy\n")
    (tmp_path / "precious").write_text("precious\n")
    pathlib.Path(modules.qmail_file_kept.directory(str(path)), "ledger.new").symlink_to(tmp_path / "precious")
    with pytest.raises(CommandExecutionError, match="Cannot keep a record"):
        modules.qmail_file.replace(str(path), "two\n")
    assert (tmp_path / "precious").read_text() == "precious\n"


def test_a_writer_that_comes_back_finds_the_lock_free(modules, path):
    for text in ("one\n", "two\n"):
        modules.qmail_file.replace(str(path), text)
    done = threading.Thread(target=lambda: os.close(modules.qmail_file_kept.lock(str(path))))
    done.start()
    done.join(50)
    assert not done.is_alive()
    before = opened()
    os.close(modules.qmail_file_kept.lock(str(path)))
    modules.qmail_file_kept.save(str(path), "note", {})
    assert modules.qmail_file_kept.load(str(path), "note") == {}
    assert modules.qmail_file_kept.load(str(path), "none") is None
    assert opened() == before


def test_of_one_that_is_far_too_large_no_more_is_read_than_shows_that(entry, at, path, monkeypatch):
    pread, read = os.pread, []

    def counted(handle, size, place):
        piece = pread(handle, min(size, 99_999), place)
        read.append(len(piece))
        return piece

    monkeypatch.setattr(os, "pread", counted)
    path.write_bytes(b"x" * 3 * LARGEST)
    with pytest.raises(CommandExecutionError, match=f"larger than {LARGEST} bytes"):
        entry.read(at, path.name, str(path))
    assert sum(read) == LARGEST + 1


def test_a_file_that_has_the_name_of_ours_already_is_not_written_to(entry, at, path, monkeypatch):
    opened, names = os.open, []

    def taken(name, flags, *mode, **where):
        if flags & os.O_CREAT:
            names.append(path.with_name(name))
            names[0].write_bytes(b"theirs\n")
        return opened(name, flags, *mode, **where)

    monkeypatch.setattr(os, "open", taken)
    new = {"contents": b"new\n", "uid": os.geteuid(), "gid": os.getegid(), "mode": "0644"}
    with pytest.raises(FileExistsError):
        entry.put(at, path.name, new, None, str(path))
    assert names[0].read_bytes() == b"theirs\n"
    assert not path.exists()
