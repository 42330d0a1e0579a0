"""Double bounces are expired in, and removed from, the queue of a real qmail that goes on receiving mail."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from salt.exceptions import CommandExecutionError

from tests.qmail import which
from tests.support.supervisors import wait_until

DOUBLES = 40
FROM = "joe@doublebounce.test"


class Load:
    """Mail to the postmaster, one message after the other, each with a number of its own."""

    def __init__(self, server):
        self.server, self.sent, self.over = server, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(0.01):
            send(self.server, f"postmaster@{self.server.HOST}", FROM, f"X-Number: {self.sent}\n")
            self.sent += 1

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.sent > 3)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def received(self):
        texts = [path.read_text() for path in self.server.stored("postmaster")]
        return sorted(int(number) for text in texts for number in re.findall(r"^X-Number: (\d+)$", text, re.M))


def send(server, recipient, sender, header=""):
    command = [server.qmail / "bin/qmail-inject", "-f", sender, recipient]
    message = f"To: {recipient}\n{header}Subject: test\n\ntest\n".encode()
    environment = {**os.environ, "QUEUEDIR": str(server.qmail / "queue")}  # indimail's qmail-queue asks for it
    subprocess.run(command, input=message, check=True, timeout=20, env=environment)


@pytest.fixture
def flood(server, modules):
    """A sink that defers, forty double bounces and one ordinary message that wait for it, and mail that comes in."""
    server.write("doublebounceto", "sink\n")
    server.write("doublebouncehost", "doublebounce.test\n")
    server.dotqmail("sink", "|exit 111\n")
    server.start()
    try:
        send(server, server.SINK, FROM)
        for number in range(DOUBLES):
            send(server, f"nobody{number}@{server.HOST}", "")
        wait_until(lambda: summary(modules)["double_bounces"] == DOUBLES and summary(modules)["unprocessed"] == 0)
        wait_until(lambda: server.log.read_text().count("deferral") == DOUBLES + 1)
        yield server
    finally:
        # What is left goes where it should, so that the queue is as it was: empty.
        server.dotqmail("sink", "#\n")
        wait_until(lambda: try_everything(modules) and not server.queued())


def try_everything(modules):
    pid = modules.qmail_base_process.find()
    with contextlib.suppress(ProcessLookupError, TypeError):
        os.kill(pid, signal.SIGALRM)
    time.sleep(0.2)
    return pid


def summary(modules):
    return modules.qmail_queue.summary()


def remove(server, modules, **options):
    return modules.qmail_queue.remove(provider="qmailctl", name=str(server.ctl), settle=0.2, **options)


def check_that_only_double_bounces_went(server, modules, load):
    wait_until(lambda: len(server.queued()) == 1, why="only the ordinary message for the sink should be left")
    received = load.received()
    # A qmail-send that does not wait for what is in flight delivers it again, but may lose nothing either.
    assert (received if which.waits(server.qmail) else sorted(set(received))) == list(range(load.sent))
    assert summary(modules) == {**summary(modules), "messages": 1, "double_bounces": 0, "single_bounces": 0}
    assert server.stored("sink") == []
    assert which.alerts(server.log.read_text()) == []


def test_expired_they_end_as_triple_bounces_and_nothing_else_is_lost(flood, modules):
    pid = modules.qmail_base_process.find()
    with Load(flood) as load:
        assert modules.qmail_queue.expire(test=True)["expired"] == DOUBLES
        told = modules.qmail_queue.expire(timeout=60)
        assert (told["expired"], told["left"]) == (DOUBLES, 0)
    check_that_only_double_bounces_went(flood, modules, load)
    assert flood.log.read_text().count("triple bounce: discarding") == DOUBLES
    assert modules.qmail_base_process.find() == pid


def test_removed_they_are_gone_without_a_trace_and_nothing_else_is_lost(flood, modules):
    pid = modules.qmail_base_process.find()
    with Load(flood) as load:
        assert remove(flood, modules, test=True)["deleted"] == DOUBLES
        assert remove(flood, modules)["deleted"] == DOUBLES
        assert modules.qmail_base_process.find() not in (None, pid)
        assert remove(flood, modules)["deleted"] == 0
    check_that_only_double_bounces_went(flood, modules, load)
    assert "triple bounce" not in flood.log.read_text()


def test_killed_halfway_qmail_send_comes_back_and_the_next_run_does_the_rest(flood, modules):
    pid = modules.qmail_base_process.find()
    with Load(flood) as load:
        child = os.fork()
        if not child:
            calls = iter(range(30))
            real = os.unlink

            def unlink(*args, **kwargs):
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            os.unlink = unlink
            remove(flood, modules)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        wait_until(lambda: _runs(modules) not in (None, pid))
        left = summary(modules)["double_bounces"]
        assert 0 < left < DOUBLES
    wait_until(lambda: _is_over(modules))
    remove(flood, modules)
    wait_until(lambda: summary(modules)["unprocessed"] == 0 and len(flood.queued()) <= 3)
    # One that was killed between its last two files is qmail-send's to clear up, after 36 hours.
    for path in (flood.qmail / "queue/mess").glob("*/*"):
        if not (flood.qmail / "queue/info" / path.parent.name / path.name).exists():
            path.unlink()
    check_that_only_double_bounces_went(flood, modules, load)


def _runs(modules):
    with contextlib.suppress(CommandExecutionError):
        return modules.qmail_base_process.find()


def _is_over(modules):
    """The guardian watches for a while, and until then nobody else works on the queue."""
    with contextlib.suppress(CommandExecutionError):
        return modules.qmail_queue_pause.recover() is False
