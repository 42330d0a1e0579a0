"""A server that the alarm watches: the stand-in qmail with a sink, a queue, and a log that a test writes."""

import subprocess
import time

import salt.loader

from tests.support.log_model import FORMS
from tests.support.queue_on_disk import Queue, until

PERIOD = 60  # seconds between two readings, as far as the readings know


class Clock:
    """The clock that readings look at: it is set forward, so that nobody has to wait."""

    def __init__(self):
        self.ahead = 0

    def time(self):
        return time.time() + self.ahead


def line(words, when=None):
    """Return a line as multilog writes it."""
    return FORMS["multilog"](time.time() if when is None else when, words) + b"\n"


def bounced(number, domain=b"flood.example", end=b"success: did_0+0+1/", at=500):
    """
    Return what qmail-send logs of double bounces: messages to a domain that nobody receives there, from senders that
    nobody is.
    """
    words = []
    for one in range(number):
        msg, qp = at + 3 * one, 3 * one
        words += [
            b"info msg %d: bytes 9 from <a@b.example> qp %d uid 6" % (msg, qp),
            b"starting delivery %d: msg %d to local u@%s" % (qp, msg, domain),
            b"delivery %d: failure: Sorry/" % qp,
            b"bounce msg %d qp %d" % (msg, qp + 1),
            b"end msg %d" % msg,
            b"info msg %d: bytes 9 from <> qp %d uid 6" % (msg + 1, qp + 1),
            b"starting delivery %d: msg %d to remote a@b.example" % (qp + 1, msg + 1),
            b"delivery %d: failure: Sorry/" % (qp + 1),
            b"bounce msg %d qp %d" % (msg + 1, qp + 2),
            b"end msg %d" % (msg + 1),
            b"info msg %d: bytes 9 from <#@[]> qp %d uid 6" % (msg + 2, qp + 2),
            b"starting delivery %d: msg %d to local 1-dummy@example.com" % (qp + 2, msg + 2),
            b"delivery %d: %s" % (qp + 2, end),
            b"end msg %d" % (msg + 2),
        ]
    return b"".join(map(line, words))


class Watched:
    """The server, and what the minion's loop does with the beacon there."""

    def __init__(self, home, opts, place):
        self.home, self.path, self.clock = home, place / "send.log", Clock()
        self.queue = Queue(home.path / "queue")
        self.path.write_bytes(line(b"status: local 0/3 remote 0/20"))
        home.write_control("doublebounceto", "dummy\n")
        home.write_control("doublebouncehost", "example.com\n")
        self.sink = home.mailbox() / ".qmail"
        self.sink.write_text("|exit 0\n")
        settings = {"address": home.ADDRESS, "qmail": {"home": str(home.path), "log": str(self.path)}}
        self.pillar = {"qmail_doublebounce": settings}
        self.opts, self.count = {**opts, "pillar": self.pillar}, 0
        self.start()
        self.ctl("restart")

    def start(self):
        """Start a minion, which knows what is on disk and nothing else."""
        self.count += 1
        name = f"salt.watched{id(self)}x{self.count}"
        self.modules = salt.loader.minion_mods(self.opts, loaded_base_name=name)
        self.beacons = salt.loader.beacons(self.opts, self.modules, loaded_base_name=f"{name}b")
        self.is_warm = False

    def warm(self):
        """
        Take a reading that nobody sees, and return what the module knows that takes them: when Salt first calls a
        module from another one, it runs its file again, and takes back what a test has changed in it.
        """
        if not self.is_warm:
            self.beacons["qmail_doublebounce.beacon"]([{"_beacon_name": "warm"}])
            self.is_warm = True
        known = self.modules["qmail_doublebounce_reading.take"].__globals__
        known["time"] = self.clock
        return known

    def ctl(self, verb):
        subprocess.run([self.home.path / "bin/qmailctl", verb], check=True, timeout=60)
        if verb != "stop":
            assert self.home.wait_until_loaded(self.home.ADDRESS)
            until(lambda: self.modules["qmail_base_process.find"](str(self.home.path)))

    def say(self, *words, when=None):
        with open(self.path, "ab") as file:
            file.write(b"".join(line(one, when) for one in words))

    def bounce(self, number, **more):
        with open(self.path, "ab") as file:
            file.write(bounced(number, **more))

    def read(self, *settings):
        """Have the beacon take a reading, as the minion does, and return its events."""
        config = [*settings, {"_beacon_name": "qmail_doublebounce"}]
        valid, said = self.beacons["qmail_doublebounce.validate"](config)
        assert valid, said
        self.warm()
        self.clock.ahead += PERIOD
        return list(self.beacons["qmail_doublebounce.beacon"](config))

    def tags(self, *settings):
        return [event["tag"] for event in self.read(*settings)]
