"""
rsyslog as qmail-send's log, with the real one and Debian's logrotate: splogger's lines go by syslog(3) to the files
that it writes.
"""

import functools
import gzip
import pathlib
import time

import pytest

from tests.support.rsyslog import FORMS, MAIL, PLACE, ROTATE, WRITTEN, running
from tests.support.servers import ADDRESS, Reader, Server
from tests.support.supervisors import wait_until

pytestmark = pytest.mark.under_systemd
DOUBLE = "info msg {0}: bytes 705 from <#@[]> qp {0} uid 1007"


@pytest.fixture(scope="module")
def rsyslog():
    yield from running()


@pytest.fixture(scope="module")
def servers(rsyslog, tmp_path_factory):
    """Two qmails whose sploggers have names of their own."""
    place = tmp_path_factory.mktemp("servers")
    started = []
    try:
        started.append(Server(place, "qmail", ["splogger", "qmail"]))
        started.append(Server(place, "qmail-two", ["splogger", "qmail2"]))
        yield [server.wait() for server in started]
    finally:
        for server in started:
            server.close()


@pytest.fixture
def first(servers):
    return servers[0]


@pytest.fixture
def second(servers):
    return servers[1]


def logs(rsyslog, server, *numbers, to=MAIL):
    """Have a qmail-send log double bounces, and wait until they are in the file."""
    server.say(*map(DOUBLE.format, numbers))
    rsyslog.has(DOUBLE.format(numbers[-1]), name=to)


@pytest.fixture
def reader(modules):
    return functools.partial(Reader, modules)


@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_read_of_a_log_is_read_in_every_form_that_rsyslog_writes(modules, states, rsyslog, first, form):
    rsyslog.start(form)
    logs(rsyslog, first, 1)
    begins = MAIL.read_text()
    assert begins.startswith(
        {"iso": time.strftime("%Y-"), "traditional": time.strftime("%b "), "rfc5424": "<22>1 "}[form]
    )
    for number, log in enumerate(["auto", str(MAIL)]):
        probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path, log=log)
        assert probe["end"] == "swallowed", probe
        assert len(probe["log"]) == 7
        proof = {"address": ADDRESS, "home": first.path, "log": log, "always": True}
        ret = states.qmail_doublebounce.verified("double bounces are swallowed", **proof)
        assert ret.result is True, ret.comment
        rsyslog.has("success: did_0+0+1/", 2 * number + 2, WRITTEN[1])
        count = modules.qmail_log.count(**first.ask(path=log, since="1h"))
        assert count["double_bounces"] == 2 * number + 3
        assert count["log"] in map(str, WRITTEN)
        assert count["how"] == ("newest" if log == "auto" else "named")
        assert abs(count["newest"] - time.time()) < 600
        summary = modules.qmail_log.summary(**first.ask(path=log))
        assert (summary["double_bounces"], summary["swallowed"]) == (2 * number + 3, 2 * number + 2)
        assert summary["recipients"] == {"1-dummy@example.com": 2 * number + 2}
        report = modules.qmail_doublebounce.report({}, **first.ask(log=log, table=False))
        assert sum(hour["queued"] for hour in report["hours"].values()) == 2 * number + 3


@pytest.mark.parametrize("form", FORMS)
def test_a_line_that_splogger_cuts_is_one_again(modules, rsyslog, first, form):
    rsyslog.start(form)
    to = f"{'a' * 1800}@example.com"
    first.say(DOUBLE.format(7), f"starting delivery 9: msg 7 to local {to}", "delivery 9: success: did_0+0+1/")
    rsyslog.has("delivery 9: success")
    told = modules.qmail_log.summary(**first.ask(path=str(MAIL)))
    assert (told["double_bounces"], told["swallowed"]) == (1, 1)
    assert told["recipients"] == {to[-256:]: 1}  # of a name that long, no more is shown


