"""
Two hundred changes and restarts in a row, with a delivery always in flight: none is cut, doubled or lost.

It takes some minutes: supervise starts a service again a second after it has ended, and not sooner; systemd is quicker,
but after five of them within ten seconds it starts none by itself.
"""

import contextlib
import os
import pathlib
import threading
import time

import pytest

from tests.support import needs
from tests.support.home import Home
from tests.support.supervisors import ALL, lives, missing, wait_until

pytestmark = pytest.mark.soak

RESTARTS = 200


class Feeder(threading.Thread):
    """Keeps a delivery or two in flight, and watches that there are never two qmail-sends."""

    def __init__(self, home):
        super().__init__(daemon=True)
        self.home, self.fed, self.most, self.done = home, 0, 0, threading.Event()

    def run(self):
        while not self.done.wait(0.05):
            if len(list((self.home.path / "deliver").glob("[!.]*"))) < 2:
                self.home.feed(f"mail-{self.fed}", 0.3)
                self.fed += 1
            self.most = max(self.most, len(self.running()))

    def running(self):
        """List the qmail-sends of this home; a child that has not yet got a name of its own is none."""
        parents = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/comm", "rb") as file:  # pathlib takes thrice as long, of twenty times a second
                    if file.read() != b"qmail-send\n":
                        continue
                place = pathlib.Path("/proc", pid)
                if os.fsencode(self.home.path) in (place / "cmdline").read_bytes():
                    fields = (place / "stat").read_text().rpartition(")")[2].split()
                    parents[int(pid)] = int(fields[1])
        return [pid for pid, parent in parents.items() if parent not in parents and lives(pid)]

    def in_flight(self):
        told = (self.home.path / "delivered").read_text()
        return told.count("begin ") > told.count("end ")


def restart_again_and_again(kind, place, modules):
    home = Home(place / "qmail")
    home.account()
    supervisor = ALL[kind](home, place)
    feeder = Feeder(home)
    pids, longest = [], 0
    try:
        pids.append(supervisor.boot())
        feeder.start()
        for number in range(RESTARTS):
            value = f"sink-{number}"
            modules.qmail_control.put("doublebounceto", value, home=str(home.path))
            wait_until(feeder.in_flight)
            began = time.monotonic()
            done = modules.qmail_service.restart(home=str(home.path), timeout=30, settle=0.1)
            longest = max(longest, time.monotonic() - began)
            assert done["old"] == pids[-1]
            assert home.wait_until_loaded(f"{value}@mail.example.net")
            pids.append(done["new"])
        feeder.done.set()
        feeder.join()
        wait_until(lambda: not home.is_fed())
        log = supervisor.log()
    finally:
        feeder.done.set()
        supervisor.close()
    return {
        "pids": pids,
        "starts": list(map(int, (home.path / "starts").read_text().split())),
        "delivered": home.delivered(),
        "fed": feeder.fed,
        "most": feeder.most,
        "alerts": [line for line in log.splitlines() if "alert" in line],
        "longest": longest,
    }


@pytest.mark.parametrize(
    "kind",
    ["daemontools", *(pytest.param(kind, marks=pytest.mark.under_systemd) for kind in ("systemd", "systemd-once"))],
)
def test_no_delivery_is_cut_doubled_or_lost_by_two_hundred_restarts(modules, tmp_path, kind):
    needs.skip_for(missing(kind))
    result = restart_again_and_again(kind, tmp_path, modules)
    assert len(set(result["pids"])) == RESTARTS + 1
    assert result["starts"] == result["pids"]
    expected = sorted(f"{verb} mail-{number}" for number in range(result["fed"]) for verb in ("begin", "end"))
    assert sorted(result["delivered"]) == expected
    assert result["fed"] > RESTARTS
    assert result["most"] == 1
    assert result["alerts"] == []
    print(f"{kind}: {RESTARTS} restarts, {result['fed']} deliveries, the longest restart {result['longest']:.2f} s")
