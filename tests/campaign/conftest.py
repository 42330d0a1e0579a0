"""How long each campaign goes on, and with which seed."""

import os
import random

import pytest


@pytest.fixture(scope="session")
def seconds():
    """Seconds for each campaign: ``make soak SECONDS=7200`` is the full length."""
    return float(os.environ.get("SECONDS_EACH", "20"))


@pytest.fixture
def seed():
    """Another one each time; SEED repeats one."""
    return int(os.environ.get("SEED", random.randrange(1 << 32)))
