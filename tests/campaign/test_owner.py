"""A mailbox owner who swaps his Maildir for somebody else's while root deletes there loses only his own mail."""

import contextlib
import os
import pathlib
import signal
import tempfile
import time

import pytest
from salt.exceptions import CommandExecutionError

from tests.campaign.cases import DOUBLE

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="root and a mailbox owner are two users: needs root"),
]

TOKEN = "doublebounce-probe-0123456789abcdef"  # what the message of a probe holds
MAIL = DOUBLE + TOKEN.encode() + b"\n"


@pytest.fixture
def victim():
    """Somebody else's Maildir, full of what root deletes: the owner may look into it, and no more."""
    with tempfile.TemporaryDirectory(prefix="victim-") as directory:
        maildir = pathlib.Path(directory)
        for part in ("new", "cur"):
            (maildir / part).mkdir()
            for number in range(20):
                (maildir / part / f"{number}.mail").write_bytes(MAIL)
        for path in (maildir, *maildir.rglob("*")):
            path.chmod(0o755)
        yield maildir


def swap(maildir, victim):
    """Swap the Maildir, its parts and its files for the victim's, and put mail in, without end."""
    new, saved = f"{maildir}/new", f"{maildir}/saved"
    steps = (
        lambda: os.rename(new, saved),
        lambda: os.symlink(f"{victim}/new", new),
        lambda: os.unlink(new),
        lambda: os.rename(saved, new),
        lambda: os.rename(maildir, f"{maildir}.saved"),
        lambda: os.symlink(victim, maildir),
        lambda: os.unlink(maildir),
        lambda: os.rename(f"{maildir}.saved", maildir),
        *(lambda number=number: put(f"{new}/{number}.mail") for number in range(5)),
        lambda: os.symlink(f"{victim}/new/1.mail", f"{new}/link.mail"),
        lambda: os.unlink(f"{new}/link.mail"),
        lambda: os.mkfifo(f"{new}/fifo.mail"),
        lambda: os.unlink(f"{new}/fifo.mail"),
    )
    while True:
        for step in steps:
            with contextlib.suppress(OSError):
                step()


def put(path):
    with open(path, "wb") as file:
        file.write(MAIL)


def seen(directory):
    """Return all but when it was read: to look at a directory is no harm, and this does so, too."""
    fields = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns")
    return {path: [getattr(path.lstat(), field) for field in fields] for path in directory.rglob("*")}


@pytest.fixture
def owner(home, victim):
    """A process of the owner's that swaps."""
    maildir = home.mailbox() / "Maildir"
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(home.gid)
            os.setuid(home.uid)
            swap(str(maildir), str(victim))
        finally:
            os._exit(1)
    yield str(maildir)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("does", ["purge", "take_out"])
def test_the_mail_of_others_stays(modules, home, owner, victim, does, seconds, record_property):
    work = {
        "purge": lambda: modules.qmail_mailbox.purge(owner, home=str(home.path))["deleted"],
        "take_out": lambda: modules.qmail_mailbox.take_out(TOKEN, owner),
    }[does]
    before = seen(victim)
    told = {"calls": 0, "refused": 0, "deleted": 0}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not (told["deleted"] and told["refused"]):
        assert time.monotonic() < deadline + 300, told
        told["calls"] += 1
        try:
            told["deleted"] += work()
        except CommandExecutionError:
            told["refused"] += 1
    assert seen(victim) == before
    record_property("campaign", {"does": does, **told})
