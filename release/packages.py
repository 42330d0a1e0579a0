"""The packages: wheel, source archive, SPM package, and the tarball for /srv."""

import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

from qmail_doublebounce_formula import FORMULA
from release import archive, tree


def build(place, names, when, root=tree.REPOSITORY):
    """
    Build all of them, and return their contents by file name.

    place
        An empty directory to work in.

    names
        The tracked files, as paths below ``root``.

    when
        When they were committed, in seconds since the epoch.
    """
    staged = tree.stage(names, place / "source", when, root)
    formula = yaml.safe_load((staged / "FORMULA").read_text())
    version = formula["version"]
    spm = archive.below(staged, FORMULA, filter(tree.in_formula, names))
    srv = archive.below(staged, FORMULA, filter(tree.in_tarball, names))
    return {
        **wheel_and_source(staged, when),
        f"{FORMULA}-{version}-{formula['release']}.spm": archive.bzipped(spm, when),
        f"{FORMULA}-formula-{version}.tar.gz": archive.gzipped(srv, when),
    }


def wheel_and_source(staged, when):
    """Build these two in a directory that holds nothing but the sources, and return their contents by file name."""
    with tempfile.TemporaryDirectory(dir=staged.parent) as out:
        command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", out, staged]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(when), "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, umask=0o022, check=False)
        if done.returncode:
            raise tree.Unreleasable(f"The wheel cannot be built.\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        (wheel,) = pathlib.Path(out).glob("*.whl")
        (source,) = pathlib.Path(out).glob("*.tar.gz")
        setup = {f"{source.name[: -len('.tar.gz')]}/setup.cfg": (staged / "setup.cfg").read_bytes()}
        return {wheel.name: wheel.read_bytes(), source.name: archive.repacked(source, when, setup)}
