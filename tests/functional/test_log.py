"""
qmail_log on the logs of a real qmail-send, and on those of a model of it.
"""

import bz2
import contextlib
import gzip
import json
import lzma
import os
import pathlib
import shutil
import stat
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import log_model, supervisors

REPOSITORY = pathlib.Path(__file__).parents[2]
DATA = REPOSITORY / "tests" / "data"
START = 1795486275
RECORDINGS = [(d, f) for d in ("logs", "logs-discard") for f in ("multilog-current", "maillog")]
# Examples run on files in one directory, which hypothesis would rather have new for each.
MARKS = ("double_bounces", "discarded", "triple_bounces")
MANY = settings(max_examples=60)

FEW = settings(MANY, max_examples=8)


@pytest.fixture
def log(modules):
    return modules


def truth_of(directory, file):
    known = json.loads((DATA / directory / "truth.json").read_text())
    return [phase for phase in known if phase["file"] == file]


def phases_of(text):
    """qmail-send was restarted between the phases: each ends when it exits."""
    phases = text.split(b"status: exiting\n")
    assert not phases[-1].strip()
    return phases[:-1]


def counts_of(result):
    return {name: result[name] for name in log_model.COUNTS}


def modelled(seed, form="multilog", dialect=lambda words: words, since=0, until=2**40, steps=300, **more):
    """A log of the model, as text, and its books."""
    books = log_model.Books(since, until)
    send = log_model.QmailSend(seed, [books], **more).run(steps)
    lines = [log_model.FORMS[form](now, dialect(words)) for now, words in send.lines]
    return b"\n".join(lines) + b"\n", books, send


def agrees(result, books):
    assert counts_of(result) == books.totals()
    assert {hour: counts_of(row) for hour, row in result["by"].items()} == books.by
    for row, counts, waits in (
        (result, books.totals(), books.waited()),
        *((result["by"][hour], books.by[hour], books.waits.get(hour, [])) for hour in books.by),
    ):
        agrees_on_the_harm(row, counts, waits)
    assert result["recipients"] == dict(books.recipients)
    assert result["domains"] == dict(books.domains)


