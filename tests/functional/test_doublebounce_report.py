"""The table shows each hour of the last day and each day of the last week, as they are in the log."""

import json
import pathlib
import time
from datetime import datetime

import pytest
import salt.payload
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
        return both(modules, str(log), end + 60)

    return report


def both(modules, *arguments, **named):
    """What a person gets, and what a program gets."""
    make = modules.qmail_doublebounce_report.make
    return {**make(*arguments, **named, table=False), **make(*arguments, **named)}


def told(row):
    """What the table has a bar for."""
    return {name: row[name] for name in ("queued", "discarded", "triple")}


def queued(number):
    return f"info msg {number}: bytes 705 from <#@[]> qp {number} uid 1007"


def test_each_hour_and_each_day_is_counted_in_its_row(report):
    lines = [(0, queued(1)), (3600, queued(2)), (3601, queued(3)), (3 * 86400, queued(4)), (9 * 86400, queued(5))]
    found = report([*lines, (3590, "triple bounce: discarding bounce/2"), (10, "double bounce: discarding bounce/9")])
    assert len(found["hours"]) == 3  # those in which there was any
    assert sum(line.count(":00 ") for line in found["table"].splitlines()) == 24
    assert told(found["hours"]["2026-11-24T12:00+00:00"]) == {"queued": 1, "discarded": 0, "triple": 0}
    assert told(found["hours"]["2026-11-24T11:00+00:00"]) == {"queued": 1, "discarded": 1, "triple": 1}
    assert told(found["hours"]["2026-11-24T10:00+00:00"]) == {"queued": 1, "discarded": 0, "triple": 0}
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
    assert {day: told(row) for day, row in found["days"].items()} == {
        "2026-10-25": {"queued": 3, "discarded": 0, "triple": 0}
    }


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


# What they cost, before the sink and since


@pytest.fixture
def sunk(modules, home, tmp_path, clock):
    """The report of a log, on a server whose double bounces this formula sends to a sink since noon."""

    def sunk(lines, came=NOON, **arguments):
        path = home.path / "control/doublebounceto"
        modules.qmail_control.put("doublebounceto", "dummy", home=str(home.path))
        (kept,) = pathlib.Path(modules.qmail_file.store(str(path))).glob("v1")
        record = json.loads(kept.read_text())
        kept.write_text(json.dumps({**record, "time": f"{datetime.fromtimestamp(came):%Y-%m-%dT%H:%M:%SZ}"}))
        log = tmp_path / "log"
        log.mkdir()
        stamped = (f"@{(1 << 62) + 10 + NOON + when:016x}00000000 {words}\n" for when, words in lines)
        (log / "current").write_text("".join(stamped))
        return both(modules, str(log), NOON + 3600, home=str(home.path), **arguments)

    return sunk


def life(number, begins, ends, sender, report, size=100):
    """The lines of one message for one local recipient."""
    return [
        (begins, f"info msg {number}: bytes {size} from <{sender}> qp {number} uid 7"),
        (begins, f"starting delivery {number}: msg {number} to local x@y.example"),
        (ends, f"delivery {number}: {report}"),
        (ends, f"end msg {number}"),
    ]


def in_order(*lives):
    return sorted((line for life in lives for line in life), key=lambda line: line[0])


def test_what_became_of_them_is_split_at_the_second_in_which_the_sink_came(sunk):
    stored, swallowed = "success: did_1+0+0/", "success: did_0+0+1/"
    found = sunk(
        in_order(
            life(1, -7200, -7100, "#@[]", stored, 300),
            life(2, -7200, -1, "joe@a.example", stored),
            life(3, -90, -1, "#@[]", "failure: no/"),
            [(-1, "triple bounce: discarding bounce/3")],
            life(4, -2, -1, "#@[]", "deferral: later/"),
            life(5, 0, 0, "#@[]", swallowed),
            life(6, 0, 3, "joe@a.example", stored),
            [(5, "double bounce: discarding bounce/9")],
        )
    )
    sink = found["sink"]
    assert (sink["since"], sink["hour"], sink["day"]) == (NOON, "2026-11-24T12:00+00:00", "2026-11-24")
    ends = ("queued", "triple", "stored", "deferred", "swallowed", "discarded")
    assert [sink["before"][name] for name in ends] == [3, 1, 1, 1, 0, 0]
    assert [sink["after"][name] for name in ends] == [1, 0, 0, 0, 1, 1]
    assert [found["total"][name] for name in ends] == [4, 1, 1, 1, 1, 1]
    assert (sink["before"]["share_of_deliveries"], sink["before"]["share_of_bytes"]) == (0.75, 0.8333)
    assert (sink["after"]["share_of_deliveries"], sink["after"]["share_of_bytes"]) == (0.5, 0.5)
    assert sink["before"]["wait_median"] == pytest.approx(7199, rel=1 / 32)
    assert (sink["after"]["waits"], sink["after"]["wait_median"], sink["after"]["wait_95"]) == (1, 3, 3)
    table = found["table"].splitlines()
    assert [line[:10] for line in table if "< the sink came at 12:00" in line] == ["Tue 12:00 ", "Tue 24 Nov"]
    assert "What became of them; the sink came on Tue 24 Nov 2026 12:00" in table
    rows = {line[:26].strip(): line[26:].split() for line in table}
    assert (rows["stored"], rows["swallowed"]) == (["1", "0"], ["0", "1"])
    assert rows["share of deliveries"] == ["75.0%", "50.0%"]
    assert rows["other local mail waited"] == ["2.0", "h", "3", "s"]


