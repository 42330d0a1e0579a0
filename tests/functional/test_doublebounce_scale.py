"""Fifty servers or ten thousand: what a minion returns is small, and so is what the runner keeps of it."""

import json
import pathlib
import subprocess
import sys
import tempfile

import pytest
import salt.payload

from tests.support import minion
from tests.support.home import Home

LITTLE = 2000  # bytes, as a minion sends it
A_RUN = 2600  # eight states, of about 310 bytes each: most of it is what Salt says of every state


@pytest.fixture
def server():
    """A home in a place whose name is as short as /var/qmail."""
    with tempfile.TemporaryDirectory(prefix="q") as directory:
        pathlib.Path(directory).chmod(0o755)
        home = Home(pathlib.Path(directory) / "qmail")
        try:
            subprocess.run([home.path / "bin/qmailctl", "start"], check=True, timeout=60)
            assert home.wait_until_loaded("postmaster@mail.example.net")
            yield home
        finally:
            home.stop()


def test_a_run_that_changes_nothing_and_status_return_little(loaders, server):
    pillar = {"qmail_doublebounce": {"address": server.ADDRESS, "qmail": {"home": str(server.path)}}}
    modules = loaders.modules
    for _ in range(2):
        returned = modules.state.apply("qmail-doublebounce", pillar=pillar).raw
    assert not any(state["changes"] for state in returned.values())
    assert len(salt.payload.dumps(returned)) < A_RUN
    status = modules.qmail_doublebounce.status(pillar)
    assert status["pillar"]["holds"] is True
    assert len(salt.payload.dumps(status)) < LITTLE
    holds = modules.qmail_doublebounce.holds(pillar)
    assert holds["holds"] is True
    assert len(salt.payload.dumps(holds)) < 200


def test_ten_thousand_minions_fit_into_memory(tmp_path):
    told = many(10_000, tmp_path)
    assert told["changed"] == 10_000
    assert told["mib"] < 256


def test_what_is_kept_of_each_minion_does_not_grow_with_the_fleet(tmp_path):
    few, more = (many(number, tmp_path / str(number), traced=True) for number in (100, 1000))
    assert more["result"] < 1.1 * few["result"]
    assert more["result"] < LITTLE
    assert more["kept"] < 1.1 * few["kept"]


def many(number, place, **options):
    """Roll out over so many, in a process of its own: what is measured is its memory."""
    call = f"many({number}, {str(place)!r}, **{options})"
    code = f"import json; from tests.support.answers import many; print(json.dumps({call}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=minion.REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
