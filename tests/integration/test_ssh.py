"""
The same by salt-ssh, against a loopback sshd: neither minion nor master. Each command takes seconds, so that what has
nothing to do with the way to the server is left to test_fleet.py.
"""

import json
import pathlib
import re
import shutil
import sys

import pytest

from tests.support import minion, needs
from tests.support import sshd as loopback
from tests.support.fleet import FORMULA, SECONDS, SINKS, Fleet, Server, all_are, each
from tests.support.installed import Installed


@pytest.fixture(scope="module")
def sshd(place):
    needs.skip_for(loopback.missing())
    with loopback.started(place / "sshd") as sshd:
        yield sshd


@pytest.fixture(scope="module")
def kept(place):
    """The directories of kept versions, which outlive what salt-ssh puts on a server."""
    return {name: place / f"kept-ssh-{name}" for name in SINKS}


@pytest.fixture(scope="module")
def thin(place):
    """The directories into which salt-ssh puts Salt and this project's modules."""
    return {name: place / f"thin-{name}" for name in SINKS}


@pytest.fixture(scope="module")
def fleet(sshd, salt_factories, master_config, place, kept, thin):
    options = {name: {"qmail_file.kept_directory": str(kept[name])} for name in SINKS}
    roster = loopback.roster(sshd, place / "roster", thin, options)
    # The configuration of a master that never runs: salt-ssh reads file_roots and pillar_roots there.
    config = salt_factories.salt_master_daemon(
        "ssh", overrides={**master_config, "known_hosts_file": str(sshd.known_hosts)}
    )
    return Fleet(
        config.salt_ssh_cli(roster_file=str(roster), target_host="*", client_key=str(sshd.client_key)), at_once=True
    )


def apply_and_count(fleet, *words, to):
    """Apply states to one server, and return their results, and what salt-ssh called there: a Python start each."""
    done = fleet.cli.run("state.apply", *words, "--log-level=debug", minion_tgt=to, _timeout=SECONDS)
    called = re.findall(r"shimmed, blocking command as follows:\n(\S+)", done.stderr)
    return {to: {state["__id__"]: state for state in done.data.values()}}, called


def test_salt_ssh_makes_each_server_its_own_sink_and_undoes_it_when_its_own_files_are_gone(fleet, servers, kept, thin):
    before = each(servers, Server.snapshot)

    first = fleet.apply(FORMULA)
    assert all_are(first, "result", True), first
    assert each(servers, Server.where) == each(servers, Server.expected)
    pids = each(servers, Server.pid)

    second, called = apply_and_count(fleet, FORMULA, to="mail1")
    assert all_are(second, "result", True), second
    assert all_are(second, "changes", {}), second
    assert each(servers, Server.pid) == pids
    assert called == ["test.opts_pkg", "qmail_doublebounce.settings", "state.pkg"]  # two of them are Salt's own

    assert list(kept["mail1"].rglob("v1")), "Nothing is kept where the roster says."
    shutil.rmtree(thin["mail1"])  # as salt-ssh itself does with -W, and what tidies /var/tmp

    cleaned = fleet.apply(f"{FORMULA}.clean", to="mail1")
    assert all_are(cleaned, "result", True), cleaned
    assert servers["mail1"].snapshot() == before["mail1"]
    assert servers["mail1"].loaded() == Server.BEFORE
    assert servers["mail2"].where() == servers["mail2"].expected()


def test_salt_ssh_says_what_is_wrong_in_pillar_and_writes_nothing(fleet, servers):
    servers["mail1"].choose("dummy")  # no @
    before = (servers["mail1"].snapshot(), servers["mail1"].pid())

    status, shown = fleet.apply_and_show(FORMULA, to="mail1")
    assert status != 0, shown
    assert "qmail_doublebounce:address: 'dummy' is not an address" in shown
    assert "Traceback" not in shown
    assert (servers["mail1"].snapshot(), servers["mail1"].pid()) == before


@pytest.mark.soak
@pytest.mark.each_salt
def test_salt_ssh_carries_what_pip_installed(sshd, place):
    """Without any file_roots: to the server goes what the salt-ssh here can load itself."""
    installed = Installed(place / "installed")
    own = installed.place
    roster = loopback.roster(sshd, own / "roster", {"mail1": place / "thin-installed"}, {"mail1": {}})
    options = {"root_dir": str(own), "known_hosts_file": str(sshd.known_hosts), **minion.roots(own)}
    minion.write(own / "etc/master", {**options, "file_roots": {"base": []}})
    program = pathlib.Path(sys.executable).with_name("salt-ssh")
    words = [f"--config-dir={own / 'etc'}", f"--roster-file={roster}", "--out=json", "mail1"]
    found = installed.run([installed.python, program, *words, "qmail_control.show", f"home={place / 'nothing'}"])
    assert json.loads(found)["mail1"]["doublebounceto"]["value"] == "postmaster"
