"""On a real qmail the probe tells each end as it is, and the status has predicted it."""

import os

import pytest

ENDS = {"bounced": "triple-bounced"}  # the rest have the same names


@pytest.fixture
def look(modules, server):
    """Return the fate that the status predicts and the end that the probe finds; they must be the same."""

    def look(**named):
        status = modules.qmail_doublebounce.status({})
        probe = modules.qmail_doublebounce.probe({}, log=str(server.log), timeout=15)
        assert server.queued() == [], probe
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


def test_a_sink_that_stores_is_told_and_its_copy_is_taken_out(server, look):
    to_the_sink(server, "|exit 0\n./Maildir/\n")
    server.start()
    assert look()[1]["end"] == "stored"
    assert server.stored("sink") == []


def test_a_sink_that_defers_is_told_and_the_probe_is_given_up(server, look):
    to_the_sink(server)
    server.start()
    os.chmod(server.top / "sink", 0o1755)
    _, probe = look()
    assert probe["end"] == "deferred"
    assert "given up" in probe["left"] or "give it up" in probe["left"]


def test_a_qmail_send_that_was_not_restarted_uses_the_old_files(server, look):
    server.start()
    to_the_sink(server)
    os.kill(server.pid(), 1)  # HUP does not help
    status, probe = look()
    assert status["fate"] == "swallowed"
    assert status["service"]["loaded"] is False
    assert "does not know yet" in status["verdict"]
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
