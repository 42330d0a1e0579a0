"""
The real qmail whose log is the journal, or what rsyslog writes of the real splogger's lines; in a machine of its own:
a copy of the one at /var/qmail, which stays as it is.
"""

import os
import re
import subprocess
import types

import pytest

from tests.support import rsyslog as a_real_one
from tests.support.rsyslog import FORMS, MAIL, WRITTEN
from tests.support.servers import journalctl, journald
from tests.support.supervisors import Systemd, wait_until

HOME = "/var/qmail"
QUEUE = {"QUEUEDIR": f"{HOME}/queue"}  # indimail's asks for it
# Nothing is copied, and no machine made for it, where these tests are not asked for.
pytestmark = [pytest.mark.under_systemd(copies=[HOME])] if os.environ.get("QMAIL_TEST") else []
UNIT = "qmail.service"


@pytest.fixture
def swallowing(server):
    """That qmail with a sink, which its double bounces go to."""
    server.write("doublebounceto", "sink\n")
    server.write("doublebouncehost", "doublebounce.test\n")
    server.dotqmail("sink", "|exit 0\n")
    return server


@pytest.fixture
def boot(swallowing, tmp_path):
    """Have systemd start it as its only unit, with a program that takes its log, or none."""
    unit = Systemd(types.SimpleNamespace(path=swallowing.qmail), tmp_path, UNIT)

    def boot(*logger):
        start = [f"{HOME}/bin/qmail-start", "./Maildir/", *logger]
        environment = {"PATH": f"{HOME}/bin:/usr/bin:/bin", **QUEUE}
        unit.write(ExecStart=" ".join(start), Environment=" ".join("=".join(each) for each in environment.items()))
        return unit.boot()

    yield boot
    unit.close()


def check_a_proof(modules, states, swallowing, log="auto"):
    """A probe and a proof, which the log shows, and what is read of it then; return the lines about the probe."""
    probe = modules.qmail_doublebounce.probe({}, 60, swallowing.SINK, log=log)
    assert probe["end"] == "swallowed", probe
    ret = states.qmail_doublebounce.verified("it works", address=swallowing.SINK, log=log, always=True)
    assert ret.result is True, ret.comment
    assert modules.qmail_log.count(path=log, since="1h")["double_bounces"] == 2
    summary = modules.qmail_log.summary(path=log)
    assert (summary["double_bounces"], summary["swallowed"], summary["deliveries"]) == (2, 2, 4)
    assert summary["recipients"] == {"dbtest-sink@doublebounce.test": 2}
    report = modules.qmail_doublebounce.report({}, log=log, table=False)
    assert sum(hour["queued"] for hour in report["hours"].values()) == 2
    return probe["log"]


@pytest.mark.parametrize("log", ["auto", "journald"])
def test_the_journal_of_its_unit_is_its_log(modules, states, swallowing, boot, log):
    journald(Storage="volatile")
    journalctl("--rotate")
    journalctl("--vacuum-time=1us")
    boot()
    lines = check_a_proof(modules, states, swallowing, log)
    assert all(" qmail-start[" in line for line in lines)
    assert modules.qmail_log.about(log)["log"] == f"journald:{UNIT}"
    swallowing.dotqmail("sink", "./Maildir/\n")
    assert modules.qmail_doublebounce.probe({}, 60, swallowing.SINK, log=log)["end"] == "stored"


@pytest.fixture(scope="module")
def rsyslog():
    yield from a_real_one.running()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("log", ["auto", str(MAIL)])
def test_what_rsyslog_writes_of_its_splogger_s_lines_is_its_log(modules, states, swallowing, boot, rsyslog, form, log):
    rsyslog.start(form)
    boot("splogger", "qmail")
    rsyslog.has("status: local 0/")
    check_a_proof(modules, states, swallowing, log)
    assert modules.qmail_log.about(log)["log"] in map(str, WRITTEN)
    rsyslog.rotate()
    assert modules.qmail_doublebounce.probe({}, 60, swallowing.SINK, log=log)["end"] == "swallowed"
    assert modules.qmail_log.count(path=log)["double_bounces"] == 3


def test_a_line_that_the_real_splogger_cuts_is_one_again(modules, swallowing, boot, rsyslog):
    rsyslog.start()
    boot("splogger", "qmail")
    nobody = f"{'a' * 900}@doublebounce.test"
    command, environment = [f"{HOME}/bin/qmail-inject", "-f", "", nobody], {**os.environ, **QUEUE}
    subprocess.run(command, input=b"Subject: x\n\n", check=True, env=environment, timeout=20)
    wait_until(lambda: modules.qmail_log.summary()["swallowed"] == 1)
    # eQmail leaves the stamp out, also before the plus that a continuation begins with.
    assert re.search(r"qmail: [0-9.]*\+.*a@doublebounce\.test", MAIL.read_text())
    assert modules.qmail_log.summary()["domains"] == {"doublebounce.test": 1}