def agrees_on_the_harm(row, counts, waits):
    """The shares to four digits, and the waits within a thirty-second part: what was counted, by other arithmetic."""
    for share, part, whole in (
        ("share_of_deliveries", "double_bounce_deliveries", "deliveries"),
        ("share_of_bytes", "double_bounce_bytes", "queued_bytes"),
    ):
        assert row[share] == (float(f"{counts[part] / counts[whole]:.4f}") if counts[whole] else None)
    assert row["waits"] == len(waits)
    for name, hundredths in (("wait_median", 50), ("wait_95", 95)):
        exact = sorted(waits)[-(-len(waits) * hundredths // 100) - 1] if waits else None
        assert row[name] is exact is None or abs(row[name] - exact) <= exact / 32, (name, row[name], exact)


# Recordings


@pytest.mark.parametrize("directory, file", RECORDINGS)
def test_a_recording_agrees_with_what_was_put_in(log, directory, file):
    truth = truth_of(directory, file)
    result = log["qmail_log.summary"](str(DATA / directory / file))
    for name in ("double_bounces", "discarded", "triple_bounces", "single_bounces"):
        assert result[name] == sum(phase.get(name, 0) for phase in truth), name


@pytest.mark.parametrize("directory, file", RECORDINGS)
def test_each_phase_of_a_recording_agrees(log, directory, file, tmp_path):
    truth = truth_of(directory, file)
    phases = phases_of((DATA / directory / file).read_bytes())
    assert len(phases) == len(truth)
    for phase, known in zip(phases, truth):
        (tmp_path / "log").write_bytes(phase)
        result = log["qmail_log.summary"](str(tmp_path / "log"))
        for name in ("double_bounces", "discarded", "triple_bounces", "single_bounces"):
            assert result[name] == known.get(name, 0), (known["phase"], name)
        assert result["waits"] == known["other_delivered"]  # all of them within two seconds
        assert 0 <= result["wait_median"] <= result["wait_95"] <= 2
        fates = {"postmaster": "stored", "sink": "swallowed"}
        if known["phase"] in fates:
            assert result[fates[known["phase"]]] == known["double_bounces"]


@pytest.mark.parametrize("directory, file", RECORDINGS)
def test_counting_agrees_with_the_summary(log, directory, file):
    path = str(DATA / directory / file)
    summary = log["qmail_log.summary"](path)
    for what in ("double_bounces", "discarded", "triple_bounces"):
        result = log["qmail_log.count"](what, path)
        assert result[what] == summary[what]
        assert result["by"] == {hour: counts[what] for hour, counts in summary["by"].items() if counts[what]}


def test_recipients_and_domains_are_reported(log):
    result = log["qmail_log.summary"](str(DATA / "logs" / "multilog-current"))
    assert result["recipients"] == {
        "1-dummy@example.com": 51,
        "postmaster@mail.test.local": 50,
        "dummy@example.com@mail.test.local": 48,
    }
    assert result["domains"] == {"mail.test.local": 149}


# The model


@pytest.mark.parametrize("form", sorted(log_model.FORMS))
@given(seed=st.integers(0, 2**32), discards=st.booleans())
@FEW
def test_made_up_lifetimes_are_counted_exactly(log, tmp_path, form, seed, discards):
    text, books, send = modelled(seed, form, discards=discards)
    path = tmp_path / "log"
    path.write_bytes(text)
    os.utime(path, (START + 30000, START + 30000))
    result = log["qmail_log.summary"](str(path))
    agrees(result, books)
    assert result["newest"] == int(send.lines[-1][0])
    for what in MARKS:
        assert log["qmail_log.count"](what, str(path))[what] == books.totals()[what]


def test_what_is_counted_at_once_is_what_is_counted_one_by_one(log, tmp_path):
    (tmp_path / "log").write_bytes(modelled("at once", discards=True)[0])
    result = log["qmail_log.counts"](str(tmp_path / "log"))
    for what in MARKS:
        one = log["qmail_log.count"](what, str(tmp_path / "log"))
        assert one[what] == result[what]
        assert one["by"] == {slot: counts[what] for slot, counts in result["by"].items() if counts[what]}
        assert {**one, "seconds": 0, what: 0, "by": 0}.items() <= {**result, "seconds": 0, what: 0, "by": 0}.items()


@given(seed=st.integers(0, 2**32), edges=st.tuples(st.integers(0, 12000), st.integers(1, 12000)))
@MANY
def test_messages_on_their_way_when_the_window_begins_count_right(log, tmp_path, seed, edges):
    since, until = START + edges[0], START + edges[0] + edges[1]
    text, books, _ = modelled(seed, since=since, until=until)
    (tmp_path / "log").write_bytes(text)
    agrees(log["qmail_log.summary"](str(tmp_path / "log"), since=since, until=until), books)
    count = log["qmail_log.count"](path=str(tmp_path / "log"), since=since, until=until)
    assert count["double_bounces"] == books.totals()["double_bounces"]


@given(seed=st.integers(0, 2**32), form=st.sampled_from(["multilog", "toaster", "syslog-pid", "svlogd-prefix"]))
@MANY
def test_eqmail_s_words_are_understood(log, tmp_path, seed, form):
    text, books, _ = modelled(seed, form, log_model.eqmail)
    (tmp_path / "log").write_bytes(text)
    os.utime(tmp_path / "log", (START + 30000, START + 30000))
    agrees(log["qmail_log.summary"](str(tmp_path / "log")), books)
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["double_bounces"] == books.totals()["double_bounces"]


@given(seed=st.integers(0, 2**32), form=st.sampled_from(["multilog", "syslog"]))
@MANY
def test_indimail_s_queues_have_numbers_of_their_own(log, tmp_path, seed, form):
    books = log_model.Books()
    lines = []
    for queue in (b"queue1", b"queue2", b"slowq"):
        send = log_model.QmailSend(f"{seed}{queue}", [books])
        # Process ids are the machine's, not the queue's.
        send.pids = [1000 * len(lines) + pid for pid in send.pids]
        lines += [(now, log_model.indimail(words, queue)) for now, words in send.run(300).lines]
    text = b"".join(log_model.FORMS[form](now, words) + b"\n" for now, words in sorted(lines, key=lambda line: line[0]))
    (tmp_path / "log").write_bytes(text)
    agrees(log["qmail_log.summary"](str(tmp_path / "log")), books)


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), max_size=40),
    st.integers(0, 2**32),
)
@MANY
def test_no_line_is_a_reason_to_stop(log, tmp_path, junk, seed):
    text, _, _ = modelled(seed, steps=30)
    lines = text.split(b"\n")
    mixed = [part for pair in zip(lines, junk) for part in pair] + [line[:40] + part for line, part in zip(lines, junk)]
    (tmp_path / "log").write_bytes(b"\n".join(mixed))
    log["qmail_log.summary"](str(tmp_path / "log"))
    log["qmail_log.harm"](str(tmp_path / "log"), since=1, mark=START + 5)
    log["qmail_log.count"](path=str(tmp_path / "log"))
    log["qmail_log.summary"](str(tmp_path / "log"), since=1, until=START)


@given(seed=st.integers(0, 2**32), form=st.sampled_from(["multilog", "syslog"]), mark=st.integers(-100, 7000))
@MANY
def test_harm_is_cut_at_an_instant_and_shown_by_the_hour_and_by_the_day(log, tmp_path, seed, form, mark):
    mark += START
    books = {"total": log_model.Books(), "before": log_model.Books(0, mark), "after": log_model.Books(mark)}
    send = log_model.QmailSend(seed, list(books.values())).run(300)
    (tmp_path / "log").write_bytes(b"".join(log_model.FORMS[form](*line) + b"\n" for line in send.lines))
    os.utime(tmp_path / "log", (START + 30000, START + 30000))
    result = log["qmail_log.harm"](str(tmp_path / "log"), mark=mark)
    agrees({**result["total"], "by": result["hours"], "recipients": {}, "domains": {}}, nameless(books["total"]))
    for side, book in books.items():
        assert counts_of(result[side]) == book.totals()
        agrees_on_the_harm(result[side], book.totals(), book.waited())
    for day, row in result["days"].items():
        assert counts_of(row) == {
            name: sum(counts[name] for hour, counts in books["total"].by.items() if hour.startswith(day))
            for name in log_model.COUNTS
        }
    whole = log["qmail_log.harm"](str(tmp_path / "log"))
    assert (whole["total"], whole["hours"]) == (result["total"], result["hours"])
    assert whole["before"] is whole["after"] is None


def nameless(books):
    books.recipients, books.domains = {}, {}
    return books


