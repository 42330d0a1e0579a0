"""What is released: the files that are tracked, when they were committed, and which of them belong into what."""

import os
import pathlib
import shutil
import subprocess

from qmail_doublebounce_formula import FORMULA

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


class Unreleasable(Exception):
    """Nothing can be released from this; the text says why, and what to do."""


def tracked(root=REPOSITORY):
    """Return the tracked files as a sorted list of paths below the repository."""
    return sorted(name for name in _git(root, "ls-files", "-z").split("\0") if name)


def committed(root=REPOSITORY):
    """Return when the last commit was made, in seconds since the epoch."""
    return int(_git(root, "log", "-1", "--format=%ct"))


def uncommitted(root=REPOSITORY):
    """Return what differs from the last commit, as git shows it: an empty text if nothing does."""
    return _git(root, "status", "--porcelain").rstrip()


def is_tagged(version, root=REPOSITORY):
    """Return whether the last commit has the tag of a version."""
    return f"v{version}" in _git(root, "tag", "--points-at", "HEAD").split()


def served(name):
    """Return whether a file belongs to what Salt serves to minions: modules, states and the like, and the SLS."""
    top, _, rest = name.partition("/")
    return bool(rest) and (top == FORMULA or top[:1] == "_")


def in_formula(name):
    """Return whether a file belongs into the SPM package: what it installs, which is no page but a README."""
    # A README without the pages that it leads to helps nobody.
    return served(name) or name in ("FORMULA", "LICENSE", "pillar.example")


def in_tarball(name):
    """Return whether a file belongs into the tarball for /srv: the same, and all pages."""
    return in_formula(name) or name.startswith("docs/") or name.endswith(".md")


def stage(names, place, when, root=REPOSITORY):
    """
    Copy files into an empty directory, as they are to be packed: whoever has checked them out, and with whatever umask.

    names
        Paths below ``root``.

    place
        The directory, which is made.

    when
        The time that all of them get, in seconds since the epoch.
    """
    for name in names:
        to = place / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, to)
        to.chmod(0o755 if os.access(root / name, os.X_OK) else 0o644)
        os.utime(to, (when, when))
    return place


def _git(root, *words):
    command = ["git", "-C", root, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unreleasable("A release is made from a git checkout, and there is no git: install it.") from None
    if done.returncode:
        raise Unreleasable(f"A release is made from a git checkout, and git says: {done.stderr.strip()}")
    return done.stdout
