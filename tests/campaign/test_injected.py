"""Killed at any system call, or refused it, what writes leaves nothing that the next run would not put right."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.campaign.cases import CASES

pytestmark = pytest.mark.soak

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture
def place():
    """A directory that the user can reach to whom the mailbox belongs."""
    with tempfile.TemporaryDirectory(prefix="qmail-") as directory:
        pathlib.Path(directory).chmod(0o755)
        yield directory


@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("case", CASES)
def test_the_next_run_puts_it_right(place, case, how, seconds, seed, record_property):
    if not shutil.which("strace"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("strace is not installed")
    command = [sys.executable, "-m", "tests.campaign.injected", place, case, how, str(seconds), str(seed)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    wrong = told.pop("wrong")
    record_property("campaign", told)
    assert told["killed"] + told["reported"] + told["none the less"] > 0, told
    assert wrong == [], told
