"""
journald as qmail-send's log, with the real one: systemd runs qmail-send as a unit, and the unit's lines are the log.
"""

import functools

import pytest

from tests.support.servers import ADDRESS, Reader, Server, journalctl, journald
from tests.support.supervisors import wait_until

pytestmark = pytest.mark.under_systemd
FIRST, SECOND = "journald:qmail-send.service", "journald:qmail-two.service"
DOUBLE = "info msg {0}: bytes 705 from <#@[]> qp {0} uid 1007"


def vacuum():
    """Have all that is in the journal deleted."""
    journalctl("--sync")
    journalctl("--rotate")
    journalctl("--vacuum-time=1us")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """
    Two qmails, each with its own unit; the lines of the first are named as on a notqmail: by what systemd starts.

    The journal is the machine's: tests of other files that ran before in it had units of the same name.
    """
    vacuum()
    place = tmp_path_factory.mktemp("servers")
    started = []
    try:
        started.append(Server(place, "qmail-send", SyslogIdentifier="qmail-start"))
        started.append(Server(place, "qmail-two", LogRateLimitIntervalSec="1h", LogRateLimitBurst=200))
        yield [server.wait() for server in started]
    finally:
        for server in started:
            server.close()
        journald()


@pytest.fixture
def first(servers):
    return servers[0]


@pytest.fixture
def second(servers):
    return servers[1]


def logs(server, *lines):
    """Have a qmail-send log these, and wait until they are in the journal."""
    server.say(*lines)
    journalctl("--sync")


@pytest.fixture
def reader(modules):
    return functools.partial(Reader, modules)


@pytest.mark.parametrize(("log", "how"), [("auto", "followed"), ("journald", "named")])
def test_whatever_is_read_of_a_log_is_read_of_the_journal_of_the_unit(modules, states, first, log, how):
    before, path = first.counted(modules), log
    probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path, log=log)
    assert probe["end"] == "swallowed", probe
    assert all(" qmail-start[" in line for line in probe["log"])
    proof = {"address": ADDRESS, "home": first.path, "log": log, "always": True}
    ret = states.qmail_doublebounce.verified("double bounces are swallowed", **proof)
    assert ret.result is True, ret.comment
    count = modules.qmail_log.count(**first.ask(path=path, since="1h"))
    assert (count["log"], count["how"], count["double_bounces"]) == (FIRST, how, before + 2)
    assert count["newest"] is not None
    summary = modules.qmail_log.summary(**first.ask(path=path))
    assert (summary["double_bounces"], summary["swallowed"]) == (before + 2, before + 2)
    assert summary["recipients"] == {"1-dummy@example.com": before + 2}
    report = modules.qmail_doublebounce.report({}, **first.ask(log=log, table=False))
    assert (report["log"], sum(hour["queued"] for hour in report["hours"].values())) == (FIRST, before + 2)
    assert modules.qmail_doublebounce.status({}, home=first.path)["log"]["log"] == FIRST


def test_two_qmails_each_with_its_own_unit_are_not_mixed(modules, first, second, reader):
    before = [server.counted(modules) for server in (first, second)]
    readers = reader(first), reader(second, path="journald")
    logs(first, *map(DOUBLE.format, (11, 12, 13)))
    logs(second, DOUBLE.format(21))
    assert [server.counted(modules) for server in (first, second)] == [before[0] + 3, before[1] + 1]
    assert second.counted(modules, path="journald") == before[1] + 1
    assert first.counted(modules, path=SECOND) == before[1] + 1
    assert [reader() for reader in readers] == [[11, 12, 13], [21]]
    probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, second.path)
    assert probe["end"] == "swallowed"
    assert readers[0]() == []


def test_a_unit_that_other_programs_write_to_has_a_newest_line_of_qmail_send(modules, first):
    newest = modules.qmail_log.about(**first.ask())["newest"]
    logs(first, *(f"spamd: connection {number}" for number in range(30000)))
    assert modules.qmail_log.about(**first.ask())["newest"] == newest
    before = first.counted(modules)
    logs(first, DOUBLE.format(1))
    assert modules.qmail_log.about(**first.ask())["newest"] >= newest
    assert first.counted(modules) == before + 1


def test_much_of_it_is_followed_in_parts(first, reader):
    follow = reader(first)
    logs(first, *map(DOUBLE.format, range(1000, 4000)))
    found, parts = [], []
    while len(found) < 3000:
        parts.append(follow(limit=20000))
        assert parts[-1] and not follow.lost
        found += parts[-1]
    assert found == list(range(1000, 4000))
    assert max(map(len, parts)) < 300