def test_an_hour_and_a_day_in_which_it_came_are_rows_as_all_others(sunk):
    lives = (life(number, at, at, "#@[]", "success: did_0+0+1/") for number, at in enumerate((-5, 5, 1800)))
    found = sunk(in_order(*lives), came=NOON + 900)
    assert {hour: row["swallowed"] for hour, row in found["hours"].items()} == {
        "2026-11-24T11:00+00:00": 1,
        "2026-11-24T12:00+00:00": 2,
    }
    assert found["days"]["2026-11-24"] == found["total"]
    assert (found["sink"]["before"]["swallowed"], found["sink"]["after"]["swallowed"]) == (2, 1)


def test_a_sink_that_was_put_back_is_no_mark(sunk, modules, home):
    log = sunk(life(1, 0, 0, "#@[]", "success: did_0+0+1/"))["log"]
    modules.qmail_control.restore("doublebounceto", home=str(home.path))
    found = both(modules, log, NOON + 60, home=str(home.path))
    assert found["sink"] is None
    assert found["total"]["swallowed"] == 1
    assert "What became of them, in the 7 days" in found["table"]


def test_where_the_control_files_already_were_right_the_dot_qmail_file_is_the_mark(modules, home, report):
    before = int(time.time())
    home.write_control("locals", "example.com\n")
    (home.path / "alias").chmod(0o755)
    modules.qmail_mailbox.write("dummy@example.com", home=str(home.path))
    log = report([(0, queued(1))])["log"]
    sink = both(modules, log, home=str(home.path))["sink"]
    assert before <= sink["since"] <= time.time()
    assert [one["address"] for one in modules.qmail_mailbox.sinks(str(home.path))] == ["dummy@example.com"]


def test_the_data_is_plain(sunk):
    """For a page, a file, a returner or a database: what JSON and msgpack hold, without a dot in a key."""
    data = sunk(in_order(life(1, -9, -1, "#@[]", "success: did_0+0+1/"), life(2, 1, 2, "a@b", "success: /")))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert salt.payload.loads(salt.payload.dumps(data)) == data
    found = list(keys(data))
    assert all(type(key) is str and "." not in key and "$" not in key for key in found)
    rows = [*data["hours"].values(), *data["days"].values(), data["total"], data["sink"]["before"]]
    assert len({tuple(row) for row in rows}) == 1
    assert all(value is None or type(value) in (int, float) for row in rows for value in row.values())


def keys(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)


def test_a_person_gets_the_text_and_a_program_the_data(sunk, modules):
    log = sunk(life(1, 0, 0, "#@[]", "success: did_0+0+1/"))["log"]
    source = {"log", "files", "unread", "how", "newest"}
    assert set(modules.qmail_doublebounce.report({}, log=log)) == {"table", *source}
    data = {"hours", "days", "total", "sink", "since", "until"}
    assert set(modules.qmail_doublebounce.report({}, log=log, table=False)) == {*data, *source}
    with pytest.raises(SaltInvocationError, match="table is True or False"):
        modules.qmail_doublebounce.report({}, log=log, table="never")


def test_a_week_of_a_busy_server_is_compact(sunk):
    lives = (
        life(number, -back, -back + 40, "#@[]", "success: did_0+0+1/")
        for number, back in enumerate(range(-3600, 6 * 86400, 1800))
    )
    data = sunk(in_order(*lives))
    del data["table"]
    assert (len(data["hours"]), len(data["days"])) == (24, 7)
    assert len(json.dumps(data)) < 20000
