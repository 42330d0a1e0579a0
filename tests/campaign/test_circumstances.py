"""Where something is missing or odd, what writes ends in words, and the next run puts right what it has left."""

import pytest

from tests.campaign.cases import CASES
from tests.campaign.circumstances import CIRCUMSTANCES
from tests.support import mounts, needs

pytestmark = pytest.mark.soak


@pytest.fixture(autouse=True)
def mounting():
    why = mounts.denied()
    needs.skip_for(why and f"a full disk takes a mount: {why}")


@pytest.mark.parametrize("how", CIRCUMSTANCES)
@pytest.mark.parametrize("case", sorted({*CASES} - {"remove-1", "remove-211"}))  # which do as remove-23 does
def test_the_next_run_puts_it_right(program, case, how):
    told = program("circumstances", case, how)
    assert told["rounds"] > 0
    if how == "user" and CASES[case].is_sure:
        assert told["none the less"] == 0, told  # it owns nothing there
    if how in ("daemon", "clock"):
        assert told["reported"] == 0, told  # nothing is missing
