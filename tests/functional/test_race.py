"""A mailbox owner who swaps files and directories for links while root works there gains nothing."""

import contextlib
import mmap
import os
import pathlib
import random
import signal
import struct
import tempfile
import time

import pytest
from salt.exceptions import CommandExecutionError

pytestmark = pytest.mark.soak

SWAPS = int(os.environ.get("QMAIL_CAMPAIGN_SWAPS", "100000"))
SEED = int(os.environ.get("SEED", "1"))
ATTACKER = 4242


def race(domain, outside, counter, dice):
    """Swap the mailbox for a link out of it, and its .qmail for links, a FIFO, a file, by chance, until it is ended."""
    box, saved, file = f"{domain}/dummy", f"{domain}/saved", f"{domain}/dummy/.qmail"
    kinds = (
        lambda: os.symlink(f"{outside}/victim", file),
        lambda: os.symlink(f"{outside}/new", file),
        lambda: os.mkfifo(file),
        lambda: os.link(f"{domain}/other", file),
        lambda: os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    )
    swaps = 0
    while True:
        for step in (
            lambda: os.rename(box, saved),
            lambda: os.symlink(outside, box),
            lambda: os.unlink(box),
            lambda: os.rename(saved, box),
            lambda: os.unlink(file),
            dice.choice(kinds),
        ):
            with contextlib.suppress(OSError):
                step()
        swaps += 2
        counter[:8] = struct.pack("=Q", swaps)


@pytest.fixture
def outside():
    """What the attacker would like root to write to: open to his eyes, closed to his hands."""
    with tempfile.TemporaryDirectory(prefix="outside-") as directory:
        path = pathlib.Path(directory)
        path.chmod(0o755)
        (path / "victim").write_text("precious\n")
        (path / ".qmail").write_text("precious\n")
        yield path


@pytest.fixture
def swaps(home, outside):
    """A process of the mailbox owner's that swaps; it gives the number of swaps so far."""
    domain = home.path / "mailnames/example.com"
    (domain / "other").write_text("mine\n")
    for path in (domain, domain / "other"):
        os.chown(path, ATTACKER, ATTACKER)
    counter = mmap.mmap(-1, 8)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(ATTACKER)
            os.setuid(ATTACKER)
            race(str(domain), str(outside), counter, random.Random(SEED))
        finally:
            os._exit(1)
    yield lambda: struct.unpack("=Q", counter[:8])[0]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def state_of(directory):
    found = {path.name: (path.read_bytes(), path.lstat()) for path in directory.iterdir()}
    fields = ("st_ino", "st_mode", "st_uid", "st_gid", "st_nlink", "st_mtime_ns")
    return {name: (contents, *(getattr(about, field) for field in fields)) for name, (contents, about) in found.items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="root and a mailbox owner are two users: needs root")
def test_many_swaps_lead_to_no_write_outside(home, modules, outside, swaps, record_property):
    before = state_of(outside)
    done = {"written": 0, "refused": 0}
    path = str(home.mailbox() / ".qmail")
    tries = (
        lambda: modules.qmail_mailbox.write("dummy@example.com", home=str(home.path)),
        lambda: modules.qmail_mailbox.restore("dummy@example.com"),
        lambda: modules.qmail_file.replace(path, b"|exit 0\n", uid=ATTACKER, gid=ATTACKER),
    )
    deadline = time.monotonic() + 300 * max(1, SWAPS // 100_000)
    while swaps() < SWAPS or not all(done.values()):
        assert time.monotonic() < deadline, (swaps(), done)
        for function in tries:
            try:
                function()
                done["written"] += 1
            except CommandExecutionError:
                done["refused"] += 1
    assert state_of(outside) == before
    record_property("campaign", {"seed": SEED, "swaps": swaps(), **done})
