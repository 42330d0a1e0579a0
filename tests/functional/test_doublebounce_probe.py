"""The probe tells every end as it is, through rotations too, and leaves nothing behind."""

import contextlib
import os
import pathlib
import shutil
import signal
import time
import types

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.mta import Mta
from tests.support.supervisors import wait_until

ADDRESS = "dummy@example.com"
MOMENT = 5  # seconds
root = pytest.mark.skipif(os.geteuid() != 0, reason="closes a mailbox to its user: needs root")


@pytest.fixture(params=["multilog", pytest.param("syslog", marks=pytest.mark.newest_salt)])
def log(request, tmp_path):
    place = tmp_path / "log"
    if request.param == "multilog":
        place.mkdir()
    return place


@pytest.fixture
def server(home, modules, log):
    """Start the stand-in when the test has laid everything out, and stop it at the end."""
    started = []

    def server(**named):
        started.append(Mta(home, modules, log, **named))
        return started[0]

    yield server
    for mta in started:
        mta.stop()


@pytest.fixture
def probe(modules, home, log):
    def probe(timeout=60):
        return modules.qmail_doublebounce.probe({}, timeout, ADDRESS, str(home.path), log=str(log))

    return probe


def to_the_sink(home, dotqmail="|exit 0\n"):
    home.write_control("doublebounceto", "dummy\n")
    home.write_control("doublebouncehost", "example.com\n")
    (home.mailbox() / ".qmail").write_text(dotqmail)


def queued(home):
    return list((home.path / "queue/mess/0").iterdir())


def is_taken(home):
    """Return whether qmail-queue has done its part; killed before, it leaves what qmail-send clears a day later."""
    return any(list((home.path / "queue" / name).iterdir()) for name in ("todo", "info/0"))


def left(home):
    """List what stays in the queue. qmail-send logs the end of a message a moment before it removes it."""
    deadline = time.monotonic() + MOMENT
    while queued(home) and time.monotonic() < deadline:
        time.sleep(0.02)
    return queued(home)


def stored(home):
    return [path.name for path in (home.mailbox() / "Maildir").glob("[nc]*/*")]


def alarms(home):
    path = home.path / "alarms"
    return len(path.read_text().split()) if path.exists() else 0


def test_a_sink_swallows_and_both_hops_are_reported(home, server, probe):
    to_the_sink(home)
    server()
    found = probe()
    assert found["end"] == "swallowed"
    assert found["sent"]["whole"] is True
    assert [hop["to"].partition("@")[2] for hop in found["hops"]] == ["mail.example.net", "example.com"]
    assert found["hops"][0]["report"].startswith("failure: Sorry")
    assert found["hops"][1]["report"] == "success: did_0+0+1/"
    assert all(0 <= hop["seconds"] < 60 for hop in found["hops"])
    assert any("from <#@[]>" in line for line in found["log"])
    assert found["left"] == ""
    assert left(home) == []


def test_a_whole_address_ends_as_a_triple_bounce(home, server, probe):
    to_the_sink(home)
    home.write_control("doublebounceto", "dummy@example.com\n")
    home.write_control("doublebouncehost", "mail.example.net\n")
    server()
    assert probe()["end"] == "triple-bounced"
    assert left(home) == []


def test_a_qmail_that_discards_is_reported(home, server, probe):
    home.write_control("doublebounceto", "\n")
    server(discard=True)
    found = probe()
    assert found["end"] == "discarded"
    assert len(found["hops"]) == 1


def test_an_empty_local_part_on_a_local_host_is_dropped(home, server, probe):
    home.write_control("doublebounceto", "\n")
    server()
    assert probe()["end"] == "swallowed"


