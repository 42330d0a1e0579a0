"""On a real qmail the probe tells each end as it is, and the status has predicted it."""

import os
import signal
import stat
import subprocess
import time

import pytest

from tests.support.supervisors import wait_until

ENDS = {"bounced": "triple-bounced"}  # the rest have the same names


@pytest.fixture
def look(modules, server):
    """Return the fate that the status predicts and the end that the probe finds; they must be the same."""

    def look(**named):
        status = modules.qmail_doublebounce.status({})
        probe = modules.qmail_doublebounce.probe({}, log=str(server.log), timeout=60)
        wait_until(lambda: not server.queued(), why=probe)  # what is forwarded goes on by itself
        if status["service"]["loaded"]:
            assert ENDS.get(status["fate"], status["fate"]) == probe["end"], (status, probe)
        return status, probe

    return look


def to_the_sink(server, dotqmail="|exit 0\n"):
    server.write("doublebounceto", "sink\n")
    server.write("doublebouncehost", "doublebounce.test\n")
    server.dotqmail("sink", dotqmail)


def test_by_default_the_postmaster_stores_them_and_the_probe_is_taken_out_again(server, look):
    server.start()
    _, probe = look()
    assert probe["end"] == "stored"
    assert probe["sent"]["whole"] is True
    assert [hop["to"] for hop in probe["hops"]] == [probe["sent"]["to"], f"postmaster@{server.HOST}"]
    assert server.stored("postmaster") == []


def test_a_whole_address_in_doublebounceto_ends_as_a_triple_bounce(server, look):
    to_the_sink(server)
    server.write("doublebounceto", server.SINK + "\n")
    (server.control / "doublebouncehost").unlink()
    server.start()
    status, probe = look()
    assert probe["end"] == "triple-bounced"
    assert any("whole address" in found["problem"] for found in status["problems"])


@pytest.mark.parametrize("dotqmail", ["|exit 0\n", "#\n"])
def test_split_over_the_two_files_they_vanish(server, look, dotqmail):
    to_the_sink(server, dotqmail)
    server.start()
    _, probe = look()
    assert probe["end"] == "swallowed"
    assert probe["hops"][-1]["to"] == f"dbtest-{server.SINK}"
    assert server.stored("sink") == []


def test_a_hash_in_doublebounceto_is_a_name(server, look):
    server.write("doublebounceto", "#sink\n")
    server.start()
    assert look()[1]["end"] == "triple-bounced"


def test_a_carriage_return_is_part_of_the_name(server, look):
    to_the_sink(server)
    server.write("doublebounceto", "sink\r\n")
    server.start()
    status, probe = look()
    assert probe["end"] == "triple-bounced"
    assert any("carriage return" in found["problem"] for found in status["problems"])


def test_empty_on_a_local_host_they_are_dropped_on_delivery(server, look):
    server.write("doublebounceto", "\n")
    server.start()
    assert look()[1]["end"] in ("swallowed", "discarded")


def test_empty_on_a_virtual_host_they_end_as_triple_bounces(server, look, modules):
    server.write("doublebounceto", "\n")
    server.write("doublebouncehost", "doublebounce.test\n")
    server.start()
    expected = "discarded" if modules.qmail_control.discards() == "qmail-send" else "triple-bounced"
    assert look()[1]["end"] == expected


def test_a_sink_that_stores_is_reported_and_its_copy_is_taken_out(server, look):
    to_the_sink(server, "|exit 0\n./Maildir/\n")
    server.start()
    assert look()[1]["end"] == "stored"
    assert server.stored("sink") == []


def test_a_sink_that_forwards_is_reported_and_counted(server, look, modules):
    to_the_sink(server, f"&postmaster@{server.HOST}\n")
    server.start()
    assert look()[1]["end"] == "forwarded"
    wait_until(lambda: len(server.stored("postmaster")) == 1)
    told = modules.qmail_log.summary(str(server.log))
    assert (told["forwarded"], told["stored"]) == (1, 1)  # from the sink, and for the postmaster


def test_a_sink_that_defers_is_reported_and_the_probe_is_given_up(server, look):
    to_the_sink(server)
    server.start()
    os.chmod(server.top / "sink", 0o1755)
    _, probe = look()
    assert probe["end"] == "deferred"
    assert "given up" in probe["left"] or "give it up" in probe["left"]


@pytest.fixture
def alarms(modules, monkeypatch):
    """Count how often ALRM is sent."""
    sent, kill = [], os.kill

    def counted(pid, number):
        sent.append(number)
        kill(pid, number)

    monkeypatch.setattr(modules.qmail_queue_leftover.clear.__globals__["os"], "kill", counted)
    return lambda: sent.count(signal.SIGALRM)


def test_one_alarm_is_enough_for_a_probe_that_waits(server, look, alarms):
    to_the_sink(server)
    server.start()
    os.chmod(server.top / "sink", 0o1755)
    assert "give it up" in look()[1]["left"]
    assert alarms() == 1


@pytest.fixture
def sticky_alias(ours):
    """Mail for ~alias, which is who nobody's mail goes to, is deferred."""
    mode = stat.S_IMODE((ours / "alias").stat().st_mode)
    (ours / "alias").chmod(mode | stat.S_ISVTX)


