"""
As a Salt extension: what pip installs has all modules and the formula, works by the README's steps, and says which of
two copies runs.
"""

import pathlib
import re
import shutil
import sys

import pytest

from tests.support import minion
from tests.support.installed import Installed, beside, contents
from tests.support.steps import Steps

KINDS = ("modules", "states", "runners", "beacons")
MODULES = sorted(path.name for path in (minion.REPOSITORY / "_modules").glob("*.py"))
OLDER = "0.0.9"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def configure(tmp_path):
    """Write the configuration of a minion that has nothing of this project but what is named."""

    def configure(**more):
        return minion.configure(tmp_path, **{"module_dirs": [], "file_roots": {"base": []}, **more})

    return configure


@pytest.fixture
def older(tmp_path):
    """An older copy of the modules, in a directory that is named."""

    def older(place):
        modules = tmp_path / place / "modules"
        shutil.copytree(minion.REPOSITORY / "_modules", modules, ignore=shutil.ignore_patterns("__pycache__"))
        face = modules / "qmail_doublebounce.py"
        face.write_text(face.read_text().replace(f'__version__ = "{version()}"', f'__version__ = "{OLDER}"'))
        return modules

    return older


def version():
    face = (minion.REPOSITORY / "_modules/qmail_doublebounce.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', face, re.MULTILINE)[1]


def test_salt_finds_all_that_the_tree_has_in_what_pip_installed(installed, configure):
    found = installed.files(configure())
    for kind in KINDS:
        wanted = {path.name for path in (minion.REPOSITORY / f"_{kind}").glob("*.py")}
        files = {pathlib.Path(file) for file in found[kind].values()}
        assert {file.name for file in files} == wanted
        assert {file.parent for file in files} <= {installed.path / f"_{kind}"}


def test_the_package_holds_what_the_tree_serves_and_a_command_that_says_where(installed):
    kept = {path.name for path in installed.path.iterdir()} - {"__pycache__", "__init__.py", "__main__.py"}
    assert kept == set(minion.SERVED)
    for name in minion.SERVED:
        wanted, found = (contents(place / name) for place in (minion.REPOSITORY, installed.path))
        assert found == wanted
    program = installed.python.parent / "qmail-doublebounce-formula"
    assert installed.run([program, "--version"]).strip() == version()
    assert installed.path.parent == installed.site


def test_a_checkout_says_that_it_is_the_place_itself():
    """As where pip has installed it as editable."""
    import qmail_doublebounce_formula

    assert qmail_doublebounce_formula.path() == minion.REPOSITORY
    wanted = {name[1:]: [str(minion.REPOSITORY / name)] for name in minion.SERVED if name[:1] == "_"}
    assert qmail_doublebounce_formula.loader_directories() == wanted
    assert qmail_doublebounce_formula.version() == version()


def test_the_steps_for_one_server_work_with_what_pip_installed(installed, home, modules, tmp_path):
    Steps(tmp_path, home, installed.path, installed.python).take(modules)


def test_a_minion_that_syncs_from_it_gets_the_modules_and_nothing_else(installed, home, tmp_path):
    Steps(tmp_path, home, installed.path).call("saltutil.sync_all")
    synced = tmp_path / "extmods"
    assert contents(synced / "modules") == contents(minion.REPOSITORY / "_modules")
    assert contents(synced / "states") == contents(minion.REPOSITORY / "_states")


def test_what_was_synced_comes_before_what_pip_installed(installed, configure, older):
    synced = older("extmods")
    files = installed.files(configure())["modules"]
    assert {pathlib.Path(file).parent for file in files.values()} == {synced}


def test_what_salt_call_is_given_comes_before_all_others(installed, configure, older, tmp_path):
    given, _ = older("given"), older("extmods")
    files = installed.files(configure(module_dirs=[str(tmp_path / "given")]))["modules"]
    assert {pathlib.Path(file).parent for file in files.values()} == {given}


@pytest.fixture
def said(loaded_with, home, tmp_path, monkeypatch):
    """Ask the modules of the tree what they say about other copies."""
    monkeypatch.delitem(sys.modules, "qmail_doublebounce_formula", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()

    def said():
        modules = loaded_with(extension_modules=str(tmp_path / "extmods"))
        found = modules["qmail_doublebounce.status"]({}, home=str(home.path))
        return [one for one in found["advice"] if "of these modules runs" in one["advice"]]

    return said


def test_two_versions_side_by_side_are_named(said, older, tmp_path):
    tree, runs = minion.REPOSITORY / "_modules", f"Version {version()} of these modules runs, from"
    assert said() == []
    synced = older("extmods")
    (one,) = said()
    assert one["advice"] == f"{runs} {tree}, and version {OLDER} is in {synced}."
    assert "salt-call saltutil.sync_all" in one["remedy"]
    assert "salt-pip install with the newer wheel" in one["remedy"]

    package = tmp_path / "site/qmail_doublebounce_formula"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(older("second"), package / "_modules")
    assert [one["advice"].rpartition(" ")[2] for one in said()] == [f"{synced}.", f"{package}/_modules."]


def test_a_copy_of_the_same_version_is_no_trouble(said, tmp_path):
    shutil.copytree(minion.REPOSITORY / "_modules", tmp_path / "extmods/modules")
    assert said() == []


@pytest.mark.parametrize(
    "text", ["", "# of another project\n", '__version__ = "\n', f'__version__ = "{"1" * 41}"\n', "\0"]
)
def test_a_copy_that_says_no_version_is_named_as_unknown(said, tmp_path, text):
    (tmp_path / "extmods/modules").mkdir(parents=True)
    (tmp_path / "extmods/modules/qmail_doublebounce.py").write_text(text)
    (one,) = said()
    assert "version unknown is in" in one["advice"]


def test_a_copy_that_cannot_be_read_is_no_traceback(said, tmp_path):
    (tmp_path / "extmods/modules").mkdir(parents=True)
    (tmp_path / "extmods/modules/qmail_doublebounce.py").symlink_to("/proc/self/mem")
    assert said() == []


def test_an_installed_copy_beside_the_tree_is_seen(installed, tmp_path):
    assert beside([str(installed.site)]) == installed.site
    assert beside([str(tmp_path)]) is None
    without = tmp_path / "qmail_doublebounce-0.1.0.dist-info"
    without.mkdir()
    (without / "METADATA").write_text("Metadata-Version: 2.1\nName: qmail-doublebounce\nVersion: 0.1.0\n")
    assert beside([str(tmp_path)]) is None
    assert beside() is None
