"""The SPM package: what spm builds of a checkout, what it puts where, what works from there, and what is left of it."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest
import salt.config
import yaml

from release import archive, tree
from tests.support import minion
from tests.support.installed import LEFT_OUT, contents
from tests.support.steps import Steps

FORMULA = yaml.safe_load((minion.REPOSITORY / "FORMULA").read_text())
NAME = FORMULA["name"]
FILE = f"{NAME}-{FORMULA['version']}-{FORMULA['release']}.spm"
WHEN = 1_700_000_000
PLACES = {
    "formula_path": "formulas",
    "pillar_path": "pillar",
    "reactor_path": "reactor",
    "spm_build_dir": "built",
    "spm_cache_dir": "cache",
    "spm_db": "cache/packages.db",
    "spm_logfile": "log",
    "spm_repos_config": "etc/spm.repos",
    "spm_share_dir": "share",
}
OF_SALT = ("cachedir", "log_file", "pki_dir", "sock_dir")


class Spm:
    """spm with all of its directories below one, and what it has put there."""

    def __init__(self, place):
        self.place = place
        self.formulas, self.pillar, self.built = (place / name for name in ("formulas", "pillar", "built"))
        # root_dir alone moves what is not named; what is named stays where it says.
        options = {name: str(place / path) for name, path in PLACES.items()}
        roots = {**minion.roots(place), "file_roots": {"base": []}}
        minion.write(place / "etc/spm", {"root_dir": str(place), **roots, **options})
        opts = salt.config.spm_config(str(place / "etc/spm"))
        named = {name: opts[name] for name in (*PLACES, *OF_SALT)}
        assert {name: path for name, path in named.items() if not path.startswith(str(place))} == {}

    def run(self, *words):
        program = pathlib.Path(sys.executable).with_name("spm")
        command = [program, f"--config-dir={self.place / 'etc'}", "--assume-yes", *map(str, words)]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "SPM_CONFIG": str(self.place / "etc/spm")}
        done = subprocess.run(
            command, cwd=self.place, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr.strip(), done.stderr
        return done.stdout


@pytest.fixture
def spm(tmp_path):
    return Spm(tmp_path)


@pytest.fixture
def source(tmp_path):
    """A copy of the tree: a package is built of all that is in a directory."""
    return pathlib.Path(shutil.copytree(minion.REPOSITORY, tmp_path / NAME, ignore=LEFT_OUT))


@pytest.fixture
def package(source, tmp_path):
    """The package as make release builds it."""
    names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    path = tmp_path / FILE
    path.write_bytes(archive.bzipped(archive.below(source, NAME, filter(tree.in_formula, names)), WHEN))
    return path


def test_spm_builds_the_package_that_make_release_builds(spm, source, package):
    for path in source.iterdir():
        if not tree.in_formula(path.name if path.is_file() else f"{path.name}/…"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    spm.run("build", source)
    assert files_in(spm.built / FILE) == files_in(package)


def files_in(package):
    with tarfile.open(package, "r:bz2") as found:
        return {about.name: found.extractfile(about).read() if about.isfile() else None for about in found}


def test_what_is_installed_works_and_is_gone_when_it_is_removed(spm, package, home, modules, tmp_path):
    spm.run("local", "install", package)
    assert spm.run("list", "packages").split() == [NAME]
    for name in minion.SERVED:
        assert contents(spm.formulas / name) == contents(minion.REPOSITORY / name)
    assert {path.name for path in spm.formulas.iterdir()} == set(minion.SERVED)
    example = spm.pillar / f"{NAME}.sls.orig"
    assert [*spm.pillar.iterdir()] == [example]
    assert example.read_bytes() == (minion.REPOSITORY / "pillar.example").read_bytes()
    assert not any((tmp_path / "reactor").iterdir())

    Steps(tmp_path / "minion", home, spm.formulas, module_dirs=[str(spm.formulas)]).take(modules)

    spm.run("remove", NAME)
    assert spm.run("list", "packages").split() == []
    assert [path for place in (spm.formulas, spm.pillar) for path in place.rglob("*") if path.is_file()] == []
