"""
Following a log while it is rotated under one's feet.
"""

import gzip
import json
import os
import shutil
import stat
import subprocess

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError


@pytest.fixture
def follow(modules):
    return modules


class Reader:
    """Somebody who follows a log, call by call."""

    def __init__(self, follow, path):
        self.follow, self.lost = follow, False
        self.where = follow["qmail_log_follow.position"](str(path))

    def __call__(self, **more):
        told = self.follow["qmail_log_follow.lines_since"](self.where, **more)
        self.where, self.lost = told["position"], told["lost"]
        return told["lines"]


def write(path, *numbers, end="\n"):
    with open(path, "a", encoding="ascii") as file:
        file.write(
            "".join(f"{1795486275 + number}.5 vm qmail: new msg {number}\n" for number in numbers)[: -1 or None].rstrip(
                "\n"
            )
            + end
        )


def said(*numbers):
    return [f"{1795486275 + number}.5 vm qmail: new msg {number}" for number in numbers]


@pytest.fixture
def log(tmp_path):
    write(tmp_path / "log", 1, 2)
    return tmp_path / "log"


def test_only_what_is_new_is_returned(follow, log):
    reader = Reader(follow, log)
    assert reader() == []
    write(log, 3, 4)
    assert reader() == said(3, 4)
    assert reader() == []


def test_a_line_is_returned_when_it_is_complete(follow, log):
    reader = Reader(follow, log)
    write(log, 3, end="")
    assert reader() == []
    write(log, end="\n")
    assert reader() == said(3)


def test_a_position_in_the_middle_of_a_line_is_before_it(follow, log):
    write(log, 3, end="")
    reader = Reader(follow, log)
    write(log, end="0\n")
    assert reader() == [said(3)[0] + "0"]


def test_logrotate_renames(follow, log):
    reader = Reader(follow, log)
    write(log, 3)
    os.rename(log, f"{log}.1")
    write(log, 4)
    assert reader() == said(3, 4)
    assert not reader.lost


def test_what_a_syslog_daemon_writes_before_it_learns_of_the_rotation_is_not_missed(follow, log):
    reader = Reader(follow, log)
    os.rename(log, f"{log}.1")
    log.touch()
    assert reader() == []
    write(f"{log}.1", 3)
    assert reader() == said(3)
    write(f"{log}.1", 4)
    write(log, 5)
    assert reader() == said(4, 5)
    assert not reader.lost


def test_a_position_from_before_it_learns_of_the_rotation_is_in_the_file_that_it_writes_to(follow, log):
    os.rename(log, f"{log}.1")
    log.touch()
    reader = Reader(follow, log)
    write(f"{log}.1", 3)
    write(log, 4)
    assert reader() == said(3, 4)


def test_while_it_has_the_rotated_file_open_the_log_is_known_by_its_name(follow):
    for name in ("/x/mail.log.1", "/x/mail-20261124.log", "/x/mail.log-20261124", "/x/mail.log.2.gz"):
        assert follow["qmail_log_part.unrotated"](name) == "/x/mail.log"
    for name in ("/x/mail.log", "/x/maillog", "/x/log.d/current", "/x/qmail2"):
        assert follow["qmail_log_part.unrotated"](name) == name


@pytest.mark.parametrize("at", range(1, 10))
def test_a_log_that_is_rotated_while_its_files_are_opened_is_counted_whole(follow, log, monkeypatch, at):
    for number in range(3):
        path = f"{log}.{number}" if number else str(log)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{1795486275 - number}.5 vm qmail: info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n" * 10**number)
    calls, really = [], os.open

    def rotating(path, *arguments, **named):
        calls.extend([path] if str(path).startswith(str(log)) else [])
        if len(calls) == at and not os.path.exists(f"{log}.3"):
            for number in (2, 1, 0):
                os.rename(f"{log}.{number}" if number else log, f"{log}.{number + 1}")
            log.touch()
        return really(path, *arguments, **named)

    monkeypatch.setattr(os, "open", rotating)
    assert follow["qmail_log.count"](path=str(log))["double_bounces"] == 111
    assert os.path.exists(f"{log}.3")


def test_a_file_that_is_renamed_while_a_follower_opens_it_is_not_missed(follow, log, monkeypatch):
    reader, really = Reader(follow, log), os.open
    write(log, 3)

    def rotating(path, *arguments, **named):
        if str(path) == str(log) and not os.path.exists(f"{log}.1"):
            os.rename(log, f"{log}.1")
            write(log, 4)
        return really(path, *arguments, **named)

    follow["qmail_log_part.named"](str(log))
    monkeypatch.setattr(os, "open", rotating)
    assert reader() == said(3, 4)
    assert not reader.lost


