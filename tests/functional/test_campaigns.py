"""The same again and again by chance: some rounds of each campaign; `make campaign` makes as many as are wanted."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.soak
REPOSITORY = pathlib.Path(__file__).parent.parent.parent
# Others: SEED=7 make soak ARGS="tests/functional/test_campaigns.py"
SEED = int(os.environ.get("SEED", "1"))


@pytest.mark.parametrize(("name", "rounds"), [("race", 12), ("history", 12), ("kill", 4)])
def test_whatever_happens_by_chance_everything_is_as_it_must_be(name, rounds, record_property):
    command = [sys.executable, "-m", "tests.support.campaigns", name, str(rounds), str(SEED)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"campaign": name, "seed": SEED, "rounds": rounds, "wrong": []}
    record_property("campaign", {"campaign": name, "seed": SEED, "rounds": rounds})
    assert done.returncode == 0
