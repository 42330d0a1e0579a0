"""
The heads of log lines: times, names, what splogger cut.
"""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _modules import qmail_log_line, qmail_log_time
from tests.support.wired import wired

START = 1795486275


@pytest.fixture
def configure_loader_modules():
    return wired()


LINES = st.lists(
    st.one_of(
        st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")),
        st.integers(0, 2**64 - 1).map(lambda label: b"@%016x00000000 new msg 5" % label),
        st.integers(0, 10**11).map(lambda now: b"%09d.5 vm qmail: end msg 5" % now),
        st.sampled_from(
            [b"Feb 29 25:61:61 vm qmail: new msg 1", b"Foo 99 00:00:00 vm qmail: x", b"9999-99-99 00:00:00 new msg 1"]
        ),
        st.sampled_from([b"Nov 24 02:11:15 vm qmail: 1795486275.513354+", b"Nov 24 02:11:15 vm qmail: qmail-send: "]),
    )
).map(lambda lines: b"\n".join(lines) + b"\n")


def local(*when):
    return time.mktime((*when, 0, 0, -1))


@pytest.mark.parametrize(
    "line, seconds",
    [
        (b"@400000006b04f24d1e99ac4c new msg 5", START),
        (b"Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5", START),
        (b"Jan  1 00:00:00 vm qmail[7]: 1795486275.513354 new msg 5", START),
        (b"1795486275.513354 vm qmail-send[7]: new msg 5", START),
        (b"2026-11-24T03:11:15.513354+01:00 vm qmail: new msg 5", START),
        (b"2026-11-24T02:11:15Z vm qmail-send[7]: new msg 5", START),
        (b"2026-11-24_02:11:15.51335 new msg 5", START),
        (b"2026-11-24T02:11:15.51335 new msg 5", START),
        (b"2026-11-24 02:11:15.513354000 new msg 5", local(2026, 11, 24, 2, 11, 15)),
        (b"2026-11-24 02:11:15.513354000  new msg 5", local(2026, 11, 24, 2, 11, 15)),
        (b"Nov 24 02:11:15 vm qmail-send: new msg 5", local(2026, 11, 24, 2, 11, 15)),
        (b"Nov 25 12:11:15 vm qmail-send: new msg 5", local(2025, 11, 25, 12, 11, 15)),
        (b"Nov  4 02:11:15 vm qmail-send: new msg 5", local(2026, 11, 4, 2, 11, 15)),
        (b"Dec 31 23:59:59 vm qmail-send: new msg 5", local(2025, 12, 31, 23, 59, 59)),
        (b"Feb 29 23:59:59 vm qmail-send: new msg 5", local(2024, 2, 29, 23, 59, 59)),
        (b"Nov 24 02:11:15 vm dovecot: hello", local(2026, 11, 24, 2, 11, 15)),
        (b"@400000006b04f24d1e99ac4c\tnew msg 5", START),
        (b"@400000006b04f24d1e99ac4c 2026-11-24 02:11:15.513354000  new msg 5", START),
        (b"2026-11-24_02:11:15.51335 mx1: new msg 5", START),
        (b"<22>1 2026-11-24T02:11:15.513354+00:00 vm qmail 77 - - new msg 5", START),
        (b"<22>Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5", START),
        (b"Nov 24 02:11:15.513354 vm qmail-start[7]: new msg 5", local(2026, 11, 24, 2, 11, 15)),
        (b"Tue 2026-11-24 02:11:15 UTC vm qmail-start[7]: new msg 5", START),
        (b"Tue 2026-11-24 03:11:15 +01 vm qmail-start[7]: new msg 5", START),
        (b"2026-11-24T02:11:15+0000 vm qmail-start[7]: new msg 5", START),
        (b"new msg 5", None),
        (b"Nov 24 25:61:61 vm qmail: new msg 5", None),
        (b"Nov 24 24:00:00 vm qmail: new msg 5", None),
        (b"2026-11-24 25:61:61 new msg 5", None),
        (b"Feb 30 23:59:59 vm qmail-send: new msg 5", None),
        (b"Foo 24 02:11:15 vm qmail-send: new msg 5", None),
        (b"2026-13-24 02:11:15 new msg 5", None),
        (b"", None),
    ],
)
def test_the_time_of_a_line(line, seconds):
    assert qmail_log_time.first_time(line, START) == seconds