def test_logrotate_renames_twice_and_packs(follow, log):
    reader = Reader(follow, log)
    write(log, 3)
    os.rename(log, f"{log}.1")
    write(log, 4)
    with open(f"{log}.1", "rb") as file, gzip.open(f"{log}.2.gz", "wb") as packed:
        shutil.copyfileobj(file, packed)
    os.rename(log, f"{log}.1")
    write(log, 5)
    assert reader() == said(3, 4, 5)


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_logrotate_packs_with_zstd(follow, log):
    reader = Reader(follow, log)
    write(log, *range(3, 9000))
    subprocess.run(["zstd", "-q", "--rm", log, "-o", f"{log}.1.zst"], check=True)
    write(log, 9000)
    assert reader() == said(*range(3, 9001))
    assert not reader.lost


def test_logrotate_copies_and_truncates(follow, log):
    reader = Reader(follow, log)
    write(log, 3)
    shutil.copy(log, f"{log}.1")
    os.truncate(log, 0)
    assert reader() == said(3)
    write(log, 4)
    assert reader() == said(4)


def test_a_truncated_log_that_grew_longer_than_before_is_another(follow, log):
    reader = Reader(follow, log)
    shutil.copy(log, f"{log}.1")
    os.truncate(log, 0)
    write(log, *range(10, 20))
    assert reader() == said(*range(10, 20))


def test_multilog_rotates(follow, tmp_path):
    write(tmp_path / "current", 1)
    reader = Reader(follow, tmp_path)
    for turn, name in enumerate(["@400000006b04f24525a20e5c.s", "@400000006b04f24625a20e5c.s", "previous"]):
        write(tmp_path / "current", 10 + turn)
        os.rename(tmp_path / "current", tmp_path / name)
        write(tmp_path / "current", 20 + turn)
        if turn == 1:
            assert reader() == said(10, 20, 11, 21)
    assert reader() == said(12, 22)


def test_between_two_renames_there_is_no_current(follow, tmp_path):
    write(tmp_path / "current", 1)
    reader = Reader(follow, tmp_path)
    write(tmp_path / "current", 2)
    os.rename(tmp_path / "current", tmp_path / "previous")
    assert reader() == said(2)
    os.rename(tmp_path / "previous", tmp_path / "@400000006b04f24525a20e5c.s")
    write(tmp_path / "current", 3)
    assert reader() == said(3)


def test_multilog_was_killed_in_a_line(follow, tmp_path):
    write(tmp_path / "current", 1)
    reader = Reader(follow, tmp_path)
    write(tmp_path / "current", 2, end="")
    os.rename(tmp_path / "current", tmp_path / "@400000006b04f24525a20e5c.u")
    write(tmp_path / "current", 3)
    assert reader() == said(2, 3)


def test_an_empty_log_is_followed_through_a_rotation(follow, tmp_path):
    (tmp_path / "current").touch()
    reader = Reader(follow, tmp_path)
    write(tmp_path / "current", 1)
    os.rename(tmp_path / "current", tmp_path / "@400000006b04f24525a20e5c.s")
    write(tmp_path / "current", 2)
    assert reader() == said(1, 2)


def test_a_log_that_is_gone_is_reported_as_lost(follow, log):
    reader = Reader(follow, log)
    log.unlink()
    write(log, 7)
    assert reader() == said(7)
    assert reader.lost
    write(log, 8)
    assert reader() == said(8)
    assert not reader.lost


def test_much_is_read_in_parts(follow, log):
    reader = Reader(follow, log)
    write(log, *range(10, 30000))
    lines = []
    while len(lines) < 29990:
        part = reader(limit=50000)
        assert part
        lines += part
    assert lines == said(*range(10, 30000))


def test_a_line_that_is_no_text(follow, log):
    reader = Reader(follow, log)
    with open(log, "ab") as file:
        file.write(b"\xff\xfe \r x\x0c\n" + b"y" * 600_000 + b"\n")
    lines = reader()
    assert lines[0] == "\\xff\\xfe \r x\x0c"
    assert "".join(lines[1:]) == "y" * 600_000