def test_beside_a_journal_that_keeps_the_same_lines_one_of_them_is_read(modules, rsyslog, first):
    rsyslog.start(keeps=True)
    logs(rsyslog, first, 1, 2, 3)
    rsyslog.has(DOUBLE.format(3), name=WRITTEN[1])
    assert first.counted(modules) == 3
    assert first.counted(modules, path="journald") == 3
    for log in ("auto", "journald"):
        assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path, log=log)["end"] == "swallowed"


def test_two_sploggers_in_one_file_are_not_mixed(modules, rsyslog, first, second, reader):
    for form in FORMS:
        rsyslog.start(form)
        logs(rsyslog, first, 1)
        logs(rsyslog, second, 2, 3)
        readers = reader(first), reader(second, path=str(MAIL))
        logs(rsyslog, first, 11, 12)
        logs(rsyslog, second, 21)
        rsyslog.has(DOUBLE.format(21), name=WRITTEN[1])
        assert [reader() for reader in readers] == [[11, 12], [21]]
        assert [server.counted(modules) for server in (first, second)] == [3, 3]
        assert [server.counted(modules, path=str(MAIL)) for server in (first, second)] == [3, 3]


def test_another_splogger_of_the_same_name_proves_nothing(modules, rsyslog, first, tmp_path):
    """Each qmail-send counts its deliveries from 1 on: this one says of all of them what the first one's are not."""
    rsyslog.start()
    other = Server(tmp_path, "qmail-three", ["splogger", "qmail"])
    try:
        other.wait()
        logs(rsyslog, first, 1)
        probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)
        assert probe["end"] == "swallowed", probe
        (PLACE / "lie").write_text("".join(f"delivery {n}: success: did_0+0+1/\n" for n in range(200)))
        said = "delivery 199: success"
        (first.home.mailbox() / ".qmail").write_text("./Maildir/\n")
        lies = (
            f"had=$(grep -c '{said}' {MAIL}); cp {PLACE}/lie {other.path}/.say; mv {other.path}/.say {other.path}/say; "
            f"until [ $(grep -c '{said}' {MAIL}) -gt $had ]; do sleep 0.01; done"
        )
        with first.before_each_line(lies):
            probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)
        assert probe["end"] in ("stored", "unseen"), probe
        assert "Give each splogger a name of its own" in probe["reason"]
        assert probe["end"] == "stored" or not list((first.home.mailbox() / "Maildir/new").iterdir())
    finally:
        (first.home.mailbox() / ".qmail").write_text("|exit 0\n")
        other.close()
    assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)["end"] == "swallowed"


def test_a_flood_over_the_rate_proves_nothing_until_lines_are_taken_again(modules, states, rsyslog, first):
    rsyslog.start(limit=20)
    first.say(*map(DOUBLE.format, range(1000, 2000)))
    rsyslog.has("begin to drop messages due to rate-limiting", name=WRITTEN[1])
    rsyslog.has("<#@[]>", 20)
    probe = modules.qmail_doublebounce.probe({}, 1, ADDRESS, first.path, log=str(MAIL))
    assert (probe["end"], probe["log"]) == ("unseen", [])
    assert "Is it qmail-send's log" in probe["reason"]
    proof = {"address": ADDRESS, "home": first.path, "log": str(MAIL), "timeout": 1, "always": True}
    ret = states.qmail_doublebounce.verified("double bounces are swallowed", **proof)
    assert (ret.result, ret.changes) == (False, {})
    assert first.counted(modules, path=str(MAIL)) == 20
    rsyslog.start()
    logs(rsyslog, first, 1)
    assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)["end"] == "swallowed"


@pytest.mark.parametrize("taken", range(1, 12))
def test_a_probe_whose_lines_are_dropped_from_some_line_on_is_never_what_it_is_not(modules, rsyslog, first, taken):
    rsyslog.start(limit=taken + 1)
    logs(rsyslog, first, 1)
    probe = modules.qmail_doublebounce.probe({}, 1, ADDRESS, first.path, log=str(MAIL))
    assert probe["end"] == ("swallowed" if taken >= 10 else "unseen"), probe


