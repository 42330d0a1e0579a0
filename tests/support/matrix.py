"""
Which tests depend on Salt, so that make matrix runs them under each: those that apply the formula or a state, and those
of what Salt loads, renders, reads and starts. What a function does with a log or a queue is the same under all of them.
"""

FIXTURES = {"apply", "states"}
# All tests of these.
PLACES = (
    "tests/integration/",
    "tests/functional/test_arguments.py",  # every function of a face, with each of its arguments
    "tests/functional/test_beacon.py",
    "tests/functional/test_doublebounce_metrics.py",
    "tests/functional/test_doublebounce_overview.py",
    "tests/functional/test_doublebounce_report.py",
    "tests/functional/test_doublebounce_rollout.py",
    "tests/functional/test_doublebounce_settings.py",
    "tests/functional/test_doublebounce_survey.py",
    "tests/functional/test_examples.py",  # every function of a face, as its examples call it
    "tests/functional/test_extension.py",
    "tests/functional/test_fleet_page.py",
    "tests/functional/test_formula.py",
    "tests/functional/test_jinja.py",
    "tests/functional/test_mailbox_plesk.py",
    "tests/functional/test_requisites.py",
    "tests/functional/test_spm.py",
    "tests/functional/test_upgrade.py",
    "tests/unit/test_docs.py",
    "tests/unit/test_minion.py",
)


def depends_on_salt(item):
    """Tell whether a test does, which does not say so itself: one of the soak has to."""
    if item.get_closest_marker("soak"):
        return False
    return item.nodeid.startswith(PLACES) or bool(FIXTURES.intersection(item.fixturenames))
