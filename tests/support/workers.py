"""How pytest-xdist deals the tests out to its processes, of which each has its own directories, homes and mounts."""

import os

from xdist.scheduler import LoadScopeScheduling

# Whole, each by one process: those with servers, browsers or packages that take long until they are there, and those
# that look at all processes of a machine, so that the stand-ins of one test are seen by the other.
TOGETHER = (
    "tests/integration/rollout/test_silence.py",
    "tests/integration/rollout/test_waves.py",
    "tests/integration/test_fleet.py",
    "tests/integration/test_ssh.py",
    "tests/functional/test_log_rsyslog.py",
    "tests/functional/test_page.py",
    "tests/integration/test_watch.py",
    "tests/functional/test_log_journald.py",
    "tests/functional/test_extension.py",
    "tests/functional/test_release.py",
    "tests/functional/test_spm.py",
    "tests/functional/test_log_trail.py",
    "tests/unit/test_site.py",
)
LONGEST = "tests/functional/test_service_soak.py"  # each of these tests takes minutes by itself
PER_PROCESSOR = 3  # a test mostly waits: for a supervisor that takes its second, or for a server


class Dealer(LoadScopeScheduling):
    """Deal out the tests one by one, to whoever is free, in the order of ``place``."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


def place(item):
    """Return what to sort tests by: what takes longest comes first, or it would run alone in the end."""
    file = item.nodeid.partition("::")[0]
    if file == LONGEST:
        return -1
    return TOGETHER.index(file) if file in TOGETHER else len(TOGETHER) + (item.get_closest_marker("soak") is None)


def number():
    """Return how many processes -n auto means."""
    return PER_PROCESSOR * len(os.sched_getaffinity(0))
