"""
Ask PyPI's database about known problems of all that is installed beside this Python:

    python3 -m tests.support.audit [--where-possible] [OPTION OF PIP-AUDIT...]

It fails for each known problem, as pip-audit does, and where the database does not answer. With ``--where-possible``
the latter is said, and is no failure: ``make lint`` works without network.
"""

import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from tests.support import left_out

# What pip-audit asks for each package. A mirror often has the packages, and not this.
DATABASE = "https://pypi.org/pypi/pip/24.0/json"
PATIENCE = 15  # seconds
NOT_THERE = {"qmail-doublebounce", left_out.NAME}  # what the database cannot know


def silence(database=DATABASE):
    """Return why the database does not answer, or ``None`` if it does."""
    try:
        with urllib.request.urlopen(database, timeout=PATIENCE) as answer:
            answer.read(1)
    except (OSError, urllib.error.URLError) as err:
        return f"{database}: {err}"
    return None


def installed():
    """Return what is installed as requirements, each with its version."""
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in NOT_THERE]


def ask(requirements, *options):
    """Have pip-audit look requirements up; it shows what it finds. Return its exit status."""
    with tempfile.TemporaryDirectory(prefix="qmail-") as place:
        path = pathlib.Path(place) / "installed"
        path.write_text("\n".join(requirements))
        command = [sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--no-deps", "--requirement", path]
        return subprocess.run([*command, "--progress-spinner=off", *options], check=False).returncode


def main(*options, database=DATABASE):
    options = list(options)
    is_optional = "--where-possible" in options
    if is_optional:
        options.remove("--where-possible")
    names, why = installed(), silence(database)
    if not why:
        return ask(names, *options)
    said = f"Not asked for known problems of the {len(names)} packages in .venv, as there is no answer from {why}."
    if not is_optional:
        return said
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