# Half a log


def test_a_double_bounce_queued_before_the_log_begins_is_no_single_bounce(log, tmp_path):
    path = tmp_path / "log"
    path.write_bytes(
        b"delivery 7: failure: x/\nbounce msg 5 qp 70\nend msg 5\n"
        b"new msg 6\ninfo msg 6: bytes 9 from <#@[]> qp 70 uid 7\n"
    )
    result = log["qmail_log.summary"](str(path))
    assert (result["double_bounces"], result["single_bounces"]) == (1, 0)


def test_a_log_without_times_is_counted_as_a_whole(log, tmp_path):
    (tmp_path / "log").write_bytes(b"info msg 6: bytes 9 from <#@[]> qp 70 uid 7\n")
    assert list(log["qmail_log.summary"](str(tmp_path / "log"))["by"]) == ["unknown"]
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["by"] == {"unknown": 1}
    with pytest.raises(CommandExecutionError, match="no times"):
        log["qmail_log.summary"](str(tmp_path / "log"), since="24h")


def test_days(log):
    result = log["qmail_log.summary"](str(DATA / "logs" / "maillog"), by="day")
    assert len(result["by"]) == 1
    assert next(iter(result["by"]))[:9] == "2026-11-2"


# Hostile lines


def test_another_program_in_the_same_syslog_is_not_believed(log, tmp_path):
    said = b"info msg 1: bytes 2 from <#@[]> qp 3 uid 4"
    text = b"".join(
        b"Nov 24 02:11:15 vm " + name + said + b"\n"
        for name in (b"spamd[3]: ", b"", b"x qmail: ", b"qmail-smtpd[1]: qmail: ")
    )
    (tmp_path / "log").write_bytes(b"Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5\n" + text)
    assert log["qmail_log.summary"](str(tmp_path / "log"))["double_bounces"] == 0
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["double_bounces"] == 0
    (tmp_path / "log").write_bytes(text)
    for function in ("summary", "count"):
        with pytest.raises(CommandExecutionError, match="no line of qmail-send"):
            log[f"qmail_log.{function}"](path=str(tmp_path / "log"))


FALSE = [
    b"info msg 7: bytes 99999 from <#@[]> qp 3 uid 4",
    b"info msg 1: bytes 99999 from <x@y> qp 3 uid 4",
    b"starting delivery 1: msg 1 to local x@y",
    b"delivery 1: success: did_0+0+1/",
    b"end msg 1",
]


@pytest.mark.parametrize("form", ["syslog", "multilog"])
def test_hostile_lines_change_neither_shares_nor_waits(log, tmp_path, form):
    """Other programs of the same log, and addresses, say what qmail-send might: at a time that would count."""
    own = [
        (0, b"info msg 1: bytes 10 from <a@b.example> qp 3 uid 4"),
        (1, b"starting delivery 1: msg 1 to local delivery_1:_success:@end_msg_1"),
        (90, b"delivery 1: success: delivery_1:_success:_did_0+0+1/info_msg_7:_bytes_9_from_<#@[]>/did_1+0+0/"),
        (91, b"info msg 2: bytes 30 from <#@[]> qp 4 uid 4"),
        (91, b"starting delivery 2: msg 2 to local x@y"),
    ]
    names = {"syslog": [b"smtpd: ", b"qmail-smtpd[1]: qmail: ", b"x qmail: "], "multilog": [b"smtpd: ", b" ", b"- "]}
    lines = [log_model.FORMS[form](START + when, words) for when, words in own]
    plain = (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n") and log["qmail_log.summary"](
        str(tmp_path / "log")
    )
    for name in names[form]:
        mixed = []
        for (when, _), line in zip(own, lines):
            lies = [log_model.FORMS[form](START + when + 50, b"|" + words) for words in FALSE]
            cut = b" vm qmail: %.6f |" % (START + when + 50), b" vm " + name
            mixed += [line, *(lie.replace(*cut).replace(b"|", name) for lie in lies)]
        (tmp_path / "log").write_bytes(b"\n".join(mixed) + b"\n")
        result = log["qmail_log.summary"](str(tmp_path / "log"))
        different = {key for key in plain if plain[key] != result[key]} - {"seconds", "bytes", "newest"}
        assert not different, (name, different)
    assert (plain["waits"], plain["share_of_bytes"], plain["share_of_deliveries"]) == (1, 0.75, 0.5)
    assert plain["wait_median"] == pytest.approx(90, rel=1 / 32)


OWN = b"@400000006b04f24525a20e5c info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n"
OWN_TIME = int(OWN[1:17], 16) - 2**62 - 10
# What smtpd and others may write into the same multilog.
SHARED = [
    b"@400000006b04f24525a20e5c qmail-smtpd: rejected info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n",
    b"@400000006b04f24525a20e5c qmail-smtpd: info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n",
    b"@400000006b04f24525a20e5c CHKUSER rejected sender: from <#@[]> qp\n",
    b"@400000006b04f24525a20e5c tcpserver: status: 1/40\n",
    b"@400000006b04f24525a20e5c x: triple bounce: discarding bounce/7\n",
    b"@400000006b04f24525a20e5c  triple bounce: discarding bounce/7\n",
    b"info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n",
    b"\n",
]


