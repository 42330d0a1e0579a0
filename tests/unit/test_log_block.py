"""
The blocks of a log.
"""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _modules import qmail_log_block, qmail_log_part
from tests.support.wired import wired

SYSLOG = b"Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5\n"


@pytest.fixture
def configure_loader_modules():
    return wired()


def read(path, *arguments):
    return b"".join(data for data, _ in qmail_log_block.blocks(qmail_log_part.named(str(path)), *arguments))


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b" "))), st.integers(40, 90), st.booleans())
def test_blocks_are_whole_lines_and_all_of_them(tmp_path, monkeypatch, lines, size, ended):
    monkeypatch.setattr(qmail_log_block, "BLOCK", size)
    text = b"x" + b"\n".join(lines) + (b"\n" if ended else b"")
    (tmp_path / "log").write_bytes(text)
    blocks = [data for data, _ in qmail_log_block.blocks(qmail_log_part.named(str(tmp_path / "log")))]
    assert b"".join(blocks) == text
    assert all(block.endswith(b"\n") for block in blocks[:-1])


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(40, 90))
def test_a_line_longer_than_a_block_loses_its_end_only(tmp_path, monkeypatch, lengths, size):
    monkeypatch.setattr(qmail_log_block, "BLOCK", size)
    lines = [b"%d " % number + b"x" * length for number, length in enumerate(lengths)]
    (tmp_path / "log").write_bytes(b"".join(line + b"\n" for line in lines))
    blocks = [data for data, _ in qmail_log_block.blocks(qmail_log_part.named(str(tmp_path / "log")))]
    told = [line for block in blocks for line in block.splitlines()]
    assert len(told) == len(lines)
    assert all(line.startswith(cut) and (cut == line or len(cut) >= size) for line, cut in zip(lines, told))


@pytest.mark.parametrize("context", [0, 3000])
def test_reading_begins_a_little_before_the_window(tmp_path, monkeypatch, context):
    monkeypatch.setattr(qmail_log_block, "BLOCK", 512)
    monkeypatch.setattr(qmail_log_block, "SLACK", 100)
    lines = [b"%d.5 vm qmail: new msg %d\n" % (1795486275 + number, number) for number in range(20000)]
    path = tmp_path / "log"
    path.write_bytes(b"".join(lines))
    for since in (0, 5000, 12345, 19999):
        text = read(path, 1795486275 + since, None, context)
        assert b"".join(lines).endswith(text) and lines[since] in text
        late = len(text) - len(b"".join(lines[since:]))
        assert min(context, len(b"".join(lines[:since]))) <= late <= context + 1400


def test_a_line_of_the_window_may_lie_a_megabyte_before_it(tmp_path):
    """Several machines send to one syslog, and the clock of one is ahead."""
    since = 1795486275
    ahead = b"%d.5 mx qmail: new msg 7\n" % (since + 60)
    before = [b"%d.5 vm qmail: new msg 8\n" % (since - 40000 + number) for number in range(40000)]
    within = [b"%d.5 vm qmail: new msg 9\n" % (since + number) for number in range(10)]
    text = b"".join((*before, *within))
    for distance in (2**20 - 100, 2**19, 100):
        at = text.rfind(b"\n", 0, len(b"".join(before)) - distance) + 1
        (tmp_path / "log").write_bytes(text[:at] + ahead + text[at:])
        assert ahead in read(tmp_path / "log", since)


def test_old_files_are_read_for_context_only(tmp_path):
    for number, name in ((3, "log.3"), (2, "log.2"), (1, "log.1"), (0, "log")):
        (tmp_path / name).write_bytes(b"%d.5 vm qmail: new msg %d\n" % (1795486275 - 86400 * number, number) * 10)
        os.utime(tmp_path / name, (1795486275 - 86400 * number,) * 2)
    assert set(read(tmp_path / "log", 1795486275 - 100).split()[-1:]) == {b"0"}
    assert b"msg 1\n" not in read(tmp_path / "log", 1795486275 - 3600)
    text = read(tmp_path / "log", 1795486275 - 3600, None, 500)
    assert b"msg 1\n" in text and b"msg 2\n" in text and b"msg 3\n" not in text


def test_reading_ends_after_the_window(tmp_path, monkeypatch):
    monkeypatch.setattr(qmail_log_block, "BLOCK", 512)
    lines = [b"%d.5 vm qmail: new msg %d\n" % (1795486275 + number, number) for number in range(20000)]
    (tmp_path / "log").write_bytes(b"".join(lines))
    text = read(tmp_path / "log", None, 1795486275 + 5000)
    assert lines[5000] in text and len(text) < len(b"".join(lines[:6000]))


def test_a_file_that_was_renamed_meanwhile_is_read_once(tmp_path):
    (tmp_path / "log").write_bytes(SYSLOG)
    os.link(tmp_path / "log", tmp_path / "log.1")
    assert read(tmp_path / "log") == SYSLOG


def test_a_file_that_was_removed_meanwhile_is_left_out(tmp_path):
    for name in ("log", "log.1", "log.2"):
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    found = qmail_log_part.named(str(tmp_path / "log"))
    (tmp_path / "log.1").unlink()
    assert b"".join(data for data, _ in qmail_log_block.blocks(found)) == b"log.2\nlog\n"


def test_nothing_stays_open(tmp_path):
    for name in ("log", "log.1"):
        (tmp_path / name).write_bytes(SYSLOG)
    before = os.listdir("/proc/self/fd")
    blocks = qmail_log_block.blocks(qmail_log_part.named(str(tmp_path / "log")))
    next(blocks)
    blocks.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_journalctl_that_nobody_listens_to_is_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec yes\n")
    program.chmod(0o700)
    blocks = qmail_log_block.blocks(qmail_log_part.named("journald"))
    next(blocks)
    blocks.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(("behind", "is_read"), [(1, True), (599, True), (600, True), (601, False)])
def test_a_file_that_ends_ten_minutes_before_the_window_may_hold_lines_of_it(tmp_path, behind, is_read):
    """Several machines send to one syslog, and the clock of one is behind."""
    since = 1795486275
    late = b"%d.5 vm qmail: new msg 7\n" % (since + 1)
    (tmp_path / "log.1").write_bytes(late + b"x" * 10000 + b"\n%d.5 mx qmail: new msg 8\n" % (since - behind))
    (tmp_path / "log").write_bytes(b"%d.5 vm qmail: new msg 9\n" % (since + 900))
    for name, age in (("log.1", -behind), ("log", 900)):
        os.utime(tmp_path / name, (since + age,) * 2)
    assert (late in read(tmp_path / "log", since)) is is_read


def test_reading_goes_on_ten_minutes_after_the_window(tmp_path, monkeypatch):
    monkeypatch.setattr(qmail_log_block, "BLOCK", 64)
    until = 1795486275
    lines = [b"%d.5 vm qmail: new msg 1\n" % (until + ahead) for ahead in (0, 1, 300, 599, 600)]
    late = b"%d.5 mx qmail: new msg 2\n" % until
    rest = b"".join(b"%d.5 vm qmail: new msg 3\n" % (until + 700 + number) for number in range(50))
    (tmp_path / "log").write_bytes(b"".join(lines) + late + rest)
    text = read(tmp_path / "log", None, until)
    assert late in text
    assert len(text) < len(rest)
