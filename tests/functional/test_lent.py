"""The tests against a real qmail put back what they borrow, also when they are killed, and leave one in use alone."""

import os
import signal

import pytest

from tests.qmail.lent import KEPT, QUEUE, lent, put_back, runs, waits


@pytest.fixture
def qmail(home):
    (home.path / "bin/qmail-queue").write_text("the real one")
    (home.path / "bin/qmail-queue").chmod(0o4711)
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    (home.path / "alias/mail").write_text("somebody's mail")
    (home.path / "control/concurrencylocal").write_text("20\n")
    return home.path


def upset(qmail):
    """What a test may do."""
    assert list((qmail / "control").iterdir()) == list((qmail / "users").iterdir()) == []
    assert not (qmail / "alias/.qmail-default").exists()
    (qmail / "control/me").write_text("mail.doublebounce.test\n")
    (qmail / "control/concurrencylocal").mkdir()
    (qmail / "alias/.qmail-test").write_text("#\n")
    (qmail / "alias").chmod(0o1755)
    (qmail / "bin/qmail-queue").rename(qmail / "bin/qmail-queue.real")
    (qmail / "bin/qmail-queue").write_text("a wrapper")


def test_everything_is_put_back(qmail, home):
    before = home.snapshot()
    with lent(qmail):
        upset(qmail)
    assert home.snapshot() == before


def test_killed_in_the_middle_the_next_run_puts_everything_back(qmail, home):
    before = home.snapshot()
    child = os.fork()
    if not child:
        with lent(qmail):
            upset(qmail)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert home.snapshot() != before
    (qmail / f"{KEPT}.new").mkdir()  # as one that was killed while it copied leaves it
    put_back(qmail)
    with lent(qmail):
        upset(qmail)
    assert home.snapshot() == before
    put_back(qmail)
    assert home.snapshot() == before


@pytest.mark.parametrize("part", QUEUE)
def test_a_queue_that_holds_anything_is_left_alone(qmail, part):
    assert waits(qmail) is None
    (qmail / "queue" / part / "0").mkdir(parents=True)
    assert waits(qmail) is None
    (qmail / "queue" / part / "0/7").touch()
    assert f"queue/{part}/0/7" in waits(qmail)


def test_a_qmail_send_that_runs_is_left_alone(running, modules):
    assert "stop it first" in runs(running.path, modules)
    running.stop()
    assert runs(running.path, modules) is None
