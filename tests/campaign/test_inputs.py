"""Whatever is in pillar, a queue, a Maildir or a log: an answer or an error in words, and nothing written beside it."""

import contextlib
import itertools
import os
import pathlib
import shutil
import time

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import SaltInvocationError

from tests.campaign.cases import DOUBLE, REPORTED
from tests.support.queue_on_disk import Queue

pytestmark = pytest.mark.soak

EXAMPLES = 10  # at a time, and again until the time is over


@pytest.fixture
def campaign(seconds, seed, record_property):
    """Run a property again and again, for the time of a campaign: a function of it, which counts the inputs."""

    def campaign(function, **strategies):
        tried, began = [0], time.monotonic()

        def counted(**given_):
            tried[0] += 1
            function(**given_)

        step = 0
        while step == 0 or time.monotonic() - began < seconds:
            bounded = hypothesis.settings(max_examples=EXAMPLES, database=None)(given(**strategies)(counted))
            hypothesis.seed(seed + step)(bounded)()
            step += 1
        record_property("campaign", {"inputs": tried[0], "seed": seed})

    return campaign


words = st.one_of(
    st.sampled_from(["sink", "discard", "auto", "plesk", "/var/qmail", "a@b.example", "|exit 0", "#", "/", ".."]),
    st.text(max_size=20),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words, st.binary(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["mode", "address", "instruction", "mailbox", "verify", "verify_timeout", "qmail", "service"]
INNER = ["home", "control", "queue", "log", "provider", "name", "timeout"]
sections = st.dictionaries(st.sampled_from(INNER) | words, values, max_size=4)
pillars = st.dictionaries(st.sampled_from(KEYS) | words, values | sections, max_size=5)


def test_any_pillar_is_settings_or_a_list_of_what_is_wrong(campaign, modules, tmp_path):
    before = sorted(tmp_path.rglob("*"))

    def holds(pillar):
        found = modules.qmail_doublebounce.settings(pillar, strict=False)
        assert all(isinstance(text, str) and text for text in found["problems"])
        try:
            strict = modules.qmail_doublebounce.settings(pillar)
        except SaltInvocationError as err:
            assert found["problems"] and all(text in str(err) for text in found["problems"])
        else:
            assert not found["problems"] and strict["mode"] in ("sink", "discard")

    campaign(holds, pillar=pillars)
    assert sorted(tmp_path.rglob("*")) == before


senders = st.sampled_from([b"F#@[]\0", b"F\0", b"F#@[]", b"F#@[]\0eX=1\0", b"eX=1\0F#@[]\0", b"", b"\0", b"F#@[]x\0"])
contents = senders | st.binary(max_size=600)
KINDS = ("mess", "info", "local", "remote", "bounce", "todo", "intd", "pid")
SPLITS, NAMES = ["", "0", "1", "5", "x"], ["5", "23", "x", "-1", ".5"]
places = st.tuples(st.sampled_from(KINDS), st.sampled_from(SPLITS), st.sampled_from(NAMES))
ODD = ("file", "directory", "link", "fifo")
entries = st.dictionaries(places, st.tuples(st.sampled_from(("file",) * 6 + ODD), contents), max_size=12)


def put(path, kind, text, outside):
    """Put something at a place, if nothing is in its way."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(text)
        elif kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(outside)
        else:
            os.mkfifo(path)


def shown(top):
    """Return what is below a directory, without following a link."""
    found = {}
    for path in sorted(top.rglob("*")):
        is_plain = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(top))] = (path.lstat().st_mode, path.read_bytes() if is_plain else None)
    return found


def test_any_queue_is_counted_or_an_error_and_only_double_bounces_go(campaign, modules, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"F#@[]\0")

    def holds(split, entries):
        shutil.rmtree(tmp_path / "queue", ignore_errors=True)
        queue = Queue(tmp_path / "queue", split=split)
        for (kind, number, name), (what, text) in entries.items():
            put(queue.path / kind / number / name, what, text, outside)
        before = shown(queue.path)
        given_ = {"queue": str(queue.path), "home": str(tmp_path)}
        for function in ("summary", "double_bounces", "unprocessed"):
            with contextlib.suppress(*REPORTED):
                modules[f"qmail_queue.{function}"](**given_)
        assert shown(queue.path) == before
        with contextlib.suppress(*REPORTED, OSError):  # qmail_queue.remove reports it
            modules["qmail_queue_delete.bounces"](str(queue.path))
        after = shown(queue.path)
        # What was put there may make it the queue of a qmail with one directory more.
        parts = next(number for number in itertools.count() if f"info/{number}" not in before)
        for name, found in before.items():
            kind, number = name.split("/")[0], name.split("/")[-1]
            info = f"info/{int(number) % parts}/{number}" if number.isdecimal() else ""
            envelope = before.get(info, (0, None))[1] or b""
            assert after.get(name) == found or b"F#@[]\0" in envelope, (name, found)
            assert after.get(name) == found or kind not in ("todo", "intd", "pid", "lock")
        assert set(after) <= set(before)
        assert outside.read_bytes() == b"F#@[]\0"

    double = ("file", b"F#@[]\0")
    holds(1, {("info", "1", "23"): double, ("mess", "1", "23"): double})
    campaign(holds, split=st.sampled_from([1, 3]), entries=entries)


FIRST = b"Return-Path: <#@[]>"
heads = st.sampled_from([DOUBLE, FIRST, FIRST + b"\r\n", b"Return-Path: <>\n", b" " + DOUBLE, b""])
mails = st.dictionaries(
    st.tuples(st.sampled_from(["new", "cur", "tmp", "."]), st.sampled_from(["1.a", "2.b", ".c", "d:2,S", "é"])),
    st.tuples(st.sampled_from(("file",) * 6 + ODD), st.builds(bytes.__add__, heads, st.binary(max_size=100))),
    max_size=10,
)


def test_any_maildir_loses_its_double_bounces_and_nothing_else(campaign, modules, home):
    maildir = home.mailbox() / "Maildir"
    outside = home.path / "outside"
    outside.write_bytes(DOUBLE)

    def holds(mails):
        shutil.rmtree(maildir)
        for name in ("new", "cur", "tmp"):
            (maildir / name).mkdir(parents=True)
        for (where, name), (what, text) in mails.items():
            put(maildir / where / name, what, text, outside)
        before = shown(maildir)
        modules.qmail_mailbox.purge(str(maildir), home=str(home.path), test=True)
        assert shown(maildir) == before
        modules.qmail_mailbox.purge(str(maildir), home=str(home.path))
        after = shown(maildir)
        for name, found in before.items():
            place = pathlib.PurePath(name)
            may_go = place.parts[0] in ("new", "cur") and len(place.parts) == 2 and not place.name.startswith(".")
            is_double = (found[1] or b"").startswith(b"Return-Path: <#@[]>\n")
            assert (name in after) == (not (may_go and is_double)), (name, found)
        assert outside.read_bytes() == DOUBLE

    campaign(holds, mails=mails)


WORDS = [
    *(b"info msg 7: bytes 705 from <#@[]> qp 8 uid 1007", b"new msg 7", b"end msg 7", b"bounce msg 7 qp 8"),
    *(b"starting delivery 1: msg 7 to local a@b", b"delivery 1: failure: no_(#5.1.1)/", b"status: local 0/10"),
    *(b"triple bounce: discarding bounce/7", b"double bounce: discarding bounce/7"),
]
HEADS = [b"Nov 24 02:11:15 mx qmail: ", b"@400000006b04f24525a20e5c ", b"1795486275.513354 ", b"<22>1 "]
bits = st.sampled_from([*WORDS, *HEADS, b"\n", b"\n", b"\0", b"\xff", b" "])
lines = st.lists(bits | st.binary(max_size=30), max_size=40).map(b"".join)


def test_any_log_is_counted_or_an_error(campaign, modules, tmp_path):
    log = tmp_path / "log"

    def holds(text):
        log.write_bytes(text)
        for function in ("counts", "summary", "causes"):
            with contextlib.suppress(*REPORTED):
                found = modules[f"qmail_log.{function}"](path=str(log))
                assert isinstance(found, dict)
        assert log.read_bytes() == text and os.listdir(tmp_path) == ["log"]

    campaign(holds, text=lines)
