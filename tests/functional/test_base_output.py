"""What programs say is read also where no disk has room: just then somebody has to look."""

import os
import tempfile

import pytest
from salt.exceptions import CommandExecutionError

LINE = "1795486275.513354 mx qmail-start[7]: info msg 5: bytes 705 from <#@[]> qp 8 uid 1007"


@pytest.fixture(params=["room", "memory", "nothing"])
def room(request, modules, monkeypatch):
    """Where there is room yet."""
    if request.param != "room":
        monkeypatch.setattr(tempfile, "tempdir", "/proc")
    if request.param == "nothing":
        monkeypatch.setitem(modules["qmail_base_output.file"].func.__globals__, "SHARED_MEMORY", "/proc")
    return request.param


def test_what_is_written_is_read_without_what_was_only_set_aside(modules, room):
    with modules.qmail_base_output.file() as output:
        assert modules.qmail_base_output.said(output) == ""
        os.write(output.fileno(), b"said \xff\n")
        os.write(output.fileno(), b"more\n")
        assert modules.qmail_base_output.said(output) == ("" if room == "nothing" else "said \\xff\nmore")
        os.write(output.fileno(), b"x" * 5000)
        assert len(modules.qmail_base_output.said(output)) <= 4096 + 3


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """Lay out a journalctl that prints this text and fails with these words."""

    def journalctl(text="", words=""):
        (tmp_path / "text").write_text(text)
        script = f'#!/bin/sh\ncat {tmp_path}/text\n[ -z "{words}" ] || {{ echo "{words}" >&2; exit 1; }}\n'
        (tmp_path / "journalctl").write_text(script)
        (tmp_path / "journalctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return journalctl


def blocks(modules):
    return b"".join(data for data, _ in modules["qmail_log_block.blocks"]({"kind": "journald", "path": "journald"}))


def test_the_journal_is_read(modules, room, journalctl):
    journalctl(f"{LINE}\n")
    assert blocks(modules) == f"{LINE}\n".encode()
    journalctl('{"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1795486275513354", "MESSAGE": "end msg 5"}\n')
    ((cursor, text),) = modules["qmail_log_journal.entries"]("journald", [], 1000)
    assert cursor == "s=1"
    assert text.endswith("end msg 5")


def test_what_journalctl_says_where_it_fails_is_reported(modules, room, journalctl):
    journalctl(words="No journal files were found.")
    said = "" if room == "nothing" else "No journal files were found."
    for read in (lambda: blocks(modules), lambda: modules["qmail_log_journal.entries"]("journald", [], 1000)):
        with pytest.raises(CommandExecutionError, match=f"^journalctl failed with status 1: {said}$"):
            read()