@pytest.mark.parametrize(
    "where", [None, {}, "x", {"path": "/x"}, {"path": "/x", "head": "zz", "inode": 1, "offset": 1}]
)
def test_what_is_no_position_is_refused(follow, where):
    with pytest.raises(SaltInvocationError):
        follow["qmail_log_follow.lines_since"](where)


def entry(number, said=None, **more):
    """An entry of the journal, as journalctl's json has it."""
    fields = {
        "__CURSOR": f"s=1;i={number};b=7;m={number};t={number};x={number}",
        "__REALTIME_TIMESTAMP": f"17954862{number}500000",
        "_HOSTNAME": "vm",
        "SYSLOG_IDENTIFIER": "qmail-start",
        "_PID": "1",
    }
    return json.dumps({**fields, "MESSAGE": said or f"new msg {number}", **more})


def line(number, said=None):
    return f"17954862{number}.500000 vm qmail-start[1]: {said or f'new msg {number}'}"


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journalctl that prints the entries that it is given, and writes down how it was called."""
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat {tmp_path}/journal\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def journal(*entries):
        (tmp_path / "journal").write_text("".join(f"{one}\n" for one in entries))

    return journal


def test_the_journal_is_followed_by_its_cursor(follow, journal, tmp_path):
    journal(entry(75))
    reader = Reader(follow, "journald")
    journal(entry(75), entry(76))
    assert reader() == [line(76)]
    assert not reader.lost
    assert "--cursor=s=1;i=75;b=7;m=75;t=75;x=75" in (tmp_path / "arguments").read_text().split("\n")
    journal(entry(76))
    assert reader() == []
    assert not reader.lost
    journal()
    assert reader() == []
    assert reader.lost
    assert reader.where["cursor"] == "s=1;i=76;b=7;m=76;t=76;x=76"
    (tmp_path / "journalctl").write_text("#!/bin/sh\necho no >&2; exit 1\n")
    with pytest.raises(CommandExecutionError, match="status 1: no"):
        reader()


def test_a_journal_whose_files_are_deleted_while_they_are_read_is_read_again(follow, journal, tmp_path):
    """journald empties them first: journalctl ends with ``Bad message``, wherever it is."""
    journal(entry(75))
    reader = Reader(follow, "journald")
    journal(entry(75), entry(76), entry(77))
    whole = (tmp_path / "journalctl").read_text()
    (tmp_path / "fails").write_text("12")
    (tmp_path / "journalctl").write_text(
        f'#!/bin/sh\nread -r n <{tmp_path}/fails\n[ -n "$n" ] || exec {tmp_path}/whole\n'
        f"echo ${{n#?}} >{tmp_path}/fails\nhead -n ${{#n}} {tmp_path}/journal\necho Bad message >&2; exit 1\n"
    )
    (tmp_path / "whole").write_text(whole)
    (tmp_path / "whole").chmod(0o755)
    assert reader() == [line(76), line(77)]
    assert not reader.lost


def test_where_a_vacuum_took_the_entry_what_comes_next_is_read_and_lost_is_said(follow, journal):
    journal(entry(75))
    reader = Reader(follow, "journald")
    journal(entry(77), entry(78))
    assert reader() == [line(77), line(78)]
    assert reader.lost
    journal(entry(78))
    assert reader() == []
    assert not reader.lost


def test_an_entry_that_was_moved_to_another_file_is_known_again(follow, journal):
    journal(entry(75))
    reader = Reader(follow, "journald")
    moved = {"__CURSOR": "s=2;i=1;b=7;m=75;t=75;x=75"}
    journal(entry(75, **moved), entry(76))
    assert reader() == [line(76)]
    assert not reader.lost


def test_much_of_the_journal_is_read_in_parts(follow, journal, tmp_path):
    journal(entry(10))
    reader = Reader(follow, "journald")
    with (tmp_path / "journalctl").open("a") as program:
        program.write("exec sleep 100\n")  # it has more to say, and nobody waits for that
    for number in range(10, 89):
        journal(*map(entry, range(number, 90)))
        assert reader(limit=1) == [line(number + 1)]
        assert not reader.lost


def test_an_entry_that_is_no_text_and_one_that_is_no_entry(follow, journal):
    journal(entry(10))
    reader = Reader(follow, "journald")
    journal(entry(10), "{", "[]", entry(11, MESSAGE=[110, 255, 10, 109]), entry(12, "a\nb"), entry(13, MESSAGE=None))
    assert reader() == [line(11, "n\\xff m"), line(12, "a b"), line(13, "None")]
