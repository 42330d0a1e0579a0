"""Counting on in a log: whatever the readings are, each event counts once, as in one reading of the whole log."""

import base64
import gzip
import itertools
import os
import pathlib
import shutil
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import SaltInvocationError

from tests.support.log_model import FORMS, Books, QmailSend, eqmail, indimail

COUNTED = ("double_bounces", "discarded", "triple_bounces", "swallowed", "stored", "forwarded", "deferred")
REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def made_up(seed, steps=400, form="multilog", discards=False, fork=None):
    """Return the lines of a made-up qmail-send, and what it did by its own books."""
    books = Books()
    told = QmailSend(seed, [books], discards=discards).run(steps)
    say = fork or (lambda words: words)
    return [FORMS[form](now, say(words)) + b"\n" for now, words in told.lines], books


class Counter:
    """Somebody who counts on, call by call."""

    def __init__(self, modules, path, **bounds):
        self.modules, self.bounds = modules, bounds
        self.account = modules["qmail_log.tally"](path=str(path))

    def __call__(self, **bounds):
        self.account = self.modules["qmail_log.tally"](self.account, **{**self.bounds, **bounds})
        return self.account

    def all(self):
        while self()["behind"]:
            pass
        return self.counts

    @property
    def counts(self):
        return {name: self.account["totals"].get(name, 0) for name in COUNTED}


def true(books):
    return {name: number for name, number in books.totals().items() if name in COUNTED}


def write(path, lines):
    with open(path, "ab") as file:
        file.write(b"".join(lines))


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").touch()
    return tmp_path / "log"


@pytest.mark.parametrize("form", FORMS)
def test_a_log_in_any_form_counts_the_same_in_parts_as_in_one(modules, log, form):
    if form in ("journal-json", "journal-export"):
        pytest.skip("is not written by a daemon, but by whoever copies the journal")
    lines, books = made_up(7, 1000, form)
    counter = Counter(modules, log)
    for at in range(0, len(lines), 60):
        write(log, lines[at : at + 60])
        counter()
    assert counter.counts == true(books)
    assert sum(true(books).values()) > 20


@pytest.mark.parametrize("fork", [eqmail, lambda words: indimail(words, b"queue1")])
def test_a_fork_counts_the_same_in_parts_as_in_one(modules, log, fork):
    lines, _ = made_up(3, 400, fork=fork)
    counter = Counter(modules, log)
    for at in range(0, len(lines), 5):
        write(log, lines[at : at + 5])
        counter()
    whole = modules["qmail_log.summary"](str(log))
    assert counter.counts == {name: whole[name] for name in COUNTED}
    assert counter.counts["double_bounces"] > 0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), cuts=st.lists(st.integers(1, 60), min_size=1), discards=st.booleans())
def test_however_it_is_cut_into_readings_the_counts_are_those_of_the_books(modules, tmp_path, seed, cuts, discards):
    log = tmp_path / "log"
    log.write_bytes(b"")
    lines, books = made_up(seed, 250, discards=discards)
    counter = Counter(modules, log)
    sizes = itertools.cycle(cuts)
    while lines:
        size = next(sizes)
        write(log, lines[:size])
        lines = lines[size:]
        counter()
    assert counter.counts == true(books)
    assert counter.account["domains"] == dict(books.domains)
    whole = modules["qmail_log.summary"](str(log))
    delays = counter.account["delays"]
    assert delays["count"] == whole["waits"]
    assert delays["quantiles"] == {"0.5": whole["wait_median"], "0.95": whole["wait_95"]}
    for name in ("deliveries", "double_bounce_deliveries", "queued_bytes", "double_bounce_bytes"):
        assert counter.account["totals"].get(name, 0) == whole[name]


def test_a_log_counts_from_its_end_on(modules, log):
    lines, _ = made_up(7)
    write(log, lines)
    counter = Counter(modules, log)
    assert counter.account["newest"] > 1795486275
    assert sum(counter.all().values()) == 0
    assert counter.account["read"] == 0


def bytes_read():
    """Return how many bytes this process has read until now."""
    found = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
    return int(found["rchar"])


