"""
A real qmail, where one is installed at /var/qmail. Its place is compiled into it, so there is no other, and these tests
change that one: ``make qmail-test`` asks for them, and nothing else does.
"""

import os
import pathlib

import pytest

from tests.qmail import which
from tests.qmail.lent import lent, put_back, runs, waits
from tests.qmail.server import borrowed

QMAIL = pathlib.Path("/var/qmail")


def pytest_report_header():
    """What passes on one qmail says nothing of another: name it."""
    return which.told(QMAIL)


@pytest.fixture(scope="session")
def qmail():
    if not (QMAIL / "bin/qmail-local").exists():
        pytest.skip(f"no qmail is installed at {QMAIL}")
    if not os.environ.get("QMAIL_TEST"):
        pytest.skip(f"these tests borrow the qmail at {QMAIL}, and run by make qmail-test only")
    if os.geteuid() != 0:
        pytest.skip("qmail delivers as other users: needs root")
    return QMAIL


@pytest.fixture
def ours(qmail, modules):
    """That qmail, which nobody uses: without control files, users and aliases, until the test is over."""
    why = runs(qmail, modules)
    if why:
        pytest.skip(why)
    put_back(qmail)
    why = waits(qmail)
    if why:
        pytest.skip(why)
    with lent(qmail) as qmail:
        yield qmail


@pytest.fixture
def draining(qmail):
    """That qmail, where its qmail-send waits for its deliveries in flight before it ends."""
    if not which.waits(qmail):
        pytest.skip("on TERM this qmail-send ends at once, and delivers again later what was in flight")


@pytest.fixture
def server(ours):
    """That qmail with a domain and mailboxes of the tests, its qmail-send not started yet."""
    with borrowed(ours) as server:
        yield server
