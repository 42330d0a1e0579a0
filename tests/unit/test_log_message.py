"""
What qmail-send's words tell: fates, forks, and the bounds of memory.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _modules import qmail_log_message, qmail_log_words
from tests.support.wired import wired

ENDED = b"info msg 5: bytes 9 from <#@[]> qp 1 uid 2"


@pytest.fixture(scope="module")
def configure_loader_modules():
    return wired()


def follow(*lines):
    return qmail_log_message.follow([("slot", lines, 0)])


@pytest.mark.parametrize(
    "channel, report, fate",
    [
        (b"local", b"success: did_0+0+1/", "swallowed"),
        (b"local", b"success: did_0+0+0/", "swallowed"),
        (b"local", b"success: ", "swallowed"),
        (b"local", b"success: said_this/did_0+0+1/", "swallowed"),
        (b"local", b"success: did_1+0+0/did_0+0+1/", "swallowed"),
        (b"local", b"success: did_1+0+0/", "stored"),
        (b"local", b"success: did_1+1+1/", "stored"),
        (b"local", b"success: did_0+0+2/", "stored"),
        (b"local", b"success: it_is_kept/", "stored"),
        (b"local", b"success: did_0+1+0/", "forwarded"),
        (b"local", b"success: did_0+1+2/", "forwarded"),
        (b"local", b"success: did_0+1+0/qp_1234/", "forwarded"),
        (b"local", b"success: said_this/did_0+2+1/qp_1234/", "forwarded"),
        (b"local", b"success: did 0+1+0 qp 1234 ", "forwarded"),
        (b"local", b"success: did_1+1+0/qp_1234/", "stored"),
        (b"local", b"success: did_0+1+0/qp_1234/did_0+0+1/", "swallowed"),
        (b"local", b"success: did_0+1+0/qp_mine/", "stored"),
        (b"remote", b"success: 1.2.3.4_accepted_message./", "forwarded"),
        (b"local", b"deferral: Temporary_error/", "deferred"),
        (b"local", b"report mangled, will defer", "deferred"),
        (b"local", b"success: did 0+0+1 ", "swallowed"),
        (b"local", b"failure: no/", None),
    ],
)
def test_the_fate_of_a_double_bounce(channel, report, fate):
    told = follow(ENDED, b"starting delivery 1: msg 5 to %s sink@example" % channel, b"delivery 1: " + report)
    counts = {name for name, count in told["counts"].items() if count}
    assert counts == {"double_bounces", "deliveries"} | ({fate} if fate else set())


@pytest.mark.parametrize(
    "said, stock",
    [
        (b"info msg 5: bytes 9 from <> qp 1 uid 2 queue1", b"info msg 5.queue1: bytes 9 from <> qp 1 uid 2"),
        (b"info msg 5: bytes 9 from <a b> qp 1 uid 2", b"info msg 5: bytes 9 from <a_b> qp 1 uid 2"),
        (b"starting delivery 1: msg 5 to local a@b queue1", b"starting delivery 1.queue1: msg 5.queue1 to local a@b"),
        (
            b"starting delivery 1.queue1: msg 5 to local a@b queue1",
            b"starting delivery 1.queue1: msg 5.queue1 to local a@b",
        ),
        (b'starting delivery 1: msg 5 to remote "a b"@c', b'starting delivery 1: msg 5 to remote "a_b"@c'),
        (b"delivery 1: success: did_0+0+1/ queue1", b"delivery 1.queue1: success: did_0+0+1/"),
        (b"delivery 1.queue1: success:  queue1", b"delivery 1.queue1: success: "),
        (b"delivery 1: report mangled, will defer: queue1", b"delivery 1.queue1: report mangled, will defer"),
        (b"bounce msg 5 qp 6 queue1", b"bounce msg 5.queue1 qp 6"),
        (b"end msg 5 qmail-send: queue1", b"end msg 5.queue1"),
        (b"end msg 5 queue1", b"end msg 5.queue1"),
        (b"triple bounce: discarding bounce/5 queue1", b"triple bounce: discarding bounce/5.queue1"),
        (b"delivery 1: success: did_0+0+1/", b"delivery 1: success: did_0+0+1/"),
        (b"warning: unable to stat", None),
    ],
)
def test_forks_say_the_same(said, stock):
    assert qmail_log_words.stock(said) == stock


def test_the_first_failure_of_the_original_message_is_the_cause():
    told = follow(
        b"info msg 1: bytes 9 from <a@b> qp 10 uid 2",
        b"starting delivery 1: msg 1 to remote x@First.example",
        b"starting delivery 2: msg 1 to remote x@second.example",
        b"delivery 1: failure: no/",
        b"delivery 2: failure: no/",
        b"bounce msg 1 qp 11",
        b"end msg 1",
        b"info msg 2: bytes 9 from <> qp 11 uid 2",
        b"starting delivery 3: msg 2 to remote a@b",
        b"delivery 3: failure: no/",
        b"bounce msg 2 qp 12",
        b"end msg 2",
        b"info msg 1: bytes 9 from <#@[]> qp 12 uid 2",
    )
    assert told["domains"] == {"first.example": 1}
    assert told["counts"]["single_bounces"] == told["counts"]["double_bounces"] == 1


def test_a_number_that_is_used_again_is_another_message():
    told = follow(
        ENDED,
        b"starting delivery 1: msg 5 to local sink@example",
        b"delivery 1: success: did_0+0+1/",
        b"end msg 5",
        b"info msg 5: bytes 9 from <a@b> qp 1 uid 2",
        b"starting delivery 2: msg 5 to local a@example",
        b"delivery 2: success: did_1+0+0/",
    )
    assert (told["counts"]["swallowed"], told["counts"]["stored"]) == (1, 0)


def test_a_number_that_is_used_again_without_an_end_in_the_log_is_another_message():
    told = follow(
        ENDED,
        b"info msg 5: bytes 9 from <a@b> qp 1 uid 2",
        b"starting delivery 2: msg 5 to local a@example",
        b"delivery 2: success: did_1+0+0/",
    )
    assert told["counts"]["stored"] == 0


def test_a_recipient_is_counted_once_for_each_double_bounce():
    told = follow(
        ENDED,
        b"starting delivery 1: msg 5 to local sink@example",
        b"delivery 1: deferral: later/",
        b"starting delivery 2: msg 5 to local sink@example",
        b"delivery 2: success: did_0+0+1/",
    )
    assert told["recipients"] == {"sink@example": 1}
    assert (told["counts"]["deferred"], told["counts"]["swallowed"]) == (1, 1)


def test_what_is_not_to_be_counted_is_followed():
    lines = [b"starting delivery 1: msg 5 to local sink@example", b"delivery 1: success: did_0+0+1/"]
    told = qmail_log_message.follow([(None, [ENDED, lines[0]], 0), ("later", lines[1:], 0)])
    assert {name for name, count in told["counts"].items() if count} == {"swallowed"}
    assert told["recipients"] == {}


@pytest.fixture
def small(monkeypatch):
    for name in ("DOUBLES", "NULLS", "CAUSES", "DELIVERIES", "NOTICES", "NAMES", "SLOTS"):
        monkeypatch.setattr(qmail_log_message, f"MOST_{name}", 10)


def test_memory_is_bounded(small):
    tracker = qmail_log_message._Tracker()
    for number in range(200):
        tracker.enter(f"slot {number}")
        tracker.feed(
            [
                b"info msg %d: bytes 9 from <%s> qp %d uid 2" % (number, b"#@[]" if number % 2 else b"", number),
                b"starting delivery %d: msg %d to local x%d@d%d.example" % (number, number, number, number),
                b"starting delivery x%d: msg %d to local x%d@%d.example" % (number, number, number, number),
                b"delivery %d: failure: no" % number,
                b"delivery %d: success: %d" % (number, number),
                b"bounce msg %d qp %d" % (number, 1000 + number),
                b"bounce msg %d qp %d" % (number, 2000 + number),
                b"info msg x%d: bytes 9 from <#@[]> qp %d uid 2" % (number, 1000 + number),
            ],
            0,
        )
        tracker.bound()
    known = dict.fromkeys(("doubles", "nulls", "causes", "deliveries", "notices"), 10)
    for name, most in {**known, "recipients": 20, "domains": 20, "slots": 11}.items():
        assert 0 < len(getattr(tracker, name)) <= most, name
    assert max(len(tracker.shared), len(tracker.fates)) <= 12
    assert tracker.told()["counts"]["double_bounces"] == 300
    assert "more" in tracker.told()["by"]


def test_the_oldest_is_forgotten_first(small):
    lines = [b"info msg %d: bytes 9 from <#@[]> qp 1 uid 2" % number for number in range(15)]
    last = [b"starting delivery 1: msg 14 to local a@b", b"starting delivery 2: msg 0 to local c@d"]
    told = qmail_log_message.follow([("slot", lines, 0), ("slot", last, 0)])
    assert told["recipients"] == {"a@b": 1}


def test_numbers_and_addresses_of_any_length_are_not_kept():
    long = b"9" * 3000
    tracker = qmail_log_message._Tracker()
    tracker.enter("slot")
    tracker.feed(
        [
            b"info msg %s: bytes 9 from <#@[]> qp %s uid 2" % (long, long),
            b"starting delivery 1: msg %s to local %s@b" % (long, long),
            b"starting delivery 2: msg 5 to local %s@%s" % (long, long),
            b"delivery 2: failure: no",
            b"bounce msg 5 qp %s" % long,
        ],
        0,
    )
    kept = [*tracker.doubles, *tracker.causes, *tracker.causes.values(), *tracker.notices]
    assert all(len(name) <= 64 for name in kept)
    assert all(len(b"".join(fields)) < 700 for fields in tracker.deliveries.values())


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80), st.sampled_from([b"info msg 5:", b"delivery 5:", b"starting delivery", b"end msg "])
        )
    )
)
def test_any_words(lines):
    for skip in (0, 3):
        qmail_log_message.follow([("slot", lines, skip), (None, lines, skip)])
