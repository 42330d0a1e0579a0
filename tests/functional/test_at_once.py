"""Processes that apply and undo at the same time leave nothing that one last undoing would not put right."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
# A longer campaign: QMAIL_CAMPAIGN_ROUNDS=500 QMAIL_CAMPAIGN_SEED=7 pytest tests/functional/test_at_once.py
ROUNDS = os.environ.get("QMAIL_CAMPAIGN_ROUNDS", "12")
SEED = os.environ.get("QMAIL_CAMPAIGN_SEED", "1")


@pytest.fixture
def place():
    """A directory that the user can reach to whom the mailbox belongs."""
    with tempfile.TemporaryDirectory(prefix="qmail-") as directory:
        pathlib.Path(directory).chmod(0o755)
        yield directory


def test_one_last_undoing_brings_everything_back_whoever_worked_at_the_same_time(place):
    command = [sys.executable, "-m", "tests.support.campaign", place, ROUNDS, SEED]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"rounds": int(ROUNDS), "wrong": []}
