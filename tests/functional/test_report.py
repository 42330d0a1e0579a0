"""The table shows each hour of the last day and each day of the last week, as they are in the log."""

import time

import pytest

NOON = 1795521600  # 2026-11-24 12:00:00 UTC


@pytest.fixture
def report(modules, tmp_path, monkeypatch):
    """The report at noon, of a log with these double bounces: (seconds before noon, words)."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def report(lines):
        log = tmp_path / "log"
        log.mkdir()
        stamped = ((NOON - back, words) for back, words in lines)
        text = "".join(f"@{(1 << 62) + 10 + when:016x}00000000 {words}\n" for when, words in sorted(stamped))
        (log / "current").write_text(text)
        return modules.qmail_report.make(str(log), NOON + 60)

    yield report
    monkeypatch.undo()
    time.tzset()


def queued(number):
    return f"info msg {number}: bytes 705 from <#@[]> qp {number} uid 1007"


def test_each_hour_and_each_day_is_counted_in_its_row(report):
    lines = [(0, queued(1)), (3600, queued(2)), (3601, queued(3)), (3 * 86400, queued(4)), (9 * 86400, queued(5))]
    found = report([*lines, (3590, "triple bounce: discarding bounce/2"), (10, "double bounce: discarding bounce/9")])
    assert len(found["hours"]) == 24
    assert found["hours"]["2026-11-24T12:00+00:00"] == {"queued": 1, "discarded": 0, "triple": 0}
    assert found["hours"]["2026-11-24T11:00+00:00"] == {"queued": 1, "discarded": 1, "triple": 1}
    assert found["hours"]["2026-11-24T10:00+00:00"] == {"queued": 1, "discarded": 0, "triple": 0}
    assert list(found["days"]) == [f"2026-11-{day}" for day in range(18, 25)]
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
    assert all(row == {"queued": 0, "discarded": 0, "triple": 0} for row in found["hours"].values())
    assert "#" not in found["table"]
