"""The table shows each hour of the last day and each day of the last week, as they are in the log."""

import time

import pytest
from salt.exceptions import SaltInvocationError

NOON = 1795521600  # 2026-11-24 12:00:00 UTC


@pytest.fixture
def clock(monkeypatch):
    """Set this machine's zone."""

    def clock(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    clock("UTC")
    yield clock
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def report(modules, tmp_path, clock):
    """The report of a log with these double bounces: (seconds before its end, words)."""

    def report(lines, end=NOON):
        log = tmp_path / "log"
        log.mkdir()
        stamped = ((end - back, words) for back, words in lines)
        text = "".join(f"@{(1 << 62) + 10 + when:016x}00000000 {words}\n" for when, words in sorted(stamped))
        (log / "current").write_text(text)
        return modules.qmail_doublebounce_report.make(str(log), end + 60)

    return report


def queued(number):
    return f"info msg {number}: bytes 705 from <#@[]> qp {number} uid 1007"


def test_each_hour_and_each_day_is_counted_in_its_row(report):
    lines = [(0, queued(1)), (3600, queued(2)), (3601, queued(3)), (3 * 86400, queued(4)), (9 * 86400, queued(5))]
    found = report([*lines, (3590, "triple bounce: discarding bounce/2"), (10, "double bounce: discarding bounce/9")])
    assert len(found["hours"]) == 3  # those in which there was any
    assert sum(line.count(":00 ") for line in found["table"].splitlines()) == 24
    assert found["hours"]["2026-11-24T12:00+00:00"] == {"queued": 1, "discarded": 0, "triple": 0}
    assert found["hours"]["2026-11-24T11:00+00:00"] == {"queued": 1, "discarded": 1, "triple": 1}
    assert found["hours"]["2026-11-24T10:00+00:00"] == {"queued": 1, "discarded": 0, "triple": 0}
    assert list(found["days"]) == ["2026-11-21", "2026-11-24"]
    rows = [line.split()[:3] for line in found["table"].splitlines() if " Nov  " in line]
    assert [row[1] for row in rows] == [str(day) for day in range(18, 25)]
    assert found["days"]["2026-11-21"]["queued"] == 1
    assert sum(day["queued"] for day in found["days"].values()) == 4


def test_the_longest_bar_is_the_largest_hour_and_one_is_never_lost_beside_it(report):
    flood = [(7200 + number, queued(number)) for number in range(1000)]
    table = report([*flood, (0, queued(2000))])["table"].splitlines()
    bars = {line.split()[1]: line.count("#") for line in table if line.startswith("Tue") and ":00" in line}
    assert bars["12:00"] == 1
    assert max(bars.values()) == 40


def test_an_empty_log_is_an_empty_table(report):
    found = report([])
    assert (found["hours"], found["days"], found["newest"]) == ({}, {}, None)
    assert "#" not in found["table"]
    assert "empty" in found["table"].splitlines()[-1]


def test_a_log_that_is_silent_is_reported_below_the_table(report):
    found = report([(30 * 86400, queued(1))])
    assert found["hours"] == {}
    assert found["newest"] == NOON - 30 * 86400
    assert "wrote to it last on Sun 25 Oct 2026 12:00" in found["table"].splitlines()[-1]


@pytest.mark.parametrize("end", [1792890000 + 1800, 1792886400 + 5 * 3600])
def test_the_hour_that_comes_twice_has_two_rows(report, clock, end):
    """On 25 October 2026, at 01:00 UTC, clocks in Berlin went from 03:00 back to 02:00."""
    clock("Europe/Berlin")
    twice = 1792886400 + 600  # 00:10 UTC
    found = report([(end - twice, queued(1)), (end - twice - 3600, queued(2)), (end - twice - 3601, queued(3))], end)
    assert found["hours"]["2026-10-25T02:00+02:00"]["queued"] == 1
    assert found["hours"]["2026-10-25T02:00+01:00"]["queued"] == 2
    table = found["table"].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 24
    assert [line.split()[:4] for line in table if line.startswith("Sun 02:00")] == [
        ["Sun", "02:00", "CEST", "1"],
        ["Sun", "02:00", "CET", "2"],
    ]
    assert found["days"] == {"2026-10-25": {"queued": 3, "discarded": 0, "triple": 0}}


def test_the_hour_that_does_not_come_has_none(report, clock):
    """On 29 March 2026, at 01:00 UTC, clocks in Berlin went from 02:00 on to 03:00."""
    clock("Europe/Berlin")
    end = 1774746000 + 5 * 3600
    found = report([(5 * 3600 + 1, queued(1)), (5 * 3600 - 1, queued(2))], end)
    assert list(found["hours"]) == ["2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"]
    table = found["table"].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 24
    assert not any(line.startswith("Sun 02:00") for line in table)


def test_an_hour_that_begins_at_half_past_elsewhere(report, clock):
    """Clocks on Lord Howe Island go back by half an hour, on 5 April 2026 at 15:00 UTC the day before."""
    clock("Australia/Lord_Howe")
    end = 1775314800 + 6 * 3600 + 1800
    found = report([(back * 1800, queued(back)) for back in range(1, 40)], end)
    table = found["table"].split("\n\n")[0].splitlines()[2:]
    assert sum(int(line.split(":00")[1].split()[-4 if "#" in line else -3]) for line in table) == 39


def test_a_log_by_name_needs_no_right_pillar(modules, report):
    found = report([(0, queued(1))])
    wrong = {"addr": "x", "qmail": {"home": "/nonexistent"}}
    assert modules.qmail_doublebounce.report(wrong, log=found["log"])["log"] == found["log"]
    with pytest.raises(SaltInvocationError, match="qmail_doublebounce:addr "):
        modules.qmail_doublebounce.report(wrong)


def test_what_could_not_be_unpacked_is_reported_below_the_table(report, tmp_path, modules):
    found = report([(0, queued(1))])
    packed = tmp_path / "log/@400000006b04f24525a20e5c.s"
    packed.write_bytes(b"\x04\x22\x4d\x18")
    assert str(packed) in modules.qmail_doublebounce_report.make(found["log"], NOON)["table"].splitlines()[-1]
