"""When an alarm fires and when it clears, by made-up series, beside an account of its own."""

from hypothesis import given
from hypothesis import strategies as st

from _modules import qmail_doublebounce_alarm as alarm

STEP = 60  # seconds between two readings


def said(series, above, below, readings, remind=0):
    """Return what the module says at each reading of a series; ``None`` and a pair: see ``values``."""
    state, found = dict(alarm.OFF), []
    for number, value in enumerate(series):
        value, is_exact = value if isinstance(value, tuple) else (value, True)
        is_bad = alarm._is_bad(value, {"above": above, "below": below}, is_exact)
        word, state = alarm._step(state, is_bad, readings, remind, STEP * number)
        found.append(word)
    return found


def expected(series, above, below, readings):
    """The same by the words of the page: look back over the last so many readings, each time."""
    is_on, since, found = False, 0, []
    for number in range(len(series)):
        last = series[max(since, number + 1 - readings) : number + 1]
        high = [exact if isinstance(exact, (int, float)) else exact and exact[0] for exact in last]
        sure = [not isinstance(value, tuple) or value[1] for value in last]
        enough = len(last) == readings
        if not is_on and enough and all(value is not None and value > above for value in high):
            is_on, since = True, number + 1
            found.append("alarm")
        elif is_on and enough and all(sure) and all(value is not None and value <= below for value in high):
            is_on, since = False, number + 1
            found.append("clear")
        else:
            found.append(None)
    return found


values = st.one_of(st.none(), st.integers(0, 12), st.tuples(st.integers(0, 12), st.booleans()))


@given(
    series=st.lists(values, max_size=60),
    limits=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
    readings=st.integers(1, 4),
)
def test_a_made_up_series_fires_and_clears_as_the_page_says(series, limits, readings):
    below, above = limits
    assert said(series, above, below, readings) == expected(series, above, below, readings)


def test_between_the_limits_nothing_changes():
    assert said([50] * 9, 100, 20, 1) == [None] * 9
    assert said([101, 50, 50, 20, 50, 50, 100, 101], 100, 20, 1) == [
        "alarm",
        *[None] * 2,
        "clear",
        *[None] * 3,
        "alarm",
    ]


def test_one_reading_that_is_not_known_ends_the_row():
    assert said([200, 200, None, 200, 200, 200], 100, 20, 3) == [None, None, None, None, None, "alarm"]


def test_a_number_that_was_not_counted_to_its_end_can_fire_and_cannot_clear():
    assert said([(200, False), (3, False), (3, True)], 100, 20, 1) == ["alarm", None, "clear"]


def test_what_lasts_is_repeated_and_no_more_than_that():
    found = said([200] * 10, 100, 20, 1, remind=3 * STEP)
    assert found == ["alarm", None, None, "again", None, None, "again", None, None, "again"]


def test_every_alarm_has_its_words_and_a_remedy():
    assert set(alarm.SAYS) == set(alarm.REMEDIES) == {*alarm.LIMITS, *alarm.FLAGS}
