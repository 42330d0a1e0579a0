"""
Two processes read a log at the same time, a half each, and find what one finds that reads it from its beginning.
"""

import gzip
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _modules import qmail_log, qmail_log_block, qmail_log_file, qmail_log_message, qmail_log_stranger
from tests.support import log_model
from tests.support.wired import wired

START = 1795486275
FORMS = ["multilog", "syslog", "syslog-pid", "rsyslog", "svlogd-prefix", "toaster"]
DIALECTS = {
    "qmail": lambda words: words,
    "eqmail": log_model.eqmail,
    "indimail": lambda w: log_model.indimail(w, b"q1"),
}
SOME = settings(max_examples=10)


@pytest.fixture
def configure_loader_modules():
    return wired()


@pytest.fixture
def halved(monkeypatch):
    """Set from which size on a log is halved, and how far into the second half notices are put aside."""

    def halved(size, warm=2**20):
        monkeypatch.setattr(qmail_log_block, "HALVED", size)
        monkeypatch.setattr(qmail_log_stranger, "WARM", warm)

    return halved


@pytest.fixture
def joined(monkeypatch):
    """Whether each log that was halved was also joined, rather than read again."""
    found = []
    join = qmail_log_message._joined
    monkeypatch.setattr(qmail_log_message, "_joined", lambda *told: found.append(join(*told)) or found[-1])
    return found


def written(path, lines, form="multilog", dialect="qmail"):
    say, put = DIALECTS[dialect], log_model.FORMS[form]
    path.write_bytes(b"".join(put(now, say(words)) + b"\n" for now, words in lines))
    os.utime(path, (START + 200000, START + 200000))
    return str(path)


def everything(path):
    """All that following the messages shows, without how long it took."""
    found = [qmail_log.summary(path), qmail_log.causes(path), qmail_log.harm(path, mark=START + 5000)]
    return [{name: value for name, value in one.items() if name != "seconds"} for one in found]


@given(
    seed=st.integers(0, 2**32),
    form=st.sampled_from(FORMS),
    dialect=st.sampled_from(sorted(DIALECTS)),
    discards=st.booleans(),
    warm=st.sampled_from([0, 2000, 2**20]),
)
@SOME
def test_two_find_what_one_finds(tmp_path, halved, seed, form, dialect, discards, warm):
    books = log_model.Books()
    send = log_model.QmailSend(seed, [books], discards=discards).run(400)
    path = written(tmp_path / "log", send.lines, form, dialect)
    halved(2**40)
    alone = everything(path)
    halved(1, warm)
    assert everything(path) == alone
    assert {name: alone[0][name] for name in log_model.COUNTS} == books.totals()


def test_what_is_usual_is_joined_and_what_is_not_is_read_again(tmp_path, halved, joined):
    """A notice that comes long after its bounce, so long that it was taken for one from elsewhere."""
    some = [(START, b"status: local 0/10 remote 0/20")] * 99
    bounced = [
        (START, b"info msg 1: bytes 9 from <a@b.example> qp 10 uid 2"),
        (START, b"starting delivery 1: msg 1 to local x@first.example"),
        (START, b"delivery 1: failure: no/"),
        (START, b"bounce msg 1 qp 11"),
        (START, b"end msg 1"),
    ]
    notice = [
        (START, b"info msg 2: bytes 9 from <> qp 11 uid 2"),
        (START, b"starting delivery 2: msg 2 to remote a@b.example"),
        (START, b"delivery 2: failure: no/"),
        (START, b"bounce msg 2 qp 12"),
        (START, b"info msg 3: bytes 9 from <#@[]> qp 12 uid 2"),
    ]
    path = written(tmp_path / "log", [*bounced, *some, *some, *notice])
    halved(1)
    near = everything(path)
    assert joined == [True] * 3
    halved(1, warm=0)
    assert everything(path) == near
    assert joined[3:] == [False] * 3
    assert near[0]["domains"] == {"first.example": 1}
    assert (near[0]["double_bounces"], near[0]["single_bounces"]) == (1, 1)
    assert near[1]["domains"]["first.example"]["senders"] == {"b.example": 1}


