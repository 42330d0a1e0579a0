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
    """Another one each time, except in CI, where a change shall fail by its own fault; SEED repeats one."""
    usual = "1" if os.environ.get("CI") else str(random.randrange(1 << 32))
    return int(os.environ.get("SEED", usual))
