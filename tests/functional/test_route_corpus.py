"""Every address goes where a real qmail was seen to deliver it."""

import json
import os
import pathlib
import subprocess

import pytest

DATA = pathlib.Path(__file__).parent.parent / "data"
RECORDINGS = sorted(path.parent.name for path in DATA.glob("routing-*/routes.json"))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the owners of the recorded homes decide: needs root")


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request, tmp_path_factory):
    """A configuration on disk, with its owners, and what was seen of each address."""
    directory = DATA / request.param
    root = tmp_path_factory.mktemp(request.param)
    unpack = ["tar", "--extract", "--gzip", "--preserve-permissions", "--numeric-owner", f"--directory={root}"]
    subprocess.run([*unpack, f"--file={directory / 'tree.tar.gz'}"], check=True)
    return root, json.loads((directory / "routes.json").read_text())


def seen(route):
    """Put a recorded delivery in the words of qmail_route.resolve."""
    if route["channel"] == "remote":
        return {"channel": "remote", "recipient": route["recipient"], "outcome": "remote"}
    expected = {"channel": "local", "recipient": route["recipient"], "dotqmail": None, "outcome": "bounce"}
    if "dotqmail" in route:
        file = route["dotqmail"] != "DEFAULTDELIVERY"
        expected["outcome"] = "dotqmail" if file else "defaultdelivery"
        expected["dotqmail"] = route["dotqmail"] if file else None
        expected.update({field: route[field] for field in ("user", "ext", "default", "home")})
    return expected


def test_every_address_is_delivered_where_qmail_delivered_it(recording, modules):
    root, routes = recording
    wrong = []
    for route in routes:
        found = modules.qmail_route.resolve(route["address"], root=str(root))
        found["recipient"] = found["recipient"].replace("%", "_")  # as qmail's log shows it
        expected = seen(route)
        told = {field: found[field] for field in expected}
        if told != expected:
            wrong.append((route["address"], expected, told))
    assert len(routes) > 100
    assert wrong == []


def test_there_are_recordings():
    assert RECORDINGS