@given(st.lists(st.sampled_from([OWN, OWN.replace(b"3", b"33"), *SHARED]), min_size=1, max_size=90))
@MANY
def test_in_a_log_that_others_share_both_count_the_same(log, tmp_path, lines):
    (tmp_path / "log").write_bytes(OWN + b"".join(lines))
    summary = log["qmail_log.summary"](str(tmp_path / "log"))
    counted = log["qmail_log.counts"](str(tmp_path / "log"))
    assert {what: counted[what] for what in MARKS} == {what: summary[what] for what in MARKS}
    assert summary["double_bounces"] == 1 + sum(
        b"CHK" not in line and b"smtpd" not in line for line in lines if b"info" in line and line.startswith(b"@")
    )


def test_after_many_lines_of_others_both_count_the_same(log, tmp_path):
    (tmp_path / "log").write_bytes(b"".join(SHARED[:6]) * 20 + OWN)
    assert log["qmail_log.summary"](str(tmp_path / "log"))["double_bounces"] == 1
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["double_bounces"] == 1


@pytest.mark.parametrize(
    "time", [b"Nov 24 25:61:61 vm qmail: ", b"2026-11-24 25:61:61 ", b"Nov 31 02:00:00 vm qmail: "]
)
def test_an_impossible_time_makes_no_hour_of_its_own(log, tmp_path, time):
    good = time.replace(b"25:61:61", b"02:00:00").replace(b"31", b"30")
    words = b"info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n"
    for lines, hours in (([time], {"unknown"}), ([good, time], None), ([time, good], None)):
        (tmp_path / "log").write_bytes(b"".join(line + words for line in lines))
        result = log["qmail_log.count"](path=str(tmp_path / "log"))
        assert result["double_bounces"] == len(lines)
        assert set(result["by"]) == hours if hours else len(result["by"]) == 1


def test_an_address_can_t_imitate_a_double_bounce(log, tmp_path):
    lines = [
        b"@400000006b04f24525a20e5c info msg 1: bytes 2 from <x_from_<#@[]>_qp_> qp 3 uid 4",
        b"@400000006b04f24525a20e5c info msg 2: bytes 2 from <#@[]>x> qp 3 uid 4",
        b"@400000006b04f24525a20e5c starting delivery 1: msg 2 to remote a_from_<#@[]>_qp_@b",
        b'@400000006b04f24525a20e5c qmail-send: info: msg 3: bytes 2 from <"a from <#@[]> qp 1 uid 2"@b> qp 3 uid 4',
        b'@400000006b04f24525a20e5c qmail-send: info: msg 3: bytes 2 from <"a <#@[]> qp 3 uid 4',
        b'@400000006b04f24525a20e5c qmail-send: starting delivery 2: msg 3 to remote "bytes 2 from <#@[]> qp 1"@b',
    ]
    for some in (lines[:3], lines[3:]):
        (tmp_path / "log").write_bytes(b"\n".join(some) + b"\n")
        assert log["qmail_log.summary"](str(tmp_path / "log"))["double_bounces"] == 0
        assert log["qmail_log.count"](path=str(tmp_path / "log"))["double_bounces"] == 0


STAMP = b"1795486275.513354"
# What splogger puts before a line and before the rest of one that it cut, and what qmail-send puts before its words.
CUTS = pytest.mark.parametrize(
    ("stamp", "mark", "prefix"),
    [
        pytest.param(STAMP + b" ", STAMP + b"+", b"", id="stamps"),
        pytest.param(b"", b"+", b"", id="eQmail 1.10"),
        pytest.param(b"", b"", b"qmail-send: ", id="eQmail 1.11"),
    ],
)
SYSLOG = b"Nov 24 02:11:15 vm qmail: "


def cut(words, stamp, mark):
    """The lines that splogger makes of one."""
    first, *others = [words[at : at + 799] for at in range(0, len(words), 799)]
    return [SYSLOG + stamp + first, *(SYSLOG + mark + other for other in others)]


def long_delivery(prefix, lines, domain=b"long.example"):
    """The start of a delivery that splogger cuts into so many lines, the last time in the middle of the domain."""
    words = prefix + b"starting delivery 1: msg 5 to remote "
    return words + b"a" * ((lines - 1) * 799 - len(words) - 6) + b"@" + domain


