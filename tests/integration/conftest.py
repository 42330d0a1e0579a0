"""
What both ways to the servers share: a place for everything, the formula and the pillar as Salt finds them, the servers.

All of it lies in one temporary directory, speaks over 127.0.0.1, and is stopped by process id at the end.
"""

import json
import os
import pathlib
import tempfile

import pytest

from tests.support.fleet import FORMULA, SINKS, quick, running
from tests.support.minion import REPOSITORY, linked

DAEMONS = REPOSITORY / "tests/support/daemons"  # what they do without


@pytest.fixture(scope="session")
def place():
    """
    A directory that the owners of mailboxes can reach, too: pytest's own ones are closed to them. Its name is short,
    for the sockets in it.
    """
    with tempfile.TemporaryDirectory(prefix="qmail-", ignore_cleanup_errors=True) as name:
        place = pathlib.Path(name).resolve()
        place.chmod(0o755)
        yield place


@pytest.fixture(scope="session")
def salt_factories_config(place):
    root = place / "salt"
    root.mkdir()
    return {
        "root_dir": root,
        # The daemons see this project by way of the file server only, as on real machines: neither as a package, nor
        # by way of coverage, which they could not write down when they are killed.
        "code_dir": None,
        # They keep what they compile, as on real machines: each job is a process that would compile all again.
        "environ": {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(DAEMONS)},
        "inject_sitecustomize": False,
        "coverage_rc_path": None,
        "coverage_db_path": None,
        "start_timeout": 120,
        "slow_stop": False,
    }


@pytest.fixture(scope="session")
def master_config(place):
    """A master's file_roots and pillar_roots; each server has a pillar file of its own."""
    states, pillar = linked(place / "states"), place / "pillar"
    (states / "top.sls").write_text(json.dumps({"base": {"*": [FORMULA]}}))
    pillar.mkdir()
    for name in SINKS:
        (pillar / f"{name}.sls").write_text("{}")
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in SINKS}}))
    roots = {"file_roots": {"base": [str(states)]}, "pillar_roots": {"base": [str(pillar)]}}
    return {**roots, **quick("master"), "open_mode": True}  # no minion waits for its key to be accepted


@pytest.fixture
def servers(place, master_config):
    """The servers, as they were before this formula came, with qmail-send running."""
    pillar = pathlib.Path(master_config["pillar_roots"]["base"][0])
    with running(place, pillar, SINKS) as servers:
        yield servers