@pytest.mark.usefixtures("sticky_alias")
@pytest.mark.parametrize(("dotqmail", "times"), [("|exit 0\n", 1), ("./Maildir/\n", 1), ("|exit 111\n", 2)])
def test_one_that_waits_on_its_first_hop_takes_an_alarm_for_each_that_does(server, modules, alarms, dotqmail, times):
    to_the_sink(server, dotqmail)
    server.start()
    probe = modules.qmail_doublebounce.probe({}, log=str(server.log), timeout=60)
    assert probe["end"] == "deferred"
    assert "give it up" in probe["left"]
    assert (server.queued(), server.stored("sink")) == ([], [])
    assert times <= alarms() <= 2  # on a slow machine the double bounce is still on its way at the second look


def test_one_that_a_program_of_the_mailbox_stores_is_found(server, modules):
    to_the_sink(server, "|cat >Maildir/new/by-a-program\n")
    server.start()
    probe = modules.qmail_doublebounce.probe({}, log=str(server.log), timeout=60)
    assert probe["end"] == "stored"
    assert server.stored("sink") == []


def test_where_qmail_queue_hands_messages_on_the_probe_is_followed(server, modules, qmail):
    to_the_sink(server)
    binary, real = qmail / "bin/qmail-queue", qmail / "bin/qmail-queue.real"
    binary.rename(real)
    try:
        binary.write_text(f"#!/bin/sh\n{real}\nexit $?\n")
        binary.chmod(0o755)
        server.start()
        probe = modules.qmail_doublebounce.probe({}, log=str(server.log), timeout=60)
    finally:
        real.replace(binary)
    assert probe["end"] == "swallowed"
    assert "recognized by its size" in probe["reason"]
    assert server.queued() == []


def test_interrupted_in_the_middle_nothing_stays(server, modules):
    to_the_sink(server, "|exit 111\n")
    server.start()

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    parent, deadline = os.getpid(), time.monotonic() + 20
    child = os.fork()
    if not child:
        while "doublebounce-probe" not in server.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(parent, signal.SIGUSR1)
        os._exit(0)
    (server.top / "empty").touch()
    try:
        with pytest.raises(KeyboardInterrupt):
            modules.qmail_doublebounce.probe({}, log=str(server.top / "empty"), timeout=20)
    finally:
        os.waitpid(child, 0)
        signal.signal(signal.SIGUSR1, before)
    assert server.queued() == []


@pytest.mark.parametrize("closed", ["doublebounceto", "locals", "bouncehost", ""])
def test_what_the_next_start_would_die_of_is_reported_while_the_old_one_runs(server, modules, closed):
    to_the_sink(server)
    server.write("bouncehost", "mail.doublebounce.test\n")
    server.start()
    assert modules.qmail_service_startup.unreadable() == []
    path = server.control / closed
    path.chmod(0o700 if not closed else 0o600)
    (found,) = modules.qmail_service_startup.unreadable()
    assert found["path"] == str(path if closed else server.control.resolve())
    status = modules.qmail_doublebounce.status({}, address=server.SINK)
    assert status["pillar"]["holds"] is False
    assert status["problems"][0]["remedy"] == found["remedy"]
    server.stop()
    assert [one["path"] for one in modules.qmail_service_startup.unreadable()] == [
        found["path"]
    ]  # by the owner of the queue
    server.log.write_text("")
    subprocess.run([server.ctl, "start"], check=True, timeout=20)
    deadline = time.monotonic() + 10
    while "unable to read controls" not in server.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "unable to read controls" in server.log.read_text()
    subprocess.run(found["remedy"], shell=True, check=True)
    assert modules.qmail_service_startup.unreadable() == []


def test_a_qmail_send_that_was_not_restarted_uses_the_old_files(server, look):
    server.start()
    to_the_sink(server)
    os.kill(server.pid(), 1)  # HUP does not help
    status, probe = look()
    assert status["fate"] == "swallowed"
    assert status["service"]["loaded"] is False
    assert "does not know that yet" in status["verdict"]
    assert probe["end"] == "stored"
    assert probe["hops"][-1]["to"] == f"postmaster@{server.HOST}"
    assert server.stored("postmaster") == []  # the copy was taken out where it really went


def test_where_a_catch_all_receives_everything_only_the_last_hop_is_tried(server, look, modules):
    to_the_sink(server)
    server.write("locals", "\n")
    server.write("me", "elsewhere.test\n")
    server.write("virtualdomains", "doublebounce.test:dbtest\n")
    from tests.support import cdb

    lines = [
        f"=dbtest-sink:x:54321:54321:{server.top}/sink:::",
        f"+dbtest-:x:54321:54321:{server.top}/postmaster:-::",
    ]
    (server.qmail / "users/cdb").write_bytes(cdb.from_assign("\n".join(lines)))
    (server.top / "postmaster/.qmail-default").write_text("./Maildir/\n")
    server.start()
    _, probe = look()
    assert probe["sent"] == {"to": server.SINK, "from": "<#@[]>", "whole": False}
    assert probe["end"] == "swallowed"
