"""Killed at any system call, or refused it, what writes leaves nothing that the next run would not put right."""

import shutil

import pytest

from tests.campaign.cases import CASES
from tests.support import needs

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("case", CASES)
def test_the_next_run_puts_it_right(program, case, how):
    needs.skip_for(None if shutil.which("strace") else "strace is not installed")
    told = program("injected", case, how)
    assert told["killed" if how == "kill" else "met"] > 0, told
