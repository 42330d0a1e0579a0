"""The probe tells every end as it is, through rotations too, and leaves nothing behind."""

import shutil
import time

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.mta import Mta

ADDRESS = "dummy@example.com"


@pytest.fixture(params=["multilog", "syslog"])
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
    def probe(timeout=20):
        return modules.qmail_doublebounce.probe({}, timeout, ADDRESS, str(home.path), log=str(log))

    return probe


def to_the_sink(home, dotqmail="|exit 0\n"):
    home.write_control("doublebounceto", "dummy\n")
    home.write_control("doublebouncehost", "example.com\n")
    (home.mailbox() / ".qmail").write_text(dotqmail)


def queued(home):
    return list((home.path / "queue/mess/0").iterdir())


def test_a_sink_swallows_and_both_hops_are_told(home, server, probe):
    to_the_sink(home)
    server()
    found = probe()
    assert found["end"] == "swallowed"
    assert found["sent"]["whole"] is True
    assert [hop["to"].partition("@")[2] for hop in found["hops"]] == ["mail.example.net", "example.com"]
    assert found["hops"][0]["report"].startswith("failure: Sorry")
    assert found["hops"][1]["report"] == "success: did_0+0+1/"
    assert all(0 <= hop["seconds"] < 20 for hop in found["hops"])
    assert any("from <#@[]>" in line for line in found["log"])
    assert found["left"] == ""
    assert queued(home) == []


def test_a_whole_address_ends_as_a_triple_bounce(home, server, probe):
    to_the_sink(home)
    home.write_control("doublebounceto", "dummy@example.com\n")
    home.write_control("doublebouncehost", "mail.example.net\n")
    server()
    assert probe()["end"] == "triple-bounced"
    assert queued(home) == []


def test_a_qmail_that_discards_is_told(home, server, probe):
    home.write_control("doublebounceto", "\n")
    server(discard=True)
    found = probe()
    assert found["end"] == "discarded"
    assert len(found["hops"]) == 1


def test_an_empty_local_part_on_a_local_host_is_dropped(home, server, probe):
    home.write_control("doublebounceto", "\n")
    server()
    assert probe()["end"] == "swallowed"


def test_a_mailbox_that_stores_is_told_and_the_copy_is_taken_out(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    (home.mailbox() / "Maildir/new/real").write_text("Subject: real mail\n")
    server()
    found = probe()
    assert found["end"] == "stored"
    assert found["left"] == "1 copies of it were removed from there."
    assert [path.name for path in (home.mailbox() / "Maildir/new").iterdir()] == ["real"]


def test_the_copy_is_taken_out_where_it_really_went_and_not_where_the_files_say(home, server, probe):
    to_the_sink(home, "./Maildir/\n")
    server()
    home.add_mailbox("other", "|exit 0\n")
    home.write_control("doublebounceto", "other\n")
    found = probe()
    assert found["end"] == "stored"
    assert list((home.mailbox() / "Maildir/new").iterdir()) == []


def test_an_mbox_keeps_its_copy_and_that_is_told(home, server, probe):
    to_the_sink(home, "./mbox\n")
    server()
    found = probe()
    assert found["end"] == "stored"
    assert str(home.mailbox() / "mbox") in found["left"]


def test_a_forward_is_told(home, server, probe):
    to_the_sink(home, "&joe@elsewhere.example\n")
    server()
    found = probe()
    assert found["end"] == "forwarded"
    assert "forwarded" in found["left"]


def test_a_sink_that_defers_is_told_and_its_probe_is_given_up(home, server, probe):
    to_the_sink(home)
    server()
    home.mailbox().chmod(0o1755)
    found = probe()
    assert found["end"] == "deferred"
    assert "made to give it up" in found["left"]
    assert queued(home) == []


def test_a_program_that_alone_knows_is_no_proof(home, server, probe):
    to_the_sink(home, "|cat >/dev/null\n")
    server()
    found = probe()
    assert found["end"] == "unseen"
    assert "only it knows" in found["reason"]


def test_a_rotation_in_the_middle_loses_nothing(home, server, probe):
    to_the_sink(home)
    server()
    (home.path / "rotate").touch()
    assert probe()["end"] == "swallowed"
    assert not (home.path / "rotate").exists()


def test_a_log_that_stands_still_is_told(home, server, probe):
    to_the_sink(home)
    server()
    (home.path / "mute").touch()
    found = probe(timeout=1)
    assert found["end"] == "unseen"
    assert "does not show it" in found["reason"]
    assert found["left"] == "It is not in the queue."
    assert queued(home) == []


def test_a_log_that_is_not_there_is_told_before_anything_is_sent(home, server, probe, log):
    server()
    shutil.rmtree(log) if log.is_dir() else log.unlink()
    with pytest.raises(SaltInvocationError, match="log"):
        probe()
    assert queued(home) == []


def test_a_full_disk_is_told_in_the_words_of_qmail_queue(home, server, probe):
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


def proved(states, home, log, **named):
    settings = {"address": ADDRESS, "home": str(home.path), "log": str(log), "timeout": 20}
    return states.qmail_doublebounce.verified(name="double bounces vanish", **settings, **named)


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


def test_the_formula_proves_after_a_change_and_not_without_one(home, server, apply, log):
    home.write_control("doublebounceto", "dummy\n")
    home.write_control("doublebouncehost", "example.com\n")
    server()
    pillar = {"address": ADDRESS, "verify": True, "qmail": {"home": str(home.path), "log": str(log)}}
    dry = apply("qmail-doublebounce", pillar, test=True)
    assert dry[-1].result is None
    first = apply("qmail-doublebounce", pillar)
    assert [result.result for result in first] == [True] * 5, [str(result.comment) for result in first]
    assert "The probe was swallowed" in str(first[-1].comment)
    began = time.monotonic()
    assert "Nothing has changed" in str(apply("qmail-doublebounce", pillar)[-1].comment)
    assert time.monotonic() - began < 60
