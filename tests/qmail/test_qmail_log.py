"""The log of a real qmail-send is found by its descriptors, and is the one that a probe goes through."""

import os
import shutil
import signal
import subprocess

import pytest

from tests.support import supervisors


def test_the_program_that_qmail_start_gives_it_leads_to_its_log(modules, server):
    server.start()
    found = modules.qmail_log_file.find()
    assert (found["kind"], found["path"], found["how"]) == ("file", str(server.log), "followed")
    assert modules.qmail_doublebounce.status({})["log"]["log"] == str(server.log)
    probe = modules.qmail_doublebounce.probe({}, timeout=60)
    assert probe["end"] == "stored"
    count = modules.qmail_log.count()
    assert (count["log"], count["double_bounces"]) == (str(server.log), 1)


@pytest.mark.parametrize("logger", ["multilog", "svlogd", "s6-log"])
def test_each_logger_leads_to_its_directory(modules, server, logger):
    if not shutil.which(logger):
        pytest.skip(f"{logger} is not installed")
    place = server.top / "main"
    place.mkdir()
    place.chmod(0o777)  # the logger runs as qmaill
    options = {"multilog": ["t"], "svlogd": ["-tt"], "s6-log": ["t", "T"]}[logger]
    (place / "config").write_text("pmx1: \n")  # svlogd's
    path = f"/var/qmail/bin:{os.environ['PATH']}"
    start = ["/var/qmail/bin/qmail-start", "./Maildir/", logger, *options, str(place)]
    process = subprocess.Popen(
        start,
        env={"PATH": path, "QUEUEDIR": "/var/qmail/queue"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        supervisors.wait_until(lambda: (place / "current").exists() and b"status" in (place / "current").read_bytes())
        found = modules.qmail_log_file.find()
        assert (found["kind"], found["path"], found["how"]) == ("multilog", str(place), "followed")
        assert modules.qmail_doublebounce.probe({}, timeout=60)["end"] == "stored"
        assert modules.qmail_log.count()["double_bounces"] == 1
    finally:
        pid = modules.qmail_base_process.find("/var/qmail")
        if pid:
            os.kill(pid, signal.SIGTERM)
        process.wait(timeout=30)
        supervisors.wait_until(lambda: modules.qmail_base_process.find("/var/qmail") is None)
