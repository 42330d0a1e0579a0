"""The year of a date that has none."""

import time

import pytest

from _modules import qmail_log_form

NEW_YEARS_EVE = time.mktime((2026, 12, 31, 23, 0, 0, 0, 0, -1))
NEW_YEAR = time.mktime((2027, 1, 1, 0, 0, 0, 0, 0, -1))


def told(date, newest):
    match, seconds = qmail_log_form.reader()
    return time.localtime(seconds(match(f"{date} mx qmail: new msg 5".encode()), newest))[:6]


@pytest.mark.parametrize(
    ("date", "newest", "year"),
    [
        ("Dec 31 22:00:00", NEW_YEARS_EVE, 2026),
        ("Jan  1 05:00:00", NEW_YEARS_EVE, 2027),  # of a machine whose clock is ahead, or whose zone is
        ("Jan  1 23:00:00", NEW_YEARS_EVE, 2027),  # just a day
        ("Jan  1 23:00:01", NEW_YEARS_EVE, 2026),
        ("Jan  1 01:00:00", NEW_YEAR, 2027),
        ("Dec 31 23:59:59", NEW_YEAR, 2026),
        ("Jan  1 23:59:59", NEW_YEAR, 2027),
        ("Jan  2 00:00:01", NEW_YEAR, 2026),
    ],
)
def test_a_date_is_at_most_a_day_ahead_of_the_end_of_its_file(date, newest, year):
    assert told(date, newest)[0] == year


def test_29_february_is_in_a_year_that_has_one():
    assert told("Feb 29 12:00:00", NEW_YEARS_EVE) == (2024, 2, 29, 12, 0, 0)
    after_1900 = time.mktime((1903, 6, 1, 0, 0, 0, 0, 0, -1))
    assert told("Feb 29 12:00:00", after_1900) == (1896, 2, 29, 12, 0, 0)
