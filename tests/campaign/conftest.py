"""How long each campaign goes on, with which seed, and how those run that are a program of their own."""

import json
import os
import random
import subprocess
import sys
import tempfile

import pytest

from tests.support.minion import REPOSITORY


@pytest.fixture(scope="session")
def seconds():
    """Seconds for each campaign: ``make soak SECONDS=7200`` is the full length."""
    return float(os.environ.get("SECONDS_EACH", "20"))


@pytest.fixture
def seed():
    """Another one each time, except in CI, where a change shall fail by its own fault; SEED repeats one."""
    usual = "1" if os.environ.get("CI") else str(random.randrange(1 << 32))
    return int(os.environ.get("SEED", usual))


@pytest.fixture
def program(seconds, seed, record_property):
    """Run one of the programs here for a case, and return its account, which has to have found nothing wrong."""

    def program(name, case, how):
        with tempfile.TemporaryDirectory(prefix="qmail-") as place:
            os.chmod(place, 0o755)  # for the user to whom the mailbox belongs
            command = [sys.executable, "-m", f"tests.campaign.{name}", place, case, how, str(seconds), str(seed)]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        wrong = told.pop("wrong")
        record_property("campaign", told)
        assert wrong == [], (told, done.stderr)
        return told

    return program
