"""A master and six minions, each with a qmail of its own, and the runner's command line."""

import json

import pytest

from tests.support import minion, mounts
from tests.support.fleet import quick, running
from tests.support.rollout import NAMES, OF_MASTER, SECONDS, Run


@pytest.fixture(scope="module")
def roots(place):
    """What the master serves: the formula, and a pillar file for each server."""
    states, pillar = minion.linked(place / "rollout-states"), place / "rollout-pillar"
    pillar.mkdir(exist_ok=True)  # both files of tests may run in one process
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in (*NAMES, OF_MASTER)}}))
    for name in (*NAMES, OF_MASTER):
        (pillar / f"{name}.sls").write_text("{}")
    return states, pillar


@pytest.fixture(scope="module")
def master(salt_factories, roots):
    states, pillar = roots
    served = {"file_roots": {"base": [str(states)]}, "pillar_roots": {"base": [str(pillar)]}}
    master = salt_factories.salt_master_daemon(OF_MASTER, overrides={**served, **quick("master"), "open_mode": True})
    with master.started():
        master.salt_run_cli(timeout=60).run("saltutil.sync_runners")
        yield master


@pytest.fixture(scope="module")
def minions(master, place):
    mounts.denied()  # if not, the minions see what a test mounts: they are children of this process
    started = {}
    try:
        for name in NAMES:
            daemon = master.salt_minion_daemon(name, overrides={**quick("minion"), **minion.roots(place / name)})
            daemon.start()
            started[name] = daemon
        yield started
    finally:
        for daemon in started.values():
            daemon.terminate()


@pytest.fixture
def servers(minions, roots, place):
    """The servers, as they were before this formula came, with qmail-send running."""
    with running(place, roots[1], dict.fromkeys(NAMES, "dummy")) as servers:
        yield servers


@pytest.fixture
def cli(master):
    return master.salt_run_cli(timeout=SECONDS)


@pytest.fixture
def run(master):
    def run(*words, kind="rollout", **settings):
        given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        cli = master.salt_run_cli(timeout=SECONDS)  # one holds the output of one process, and some run at the same time
        return Run(cli.run(f"qmail_doublebounce.{kind}", *(words or ["mx*"]), *given), kind)

    return run
