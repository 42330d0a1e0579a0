"""
Which log there is.
"""

import gzip
import os
import pathlib
import stat

import pytest
from salt.exceptions import CommandExecutionError

from _modules import qmail_logfile, qmail_logline

MULTILOG = b"@400000006b04f24d1e99ac4c new msg 5\n"
SYSLOG = b"Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5\n"
OTHER = b"Nov 24 02:11:15 vm postfix/qmgr[5]: 4F2: removed\n"


@pytest.fixture
def configure_loader_modules():
    return {qmail_logfile: {"__salt__": {"qmail_logline.count": qmail_logline.count}}}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The usual places, below a directory of ours, and no journal."""
    for name in ("DIRECTORIES", "FILES"):
        monkeypatch.setattr(qmail_logfile, name, tuple(str(tmp_path) + path for path in getattr(qmail_logfile, name)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def put(path, data):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
        return str(tmp_path / path)

    return put


def journalctl(machine, said):
    program = pathlib.Path(
        machine("bin/journalctl", b'#!/bin/sh\nwhile read -r line; do echo "$line"; done <<.\n' + said + b".\n")
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_a_multilog_directory_comes_first(machine):
    machine("var/log/maillog", SYSLOG)
    path = machine("var/log/qmail/send/current", b"")
    assert qmail_logfile.find() == {"kind": "multilog", "path": os.path.dirname(path), "files": [path]}


def test_the_directory_of_lwq_has_other_logs_in_it(machine):
    machine("var/log/qmail/smtpd/current", MULTILOG)
    with pytest.raises(CommandExecutionError, match="name it with path"):
        qmail_logfile.find()
    path = machine("var/log/qmail/current", MULTILOG)
    assert qmail_logfile.find("auto")["files"] == [path]


def test_the_log_of_another_program_is_passed_over(machine):
    machine("var/log/maillog", OTHER * 100)
    path = machine("usr/local/psa/var/log/maillog", OTHER * 100 + SYSLOG + OTHER * 100)
    assert qmail_logfile.find()["path"] == path


def test_a_log_that_was_just_rotated_is_found(machine):
    machine("var/log/mail.log.1", OTHER + SYSLOG)
    path = machine("var/log/mail.log", b"")
    assert qmail_logfile.find()["path"] == path


def test_a_packed_file_that_is_broken_doesn_t_stop_the_search(machine):
    machine("var/log/maillog", OTHER)
    machine("var/log/maillog.1.gz", gzip.compress(SYSLOG * 1000)[:-20])
    path = machine("var/log/mail.log", SYSLOG)
    assert qmail_logfile.find()["path"] in (path, path.replace("mail.log", "maillog"))


def test_the_journal_comes_last(machine):
    journalctl(machine, b"1795486275.513354 vm qmail-send[77]: new msg 5\n")
    assert qmail_logfile.find() == {"kind": "journald", "path": "journald", "files": []}
    machine("var/log/maillog", SYSLOG)
    assert qmail_logfile.find()["kind"] == "file"


def test_a_journal_without_qmail_is_none(machine):
    journalctl(machine, b"")
    with pytest.raises(CommandExecutionError, match=r"/var/log/qmail/send, .*journald"):
        qmail_logfile.find()


def test_a_file_called_current_alone_is_a_file(machine):
    path = machine("x/current", MULTILOG)
    assert qmail_logfile.find(path)["kind"] == "file"