@CUTS
def test_a_line_that_splogger_cut_is_put_together(log, tmp_path, stamp, mark, prefix):
    first, second, third = cut(long_delivery(prefix, 3), stamp, mark)
    assert third.endswith(b"qmail: " + mark + b"example")
    lines = [first, b"Nov 24 02:11:15 vm dovecot: hello", second, third]
    for words in (
        b"delivery 1: failure: no/",
        b"bounce msg 5 qp 6",
        b"info msg 7: bytes 1 from <> qp 6 uid 1",
        b"starting delivery 2: msg 7 to remote a@b",
        b"delivery 2: failure: no/",
        b"bounce msg 7 qp 8",
        b"info msg 9: bytes 1 from <#@[]> qp 8 uid 1",
    ):
        lines.append(SYSLOG + stamp + prefix + words)
    (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n")
    result = log["qmail_log.summary"](str(tmp_path / "log"))
    assert result["domains"] == {"long.example": 1}
    assert (result["single_bounces"], result["double_bounces"]) == (1, 1)


def test_what_eqmail_continues_without_a_mark_may_begin_with_a_plus(log, tmp_path):
    first, second = cut(long_delivery(b"qmail-send: ", 2, b"long.+example"), b"", b"")
    assert second.endswith(b"qmail: +example")
    words = (b"delivery 1: failure: no/", b"bounce msg 5 qp 6", b"info msg 7: bytes 1 from <> qp 6 uid 1")
    words += (b"starting delivery 2: msg 7 to remote a@b", b"delivery 2: failure: no/", b"bounce msg 7 qp 8")
    words += (b"info msg 9: bytes 1 from <#@[]> qp 8 uid 1",)
    lines = [first, second, *(SYSLOG + b"qmail-send: " + each for each in words)]
    (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n")
    assert log["qmail_log.summary"](str(tmp_path / "log"))["domains"] == {"long.+example": 1}


@CUTS
@pytest.mark.parametrize("lines", [2, 3])
@pytest.mark.parametrize("between", [b"", b"Nov 24 02:11:15 vm dovecot: hello\n" * 3])
def test_a_line_that_splogger_cut_at_the_end_of_a_block_is_put_together(
    log, tmp_path, stamp, mark, prefix, between, lines
):
    """A block ends behind the parts of it that are cut: the rest is in the next one."""
    head = SYSLOG + stamp
    *parts, last = cut(long_delivery(prefix, lines), stamp, mark)
    first = b"".join(part + b"\n" + between for part in parts)
    tail = [b"delivery 1: failure: no/", b"bounce msg 5 qp 6", b"info msg 7: bytes 1 from <> qp 6 uid 1"]
    tail += [b"starting delivery 2: msg 7 to remote a@b", b"delivery 2: failure: no/", b"bounce msg 7 qp 8"]
    tail += [b"info msg 9: bytes 1 from <#@[]> qp 8 uid 1"]
    filler = head + prefix + b"status: local 0/3 remote 0/20\n"
    # What is read at once ends with the last line that ends within a MiB.
    room = 2**20 - len(first) - 100
    before = room // len(filler) * filler
    before += filler[:-1] + b"." * (room - len(before)) + b"\n"
    text = before + first + last + b"\n" + b"".join(head + prefix + words + b"\n" for words in tail)
    (tmp_path / "log").write_bytes(text)
    result = log["qmail_log.summary"](str(tmp_path / "log"))
    assert (result["domains"], result["deliveries"]) == ({"long.example": 1}, 2)


def test_a_line_without_end_takes_no_other_with_it(log, tmp_path):
    line = b"@400000006b04f24525a20e5c info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n"
    (tmp_path / "log").write_bytes(line + b"x" * 5_000_000 + b"\n" + line + b"@4000" + b"\0" * 700_000)
    assert log["qmail_log.summary"](str(tmp_path / "log"))["double_bounces"] == 2
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["double_bounces"] == 2


def test_the_newest_line_is_that_of_the_newest_file_though_an_older_one_is_broken(log, tmp_path):
    for number, when in ((0, 1795486275), (1, 1795480000)):
        entry = {"__REALTIME_TIMESTAMP": f"{when}000000", "SYSLOG_IDENTIFIER": "qmail", "MESSAGE": "new msg 1"}
        (tmp_path / f"log.{number}").write_text(json.dumps(entry) + "\n")
    (tmp_path / "log.0").rename(tmp_path / "log")
    (tmp_path / "log.2.gz").write_bytes(gzip.compress(b"Nov 24 02:11:15 vm x: y\n" * 10000)[:-20])
    assert log["qmail_log.about"](str(tmp_path / "log"))["newest"] == 1795486275


# Forms that nobody knows


UNKNOWN = [
    b"Nov 24 02:11:15 vm postfix/qmgr[5]: 4F2: removed\n" * 3,
    b"24/11/2026 02:11:15 | info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n",
    b"Nov 24 02:11:15 vm mx2-out: 1795486275.513354 info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n",
    b"\x1b[2J\xff info msg 1: bytes 2 from <#@[]> qp 3 uid 4 " + b"x" * 5000 + b"\n",
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_lines_that_no_rule_knows_are_an_error_and_never_a_zero(log, tmp_path, text):
    (tmp_path / "log").write_bytes(text)
    for function in ("summary", "count", "counts", "about"):
        for window in ({}, {"since": "1h"}) if function != "about" else ({},):
            with pytest.raises(CommandExecutionError, match="no line of qmail-send in a form that is known") as told:
                log[f"qmail_log.{function}"](path=str(tmp_path / "log"), **window)
            assert str(tmp_path / "log") in str(told.value)
            assert len(str(told.value)) < 500 + len(str(tmp_path))
            assert str(told.value).isprintable()


@pytest.mark.parametrize("form", ["json", "export"])
def test_entries_of_others_in_the_journal_are_not_believed(log, tmp_path, form):
    words = "info msg 1: bytes 2 from <#@[]> qp 3 uid 4"
    others = [("svscan", words), (words, words), ("status", words), ("\n" + words, words), ("qmail-smtpd", words)]
    entries = [
        {"__REALTIME_TIMESTAMP": "1795486275513354", "SYSLOG_IDENTIFIER": name, "MESSAGE": said}
        for name, said in others
    ]

    def text(entries):
        if form == "json":
            return "".join(json.dumps(entry) + "\n" for entry in entries)
        return "\n".join("".join(f"{key}={value}\n" for key, value in entry.items()) for entry in entries)

    entries = [entry for entry in entries if form == "json" or "\n" not in entry["SYSLOG_IDENTIFIER"]]
    (tmp_path / "log").write_text(text(entries))
    with pytest.raises(CommandExecutionError, match="no line of qmail-send"):
        log["qmail_log.count"](path=str(tmp_path / "log"))
    (tmp_path / "log").write_text(text([*entries, {**entries[0], "SYSLOG_IDENTIFIER": "qmail-start"}, *entries]))
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["double_bounces"] == 1
    assert log["qmail_log.summary"](str(tmp_path / "log"))["double_bounces"] == 1


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1}\n',
        b'{"[[[[\n' * 9,
        b'{"a": NaN}\n[1]\n{"MESSAGE": {"x": [1]}}\n',
        b"__CURSOR=x\nX\n\xff\xff\xff\xff\xff\xff\xff\xff\n",
        b"__CURSOR=x\nX\n\x01",
    ],
)
def test_broken_entries_are_no_reason_to_stop(log, tmp_path, text):
    (tmp_path / "log").write_bytes(text)
    with pytest.raises(CommandExecutionError, match="no line of qmail-send"):
        log["qmail_log.count"](path=str(tmp_path / "log"))


