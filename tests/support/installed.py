"""The wheel of this project in a Python environment of its own, and Salt that finds it there."""

import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

from tests.support import minion

# Not of the package, and large: what is built in a copy leaves nothing in the tree.
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "benchmarks", "build", "dist", "docs", "release", "tests"
)
WHERE = """
import json, re, sys
import salt.config, salt.loader
opts = salt.config.minion_config(sys.argv[1])
functions = salt.loader.minion_mods(opts)
found = {
    "modules": functions,
    "states": salt.loader.states(opts, functions, salt.loader.utils(opts), None),
    "runners": salt.loader.runner(opts),
    "beacons": salt.loader.beacons(opts, functions),
}
def files(loader):
    for name, about in loader.file_mapping.items():
        if name.startswith("qmail_"):
            first = re.search(r"^def ([a-z]\\w*)", open(about[0]).read(), re.MULTILINE)[1]
            loader[f"{name}.{first}"]  # to list what is loaded would load all of Salt
            yield name, about[0]
print(json.dumps({kind: dict(files(loader)) for kind, loader in found.items()}))
"""


class Installed:
    """
    ``python`` is that environment's, and ``site`` where pip has put it: as on a server, where Salt may have an
    environment, too. Salt itself, and all else, is that of the tests.
    """

    def __init__(self, place):
        self.place, source, venv = place, place / "source", place / "venv"
        shutil.copytree(minion.REPOSITORY, source, ignore=LEFT_OUT)
        words = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
        self.run([sys.executable, "-m", "pip", "wheel", *words, "--no-build-isolation", "--wheel-dir", place, source])
        self.run([sys.executable, "-m", "venv", "--without-pip", venv])
        self.python = venv / "bin/python"
        self.site = pathlib.Path(
            self.run([self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        )
        (self.site / "of-the-tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.run([self.python, "-m", "pip", "install", *words, *place.glob("*.whl")])
        self.path = pathlib.Path(self.run([venv / "bin/qmail-doublebounce-formula", "path"]).strip())

    def run(self, command):
        """Run a command that sees the installed copy, and return what it prints."""
        done = subprocess.run(
            command,
            cwd=self.place,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": ""},  # which could lead to the tree
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    def files(self, configuration):
        """Return from which file Salt takes each module and the like of this project: by kind and by name."""
        return json.loads(self.run([self.python, "-c", WHERE, configuration]))


def beside(path=None):
    """
    Return where pip has put a copy that Salt would load beside the tree; ``None`` if nowhere.

    An installation without entry points brings no modules: ``make`` has made such a one once. One in the tree itself is
    what a build has left there: it stands for the tree.
    """
    for found in importlib.metadata.distributions(name="qmail-doublebounce", path=path or sys.path):
        place = pathlib.Path(found.locate_file("")).resolve()
        if found.entry_points and place != minion.REPOSITORY:
            return place
    return None


def contents(place):
    """Return the contents of all files below a directory, without what Python has compiled."""
    found = {str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if path.suffix != ".pyc"}