def test_all_files_that_debian_s_logrotate_made_are_counted(modules, rsyslog, first):
    rsyslog.start()
    for turn in range(4):
        logs(rsyslog, first, *range(100 * turn, 100 * turn + turn + 1))
        rsyslog.rotate()
        logs(rsyslog, first, 9000 + turn)
    names = sorted(path.name for path in MAIL.parent.glob("mail.log*"))
    assert names == ["mail.log", "mail.log.1", "mail.log.2.gz", "mail.log.3.gz", "mail.log.4.gz"]
    with gzip.open(f"{MAIL}.4.gz") as oldest:
        assert oldest.read().count(b"<#@[]>") == 1
    for path in (None, str(MAIL)):
        assert first.counted(modules, path=path) == 1 + 2 + 3 + 4 + 4
    summary = modules.qmail_log.summary(**first.ask(since="1h"))
    assert (summary["double_bounces"], len(summary["files"])) == (14, 5)


def test_its_rotations_are_followed(rsyslog, first, reader):
    rsyslog.start()
    logs(rsyslog, first, 1)
    followers = reader(first), reader(first, path=str(MAIL))
    for turn in range(3):
        logs(rsyslog, first, 10 + turn)
        rsyslog.rotate()
        logs(rsyslog, first, 20 + turn)
    rsyslog.has(DOUBLE.format(22), name=WRITTEN[1])
    for follow in followers:
        assert (follow(), follow.lost) == ([10, 20, 11, 21, 12, 22], False)


def test_until_the_signal_comes_the_renamed_file_is_the_log(modules, rsyslog, first, reader):
    rsyslog.start()
    logs(rsyslog, first, 1)
    before = reader(first)
    rsyslog.configure_logrotate(signal=False)
    try:
        rsyslog.rotate()
    finally:
        rsyslog.configure_logrotate()
    renamed = pathlib.Path(f"{MAIL}.1")
    logs(rsyslog, first, 2, to=renamed)
    rsyslog.has(DOUBLE.format(2), name=pathlib.Path(f"{WRITTEN[1]}.1"))
    assert MAIL.read_text() == ""
    assert (before(), before.lost) == ([2], False)
    found = modules.qmail_log.about(**first.ask())
    assert found["log"] in map(str, WRITTEN)
    assert found["newest"] is not None
    assert first.counted(modules) == 2
    during = reader(first), reader(first, path=str(MAIL))
    assert modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)["end"] == "swallowed"
    rsyslog.signal()
    logs(rsyslog, first, 3)
    rsyslog.has(DOUBLE.format(3), name=WRITTEN[1])
    assert (before()[-1], before.lost) == (3, False)
    for follow in during:
        assert (follow()[-1], follow.lost) == (3, False)
    assert first.counted(modules) == 4


@pytest.mark.parametrize("at", range(3))
def test_a_probe_is_followed_through_them(modules, rsyslog, first, at):
    """At every third of its eleven lines: Debian keeps four files, and one that nobody has read yet must not go."""
    rsyslog.start()
    logs(rsyslog, first, 1)
    (PLACE / "lines").write_text("")
    command = f"echo >>{PLACE}/lines; test $(($(wc -l <{PLACE}/lines) % 3)) != {at} || {ROTATE}"
    with first.before_each_line(command) as rotated:
        probe = modules.qmail_doublebounce.probe({}, 60, ADDRESS, first.path)
    assert rotated.read_text() == "0 "
    assert (probe["end"], len(probe["hops"])) == ("swallowed", 2), probe
    wait_until(lambda: len((PLACE / "lines").read_text()) == 11)
    assert len(list(MAIL.parent.glob("mail.log*"))) >= 4