def test_a_probe_is_followed_through_rotations(modules, first):
    with first.before_each_line("journalctl --sync && journalctl --rotate") as rotated:
        probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)
    assert rotated.read_text().startswith("0 ")
    assert (probe["end"], len(probe["hops"])) == ("swallowed", 2), probe


def test_a_probe_is_followed_while_what_it_has_read_is_deleted(modules, first):
    """What is deleted unread is not made up for: such a probe ends as unseen, and never as something that it is not."""
    with first.before_each_line("journalctl --sync && journalctl --rotate && journalctl --vacuum-time=1us") as rotated:
        probe = modules.qmail_doublebounce.probe({}, 3, ADDRESS, first.path)
    assert rotated.read_text().startswith("0 ")
    assert probe["end"] in ("swallowed", "unseen"), probe
    assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)["end"] == "swallowed"


def test_rotated_files_are_counted_and_what_a_vacuum_took_is_not(modules, first, reader):
    vacuum()
    logs(first, DOUBLE.format(1))
    journalctl("--rotate")
    follow = reader(first)
    logs(first, DOUBLE.format(2))
    journalctl("--rotate")
    logs(first, DOUBLE.format(3))
    assert first.counted(modules) == 3
    assert modules.qmail_log.summary(**first.ask(since="1h"))["double_bounces"] == 3
    assert (follow(), follow.lost) == ([2, 3], False)
    vacuum()
    assert (follow(), follow.lost) == ([], True)
    logs(first, DOUBLE.format(4), DOUBLE.format(5))
    assert first.counted(modules) == 2
    # The entry behind the deleted one is the one that journalctl leaves out.
    assert (follow(), follow.lost) == ([4, 5], True)
    logs(first, DOUBLE.format(6))
    assert (follow(), follow.lost) == ([6], False)


def test_counters_go_on_over_rotations_and_a_vacuum_is_one_gap(modules, first):
    account = modules.qmail_log.tally(**first.ask())

    def counted():
        nonlocal account
        account = modules.qmail_log.tally(account, seconds=60)
        return account["totals"].get("double_bounces", 0), account["gaps"]

    logs(first, DOUBLE.format(1))
    journalctl("--rotate")
    logs(first, DOUBLE.format(2))
    assert [counted(), counted()] == [(2, 0), (2, 0)]
    vacuum()
    assert [counted(), counted()] == [(2, 0), (2, 0)]
    logs(first, DOUBLE.format(3))
    assert [counted(), counted()] == [(3, 1), (3, 1)]


def test_a_journal_that_was_empty_is_followed_from_its_beginning(first, reader):
    vacuum()
    follow = reader(first)
    assert follow.where["cursor"] is None
    logs(first, DOUBLE.format(1))
    assert (follow(), follow.lost) == ([1], False)


def test_a_journal_that_moves_from_memory_to_the_disk_is_followed(modules, first, reader):
    journald(Storage="volatile")
    logs(first, DOUBLE.format(1))
    follow, before = reader(first), first.counted(modules)
    journald(Storage="persistent")
    journalctl("--flush")
    logs(first, DOUBLE.format(2))
    assert (follow(), follow.lost) == ([2], False)
    assert first.counted(modules) == before + 1
    assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)["end"] == "swallowed"
    journalctl("--sync")
    files = journalctl("--fields", "--directory=/var/log/journal")
    assert "_SYSTEMD_UNIT" in files
    journald(Storage="volatile")
    logs(first, DOUBLE.format(3))
    assert follow()[-1] == 3


def test_a_journal_that_drops_lines_over_a_rate_proves_nothing_until_it_takes_them_again(modules, states, second):
    journald()  # which begins to count the lines
    proof = {"address": ADDRESS, "home": second.path, "timeout": 1, "always": True}
    before = second.counted(modules)
    logs(second, *map(DOUBLE.format, range(10000)))
    kept = second.counted(modules) - before
    assert 200 <= kept < 10000
    probe = modules.qmail_doublebounce.probe({}, 1, ADDRESS, second.path)
    assert (probe["end"], probe["log"]) == ("unseen", [])
    assert "Is it qmail-send's log" in probe["reason"]
    ret = states.qmail_doublebounce.verified("double bounces are swallowed", **proof)
    assert (ret.result, ret.changes) == (False, {})
    assert "unseen" in ret.comment
    journald()
    assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, second.path)["end"] == "swallowed"
    wait_until(lambda: second.counted(modules) == before + kept + 1)