def test_the_line_that_is_shown_is_one_that_looks_like_qmail_send_s(log, tmp_path):
    (tmp_path / "log").write_bytes(UNKNOWN[0] + UNKNOWN[2] + UNKNOWN[0])
    with pytest.raises(CommandExecutionError, match="mx2-out"):
        log["qmail_log.count"](path=str(tmp_path / "log"))


def test_an_empty_log_is_no_unknown_form(log, tmp_path):
    (tmp_path / "log").write_bytes(b"")
    assert log["qmail_log.count"](path=str(tmp_path / "log"))["newest"] is None


def test_a_window_without_lines_is_a_zero_in_a_log_that_is_known(log, tmp_path):
    (tmp_path / "log").write_bytes(OWN + UNKNOWN[0])
    result = log["qmail_log.count"](path=str(tmp_path / "log"), since=START + 3600)
    assert (result["double_bounces"], result["newest"]) == (0, OWN_TIME)


def test_a_count_comes_with_the_files_that_it_was_counted_in(log, tmp_path):
    for name in ("maillog.1", "maillog"):
        (tmp_path / name).write_bytes(OWN)
    files = [str(tmp_path / "maillog.1"), str(tmp_path / "maillog")]
    expected = {"log": files[1], "files": files, "unread": [], "how": "named", "newest": OWN_TIME}
    assert log["qmail_log.about"](files[1]) == expected
    for function in ("summary", "count", "counts"):
        assert expected.items() <= log[f"qmail_log.{function}"](path=files[1]).items()


# The files of a log


