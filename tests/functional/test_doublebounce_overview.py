"""What a server tells the table of many: its state and its figures, in a few kilobytes, and what is wrong with it."""

import json
import stat
import time

import pytest
import salt.payload
from salt.exceptions import SaltInvocationError

ADDRESS = "dummy@example.com"
HOUR = 3600


@pytest.fixture
def overview(modules, home, tmp_path):
    """The overview of a server with a pillar for this home, and this log."""

    def overview(log=None, pillar=None, **given):
        asked = {"address": ADDRESS, "qmail": {"home": str(home.path), "log": str(log or tmp_path / "log")}}
        return modules.qmail_doublebounce.overview(pillar=asked if pillar is None else pillar, **given)

    return overview


@pytest.fixture
def flood(tmp_path):
    """Write a log with so many double bounces, each an hour older than the last, from a domain; return its path."""

    def flood(number, ends="did_0+0+1/", domain="shop.example.com"):
        now, lines = int(time.time()), []
        for back in range(number):
            when, first = now - back * HOUR, 1000 + 10 * back
            bounce, double = first + 1, first + 2
            for words in (
                f"info msg {first}: bytes 987 from <forged@elsewhere.example> qp {first} uid 7",
                f"starting delivery {first}: msg {first} to local invented{first}@{domain}",
                f"delivery {first}: failure: Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/",
                f"bounce msg {first} qp {bounce}",
                f"end msg {first}",
                f"info msg {bounce}: bytes 1456 from <> qp {bounce} uid 7",
                f"starting delivery {bounce}: msg {bounce} to remote forged@elsewhere.example",
                f"delivery {bounce}: failure: Sorry/",
                f"bounce msg {bounce} qp {double}",
                f"end msg {bounce}",
                f"info msg {double}: bytes 1999 from <#@[]> qp {double} uid 7",
                f"starting delivery {double}: msg {double} to local dummy@example.com",
                f"delivery {double}: success: {ends}",
                f"end msg {double}",
            ):
                lines.append(f"@{(1 << 62) + 10 + when:016x}00000000 {words}\n")
        log = tmp_path / "log"
        log.mkdir(exist_ok=True)
        (log / "current").write_text("".join(sorted(lines, key=lambda line: line[:25])))
        return log

    return flood


def test_the_figures_are_those_of_the_log_and_of_the_report(overview, flood, modules, home):
    log = flood(60)
    found = overview(log)
    assert found["form"] == 1
    assert sum(found["counts"]) == found["all"]["double_bounces"] == 60
    assert (found["step"], len(found["counts"])) == (HOUR, 168)
    assert found["counts"][-60:] == [1] * 60
    report = modules.qmail_doublebounce_report.make(str(log), home=str(home.path), table=False)
    assert found["day"]["double_bounces"] == sum(hour["queued"] for hour in report["hours"].values()) == 24
    assert found["day"]["swallowed"] == 24
    assert found["all"]["deliveries"] == report["total"]["deliveries"] == 180
    assert found["all"]["double_bounce_bytes"] == 60 * 1999
    (cause,) = found["causes"]
    assert (cause["domain"], cause["double_bounces"]) == ("shop.example.com", 60)
    assert cause["nobody"] == "remote"  # no domain of this server


def test_a_longer_time_is_counted_by_the_day(overview, flood):
    found = overview(flood(30 * 24), since="4w")
    assert (found["step"], len(found["counts"])) == (86400, 28)
    assert set(found["counts"][:-1]) == {24}
    assert found["day"]["double_bounces"] == 24


def test_the_state_is_that_of_status(overview, flood, running, modules):
    running.write_control("doublebounceto", "dummy\n")
    found = overview(flood(1))
    asked = {"address": ADDRESS, "qmail": {"home": str(running.path)}}
    status = modules.qmail_doublebounce.status(asked)
    assert (found["sink"], found["fate"], found["verdict"]) == (
        status["recipient"], status["fate"], status["verdict"]
    )  # fmt: skip
    assert found["holds"] is False
    assert found["restart_due"] is True
    assert found["down"] is False
    assert [one["problem"] for one in found["problems"]] == [one["problem"] for one in status["problems"]]
    assert found["queue"] == status["queue"]


def test_a_server_that_delivers_nothing_says_so(overview, flood):
    found = overview(flood(1))
    assert found["down"] is True
    assert "does not run" in found["problems"][0]["problem"]


def test_the_sink_that_came_divides_what_became_of_them(overview, flood, home, apply):
    pillar = {"address": ADDRESS, "qmail": {"home": str(home.path)}, "service": {"provider": "qmailctl"}}
    pillar["qmail"]["log"] = str(flood(5))
    assert overview(pillar=pillar)["came"] is None
    apply("qmail-doublebounce", pillar)
    home.stop()
    flood(5)
    found = overview(pillar=pillar)
    assert abs(found["came"] - time.time()) < 60
    assert (found["before"]["double_bounces"], found["after"]["double_bounces"]) == (4, 1)


def test_a_wrong_pillar_is_reported_and_the_figures_are_there(overview, flood, home):
    qmail = {"home": str(home.path), "log": str(flood(3))}
    found = overview(pillar={"addr": ADDRESS, "qmail": qmail})
    assert found["error"].startswith("Pillar is wrong. qmail_doublebounce:addr is not a setting.")
    assert sum(found["counts"]) == 3


def test_a_log_that_cannot_be_read_is_reported_and_the_state_is_there(overview, home, tmp_path):
    found = overview(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in found["log"]["reason"]
    assert found["sink"] == "postmaster@mail.example.net"
    assert "counts" not in found


def test_a_server_without_pillar_shows_where_they_go(overview, flood, home):
    found = overview(flood(1), pillar={}, home=str(home.path))
    assert (found["mode"], found["holds"]) == (None, None)
    assert found["sink"] == "postmaster@mail.example.net"


def test_it_is_small_and_plain(overview, flood):
    long = "x" * 60 + "." + "y" * 60 + ".example.com"
    found = overview(flood(500, domain=long), since="8d")
    assert len(salt.payload.dumps(found)) < 4096
    assert json.loads(json.dumps(found)) == found
    names = [key for key in json.dumps(list(found)) if key == "."]
    assert names == []


@pytest.mark.parametrize("since", ["7", "23h", "93d", "0d", 7, None, "7d "])
def test_a_time_that_is_none_is_refused(overview, flood, since):
    with pytest.raises(SaltInvocationError, match="give an age from 24h to 92d"):
        overview(flood(1), since=since)


def test_the_page_of_this_server_has_its_figures(modules, home, flood, tmp_path):
    page, qmail = tmp_path / "page.html", {"home": str(home.path), "log": str(flood(60))}
    pillar = {"qmail": qmail, "address": ADDRESS}
    found = modules.qmail_doublebounce.report(pillar, html=str(page))
    assert (found["path"], found["bytes"], found["level"]) == (str(page), page.stat().st_size, "down")
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    text = page.read_text()
    assert "Down: double bounces on test" in text
    assert "<b>24</b>double bounces in the last 24 hours" in text
    assert "shop.<wbr>example.<wbr>com" in text
    assert modules.qmail_doublebounce.report(pillar, html=str(page))["path"] == str(page)


def test_a_page_is_not_written_over_anything_else(modules, home, flood, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(SaltInvocationError, match="not a page of this report"):
        modules.qmail_doublebounce.report({"qmail": {"home": str(home.path)}}, log=str(flood(1)), html=str(page))
    assert page.read_text() == "mine"