def test_too_much_that_is_put_aside_is_read_again(tmp_path, halved, joined, monkeypatch):
    send = log_model.QmailSend(7, []).run(400)
    path = written(tmp_path / "log", send.lines)
    halved(2**40)
    alone = everything(path)
    halved(1)
    monkeypatch.setattr(qmail_log_stranger, "MOST_LINES", 3)
    monkeypatch.setattr(qmail_log_block, "BLOCK", 2**12)
    assert everything(path) == alone
    assert joined == [False] * 3


def test_a_message_may_wait_from_one_half_to_the_other(tmp_path, halved, joined):
    some = [(START + 50, b"status: local 0/10 remote 0/20")] * 99
    queued = [
        (START, b"info msg 1: bytes 9 from <a@b.example> qp 10 uid 2"),
        (START, b"starting delivery 1: msg 1 to local x@first.example"),
        (START, b"info msg 2: bytes 9 from <#@[]> qp 11 uid 2"),
    ]
    ended = [
        (START + 20, b"delivery 1: success: did_1+0+0/"),
        (START + 20, b"starting delivery 2: msg 2 to local sink@first.example"),
        (START + 20, b"delivery 2: success: did_0+0+1/"),
    ]
    path = written(tmp_path / "log", [*queued, *some, *some, *ended])
    halved(1)
    found = everything(path)[0]
    assert joined == [True] * 3
    assert (found["waits"], found["wait_median"], found["swallowed"], found["deliveries"]) == (1, 20, 1, 2)
    assert found["recipients"] == {"sink@first.example": 1}


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30), st.integers(1, 3), st.sampled_from([97, 1000, 2**20]))
@SOME
def test_two_halves_are_the_whole(tmp_path, halved, monkeypatch, lengths, files, block):
    """However long its lines are, and however many files it has. Those that splogger cuts are not torn apart."""
    monkeypatch.setattr(qmail_log_block, "BLOCK", 2**20)
    halved(1)
    for name in tmp_path.iterdir():
        name.unlink()  # of the example before
    names = [tmp_path / "log", tmp_path / "log.1", tmp_path / "log.2"][:files]
    line = b"Nov 24 02:11:15 vm qmail: 1795486275.500000 end msg %d%s\n"
    texts = [b"".join(line % (number, b"x" * size) for number, size in enumerate(lengths))] * files
    for name, text in zip(names, texts):
        name.write_bytes(text)
    found = qmail_log_file.find(str(names[0]))
    works, close = qmail_log_block.halves(found)
    monkeypatch.setattr(qmail_log_block, "BLOCK", block if block > max(lengths) + 60 else 2**20)
    try:
        read = [b"".join(data for data, _ in work()) for work in works]
        assert b"".join(read) == b"".join(texts)
        assert all(not part or part.endswith(b"\n") for part in read)
        if works[1:]:
            assert b"".join(data for data, _ in works[1]()) == read[1]
    finally:
        close()


def test_what_splogger_cut_stays_in_one_half(tmp_path, halved):
    halved(1)
    stamp = b"Nov 24 02:11:15 vm qmail: 1795486275.500000"
    words = b"starting delivery 1: msg 1 to local %s@first.example" % (b"x" * 1000)
    for before in range(0, 3000, 77):
        body = b"1795486275.500000 " + words
        text = (
            stamp + b" " + b"y" * before + b"\n" + stamp[:26] + body[:817] + b"\n" + stamp + b"+" + body[817:] + b"\n"
        )
        (tmp_path / "log").write_bytes(text * 2)
        works, close = qmail_log_block.halves(qmail_log_file.find(str(tmp_path / "log")))
        halves = [b"".join(data for data, _ in work()) for work in works]
        close()
        assert b"".join(halves) == text * 2
        assert not halves[1].startswith(stamp + b"+")


def test_what_is_packed_or_small_is_read_by_one(tmp_path, halved):
    (tmp_path / "log").write_bytes(b"Nov 24 02:11:15 vm qmail: 1795486275.500000 end msg 1\n" * 100)
    works, close = qmail_log_block.halves(qmail_log_file.find(str(tmp_path / "log")))
    close()
    assert len(works) == 1
    halved(1)
    (tmp_path / "log.1.gz").write_bytes(gzip.compress((tmp_path / "log").read_bytes()))
    works, close = qmail_log_block.halves(qmail_log_file.find(str(tmp_path / "log")))
    close()
    assert len(works) == 1
