"""
What qmail-send's words tell: fates, forks, and the bounds of memory.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _modules import qmail_log_form, qmail_log_harm, qmail_log_message, qmail_log_words
from tests.support.wired import wired

NO_TIME = qmail_log_message.NO_TIME
ENDED = b"info msg 5: bytes 9 from <#@[]> qp 1 uid 2"


@pytest.fixture(scope="module")
def configure_loader_modules():
    return wired()


def follow(*lines):
    return followed(("slot", lines, 0))


def followed(*parts):
    """What is found in parts of a log, with the counts of all slots."""
    told = qmail_log_message.follow([lambda: ((slot, [(lines, skip, NO_TIME)], 1) for slot, lines, skip in parts)])
    return {**told, "counts": qmail_log_harm.total(told["slots"].values(), told["names"])[0]}


def timed(*lines):
    """The same of lines that begin with ten digits: the seconds each was waited for, by bucket."""
    times = qmail_log_form.clock(None, 0)[2]
    times.read = int
    told = qmail_log_message.follow([lambda: [("slot", [(lines, 11, (0, 10, times))], 1)]])
    ((_, waits),) = told["slots"].values()
    return {bucket: number for bucket, number in enumerate(waits) if number}


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
    always = {"double_bounces", "deliveries", "double_bounce_deliveries", "queued_bytes", "double_bounce_bytes"}
    assert counts == always | ({fate} if fate else set())


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
    told = followed((None, [ENDED, lines[0]], 0), ("later", lines[1:], 0))
    assert {name for name, count in told["counts"].items() if count} == {"swallowed"}
    assert told["recipients"] == {}


@pytest.fixture
def small(monkeypatch):
    for name in ("DOUBLES", "MAILS", "NULLS", "CAUSES", "DELIVERIES", "NOTICES", "NAMES", "SLOTS"):
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
                b"info msg y%d: bytes 9 from <a@b> qp %d uid 2" % (number, 3000 + number),
            ],
            0,
        )
        tracker.bound()
    known = dict.fromkeys(("doubles", "mails", "nulls", "causes", "deliveries", "notices"), 10)
    for name, most in {**known, "recipients": 20, "domains": 20, "slots": 11}.items():
        assert 0 < len(getattr(tracker, name)) <= most, name
    assert max(len(tracker.shared), len(tracker.fates)) <= 12
    told = tracker.told()
    assert qmail_log_harm.total(told["slots"].values(), told["names"])[0]["double_bounces"] == 300
    assert "more" in told["slots"]


def test_the_oldest_is_forgotten_first(small):
    lines = [b"info msg %d: bytes 9 from <#@[]> qp 1 uid 2" % number for number in range(15)]
    last = [b"starting delivery 1: msg 14 to local a@b", b"starting delivery 2: msg 0 to local c@d"]
    told = followed(("slot", lines, 0), ("slot", last, 0))
    assert told["recipients"] == {"a@b": 1}


def test_numbers_and_addresses_of_any_length_are_not_kept():
    long = b"9" * 3000
    tracker = qmail_log_message._Tracker()
    tracker.enter("slot")
    tracker.feed(
        [
            b"info msg %s: bytes 9 from <#@[]> qp %s uid 2" % (long, long),
            b"info msg %s: bytes %s from <a@b> qp %s uid 2" % (long, long, long),
            b"starting delivery 1: msg %s to local %s@b" % (long, long),
            b"starting delivery 2: msg 5 to local %s@%s" % (long, long),
            b"delivery 2: failure: no",
            b"bounce msg 5 qp %s" % long,
        ],
        0,
    )
    kept = [*tracker.doubles, *tracker.mails, *tracker.causes, *tracker.causes.values(), *tracker.notices]
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
        followed(("slot", lines, skip), (None, lines, skip))


# How long ordinary mail waited


QUEUED = b"1795486275 info msg 5: bytes 9 from <a@b.example> qp 1 uid 2"


def test_a_wait_is_from_the_queue_to_the_delivery_and_each_recipient_has_his_own():
    found = timed(
        QUEUED,
        b"1795486276 starting delivery 1: msg 5 to local c@d.example",
        b"1795486276 starting delivery 2: msg 5 to local e@d.example",
        b"1795486277 delivery 2: deferral: later/",
        b"1795486279 delivery 1: success: did_1+0+0/",
        b"1795486280 starting delivery 3: msg 5 to local e@d.example",
        b"1795486305 delivery 3: success: did_1+0+0/",
        b"1795486305 end msg 5",
    )
    assert found == {4: 1, 30: 1}


@pytest.mark.parametrize(
    "lines",
    [
        [QUEUED.replace(b"a@b.example", b"")],
        [QUEUED.replace(b"a@b.example", b"#@[]")],
        [],
        [QUEUED, b"1795486276 end msg 5"],
        [QUEUED, QUEUED.replace(b"a@b.example", b"")],
    ],
)
def test_what_is_not_ordinary_or_not_known_is_not_waited_for(lines):
    delivered = b"1795486276 starting delivery 1: msg 5 to local c@d", b"1795486279 delivery 1: success: did_1+0+0/"
    assert timed(*lines, *delivered) == {}


@pytest.mark.parametrize("report", [b"failure: no/", b"deferral: later/", b"report mangled, will defer"])
def test_what_was_not_delivered_is_not_waited_for(report):
    started = b"1795486276 starting delivery 1: msg 5 to local c@d"
    assert timed(QUEUED, started, b"1795486279 delivery 1: " + report) == {}


def test_mail_for_elsewhere_is_not_waited_for():
    started = b"1795486276 starting delivery 1: msg 5 to remote c@d"
    assert timed(QUEUED, started, b"1795486279 delivery 1: success: 1.2.3.4_ok/") == {}


def test_a_clock_that_was_set_back_makes_no_negative_wait():
    delivered = b"1795486270 starting delivery 1: msg 5 to local c@d", b"1795486271 delivery 1: success: did_1+0+0/"
    assert timed(QUEUED, *delivered) == {0: 1}


def test_a_number_that_is_used_again_is_waited_for_from_then_on():
    delivered = b"1795486380 starting delivery 1: msg 5 to local c@d", b"1795486381 delivery 1: success: did_1+0+0/"
    assert timed(QUEUED, QUEUED.replace(b"6275", b"6380"), *delivered) == {1: 1}


def test_shares_are_of_what_was_started_and_of_what_was_queued():
    told = followed(
        ("slot", [ENDED, b"info msg 6: bytes 27 from <a@b> qp 1 uid 2", b"starting delivery 1: msg 5 to local x@y"], 0),
        ("slot", [b"starting delivery %d: msg 6 to remote x@y" % number for number in (2, 3, 4)], 0),
    )
    row = qmail_log_harm.row(*qmail_log_harm.total(told["slots"].values(), told["names"]))
    assert (row["share_of_deliveries"], row["share_of_bytes"]) == (0.25, 0.25)
    assert (row["queued_bytes"], row["double_bounce_bytes"]) == (36, 9)
    assert (row["waits"], row["wait_median"], row["wait_95"]) == (0, None, None)


@given(st.lists(st.one_of(st.integers(0, 100), st.integers(0, 2**23 - 1)), min_size=1))
def test_a_percentile_is_the_nearest_rank_within_a_thirty_second_part(waits):
    size, bucket = qmail_log_harm.buckets()
    numbers = [0] * size
    for seconds in waits:
        numbers[bucket(seconds)] += 1
    counts = dict.fromkeys(qmail_log_message.COUNTS, 0)
    row = qmail_log_harm.row(counts, numbers)
    assert row["waits"] == len(waits)
    for name, hundredths in (("wait_median", 50), ("wait_95", 95)):
        exact = sorted(waits)[-(-len(waits) * hundredths // 100) - 1]
        assert abs(row[name] - exact) <= exact / 32
        assert exact >= 32 or row[name] == exact


@pytest.mark.parametrize("seconds", [2**23, 2**40])
def test_the_longest_waits_are_one_bucket(seconds):
    size, bucket = qmail_log_harm.buckets()
    assert bucket(seconds) == size - 1
