"""
Tests that are marked ``under_systemd`` run in a machine of their own that a real systemd runs: see systemd.py. There
the modules call the real systemctl, and processes, control groups and journal are those that it knows.

They run as the service salt-minion would, by one more pytest that is started before the first test of all; so they run
beside the others, and are reported in their turn. Where no such machine can be had they are skipped with the reason,
in CI they fail with it.
"""

import json
import os
import pathlib
import time

import pytest

from tests.support import needs, python
from tests.support.machine import REPOSITORY, Refused
from tests.support.systemd import Systemd

MARKER = "under_systemd"
PLACE = pathlib.Path("/run/qmail-tests")
HERE = "TESTS_UNDER_SYSTEMD"  # set in there
UNIT = "salt-minion.service"
HANDED_ON = ("CI", "LANG", "LC_ALL", "PATH", "PYTHONPYCACHEPREFIX", "QMAIL_TEST", "VIRTUAL_ENV")
# KillMode as Salt's own unit has it.
SERVICE = """
[Service]
ExecStart={python} -m pytest -p no:cacheprovider --color=no {files}
WorkingDirectory={repository}
KillMode=process
StandardOutput=file:{said}
StandardError=file:{said}
Environment=PYTHONDONTWRITEBYTECODE=1 {here}=1
EnvironmentFile={environment}
"""
PAUSE = 0.05  # seconds between two looks
PATIENCE = 2  # seconds without a report, until it is asked whether there will be more


def is_here():
    """Return whether this process runs in there."""
    return HERE in os.environ


def plugin():
    return Within() if is_here() else Without()


class Within:
    """What runs there: one test after the other, as they are asked for. Each report of theirs is written down."""

    def pytest_configure(self, config):
        self.config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        items = {item.nodeid: item for item in session.items}
        with (PLACE / "asked").open() as asked:
            while True:
                item = items[self.next(asked)]
                session._setupstate.teardown_exact(item)  # what it does not share with the one before
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=Another(item))

    @staticmethod
    def next(asked):
        line = ""
        while not line.endswith("\n"):
            line += asked.readline() or time.sleep(PAUSE) or ""
        return json.loads(line)

    def pytest_runtest_logreport(self, report):
        told = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        with (PLACE / "reports").open("a") as file:
            file.write(f"{json.dumps(told)}\n")


class Another:
    """A test that comes next, of which only that much is known: it may share with this one what is made for several."""

    def __init__(self, item):
        self.shared = item.listchain()[:-1]

    def listchain(self):
        return self.shared


class Without:
    """
    What starts that, asks for the tests, and takes its reports for the tests' own.

    All are asked for at once, but where other processes share the tests with this one, each in its turn.
    """

    def __init__(self):
        self.items, self.asked, self.systemd, self.refused, self.reports = {}, set(), None, None, None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        self.items = {item.nodeid: item for item in session.items if item.get_closest_marker(MARKER)}
        if self.items and not session.config.option.collectonly and not hasattr(session.config, "workerinput"):
            self.start()
            self.ask(*self.items)

    def start(self):
        if self.systemd or self.refused:
            return
        marks = [mark for item in self.items.values() for mark in item.iter_markers(MARKER)]
        copies = {path for mark in marks for path in mark.kwargs.get("copies", ()) if os.path.exists(path)}
        try:
            self.systemd = Systemd(copies=sorted(copies))
        except Refused as err:
            self.refused = f"no systemd of the tests' own can be had here: {err}"
            return
        place = self.systemd.at(PLACE)
        place.mkdir()
        for name in ("asked", "reports"):
            (place / name).touch()
        environment = [f"{name}={json.dumps(os.environ[name])}\n" for name in HANDED_ON if name in os.environ]
        (place / "environment").write_text("".join(environment))
        files = " ".join(dict.fromkeys(nodeid.partition("::")[0] for nodeid in self.items))
        known = {"python": python.IN_A_UNIT, "files": files, "repository": REPOSITORY, "here": HERE}
        paths = {"said": PLACE / "said", "environment": PLACE / "environment"}
        self.systemd.write({UNIT: SERVICE.format(**known, **paths)})
        self.systemd.systemctl("start", UNIT)
        self.reports = (place / "reports").open()

    def ask(self, *nodeids):
        new = [nodeid for nodeid in nodeids if nodeid not in self.asked]
        if new and self.systemd:
            self.asked.update(new)
            with self.systemd.at(PLACE / "asked").open("a") as file:
                file.write("".join(f"{json.dumps(nodeid)}\n" for nodeid in new))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        if item.nodeid not in self.items:
            return None
        self.start()
        if not self.systemd:
            return None
        self.ask(item.nodeid)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.told(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        item.session._setupstate.teardown_exact(nextitem)  # the test before has left what it and this one share
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        if item.nodeid in self.items:
            needs.skip_for(self.refused)

    def pytest_unconfigure(self):
        if self.systemd:
            self.systemd.close()

    def told(self, item):
        """Yield the reports of one test, as they come: of its setup, its call, and its teardown."""
        when = None
        while when != "teardown":
            line = self.line()
            if not line:
                why = f"{UNIT} has ended without a word of this test. It said: {self.said()}"
                yield pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
                return
            told = json.loads(line)
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=told)
            assert report.nodeid == item.nodeid
            if report.skipped and isinstance(report.longrepr, list):
                report.longrepr = tuple(report.longrepr)  # JSON knows none
            when = report.when
            yield report

    def line(self):
        """Return the next line of the reports, or an empty one where none will come."""
        line, heard = "", time.monotonic()
        while not line.endswith("\n"):
            part = self.reports.readline()
            line += part
            if part:
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE and not self.runs():
                return self.reports.readline()  # what it has written since is the last
            else:
                time.sleep(PAUSE)
        return line

    def runs(self):
        return self.systemd.systemctl("is-active", UNIT, check=False).strip() == "active"

    def said(self):
        return self.systemd.at(PLACE / "said").read_text()[-4000:]