def test_a_stamp_of_splogger_is_worth_more_than_the_time_of_another_line():
    lines = b"Nov 23 02:11:15 vm dovecot: hello\nNov 23 02:11:15 vm qmail: 1795486275.513354 new msg 5\n"
    assert qmail_log_time.first_time(lines, START) == START


def said_in(data):
    """qmail-send's words in a block, without the lines that have none."""
    runs = qmail_log_line.runs(data, START)
    return [line[skip:] for lines, skip, _ in runs for line in lines if line[skip:]]


@pytest.mark.parametrize(
    "line, words",
    [
        (b"Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5", [b"new msg 5"]),
        (b"Nov 24 02:11:15 vm qmail[77]: new msg 5", [b"new msg 5"]),
        (b"Nov 24 02:11:15 vm mail.info qmail[77]: new msg 5", [b"new msg 5"]),
        (b"Nov 24 02:11:15 vm qmail-send[77]: qmail-send: info: msg 5: bytes", [b"info msg 5: bytes"]),
        (b"@400000006b04f24d1e99ac4c qmail-send: notice: end msg 5", [b"end msg 5"]),
        (b"@400000006b04f24d1e99ac4c mx1: new msg 5", [b"new msg 5"]),
        (b"<22>qmail: new msg 5", [b"new msg 5"]),
        (b"<22>1 2026-11-24T02:11:15Z vm spamd 77 - - new msg 5", []),
        (b"<22>1 2026-11-24T02:11:15Z vm spamd qmail - - new msg 5", []),
        (b"<22>Nov 24 02:11:15 spamd[7]: qmail: new msg 5", []),
        (b"2026-11-24T02:11:15+00:00 mx1: new msg 5", []),
        (b"Nov 24 02:11:15 vm qmail-local: new msg 5", []),
        (b"Nov 24 02:11:15 vm qmail-pop3d: new msg 5", []),
        (b"Nov 24 02:11:15 vm spamd[77]: new msg 5", []),
        (b"Nov 24 02:11:15 vm qmail-smtpd[77]: new msg 5", []),
        (b"Nov 24 02:11:15 vm qmail: hello", []),
        (b"Nov 24 02:11:15 new msg 5", []),
        (b"Nov 24 02:11:15 vm qmail: 1795486275.513354+new msg 5", []),
    ],
)
def test_the_words_of_a_line(line, words):
    assert [said for said in said_in(line + b"\n") if b"msg" in said] == words


def test_other_programs_between_are_left_out_and_another_process_id_is_not():
    lines = (
        b"Nov 24 02:11:15 vm qmail[7]: new msg 5\nNov 24 02:11:15 vm x: y\nNov 24 02:11:15 vm qmail[123]: end msg 5\n"
    )
    assert said_in(lines) == [b"new msg 5", b"end msg 5"]


def test_a_prefix_precedes_every_line_or_it_is_another_program():
    own = b"2026-11-24_02:11:15.51335 mx1: new msg 5\n2026-11-24_02:11:15.51335 mx1: end msg 5\n"
    assert said_in(own) == [b"new msg 5", b"end msg 5"]
    smtpd = b"2026-11-24_02:11:15.51335 qmail-smtpd: new msg 6\n"
    assert said_in(smtpd + own) == [b"new msg 5", b"end msg 5"]
    words = said_in(smtpd * 9 + b"2026-11-24_02:11:15.51335 new msg 5\n")
    assert [said for said in words if said.startswith(b"new msg")] == [b"new msg 5"]


