"""A message is followed through the log by qmail-send's own words, and by nobody else's."""

import pytest

TOKEN = "doublebounce-probe-0123456789abcdef"
HOP = (
    "new msg 5",
    "info msg 5: bytes 300 from <> qp 100 uid 0",
    f"starting delivery 1: msg 5 to local {TOKEN}@mail.example.net",
    "delivery 1: failure: Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/",
    "bounce msg 5 qp 101",
    "end msg 5",
    "new msg 6",
    "info msg 6: bytes 900 from <#@[]> qp 101 uid 7",
    "starting delivery 2: msg 6 to local 1-dummy@example.com",
)
SWALLOWED = (*HOP, "delivery 2: success: did_0+0+1/", "end msg 6")
DEFERRED = (*HOP, "delivery 2: deferral: Sticky/")


@pytest.fixture
def follow(modules, tmp_path):
    def follow(lines, head="Nov 24 02:11:15 mx qmail: 1795486275.513354 ", **more):
        log = tmp_path / "maillog"
        log.write_text("".join(line[1:] if line[:1] == "=" else f"{head}{line}" for line in lines_of(lines)))
        where = {"path": str(log), "head": "", "inode": log.stat().st_ino, "offset": 0, **more}
        trace = modules.qmail_doublebounce_trace.begin(TOKEN, "")
        trace["awaits"]["qp"] = 100
        return modules.qmail_doublebounce_trace.follow(trace, where, 0)

    return follow


def lines_of(lines):
    return [f"{line}\n" for line in lines]


@pytest.mark.parametrize(
    "head",
    [
        "",
        "@4000000069a5f3c000000000 ",
        "Nov 24 02:11:15 mx qmail: 1795486275.513354 ",
        "Nov 24 02:11:15 mx qmail-send: ",
        "2026-11-24T02:11:15.123456+00:00 mx qmail: 1795486275.513354 ",
        "1795486275.513354 mx qmail-send[77]: ",
        "2026-11-24 02:11:15.513354 ",
    ],
)
def test_whatever_precedes_it_the_end_is_found(follow, head):
    trace = follow(SWALLOWED, head)
    assert trace["end"] == "success"
    assert [hop["to"] for hop in trace["hops"]] == [f"{TOKEN}@mail.example.net", "1-dummy@example.com"]


@pytest.mark.parametrize(
    "head",
    [
        "=Nov 24 02:11:15 mx joe: ",
        "=Nov 24 02:11:15 mx joe: 1795486275.513354 ",
        "=Nov 24 02:11:15 mx joe: qmail: 1795486275.513354 ",
        "=2026-11-24T02:11:15.123456+00:00 mx joe: 1795486275.513354 ",
        "=Nov 24 02:11:15 mx spamd[5]: qmail-send: ",
        "status: ",
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        "delivery 2: success: did_0+0+1/",
        "triple bounce: discarding bounce/6",
        "double bounce: discarding bounce/5",
        "end msg 6",
        "new msg 6",
        "bounce msg 5 qp 999",
        "info msg 9: bytes 300 from <#@[]> qp 101 uid 7",
    ],
)
def test_what_another_program_says_is_not_believed(follow, head, words):
    for place in range(len(DEFERRED)):
        lines = [*DEFERRED[:place], f"{head}{words}", *DEFERRED[place:]]
        trace = follow(lines)
        assert (trace["end"], [hop["msg"] for hop in trace["hops"]]) == ("deferred", [5, 6]), place


def test_a_number_that_is_used_again_is_another_message(follow):
    gone = [line for line in SWALLOWED if line not in ("delivery 2: success: did_0+0+1/", "end msg 6")]
    trace = follow([*gone, "new msg 6", "starting delivery 3: msg 6 to local x", "delivery 3: success: did_1+0+0/"])
    assert trace["end"] == "lost"


def test_where_the_process_is_another_the_double_bounce_is_the_next_that_is_large_enough(follow):
    lines = [line.replace("qp 100", "qp 200").replace("<#@[]> qp 101", "<#@[]> qp 201") for line in SWALLOWED]
    small = "info msg 8: bytes 200 from <#@[]> qp 300 uid 7"
    trace = follow([*lines[:6], small, *lines[6:]])
    assert (trace["end"], trace["guessed"]) == ("success", True)
    assert [hop["msg"] for hop in trace["hops"]] == [5, 6]


def test_where_only_a_line_is_missing_no_other_double_bounce_is_taken_for_it(follow):
    lines = [line for line in SWALLOWED if "qp 100" not in line and "<#@[]>" not in line]
    other = "info msg 8: bytes 9999 from <#@[]> qp 300 uid 7"
    assert follow([*lines[:5], other, *lines[5:]])["end"] is None


TRIPLE = (*HOP, "delivery 2: failure: Sorry,_no_mailbox_here/", "triple bounce: discarding bounce/6", "end msg 6")
THEIRS = ("delivery 1: success: did_0+0+1/", "delivery 2: success: did_0+0+1/", "delivery 2: deferral: Sticky/")


@pytest.mark.parametrize(("lines", "end"), [(SWALLOWED, "success"), (TRIPLE, "triple-bounced"), (DEFERRED, None)])
def test_in_a_log_that_another_qmail_writes_to_under_the_same_name_the_message_itself_shows_its_end(follow, lines, end):
    whole = follow(lines, mixed=True)
    assert (whole["end"], whole["hops"][0]["report"][:14]) == (end, "failure: Sorry")
    for place in range(len(lines)):
        for theirs in THEIRS:
            trace = follow((*lines[:place], theirs, *lines[place:]), mixed=True)
            assert trace["end"] == end
            assert [hop["report"] for hop in trace["hops"]] == [hop["report"] for hop in whole["hops"]]


def test_where_two_reports_may_be_that_of_the_message_none_is_taken(follow):
    stored = (*HOP, "delivery 2: success: did_1+0+0/", "end msg 6")
    assert follow(stored, mixed=True)["hops"][1]["did"] == (1, 0, 0)
    for place in (len(HOP), len(HOP) + 1):
        trace = follow((*stored[:place], "delivery 2: success: did_0+0+1/", *stored[place:]), mixed=True)
        assert (trace["end"], trace["hops"][1]["report"]) == ("lost", None)
