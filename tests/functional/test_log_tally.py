"""Counting on in a log: whatever the readings are, each event counts once, as in one reading of the whole log."""

import gzip
import itertools
import os
import pathlib
import shutil

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
    domains = {name: number for name, number in counter.account["domains"].items()}
    assert domains == dict(books.domains)
