"""The formula on a real qmail: it sends double bounces to the sink, proves it, and everything is as it was after."""

import pytest


@pytest.fixture
def pillar(server):
    server.start()
    return {
        "address": server.SINK,
        "verify": True,
        "qmail": {"log": str(server.log)},
        "service": {"provider": "qmailctl", "name": str(server.ctl)},
    }


def snapshot(server):
    places = [server.control, server.top / "sink"]
    files = [path for place in places for path in sorted(place.rglob("*")) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in files}


def test_apply_proves_itself_and_again_changes_nothing_and_clean_puts_all_back(apply, server, pillar, modules):
    before = snapshot(server)
    assert modules.qmail_doublebounce.probe({}, log=str(server.log))["end"] == "stored"
    results = apply("qmail-doublebounce", pillar)
    assert [result.result for result in results] == [True] * 6, [str(result.comment) for result in results]
    assert "The probe was swallowed" in str(results[-1].comment)
    pid = modules.qmail_base_process.find()
    again = apply("qmail-doublebounce", pillar)
    assert [result.changes for result in again] == [{}] * 6
    assert "Nothing has changed" in str(again[-1].comment)
    assert modules.qmail_base_process.find() == pid
    assert all(result.result is True for result in apply("qmail-doublebounce.clean", pillar))
    assert snapshot(server) == before
    assert modules.qmail_doublebounce.probe({}, log=str(server.log))["end"] == "stored"


def test_a_sink_that_does_not_hold_fails_the_proof(apply, states, server, pillar):
    """The probe asks qmail, not the files: here the mailbox has been changed behind the formula's back."""
    apply("qmail-doublebounce", pillar)
    server.dotqmail("sink", "./Maildir/\n")
    proof = {"address": server.SINK, "log": str(server.log), "always": True}
    returned = states.qmail_doublebounce.verified(name="proof", **proof)
    assert returned.result is False
    assert "The probe was stored" in str(returned.comment)
    assert "It should have been swallowed." in str(returned.comment)
    assert server.stored("sink") == []
    assert states.qmail_doublebounce.verified(name="proof", **proof, test=True).result is None
