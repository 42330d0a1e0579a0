"""A control group of one's own, below the one that this process is in: what is made in it is nobody else's."""

import contextlib
import os
import pathlib
import time

PREFIX = "qmail-tests-"


class ControlGroup:
    """``top`` is where all groups are mounted: a mount of our own, as that of the machine may be read-only."""

    def __init__(self, top):
        own = next(line[3:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::")
        above = top / own.lstrip("/")
        for left in above.glob(f"{PREFIX}*"):  # by a keeper that was killed
            if not os.path.exists(f"/proc/{left.name[len(PREFIX) :]}"):
                remove(left)
        self.path = above / f"{PREFIX}{os.getpid()}"
        self.path.mkdir()

    def join(self):
        (self.path / "cgroup.procs").write_text("0")

    def close(self, seconds=5):
        """Remove it, when the last process of it is gone."""
        deadline = time.monotonic() + seconds
        while not remove(self.path) and time.monotonic() < deadline:
            time.sleep(0.02)


def remove(path):
    """Remove a group and those in it, and return whether it is gone."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not path.exists()