@pytest.mark.parametrize("line, hour", [(b"CEST", 0), (b"CET", 3600)])
def test_the_name_of_the_zone_distinguishes_the_two_hours(monkeypatch, line, hour):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        told = qmail_log_time.first_time(b"Sun 2026-10-25 02:30:00 " + line + b" vm qmail-start[7]: new msg 1", START)
        assert told == 1792888200 + hour
    finally:
        monkeypatch.undo()
        time.tzset()


@given(LINES)
def test_any_bytes(data):
    for function in (qmail_log_time.first_time, qmail_log_time.segments):
        function(data, START)
    for lines, skip, (start, stop, times) in qmail_log_line.runs(data, START):
        assert skip >= 0 and all(isinstance(line, bytes) for line in lines)
        assert all(times[line[start:stop]] is None or isinstance(times[line[start:stop]], int) for line in lines)
    qmail_log_line.count(data, b" from <#@[]> qp ", rb"info msg \d+")


@given(LINES, st.integers(0, 2**33), st.integers(0, 2**33), st.sampled_from(["hour", "day"]))
def test_segments_lose_nothing(data, since, until, by):
    parts = qmail_log_time.segments(data, START, since, until, by)
    assert b"".join(part for _, part in parts) == data
    assert all(part.endswith(b"\n") for _, part in parts)
    assert all(slot in (None, False, "unknown") or re.match(r"\d{4}-\d\d-\d\d", slot) for slot, _ in parts)


def test_segments_are_cut_at_the_hour_and_at_the_window():
    lines = [b"%d.5 vm qmail: new msg %d\n" % (START + 60 * minute, minute) for minute in range(300)]
    parts = qmail_log_time.segments(b"".join(lines), START, START + 3600, START + 3 * 3600)
    edges = [None] + sorted({slot for slot, _ in parts if slot}) + [False]
    assert [slot for slot, _ in parts if slot is not None and slot is not False] and len(edges) >= 4
    for slot, part in parts:
        for line in part.splitlines(True):
            assert [slot] == [
                found for found, _ in qmail_log_time.segments(line, START, START + 3600, START + 3 * 3600)
            ]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_hours_are_this_machine_s(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        ((slot, _),) = qmail_log_time.segments(b"1795486275.5 vm qmail: new msg 1\n", START)
        assert slot == time.strftime("%Y-%m-%dT%H:00", time.localtime(START)) + slot[16:]
        assert slot[16:].replace(":", "") == time.strftime("%z", time.localtime(START))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_hour_that_comes_twice_is_two(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        first = 1792886400 + 1800  # 2026-10-25, 00:30 UTC: 02:30 in summer time
        lines = b"".join(b"%d.5 vm qmail: new msg 1\n" % now for now in (first, first + 3600))
        slots = [slot for slot, _ in qmail_log_time.segments(lines, START)]
        assert slots == ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_counting_looks_at_each_line_where_others_write_as_well():
    mark, before = b" from <#@[]> qp ", rb"info msg \d+: bytes \d+"
    said = b"info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n"
    syslog, multilog = b"Nov 24 02:11:15 vm qmail: ", b"@400000006b04f24d1e99ac4c "
    assert qmail_log_line.count(syslog + said, mark, before) == 1
    assert qmail_log_line.count(multilog + said, mark, before) == 1
    assert qmail_log_line.count(syslog + said + syslog + said + b"Nov 24 02:11:15 vm evil: " + said, mark, before) == 2
    assert qmail_log_line.count(multilog + b"qmail-send: info: " + said[5:], mark, before) == 1
    assert qmail_log_line.count(b"Nov 24 02:11:15 vm evil: " + said, mark, before) == 0
    assert qmail_log_line.count("new msg 5\n" + said.decode(), mark.decode(), before.decode()) == 1