def test_a_mailbox_that_stores_is_reported_and_the_copy_is_taken_out(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    (home.mailbox() / "Maildir/new/real").write_text("Subject: real mail\n")
    server()
    found = probe()
    assert found["end"] == "stored"
    assert found["left"] == f"A copy of it was removed from {home.mailbox()}/Maildir."
    assert [path.name for path in (home.mailbox() / "Maildir/new").iterdir()] == ["real"]


def test_the_copy_is_taken_out_where_it_really_went_and_not_where_the_files_say(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    server()
    home.add_mailbox("other", "|exit 0\n")
    home.write_control("doublebounceto", "other\n")
    found = probe()
    assert found["end"] == "stored"
    assert list((home.mailbox() / "Maildir/new").iterdir()) == []


def test_an_mbox_keeps_its_copy_and_that_is_reported(home, server, probe):
    to_the_sink(home, "./mbox\n")
    server()
    found = probe()
    assert found["end"] == "stored"
    assert str(home.mailbox() / "mbox") in found["left"]


def test_a_forward_is_reported(home, server, probe):
    to_the_sink(home, "&joe@elsewhere.example\n")
    server()
    found = probe()
    assert found["end"] == "forwarded"
    assert "forwarded" in found["left"]


def test_a_sink_that_defers_is_reported_and_its_probe_is_given_up(home, server, probe):
    to_the_sink(home)
    server()
    home.mailbox().chmod(0o1755)
    found = probe()
    assert found["end"] == "deferred"
    assert "told to give it up" in found["left"]
    assert left(home) == []
    assert alarms(home) == 1


def test_a_program_that_alone_knows_is_no_proof(home, server, probe):
    to_the_sink(home, "|cat >/dev/null\n")
    server()
    found = probe()
    assert found["end"] == "unseen"
    assert "only that program knows" in found["reason"]


def test_a_rotation_in_the_middle_loses_nothing(home, server, probe):
    to_the_sink(home)
    server()
    (home.path / "rotate").touch()
    assert probe()["end"] == "swallowed"
    assert not (home.path / "rotate").exists()


def test_a_log_that_no_longer_grows_is_reported(home, server, probe):
    to_the_sink(home)
    server()
    (home.path / "mute").touch()
    found = probe(timeout=5)
    assert found["end"] == "unseen"
    assert "does not show it" in found["reason"]
    assert found["left"] == f"It is not in the queue. No copy of it is in {home.mailbox()}/Maildir."
    assert left(home) == []


def test_a_log_that_is_not_there_is_reported_before_anything_is_sent(home, server, probe, log):
    server()
    shutil.rmtree(log) if log.is_dir() else log.unlink()
    with pytest.raises(SaltInvocationError, match="log"):
        probe()
    assert left(home) == []


def test_a_full_disk_is_reported_in_the_words_of_qmail_queue(home, server, probe):
    server()
    (home.path / "full").touch()
    with pytest.raises(CommandExecutionError, match="exit 53: it cannot write: the disk is full"):
        probe()


def test_without_qmail_send_nothing_is_sent(home, probe):
    with pytest.raises(CommandExecutionError, match="qmail-send does not run"):
        probe()


def test_where_a_catch_all_receives_everything_only_the_last_hop_is_tried(home, server, probe):
    to_the_sink(home)
    home.write_control("locals", "\n")
    home.add_assign(f"+1-:alias:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    server()
    found = probe()
    assert found["sent"] == {"to": ADDRESS, "from": "<#@[]>", "whole": False}
    assert found["end"] == "swallowed"


def test_what_others_write_into_the_log_is_not_taken_for_the_probe(home, server, probe):
    """A spammer's addresses come into the log with their blanks as _, and other messages have other numbers."""
    to_the_sink(home)
    mta = server()
    mta.say("starting delivery 999: msg 7 to local delivery_1:_failure:_x@example.com")
    mta.say("delivery 999: failure: triple_bounce:_discarding_bounce/1/")
    assert probe()["end"] == "swallowed"


OTHERS = (
    "new msg 77",
    "info msg 77: bytes 99999 from <#@[]> qp 4242 uid 1",
    "starting delivery 7777: msg 77 to local 1-other@example.com",
    "delivery 7777: success: did_0+0+1/",
    "end msg 77",
)
# The end that is reported if the log loses its line k; without an entry here, the end is reported as it is.
LOSSES = {
    "swallowed": ("|exit 0\n", 11, dict.fromkeys((5, 8, 9, 10), "unseen")),
    "stored": ("./Maildir/\n", 11, {}),
    "triple-bounced": ("|exit 100\n", 12, dict.fromkeys((5, 8), "unseen")),
    "deferred": ("|exit 111\n", 10, dict.fromkeys((5, 8, 9, 10), "unseen")),
}


@pytest.mark.parametrize("log", ["multilog"], indirect=True)
@pytest.mark.parametrize(
    ("end", "lost"), [(end, lost) for end, (_, lines, _) in LOSSES.items() for lost in range(1, lines + 1)]
)
def test_whatever_line_the_log_loses_the_end_is_honest_and_nothing_stays(home, server, probe, end, lost):
    dotqmail, _, ends = LOSSES[end]
    to_the_sink(home, dotqmail)
    server(drops=lost, among=OTHERS)
    # Only the loss of a line that nothing else stands for is waited for in vain.
    found = probe(timeout=5 if ends.get(lost) else 20 if lost in (5, 8) else 60)
    assert found["end"] == ends.get(lost, end)
    assert found["reason"]
    assert (left(home), stored(home)) == ([], [])
    assert alarms(home) <= 1


@pytest.mark.parametrize("lost", range(1, 7))
def test_a_qmail_that_discards_is_reported_by_a_log_with_holes(home, server, probe, lost):
    home.write_control("doublebounceto", "\n")
    server(discard=True, drops=lost, among=OTHERS)
    assert probe()["end"] == ("unseen" if lost == 5 else "discarded")
    assert left(home) == []


@pytest.mark.parametrize(
    ("dotqmail", "end"),
    [("|exit 0\n", "swallowed"), ("./Maildir/\n", "stored"), ("|exit 111\n", "deferred")],
)
def test_where_qmail_queue_hands_messages_to_another_process_the_probe_is_known_by_its_token(
    home, server, probe, dotqmail, end
):
    to_the_sink(home, dotqmail)
    server(wrapped=True)
    assert probe()["end"] == end
    assert (left(home), stored(home)) == ([], [])


@pytest.mark.parametrize("timeout", ["1m", -1, True, float("nan"), [30]])
def test_a_wrong_timeout_is_refused_before_anything_is_sent(home, server, states, probe, log, timeout):
    to_the_sink(home)
    server()
    with pytest.raises(SaltInvocationError, match="timeout is a number of seconds"):
        probe(timeout=timeout)
    returned = proved(states, home, log, always=True, timeout=timeout)
    assert returned.result is False
    assert "timeout is a number of seconds" in str(returned.comment)
    assert log_of(log).count("new msg") == 0


def log_of(log):
    return (log / "current" if log.is_dir() else log).read_text()


def test_what_the_owner_of_the_mailbox_puts_into_it_is_passed_over(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    new = home.mailbox() / "Maildir/new"
    (new / "directory").mkdir()
    os.mkfifo(new / "fifo")
    (new / "link").symlink_to("/etc/passwd")
    server()
    found = probe()
    assert found["end"] == "stored"
    assert "A copy of it was removed" in found["left"]
    assert sorted(path.name for path in new.iterdir()) == ["directory", "fifo", "link"]


def test_a_copy_that_a_mail_program_has_moved_is_found(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    (home.mailbox() / "Maildir/new").rmdir()
    (home.mailbox() / "Maildir/new").symlink_to("cur")  # what comes in is in cur at once
    server()
    found = probe()
    assert found["end"] == "stored"
    assert "Cannot tell whether" in found["left"]
    (home.mailbox() / "Maildir/new").unlink()
    assert len(stored(home)) == 1


@root
def test_a_maildir_that_is_a_link_of_its_owner_is_left_alone_and_that_is_reported(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    (home.mailbox() / "Maildir").rename(home.mailbox() / "elsewhere")
    (home.mailbox() / "Maildir").symlink_to("elsewhere")
    server()
    found = probe()
    assert found["end"] == "stored"
    assert "leads through the symbolic link" in found["left"]
    assert len(list((home.mailbox() / "elsewhere/new").iterdir())) == 1


def test_a_copy_that_a_program_stored_is_found_and_that_is_the_end(home, server, probe):
    to_the_sink(home, "|cat >/dev/null\n")
    (home.path / "programs-store").touch()
    server()
    found = probe()
    assert found["end"] == "stored"
    assert "A copy of it was found" in found["reason"]
    assert stored(home) == []


def test_a_probe_that_somebody_takes_before_it_bounces_is_no_double_bounce(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    server(wrapped=True)
    for name in ("cur", "new", "tmp"):
        (home.path / "alias/Maildir" / name).mkdir(parents=True)
    for path in (home.path / "alias", *(home.path / "alias").rglob("*")):
        os.chown(path, home.uid, home.gid)
    catches_all = f"echo ./Maildir/ >{home.path}/alias/.qmail-default"
    (home.path / "bin/qmail-queue").write_text(f'#!/bin/sh\n{catches_all}\nexec "$0.real"\n')
    found = probe()
    assert found["end"] == "unseen"
    assert "although it should have bounced" in found["reason"]
    assert "A copy of it was removed" in found["left"]
    assert list((home.path / "alias/Maildir/new").iterdir()) == []


@pytest.mark.parametrize("given", [False, True])
def test_qmail_queue_is_told_which_queue_the_probe_is_for(home, server, modules, log, monkeypatch, given):
    """indimail's has to be given, and takes any; the queue of whoever runs Salt is another one."""
    to_the_sink(home)
    server()
    asked, binary = home.path / "asked", home.path / "bin/qmail-queue"
    binary.rename(home.path / "bin/qmail-queue.real")
    monkeypatch.setenv("QUEUEDIR", "/var/elsewhere/queue")
    binary.write_text(f'#!/bin/sh\necho "$QUEUEDIR" >{asked}\nexec "$0.real"\n')
    binary.chmod(0o755)
    place = str(home.path / ("another" if given else "queue"))
    if given:
        os.symlink("queue", place)
    where = {"home": str(home.path), "log": str(log), **({"queue": place} if given else {})}
    assert modules.qmail_doublebounce.probe({}, 20, ADDRESS, **where)["end"] == "swallowed"
    assert asked.read_text() == f"{place}\n"


def test_a_log_that_never_pauses_does_not_outlast_the_timeout(home, server, probe, log):
    to_the_sink(home, "|exit 111\n")
    server()
    (home.path / "mute").touch()
    path = log / "current" if log.is_dir() else log
    child = os.fork()
    if not child:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with path.open("a") as file:
                file.write("@4000000069a5f3c000000000 status: local 0/10 remote 0/20\n" * 500)
            time.sleep(0.005)  # not to fill the disk; to read so many takes longer
        os._exit(0)
    try:
        found = probe(timeout=1)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert found["end"] == "unseen"
    assert 1 <= found["seconds"] < 200
    assert left(home) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted_it_cleans_up_after_itself(home, server, probe, error):
    to_the_sink(home, "|exit 111\n")
    server()
    (home.path / "mute").touch()

    def interrupted(*_):
        raise error

    before = signal.signal(signal.SIGUSR1, interrupted)
    parent = os.getpid()
    child = os.fork()
    if not child:
        deadline = time.monotonic() + 60
        while not is_taken(home) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(parent, signal.SIGUSR1)
        os._exit(0)
    try:
        with pytest.raises(error):
            probe(timeout=60)
    finally:
        os.waitpid(child, 0)
        signal.signal(signal.SIGUSR1, before)
    assert left(home) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted_while_it_cleans_up_it_begins_that_again(home, server, probe, modules, monkeypatch, error):
    to_the_sink(home, "|exit 111\n")
    server()
    (home.path / "stuck").touch()  # the first ALRM does nothing
    raised = []

    def interrupted(seconds):
        if raised:
            return time.sleep(seconds)
        wait_until(lambda: alarms(home))
        (home.path / "stuck").unlink()
        raised.append(error)
        raise error

    clock = types.SimpleNamespace(sleep=interrupted, time=time.time, monotonic=time.monotonic)
    monkeypatch.setitem(modules["qmail_queue_leftover.clear"].func.__globals__, "time", clock)
    with pytest.raises(error):
        probe()
    assert left(home) == []
    assert alarms(home) == 2


@pytest.mark.parametrize("how", ["interrupted", "too slow"])
def test_a_scanner_that_still_has_the_probe_does_not_queue_it_afterwards(
    home, server, probe, modules, monkeypatch, how
):
    to_the_sink(home)
    server()
    binary, begun, go = home.path / "bin/qmail-queue", home.path / "begun", home.path / "go"
    binary.rename(home.path / "bin/qmail-queue.real")
    # The shell's child scans, and the shell waits for it.
    wait = f"touch {begun}; while ! test -e {go}; do sleep 0.02; done"
    binary.write_text(f'#!/bin/sh\n(cat >{home.path}/scanned; {wait}; "$0.real" <{home.path}/scanned)\n')
    binary.chmod(0o755)
    inside = modules["qmail_doublebounce_probe.run"].__globals__

    def interrupted(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)
    parent, child = os.getpid(), None
    try:
        if how == "too slow":
            monkeypatch.setitem(inside, "TAKING", 1)
            with pytest.raises(CommandExecutionError, match="did not take the probe within 1 seconds"):
                probe()
        else:
            child = os.fork()
            if not child:
                deadline = time.monotonic() + 60
                while not begun.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                os.kill(parent, signal.SIGUSR1)
                os._exit(0)
            with pytest.raises(KeyboardInterrupt):
                probe()
    finally:
        signal.signal(signal.SIGUSR1, before)
        if child:
            os.waitpid(child, 0)
    assert not runs(home.path)
    assert queued(home) == []


def runs(home):
    """List what still runs of the programs of a home's qmail-queue."""
    found = []
    for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(home / "bin/qmail-queue") in place.read_bytes():
                found.append(place)
    return found


def test_a_log_that_goes_away_meanwhile_is_an_error_and_nothing_stays(home, server, probe, log):
    to_the_sink(home, "|exit 111\n")
    server()
    (home.path / "mute").touch()
    child = os.fork()
    if not child:
        deadline = time.monotonic() + 60
        while not queued(home) and time.monotonic() < deadline:
            time.sleep(0.01)
        (shutil.rmtree if log.is_dir() else os.unlink)(log)
        os._exit(0)
    try:
        with pytest.raises((CommandExecutionError, SaltInvocationError)):
            probe(timeout=60)
    finally:
        os.waitpid(child, 0)
    assert left(home) == []


def test_each_hop_that_waits_takes_one_alarm(home, server, probe):
    to_the_sink(home, "|exit 111\n")
    (home.path / "defer").write_text("doublebounce-probe-")
    server()
    found = probe()
    assert found["end"] == "deferred"
    assert len(found["left"].partition(" as message ")[2].partition(", and ")[0].split(", ")) == 2
    assert left(home) == []
    assert alarms(home) == 2


@pytest.mark.parametrize("log", ["multilog"], indirect=True)
def test_one_that_does_not_go_is_reported_and_no_more_alarms_are_sent(home, server, probe):
    to_the_sink(home, "|exit 111\n")
    server()
    (home.path / "stuck").touch()
    found = probe()
    assert f"It is in the queue as message {found['hops'][-1]['msg']}" in found["left"]
    assert alarms(home) == 1


def test_a_stray_entry_in_the_queue_hides_nothing(home, server, probe):
    to_the_sink(home, "|exit 111\n")
    server()
    for name in ("lost+found", "7"):
        (home.path / "queue/mess" / name).mkdir()
    found = probe()
    assert "told to give it up" in found["left"]
    assert left(home) == []


@pytest.fixture
def flood(home, modules, monkeypatch):
    """Messages that came before the probe, and a qmail-send that looks at none of them yet."""

    def flood(messages, least=0):
        monkeypatch.setitem(modules["qmail_doublebounce_probe.run"].__globals__, "LEAST", least)
        for number in range(messages):
            name = str(2**40 + number)
            (home.path / "queue/mess/0" / name).write_text("To: dummy@example.com\n\n")
            envelope = "u0\0p1\0Fjoe@example.com\0Tdummy@example.com\0\0"
            (home.path / "queue/todo" / name).write_text(envelope.rpartition("\0")[0])

    yield flood
    (home.path / "hold").unlink(missing_ok=True)


def test_where_mail_lies_before_it_the_probe_waits_in_proportion(home, server, probe, flood, states, log):
    to_the_sink(home)
    (home.path / "hold").touch()
    server()
    flood(10)
    found = probe(timeout=None)
    assert found["end"] == "unseen"
    assert 2 <= found["seconds"] < 30
    assert found["reason"] == (
        "It was still in the queue after 2 s, behind 10 messages that qmail-send had not looked at when it was sent. "
        "Wait longer: salt-call qmail_doublebounce.probe timeout=300; for every run, "
        "qmail_doublebounce:verify_timeout: 300."
    )
    assert "It is in the queue as message" in found["left"]
    returned = proved(states, home, log, always=True, timeout=0.1)  # as long as somebody says, and no longer
    assert "still in the queue after 0.1 s, behind 11 messages" in str(returned.comment)


def test_in_the_middle_of_a_flood_a_good_sink_is_proved(home, server, states, flood, log):
    to_the_sink(home)
    (home.path / "hold").touch()
    server()
    flood(300)
    child = os.fork()
    if not child:
        while len(queued(home)) == 300:
            time.sleep(0.01)
        (home.path / "hold").unlink()
        os._exit(0)
    try:
        returned = proved(states, home, log, always=True, timeout="auto")
    finally:
        os.waitpid(child, 0)
    assert returned.result is True, returned.comment


def test_how_long_to_wait_is_a_setting(modules, home, server, flood, log):
    to_the_sink(home)
    (home.path / "hold").touch()
    server()
    flood(10, least=30)
    pillar = {"address": ADDRESS, "verify_timeout": 1, "qmail": {"home": str(home.path), "log": str(log)}}
    found = modules.qmail_doublebounce.probe(pillar)
    assert "still in the queue after 1 s" in found["reason"]


def proved(states, home, log, **named):
    settings = {"address": ADDRESS, "home": str(home.path), "log": str(log), "timeout": 60, **named}
    return states.qmail_doublebounce.verified(name="double bounces vanish", **settings)


def test_the_state_proves_when_it_is_asked_to(states, home, server, log):
    to_the_sink(home)
    server()
    assert "Nothing has changed" in str(proved(states, home, log).comment)
    assert proved(states, home, log, always=True, test=True).result is None
    returned = proved(states, home, log, always=True)
    assert returned.result is True
    assert "The probe was swallowed" in str(returned.comment)


def test_the_state_fails_where_the_probe_ends_otherwise(states, home, server, log):
    to_the_sink(home, "./Maildir/\n")
    server()
    returned = proved(states, home, log, always=True)
    assert returned.result is False
    assert "It should have been swallowed." in str(returned.comment)
    assert proved(states, home, log, always=True, instruction="./Maildir/").result is True


@pytest.mark.parametrize("instruction", ["|exit 0", "#", "./Maildir/", ["|exit 0", "./Maildir/"]])
@pytest.mark.parametrize("mode", [0o1755, 0o777, pytest.param(0o700, marks=root)])
def test_a_mailbox_that_is_out_of_order_is_never_what_was_meant(states, home, server, log, instruction, mode):
    lines = [instruction] if isinstance(instruction, str) else instruction
    to_the_sink(home, "".join(f"{line}\n" for line in lines))
    server()
    os.chown(home.mailbox(), os.geteuid(), os.getegid())
    home.mailbox().chmod(mode)
    returned = proved(states, home, log, always=True, instruction=instruction)
    assert returned.result is False
    assert "The probe was deferred" in str(returned.comment)
    assert "It should have been s" in str(returned.comment)
    assert left(home) == []


@pytest.mark.parametrize("instruction", ["|cat >/dev/null", "|exit 111", "|exit 100", ["|cat", "|exit 0"]])
def test_what_nobody_can_see_or_want_is_refused_with_the_remedy(states, home, server, log, instruction):
    to_the_sink(home)
    server()
    returned = proved(states, home, log, always=True, instruction=instruction)
    assert returned.result is False
    assert "No probe can prove" in str(returned.comment)
    assert 'instruction to "|exit 0" or "#", or qmail_doublebounce:verify to false' in str(returned.comment)
    assert proved(states, home, log, always=True, instruction=instruction, test=True).result is False
    assert log_of(log).count("new msg") == 0


def test_what_a_program_lets_through_to_a_maildir_proves_that_it_is_stored(states, home, server, log):
    to_the_sink(home, "|cat >/dev/null\n./Maildir/\n")
    server()
    instruction = ["|cat >/dev/null", "./Maildir/"]
    assert proved(states, home, log, always=True, instruction=instruction).result is True
    assert stored(home) == []


@pytest.mark.parametrize("lost", [8, 9])
def test_a_copy_that_was_found_without_the_line_that_says_where_it_went_is_no_proof(states, home, server, log, lost):
    to_the_sink(home, "./Maildir/\n")
    server(drops=lost)
    returned = proved(states, home, log, always=True, instruction="./Maildir/", timeout=20)
    assert returned.result is False
    assert "The log lacks the line that says where it went." in str(returned.comment)
    assert stored(home) == []


def test_a_sink_that_swallows_elsewhere_is_no_proof(states, home, server, log):
    to_the_sink(home)
    home.add_mailbox("other", "|exit 0\n")
    home.write_control("doublebounceto", "other\n")
    server()
    home.write_control("doublebounceto", "dummy\n")
    returned = proved(states, home, log, always=True)
    assert returned.result is False
    assert "It went to 1-other@example.com, and should have gone to 1-dummy@example.com." in str(returned.comment)
    returned = proved(states, home, log, always=True, mode="discard", address=None)
    assert returned.result is False
    assert "qmail should have dropped it" in str(returned.comment)


def test_the_last_hop_alone_is_no_proof_that_qmail_send_sends_there(states, home, server, log):
    home.write_control("locals", "\n")
    home.add_assign(f"+1-:alias:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    to_the_sink(home)
    server()
    assert proved(states, home, log, always=True).result is True
    deadline = time.monotonic() + 60  # the start of a process is known to the clock tick
    while proved(states, home, log, always=True).result and time.monotonic() < deadline:
        home.write_control("doublebounceto", "dummy\n")
    returned = proved(states, home, log, always=True)
    assert returned.result is False
    assert "Only the last hop could be tested" in str(returned.comment)


def test_the_formula_proves_after_a_change_and_not_without_one(home, server, apply, log):
    home.write_control("doublebounceto", "dummy\n")
    home.write_control("doublebouncehost", "example.com\n")
    server()
    pillar = {"address": ADDRESS, "verify": True, "qmail": {"home": str(home.path), "log": str(log)}}
    dry = apply("qmail-doublebounce", pillar, test=True)
    assert dry[-1].result is None
    first = apply("qmail-doublebounce", pillar)
    assert [result.result for result in first] == [True] * 6, [str(result.comment) for result in first]
    assert "The probe was swallowed" in str(first[-1].comment)
    assert "Nothing has changed" in str(apply("qmail-doublebounce", pillar)[-1].comment)
