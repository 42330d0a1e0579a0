"""A real qmail, where one is installed at /var/qmail. Its place is compiled into it, so there is no other."""

import os
import pathlib

import pytest

QMAIL = pathlib.Path("/var/qmail")


@pytest.fixture(scope="session")
def qmail():
    if not (QMAIL / "bin/qmail-local").exists():
        pytest.skip(f"no qmail is installed at {QMAIL}")
    if os.geteuid() != 0:
        pytest.skip("qmail delivers as other users: needs root")
    return QMAIL
