"""A path that somebody else may have made leads to a file, or is not opened."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

HOLD = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["with /proc", "without /proc"])
def plain(request, modules, monkeypatch):
    """Open a path, where there is /proc, and where there is none."""
    opened = os.open

    def without(path, *more, **named):
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(path)
        return opened(path, *more, **named)

    if request.param == "without /proc":
        monkeypatch.setattr(os, "open", without)
    return modules["qmail_base_path.plain"]


def test_a_file_is_opened_also_by_a_link(plain, tmp_path):
    (tmp_path / "file").write_bytes(b"contents")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with plain(str(tmp_path / name)) as file:
            assert file.read() == b"contents"


def test_what_is_no_file_is_none(plain, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
        assert plain(str(path)) is None
    with pytest.raises(FileNotFoundError):
        plain(str(tmp_path / "missing"))


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="there are no leases here")
def test_a_file_on_which_its_owner_holds_a_lease_is_not_waited_for(plain, tmp_path):
    (tmp_path / "file").write_bytes(b"contents")
    command = [sys.executable, "-c", HOLD, tmp_path / "file"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(BlockingIOError):
                plain(str(tmp_path / "file"))
        finally:
            holder.send_signal(signal.SIGKILL)
