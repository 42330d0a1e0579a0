"""What a test needs, and not every machine has."""

import os

import pytest


def skip_for(why):
    """Skip a test for the reason why it cannot run, if there is one; in CI, where all can, that is a failure."""
    __tracebackhide__ = True
    if why:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