@pytest.fixture
def pieces():
    """A log in four pieces, cut in the middle of messages, with the books of the whole."""
    text, books, send = modelled("pieces", steps=2000)
    lines = text.splitlines(True)
    return (
        [b"".join(lines[at : at + len(lines) // 4 + 1]) for at in range(0, len(lines), len(lines) // 4 + 1)],
        books,
        send,
    )


def test_a_multilog_directory_is_read_with_its_rotated_files(log, tmp_path, pieces):
    names = ["@400000006b04f24525a20e5c.s", "@400000006b04f24625a20e5c.u", "previous", "current"]
    for name, piece in zip(names, pieces[0]):
        (tmp_path / name).write_bytes(piece)
    for name in ("lock", "state", "newstate", "@400000006b04f24525a20e5c.t"):
        (tmp_path / name).write_bytes(pieces[0][0])
    agrees(log["qmail_log.summary"](str(tmp_path)), pieces[1])
    agrees(log["qmail_log.summary"](str(tmp_path / "current")), pieces[1])


@pytest.mark.parametrize(
    "names",
    [
        ["maillog.3.gz", "maillog.2.bz2", "maillog.1", "maillog"],
        ["maillog.11.gz", "maillog.10.xz", "maillog.9", "maillog"],
        ["maillog-20261122.gz", "maillog-20261123", "maillog-20261124", "maillog"],
        ["maillog-20261122.zst", "maillog-20261123.lzma", "maillog-20261124", "maillog"],
        ["maillog-2026-11-09.zst", "maillog-2026-11-23", "maillog-2026-11-24.gz", "maillog"],
        ["maillog.2026-11-22", "maillog.20261123.gz", "maillog.2026-11-24", "maillog"],
        ["maillog-20261122.log", "maillog-20261123.log.gz", "maillog-20261124.log", "maillog"],
        ["mail-2026-11-22.log.gz", "mail-2026-11-23.log.zst", "mail-2026-11-24.log", "mail.log"],
        ["mail.11.log.gz", "mail.2.log.zst", "mail.1.log", "mail.log"],
        ["maillog.processed.2.gz", "maillog.processed.1.gz", "maillog.processed", "maillog"],
        ["maillog-20261124-01", "maillog-20261124-02.gz", "maillog-2026112412", "maillog"],
        ["maillog.2.gz", "maillog.1.gz", "maillog.0", "maillog"],
    ],
)
def test_a_syslog_is_read_with_its_rotated_files(log, tmp_path, pieces, names):
    for name, piece in zip(names, pieces[0]):
        (tmp_path / name).write_bytes(packed(name, piece))
    for name in ("maillog.old", "maillog2", "maillog-2026", "xmaillog.1", "mail.log-", "mailx-20261124.log"):
        (tmp_path / name).write_bytes(pieces[0][0])
    result = log["qmail_log.summary"](str(tmp_path / names[-1]))
    agrees(result, pieces[1])
    assert result["files"] == [str(tmp_path / name) for name in names]
    assert result["unread"] == []


def packed(name, data):
    """The same as the program packs it that a name tells."""
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}
    pack["lzma"] = lambda data: lzma.compress(data, lzma.FORMAT_ALONE)
    return pack.get(name.rpartition(".")[2], bytes)(data)


def zstd(data):
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed")
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("logger", ["multilog", "svlogd"])
def test_what_a_logger_s_processor_packed_is_read(log, tmp_path, pieces, logger):
    """It keeps the name that a file has which isn't packed."""
    if not shutil.which(logger) or not shutil.which("zstd"):
        pytest.skip(f"{logger} or zstd is not installed")
    place = tmp_path / "main"
    place.mkdir()
    (place / "config").write_text("s4096\nn99\n!zstd -q\n")
    command = ["multilog", "s4096", "n99", "!zstd -q", place] if logger == "multilog" else ["svlogd", place]
    text = b"".join(pieces[0])[:60000].rpartition(b"\n")[0] + b"\n"
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    for line in text.splitlines(True):
        process.stdin.write(line)
    process.stdin.close()
    process.wait(timeout=60)
    rotated = [path.read_bytes()[:4] for path in place.glob("@*")]
    assert b"\x28\xb5\x2f\xfd" in rotated
    expected = text.count(b"from <#@[]> ")
    assert log["qmail_log.count"](path=str(place))["double_bounces"] == expected > 0


def test_what_can_t_be_unpacked_here_is_named_and_the_rest_is_counted(log, tmp_path, pieces, monkeypatch):
    (tmp_path / "maillog.3.zst").write_bytes(zstd(pieces[0][0]))
    (tmp_path / "maillog.2.Z").write_bytes(b"\x1f\x9d\x90" + pieces[0][1])
    (tmp_path / "maillog.1.lz4").write_bytes(b"\x04\x22\x4d\x18" + pieces[0][1])
    (tmp_path / "maillog").write_bytes(pieces[0][3])
    path = str(tmp_path / "maillog")
    with_zstd = log["qmail_log.count"](path=path)
    assert with_zstd["unread"] == [f"{path}.2.Z", f"{path}.1.lz4"]
    assert with_zstd["files"] == [f"{path}.3.zst", path]
    monkeypatch.setenv("PATH", str(tmp_path))
    without = log["qmail_log.count"](path=path)
    assert without["unread"] == [f"{path}.3.zst", f"{path}.2.Z", f"{path}.1.lz4"]
    assert 0 < without["double_bounces"] < with_zstd["double_bounces"]


@pytest.mark.parametrize("cut", [20, 3000])
def test_a_broken_zstd_file_is_reported(log, tmp_path, pieces, cut):
    (tmp_path / "maillog").write_bytes(pieces[0][1])
    (tmp_path / "maillog.1.zst").write_bytes(zstd(pieces[0][0])[:-cut])
    with pytest.raises(CommandExecutionError, match=r"cannot unpack the log .*maillog\.1\.zst"):
        log["qmail_log.summary"](str(tmp_path / "maillog"))


def test_no_unpacker_is_left_running(log, tmp_path, pieces):
    """A window may end within a packed file."""
    (tmp_path / "maillog.1.zst").write_bytes(zstd(b"".join(pieces[0]) * 20))
    (tmp_path / "maillog").write_bytes(pieces[0][3])
    log["qmail_log.count"](path=str(tmp_path / "maillog"), until=START + 10)
    names = []
    for pid in supervisors.below(os.getpid()):
        with contextlib.suppress(OSError):
            names.append(pathlib.Path(f"/proc/{pid}/comm").read_text().strip())
    assert "zstd" not in names


def test_a_file_that_is_being_packed_counts_once(log, tmp_path, pieces):
    names = ["maillog.3", "maillog.2", "maillog.1", "maillog"]
    for name, piece in zip(names, pieces[0]):
        (tmp_path / name).write_bytes(piece)
    (tmp_path / "maillog.1.gz").write_bytes(gzip.compress(pieces[0][2])[:100])
    agrees(log["qmail_log.summary"](str(tmp_path / "maillog")), pieces[1])


def test_a_file_that_can_t_be_unpacked_is_reported(log, tmp_path, pieces):
    (tmp_path / "maillog").write_bytes(pieces[0][1])
    (tmp_path / "maillog.1.gz").write_bytes(gzip.compress(pieces[0][0])[:-100])
    with pytest.raises(CommandExecutionError, match=r"maillog\.1\.gz"):
        log["qmail_log.summary"](str(tmp_path / "maillog"))


def test_the_year_turns(log, tmp_path):
    def at(*when):
        return time.mktime((*when, 0, 0, 0, 0, 0, -1))

    def line(stamp):
        return stamp + b" vm qmail-send: info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n"

    (tmp_path / "maillog.1").write_bytes(line(b"Dec 30 12:00:00"))
    (tmp_path / "maillog").write_bytes(line(b"Dec 31 23:30:00") + line(b"Jan  1 00:30:00") + line(b"Feb 29 01:00:00"))
    os.utime(tmp_path / "maillog.1", (at(2027, 12, 31), at(2027, 12, 31)))
    os.utime(tmp_path / "maillog", (at(2028, 3, 1), at(2028, 3, 1)))
    result = log["qmail_log.count"](path=str(tmp_path / "maillog"), by="day")
    assert list(result["by"]) == ["2027-12-30", "2027-12-31", "2028-01-01", "2028-02-29"]
    result = log["qmail_log.summary"](str(tmp_path / "maillog"), by="day", since="2028-01-01")
    assert list(result["by"]) == ["2028-01-01", "2028-02-29"]


def test_the_date_in_a_name_gives_the_year_when_a_copy_has_another(log, tmp_path):
    (tmp_path / "maillog-20240107").write_bytes(
        b"Dec 31 12:00:00 vm qmail: info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n"
    )
    (tmp_path / "maillog").write_bytes(b"")
    assert list(log["qmail_log.count"](path=str(tmp_path / "maillog"), by="day")["by"]) == ["2023-12-31"]


@pytest.mark.parametrize("form", ["multilog", "syslog", "toaster"])
def test_a_window_late_in_a_big_log_is_found(log, tmp_path, form):
    since, until = START + 200_000, START + 230_000
    text, books, send = modelled("big", form, since=since, until=until, steps=12000)
    path = tmp_path / "log"
    path.write_bytes(text)
    os.utime(path, (send.now, send.now))
    agrees(log["qmail_log.summary"](str(path), since=since, until=until), books)
    assert log["qmail_log.count"](path=str(path), since=since, until=until)["by"] == {
        hour: counts["double_bounces"] for hour, counts in books.by.items() if counts["double_bounces"]
    }


# journald


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """A journalctl that prints what the file ``journal`` holds, and writes down how it was called."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "journalctl"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat {tmp_path}/journal\n. {tmp_path}/end\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "end").write_text("exit 0\n")
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    return tmp_path


def test_the_journal_is_read(log, journalctl):
    text, books, _ = modelled("journal", "unix", since=START + 3000)
    (journalctl / "journal").write_bytes(text)
    agrees(log["qmail_log.summary"]("journald", since=START + 3000), books)
    arguments = (journalctl / "arguments").read_text().split("\n")
    assert "--output=short-unix" in arguments and "_SYSTEMD_UNIT=qmail-send.service" in arguments


def test_a_unit_can_be_named(log, journalctl):
    (journalctl / "journal").write_bytes(b"")
    log["qmail_log.count"](path="journald:svscan.service")
    assert "_SYSTEMD_UNIT=svscan.service" in (journalctl / "arguments").read_text().split("\n")


def test_journalctl_s_trouble_is_reported(log, journalctl):
    (journalctl / "journal").write_bytes(b"")
    (journalctl / "end").write_text("echo no journal >&2; exit 3\n")
    with pytest.raises(CommandExecutionError, match="3: no journal"):
        log["qmail_log.summary"]("journald")


def test_a_machine_without_journalctl(log, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandExecutionError, match="journalctl"):
        log["qmail_log.summary"]("journald")


# Arguments


@pytest.mark.parametrize(
    "name, value",
    [
        ("since", "yesterday"),
        ("since", "12x"),
        ("until", ""),
        ("until", True),
        ("since", float("nan")),
        ("since", [1]),
        ("since", 10**30),
        ("by", "minute"),
        ("by", None),
        ("path", ""),
        ("path", 5),
        ("path", "/nonexistent/log"),
    ],
)
def test_a_wrong_argument_is_named(log, name, value):
    for function in ("summary", "count"):
        arguments = {"path": str(DATA / "logs" / "maillog"), name: value}
        with pytest.raises(SaltInvocationError, match=f"{name}={value!r}".replace("[", r"\[")):
            log[f"qmail_log.{function}"](**arguments)


def test_a_window_that_ends_before_it_begins_is_refused(log):
    with pytest.raises(SaltInvocationError, match="not before until"):
        log["qmail_log.summary"](str(DATA / "logs" / "maillog"), since="2026-11-25", until="2026-11-24")


def test_what_can_t_be_counted_is_refused(log):
    with pytest.raises(SaltInvocationError, match="what='bounces'"):
        log["qmail_log.count"]("bounces")


@pytest.mark.parametrize(
    "since",
    [START, float(START), str(START), "2026-11-24T02:11:15Z", "2026-11-24 02:11:15+00:00", "2026-11-24T03:11:15+01:00"],
)
def test_the_same_time_in_other_words(log, since):
    path = str(DATA / "logs" / "maillog")
    expected = log["qmail_log.summary"](path, until=START)["double_bounces"]
    assert log["qmail_log.summary"](path, since=since)["double_bounces"] == 141 - expected


def test_an_age(log, tmp_path):
    text, _, _ = modelled("age", start=time.time() - 7200, step=1, steps=300)
    (tmp_path / "log").write_bytes(text)
    count = log["qmail_log.count"]
    assert count(path=str(tmp_path / "log"), since="1h")["double_bounces"] == 0
    assert count(path=str(tmp_path / "log"), since="3h")["double_bounces"] > 0


def test_a_directory_without_a_log_is_refused(log, tmp_path):
    with pytest.raises(SaltInvocationError, match="current"):
        log["qmail_log.summary"](str(tmp_path))


def test_a_fifo_is_no_log(log, tmp_path):
    os.mkfifo(tmp_path / "log")
    with pytest.raises(CommandExecutionError, match="not a regular file"):
        log["qmail_log.summary"](str(tmp_path / "log"))
