"""
A real systemd that runs a machine of the tests' own: see machine.py. It knows the units that tests give it, a journal,
and what these need, and no other unit of this machine's: above all none that clears up.
"""

import os
import pathlib
import time
import uuid

from tests.support.machine import Machine, Refused

INITS = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")
UNITS = os.path.realpath("/lib/systemd/system")
GENERATORS = os.path.realpath("/lib/systemd/system-generators")
OWN = "/etc/systemd/system"
KNOWN = (
    *("basic.target", "local-fs.target", "multi-user.target", "network.target", "paths.target", "shutdown.target"),
    *("slices.target", "sockets.target", "swap.target", "sysinit.target", "syslog.socket", "timers.target"),
    *("final.target", "umount.target", "systemd-journald.service", "systemd-journald.socket"),
    "systemd-journald-dev-log.socket",
)
# Nothing is asked of the kernel, whose log and audit are those of the whole machine.
JOURNAL = "[Unit]\nWants=systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service\n"
JOURNALD = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\n"


class Systemd:
    """
    A booted one; ``close`` ends it, and the end of this process does.

    units
        The text of each unit, or of another file below /etc/systemd/system, by its name.

    journald
        The contents of /etc/systemd/journald.conf.

    files, copies
        What else is in the machine: see ``Machine``.
    """

    def __init__(self, units=None, journald=JOURNALD, files=None, copies=()):
        init = next(filter(os.path.exists, INITS), None)
        if not init:
            raise Refused("systemd is not installed")
        own = {f"{OWN}/{name}": text for name, text in (units or {}).items()}
        laid = {
            f"{OWN}/default.target": "[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\nAllowIsolate=yes\n",
            f"{OWN}/sysinit.target.d/journal.conf": JOURNAL,
            # Without one, systemd takes it for the first boot of all.
            "/etc/machine-id": f"{uuid.uuid4().hex}\n",
            "/etc/systemd/journald.conf": journald,
        }
        # Init scripts are units here, as on every Debian.
        only = {UNITS: KNOWN, GENERATORS: ["systemd-sysv-generator"]}
        self.machine = Machine([init], {**laid, **own, **(files or {})}, only, copies)
        try:
            self.wait_until_up()
        except BaseException:
            self.machine.close()
            raise

    def wait_until_up(self, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            state = self.systemctl("is-system-running", check=False).strip()
            if state == "running":
                return
            if state == "degraded" or time.monotonic() > deadline:
                raise Refused(f"systemd does not come up: {state} {self.systemctl('--failed', check=False)}")
            time.sleep(0.02)

    def run(self, command, check=True, **more):
        """Run a command in there, and return what it says."""
        done = self.machine.run(command, **more)
        assert not (check and done.returncode), f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def systemctl(self, *words, check=True):
        return self.run(["systemctl", *words], check)

    def journal(self, *words):
        """Return the lines of the journal, as ``journalctl`` tells them with these options."""
        return self.run(["journalctl", "--no-pager", "--quiet", "--output", "cat", *words]).splitlines()

    def at(self, path):
        return self.machine.at(path)

    def write(self, units):
        """Have units as these texts say, by their names."""
        for name, text in units.items():
            path = self.at(pathlib.Path(OWN, name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.systemctl("daemon-reload")

    def close(self):
        return self.machine.close()
