"""
Which log there is.
"""

import gzip
import os
import pathlib
import stat

import pytest
from salt.exceptions import CommandExecutionError

from _modules import qmail_base_process, qmail_log_file
from tests.support.wired import wired

MULTILOG = b"@400000006b04f24d1e99ac4c new msg 5\n"
SYSLOG = b"Nov 24 02:11:15 vm qmail: 1795486275.513354 new msg 5\n"
OTHER = b"Nov 24 02:11:15 vm postfix/qmgr[5]: 4F2: removed\n"


@pytest.fixture
def configure_loader_modules():
    return wired()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The usual places, below a directory of the test's own, no journal, and no visible process."""
    monkeypatch.setattr(qmail_base_process, "PROC", str(tmp_path / "proc"))
    for name in ("DIRECTORIES", "FILES"):
        monkeypatch.setattr(qmail_log_file, name, tuple(str(tmp_path) + path for path in getattr(qmail_log_file, name)))
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


def later(line, seconds):
    return line.replace(b"1795486275", b"%d" % (1795486275 + seconds))


@pytest.mark.parametrize("current", [b"", None, MULTILOG])
def test_the_log_in_which_qmail_send_wrote_last_is_taken(machine, current):
    """An older directory, an empty one, or that of another program stands in the first of the usual places."""
    if current is not None:
        machine("var/log/qmail/send/current", current)
    machine("var/log/qmail/qmail-send/current", MULTILOG.replace(b"new msg 5", b"tcpserver: status: 0/20"))
    path = machine("var/log/maillog", later(SYSLOG, 1))
    found = qmail_log_file.find()
    assert (found["path"], found["how"]) == (path, "newest")
    if current:
        path = machine("var/log/qmail/send/current", MULTILOG.replace(b"4000000", b"4000001"))
        assert qmail_log_file.find()["path"] == os.path.dirname(path)


def test_of_two_that_are_as_new_the_first_is_taken(machine):
    machine("var/log/syslog", SYSLOG)
    path = machine("var/log/mail.log", SYSLOG)
    assert qmail_log_file.find()["path"] == path


def test_an_empty_log_alone_is_not_found(machine):
    machine("var/log/qmail/send/current", b"")
    with pytest.raises(CommandExecutionError, match="name it with path"):
        qmail_log_file.find()


def test_the_directory_of_lwq_has_other_logs_in_it(machine):
    machine("var/log/qmail/smtpd/current", MULTILOG)
    with pytest.raises(CommandExecutionError, match="name it with path"):
        qmail_log_file.find()
    path = machine("var/log/qmail/current", MULTILOG)
    assert qmail_log_file.find("auto")["files"] == [path]


def test_the_log_of_another_program_is_passed_over(machine):
    machine("var/log/maillog", OTHER * 100)
    path = machine("usr/local/psa/var/log/maillog", OTHER * 100 + SYSLOG + OTHER * 100)
    assert qmail_log_file.find()["path"] == path


def test_a_log_that_was_just_rotated_is_found(machine):
    machine("var/log/mail.log.1", OTHER + SYSLOG)
    path = machine("var/log/mail.log", b"")
    assert qmail_log_file.find()["path"] == path


def test_a_packed_file_that_is_broken_doesn_t_stop_the_search(machine):
    machine("var/log/maillog", OTHER)
    machine("var/log/maillog.1.gz", gzip.compress(SYSLOG * 1000)[:-20])
    path = machine("var/log/mail.log", SYSLOG)
    assert qmail_log_file.find()["path"] in (path, path.replace("mail.log", "maillog"))


def test_the_journal_is_taken_where_it_is_newer(machine):
    journalctl(machine, b"1795486275.513354 vm qmail-send[77]: new msg 5\n")
    found = qmail_log_file.find()
    assert (found["kind"], found["path"], found["files"]) == ("journald", "journald", [])
    machine("var/log/maillog", SYSLOG)
    assert qmail_log_file.find()["kind"] == "file"
    journalctl(machine, b"1795486276.513354 vm qmail-send[77]: new msg 5\n")
    assert qmail_log_file.find()["kind"] == "journald"


def test_a_machine_with_journalctl_and_no_journal(machine):
    program = pathlib.Path(machine("bin/journalctl", b"#!/bin/sh\nexit 1\n"))
    program.chmod(0o755)
    path = machine("var/log/maillog", SYSLOG)
    assert qmail_log_file.find()["path"] == path


def test_a_journal_without_qmail_does_not_count(machine):
    journalctl(machine, b"")
    with pytest.raises(CommandExecutionError, match=r"/var/log/qmail/send, .*journald"):
        qmail_log_file.find()


def test_a_file_called_current_alone_is_a_file(machine):
    path = machine("x/current", MULTILOG)
    assert qmail_log_file.find(path)["kind"] == "file"
