"""The pages say what is there."""

import pathlib
import re

import pytest
import salt.utils.minions
import yaml

from tests.support.functions import page
from tests.support.house import House

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def test_the_page_of_functions_is_that_of_the_docstrings():
    told = (REPOSITORY / "docs/functions.md").read_text()
    assert told == page(), "run: make map"


def test_the_formula_file_tells_the_version_of_the_package():
    formula = yaml.safe_load((REPOSITORY / "FORMULA").read_text())
    assert f"version = {formula['version']}\n" in (REPOSITORY / "setup.cfg").read_text()
    assert (REPOSITORY / formula["top_level_dir"] / "init.sls").exists()


HOUSE = House()
FUNCTIONS = [f"{module.name}.{name}" for module in HOUSE.called.values() for name in module.functions]
FACES = [name for name in FUNCTIONS if name.partition(".")[0] in HOUSE.faces]
SALTS = ["cmd.run", "state.apply", "sys.doc"]


@pytest.fixture
def allowed(minion_opts):
    """Ask Salt itself which functions an ACL gives."""
    matcher = salt.utils.minions.CkMinions(minion_opts)

    def allowed(acl):
        return [name for name in (*FUNCTIONS, *SALTS) if matcher.auth_check(acl, name, [], "*")]

    return allowed


@pytest.fixture
def example():
    """The ACL that docs/operate.md shows."""
    blocks = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/operate.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if "publisher_acl" in block)
    return yaml.safe_load(found)


def test_the_acl_of_the_pages_gives_every_face_and_no_room(allowed, example):
    assert allowed(example["publisher_acl"]["postmaster"]) == FACES


def test_the_acl_of_the_pages_for_those_who_look_gives_what_it_names(allowed, example):
    looks = {"about", "count", "report", "status", "summary"}
    found = allowed(example["publisher_acl"]["monitor"])
    assert {name.partition(".")[2] for name in found} == looks
    assert set(found) <= set(FACES)
    (peer,) = example["peer"].values()
    assert allowed(peer) == ["qmail_doublebounce.status"]


@pytest.mark.parametrize("pattern", ["qmail_.*", "qmail_service.*", "qmail_service"])
def test_the_acl_that_the_pages_warn_of_gives_away_what_runs_commands(allowed, pattern):
    assert "qmail_service_tool.run" in allowed([pattern])


def test_every_target_of_make_is_explained():
    targets = re.search(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)[1].split()
    rows = re.findall(r"^\| `(\w[\w-]*)` \| \S", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(targets)
