"""How pytest-xdist deals the tests out to its processes, of which each has its own directories, homes and mounts."""

import os

from xdist.scheduler import LoadScopeScheduling

# Whole, each by one process: those with servers, browsers or packages that take long until they are there, and those
# that look at all processes of a machine, so that the stand-ins of one test are seen by the other.
TOGETHER = (
    "tests/integration/test_rollout.py",
    "tests/integration/test_fleet.py",
    "tests/integration/test_ssh.py",
    "tests/integration/test_watch.py",
    "tests/functional/test_extension.py",
    "tests/functional/test_log_journald.py",
    "tests/functional/test_log_rsyslog.py",
    "tests/functional/test_log_trail.py",
    "tests/functional/test_page.py",
    "tests/functional/test_release.py",
    "tests/functional/test_spm.py",
    "tests/unit/test_site.py",
)
PER_PROCESSOR = 3  # a test mostly waits: for a supervisor that takes its second, or for a server


class Dealer(LoadScopeScheduling):
    """Deal out the tests one by one, to whoever is free; those that belong together first."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


def number():
    """Return how many processes -n auto means."""
    return PER_PROCESSOR * len(os.sched_getaffinity(0))
