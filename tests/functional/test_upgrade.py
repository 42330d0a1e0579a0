"""
What an older version has left on a server is understood: it holds, is undone to the byte, and goes on from there.

tests/data/state-0.1.0 was written by version 0.1.0, at commit 41b0a40: the formula was applied with the address
dummy@example.com, and then with sink@example.com. The paths and owners of that server are marks in it, such as @HOME@.
"""

import os
import pathlib
import subprocess

import pytest

STATE = pathlib.Path(__file__).parents[1] / "data/state-0.1.0"
ADDRESS = "sink@example.com"


@pytest.fixture
def before(home):
    """The server before the older version came."""
    home.add_mailbox("sink", "./Maildir/\n")
    home.write_control("doublebounceto", "postmaster\n")
    return home.snapshot()


@pytest.fixture
def left(home, before, modules, minion_opts):
    """Lay out what it has left, and return the pillar that it had."""
    for path in files(STATE / "home"):
        (home.path / path).touch()
        (home.path / path).write_bytes((STATE / "home" / path).read_bytes())
    marks = {
        "@HOME@": home.path,
        "@UID@": home.uid,
        "@GID@": home.gid,
        "@OWN_UID@": os.geteuid(),
        "@OWN_GID@": os.getegid(),
        "@BOOT@": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    kept = pathlib.Path(f"{minion_opts['qmail_file.kept_directory']}{home.path}")
    pathlib.Path(minion_opts["qmail_file.kept_directory"]).mkdir(mode=0o700)
    for path in files(STATE / "kept"):
        text = (STATE / "kept" / path).read_text()
        for mark, value in marks.items():
            text = text.replace(mark, str(value))
        (kept / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (kept / path).write_text(text)
    for name in ("doublebounceto", "doublebouncehost"):
        (home.control / name).chmod(0o644)
    return {"address": ADDRESS, "qmail": {"home": str(home.path)}}


@pytest.fixture
def up(home, left):
    """The same with a qmail-send that runs, as it does after a reboot."""
    subprocess.run([home.path / "bin/qmailctl", "start"], check=True, timeout=60)
    assert home.wait_until_loaded(ADDRESS)
    return left


def files(place):
    return sorted(path.relative_to(place) for path in place.rglob("*") if path.is_file())


def test_what_it_did_holds_and_a_run_changes_nothing(home, up, apply, modules):
    pid, present = home.pid(), home.snapshot()
    status = modules.qmail_doublebounce.status({"qmail_doublebounce": up})
    assert status["pillar"]["holds"] is True
    assert status["problems"] == []
    results = apply("qmail-doublebounce", up)
    assert [result.changes for result in results if result.changes] == []
    assert all(result.result is True for result in results)
    assert (home.pid(), home.snapshot()) == (pid, present)


def test_it_is_undone_to_the_byte(home, up, before, apply):
    assert all(result.result is True for result in apply("qmail-doublebounce.clean", up))
    assert home.snapshot() == before
    assert home.wait_until_loaded("postmaster@mail.example.net")


def test_another_address_gives_the_sink_of_before_back(home, up, before, apply):
    results = apply("qmail-doublebounce", {**up, "address": home.ADDRESS})
    assert all(result.result is True for result in results)
    assert home.wait_until_loaded(home.ADDRESS)
    assert (home.mailbox("sink") / ".qmail").read_bytes() == before["mailnames/example.com/sink/.qmail"][3]
    assert (home.mailbox() / ".qmail").read_text() == "|exit 0\n"
    assert all(result.result is True for result in apply("qmail-doublebounce.clean", up))
    assert home.snapshot() == before


def test_the_versions_that_it_kept_are_listed_and_read(home, left, modules):
    path = str(home.control / "doublebounceto")
    (kept,) = modules.qmail_file.kept(path)
    assert (kept["version"], kept["time"], kept["mode"]) == ("v1", "2026-11-29T18:12:20Z", "0644")
    assert modules.qmail_file.version(path)["contents"] == b"postmaster\n"
    written = {one["path"]: (one["note"], one["written"]) for one in modules.qmail_file.written()}
    assert written == {
        path: (None, True),
        str(home.control / "doublebouncehost"): (None, True),
        str(home.mailbox("sink") / ".qmail"): (ADDRESS, True),
        str(home.mailbox() / ".qmail"): (home.ADDRESS, False),
    }


def test_a_qmail_send_that_it_has_left_stopped_is_started(home, left, modules):
    """Its note says so: the run was killed while it worked on the queue."""
    assert home.pid() is None
    service = {"provider": "qmailctl", "name": str(home.path / "bin/qmailctl")}
    assert modules.qmail_queue_pause.recover(str(home.path), service=service) is True
    assert home.wait_until_loaded(ADDRESS)