def test_a_log_that_grew_by_100_mb_is_read_in_parts(modules, log):
    counter = Counter(modules, log, limit=2**22, seconds=1000)
    lines, _ = made_up(5, 2000)
    block = b"".join(lines)
    with open(log, "ab") as file:
        for _ in range(100 * 10**6 // len(block) + 1):
            file.write(block)
    assert log.stat().st_size > 100 * 10**6
    for turn in range(1, 4):
        before = bytes_read()
        account = counter()
        assert account["behind"] is True
        assert 2**22 - 2**18 <= account["read"] <= 2**22 + 2**18
        assert bytes_read() - before < 2**22 + 2**20
        assert turn * (2**22 - 2**18) <= account["position"]["offset"] <= turn * (2**22 + 2**18)
    assert counter.counts["double_bounces"] > 100


def test_a_reading_ends_when_its_time_is_over(modules, log):
    counter = Counter(modules, log)
    lines, books = made_up(5, 8000)
    write(log, lines)
    assert log.stat().st_size > 2**18
    account = counter(seconds=0)
    assert (account["behind"], account["read"]) == (True, 0)
    assert counter.all() == true(books)


def _logrotate(path, pack=False):
    _make_room(path)
    os.rename(path, f"{path}.1")
    if pack:
        with open(f"{path}.1", "rb") as file, gzip.open(f"{path}.1.gz", "wb") as packed:
            shutil.copyfileobj(file, packed)
        os.unlink(f"{path}.1")
    path.touch()


def _copy_and_truncate(path):
    _make_room(path)
    shutil.copy(path, f"{path}.1")
    os.truncate(path, 0)


def _make_room(path):
    for number in range(8, 0, -1):
        for ending in ("", ".gz"):
            if os.path.exists(f"{path}.{number}{ending}"):
                os.rename(f"{path}.{number}{ending}", f"{path}.{number + 1}{ending}")


ROTATIONS = {
    "logrotate": _logrotate,
    "logrotate, packed at once": lambda path: _logrotate(path, pack=True),
    "copytruncate": _copy_and_truncate,
}


@pytest.mark.parametrize("how", ROTATIONS)
@pytest.mark.parametrize("readings", [(), (0, 3, 4), range(7)], ids=["none", "some", "in each file"])
def test_counters_go_on_over_rotations(modules, log, how, readings):
    lines, _ = made_up(11, 900)
    before, rest = lines[:100], lines[100:1500]
    write(log, before)
    counter = Counter(modules, log)
    for turn in range(7):
        part = rest[200 * turn : 200 * (turn + 1)]
        write(log, part[:100])
        if turn in readings:
            counter()
        write(log, part[100:])
        ROTATIONS[how](log)
    counter.all()
    whole = log.parent / "whole"
    write(whole, rest)
    summary = modules["qmail_log.summary"](str(whole))
    assert counter.counts == {name: summary[name] for name in COUNTED}
    assert counter.counts["double_bounces"] > 5
    assert counter.account["gaps"] == 0


def test_a_log_in_hundreds_of_files_is_counted_whole_and_few_are_open_at_a_time(modules, tmp_path):
    lines, books = made_up(13, 2500)
    (tmp_path / "current").touch()
    counter = Counter(modules, tmp_path)
    for turn in range(300):
        at = len(lines) * turn // 300, len(lines) * (turn + 1) // 300
        write(tmp_path / "current", lines[slice(*at)])
        os.rename(tmp_path / "current", tmp_path / f"@40000000{turn:016x}.s")
        (tmp_path / "current").touch()
    opened, really = [], os.open

    def counting(*arguments, **named):
        opened.append(len(os.listdir("/proc/self/fd")))
        return really(*arguments, **named)

    before = len(os.listdir("/proc/self/fd"))
    os.open = counting
    try:
        counts = counter.all()
    finally:
        os.open = really
    assert counts == true(books)
    assert counter.account["gaps"] == 0
    assert max(opened) < before + 40


def test_lines_that_are_lost_are_a_gap(modules, log):
    lines, _ = made_up(11, 300)
    counter = Counter(modules, log)
    write(log, lines[:50])
    counter()
    log.unlink()
    write(log, lines[100:])
    counter()
    assert counter.account["gaps"] == 1


def test_what_lies_deep_in_a_packed_file_is_skipped_and_said(modules, log, monkeypatch):
    lines, _ = made_up(11, 600)
    counter = Counter(modules, log)
    monkeypatch.setitem(modules["qmail_log_tally.advance"].__globals__, "UNPACK", 1000)
    write(log, lines[:200])
    counter()
    write(log, lines[200:300])
    _logrotate(log, pack=True)
    write(log, lines[300:])
    account = counter()
    assert account["gaps"] == 1
    assert account["read"] == len(b"".join(lines[300:]))


def test_another_log_is_gone_on_in_at_its_end(modules, tmp_path):
    lines, _ = made_up(11, 300)
    for name in ("one", "other"):
        write(tmp_path / name, lines)
    counter = Counter(modules, tmp_path / "one")
    write(tmp_path / "one", lines)
    counter()
    before = counter.counts
    account = counter(path=str(tmp_path / "other"), again=True)
    assert account["position"]["path"] == str(tmp_path / "other")
    assert (counter.counts, account["gaps"]) == (before, 1)
    write(tmp_path / "other", lines)
    counter()
    assert counter.counts["double_bounces"] == 2 * before["double_bounces"] > 0


def test_many_messages_at_a_time_are_followed_as_far_as_memory_goes(modules, log):
    counter = Counter(modules, log)
    form = FORMS["multilog"]
    for number in range(10000):
        write(log, [form(1795486275, b"info msg %d: bytes 9 from <#@[]> qp 5 uid 6" % number) + b"\n"])
    account = counter.all() and counter.account
    assert counter.counts["double_bounces"] == 10000
    assert 0 < account["unfollowed"] <= 10000 - 7000
    assert len(account["open"]) < 2**20
    words = (b"starting delivery 1: msg 9999 to local a@b", b"delivery 1: success: did_0+0+1/", b"end msg 9999")
    write(log, [form(1795486275, word) + b"\n" for word in words])
    counter()
    assert counter.counts["swallowed"] == 1


def longest(words):
    """The words of an event, with an address that makes them as long as lines may be that are kept as they are."""
    return words % base64.b32encode(os.urandom(250))[: 400 - len(words) + len(b"%s")]


def failing(number, qp):
    """A message with the longest addresses that fails, and the bounce of it, announced but not queued yet."""
    yield longest(b"info msg %d: bytes 999 from <%%s@x.example> qp %d uid 89" % (number, qp))
    yield longest(b"starting delivery %d: msg %d to local 1-%%s@own.example" % (number, number))
    yield b"delivery %d: failure: Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/" % number
    yield b"bounce msg %d qp %d" % (number, qp + 10**6)
    yield b"end msg %d" % number


def failing_notice(number, qp):
    """Its bounce fails, too: one step before the double bounce."""
    yield b"info msg %d: bytes 1999 from <> qp %d uid 84" % (number, qp)
    yield longest(b"starting delivery %d: msg %d to remote %%s@x.example" % (number, number))
    yield b"delivery %d: failure: Sorry,_I_couldn't_find_any_host_named_x.example._(#5.1.2)/" % number


def the_most_that_is_followed():
    """As many messages, deliveries and bounces as are followed at a time, each with the longest history there is."""
    base = 10**9
    for number in range(base, base + 2**13 - 2):
        yield from failing(number, number)
        yield from failing_notice(number, number + 10**6)
    # Of these, messages are over, but what is announced is not queued yet.
    for number in range(2 * base, 2 * base + 2**10):
        yield from failing(number, number)
    # A mailing list.
    yield longest(b"info msg 7: bytes 999 from <%s@x.example> qp 7 uid 89")
    for number in range(4 * base, 4 * base + 2**12):
        yield longest(b"starting delivery %d: msg 7 to remote %%s@x.example" % number)


def test_the_longest_lines_of_the_most_messages_are_taken_again(modules, log, tmp_path):
    counter = Counter(modules, log, limit=2**26, seconds=60)
    form = FORMS["multilog"]
    write(log, [form(1795486275, words) + b"\n" for words in the_most_that_is_followed()])
    account = counter()
    assert len(account["open"]) > 2**23
    modules["qmail_base_record.save"](str(tmp_path / "record"), {"version": 1, "log": account})
    counter.account = modules["qmail_base_record.load"](str(tmp_path / "record"), 1)["log"]
    first = 10**9
    rest = [b"bounce msg %d qp 5" % first, b"end msg %d" % first, b"info msg 3: bytes 9 from <#@[]> qp 5 uid 6"]
    write(log, [form(1795486275, words) + b"\n" for words in rest])
    account = counter()
    assert (account["gaps"], account["unfollowed"], account["behind"]) == (0, 0, False)
    assert account["domains"] == {"own.example": 1}


def test_messages_whose_lines_are_too_many_are_not_followed_and_the_account_is_taken_again(modules, log, monkeypatch):
    counter = Counter(modules, log)
    monkeypatch.setitem(modules["qmail_log_tally.advance"].__globals__, "LARGEST", 2**12)
    form = FORMS["multilog"]
    doubles = [b"info msg %d: bytes 9 from <#@[]> qp 5 uid 6" % number for number in range(1000)]
    # No qmail-send bounces without end.
    endless = [b"info msg 1: bytes 9 from <> qp 1 uid 6"]
    for number in range(1, 200):
        endless += [b"bounce msg %d qp %d" % (number, number), b"end msg %d" % number]
        endless += [b"info msg %d: bytes 9 from <> qp %d uid 6" % (number + 1, number)]
    for words in (doubles, endless):
        write(log, [form(1795486275, line) + b"\n" for line in words])
        counter()
        account = counter()
        assert account["behind"] is False
    assert account["totals"]["double_bounces"] == 1000
    assert 900 < account["unfollowed"] <= 1000


def test_of_a_message_without_end_no_more_deliveries_are_kept_than_are_followed(modules, log):
    """A syslog daemon that limits the rate drops their reports."""
    counter = Counter(modules, log, seconds=60)
    words = [b"info msg 7: bytes 999 from <list@x.example> qp 7 uid 89"]
    words += [b"starting delivery %d: msg 7 to remote joe@x.example" % number for number in range(20000)]
    write(log, [FORMS["multilog"](1795486275, line) + b"\n" for line in words])
    lines = zlib.decompress(base64.b64decode(counter()["open"])).split(b"\n")
    assert 3000 < len(lines) <= 2**12 + 1


@pytest.mark.parametrize(
    "damage",
    [
        {"totals": None},
        {"totals": {"stored": -1}},
        {"totals": {"stored": "1"}},
        {"position": {"path": "/x"}},
        {"open": "%%%"},
        {"open": "eJwrTE=="},
        {"gaps": None},
    ],
)
def test_what_is_not_an_account_is_an_error(modules, log, damage):
    counter = Counter(modules, log)
    with pytest.raises(SaltInvocationError):
        modules["qmail_log.tally"]({**counter.account, **damage})
