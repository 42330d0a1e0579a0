"""This project's own small records: written whole, for root alone, and read with suspicion."""

import os
import subprocess
import sys
import time

import pytest
from salt.exceptions import CommandExecutionError


@pytest.fixture
def record(tmp_path):
    return str(tmp_path / "record")


def load(modules, path):
    return modules["qmail_base_record.load"](path, 3)


def test_what_is_saved_is_loaded(modules, record):
    assert load(modules, record) is None
    for value in ("ä\n", [1, None], {"a": {"b": 2.5}}):
        modules["qmail_base_record.save"](record, {"version": 3, "value": value})
        assert load(modules, record) == {"version": 3, "value": value}
    assert os.stat(record).st_mode & 0o777 == 0o600
    assert os.listdir(os.path.dirname(record)) == ["record"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "damaged"),
        (b'{"version": 3', "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100000, "damaged"),
        (b"[]", "another version"),
        (b'{"version": 4}', "another version"),
        (b'{"value": 1}', "another version"),
    ],
)
def test_a_damaged_or_foreign_record_is_reported(modules, record, text, words):
    with open(record, "wb") as file:
        file.write(text)
    with pytest.raises(CommandExecutionError, match=words):
        load(modules, record)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "large"])
def test_what_is_no_record_is_not_read(modules, record, kind):
    if kind == "link":
        os.symlink("/etc/passwd", record)
    elif kind == "fifo":
        os.mkfifo(record)
    elif kind == "directory":
        os.mkdir(record)
    else:
        with open(record, "wb") as file:
            file.truncate(2**25 + 1)
    with pytest.raises(CommandExecutionError):
        load(modules, record)


def test_a_record_that_cannot_be_written_leaves_the_old_one(modules, record, monkeypatch):
    modules["qmail_base_record.save"](record, {"version": 3, "value": 1})
    os.mkdir(f"{record}.new")
    with pytest.raises(CommandExecutionError, match="Cannot write"):
        modules["qmail_base_record.save"](record, {"version": 3, "value": 2})
    assert load(modules, record)["value"] == 1


HOLDER = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_for_one_and_ends_with_its_process(modules, record):
    lock = modules["qmail_base_record.lock"]
    command = [sys.executable, "-c", HOLDER, f"{record}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert lock(record) is None
        began = time.monotonic()
        assert lock(record, 0.2) is None
        assert time.monotonic() - began >= 0.2
        holder.kill()
        holder.wait()
    handle = lock(record, 60)
    assert handle is not None
    assert lock(record) is None
    os.close(handle)
    os.close(lock(record))


def test_a_lock_where_there_is_no_directory_is_an_error(modules, tmp_path):
    with pytest.raises(CommandExecutionError, match="Cannot write"):
        modules["qmail_base_record.lock"](str(tmp_path / "none/record"))
