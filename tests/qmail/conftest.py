"""
A real qmail, where one is installed at /var/qmail. Its place is compiled into it, so there is no other, and these tests
change that one: ``make qmail-test`` asks for them, and nothing else does.
"""

import os
import pathlib

import pytest

from tests.qmail.server import borrowed

QMAIL = pathlib.Path("/var/qmail")


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
def server(qmail, modules):
    """That qmail with a domain and mailboxes of the tests, its qmail-send not started yet."""
    if modules.qmail_process.find(str(qmail)) is not None:
        pytest.skip("a qmail-send runs here: these tests change its control files, so stop it first")
    if list((qmail / "queue/mess").glob("*/*")):
        pytest.skip("there is mail in the queue here, and these tests would deliver it")
    with borrowed(qmail) as server:
        yield server
