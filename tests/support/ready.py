"""
Say in one line what this machine lacks for ``make``:

    python3 tests/support/ready.py [venv]

It runs under whatever Python there is, before anything is installed: no f-strings here, and nothing but os and sys
until the version is known.
"""

import os
import sys

OLDEST = (3, 10)


def lacks(version=sys.version_info, needs_venv=True, place="."):
    """
    Return what is missing, as a sentence with its remedy; ``None`` if nothing is.

    version
        That of the Python in question, as a tuple of numbers.

    needs_venv
        Whether Python's own ``venv`` and ``ensurepip`` are needed: where uv is installed, they are not.

    place
        The directory that ``.venv`` will be in.
    """
    named = ".".join(str(number) for number in version[:3])
    if tuple(version[:2]) < OLDEST:
        return "Python 3.10 or newer is needed, and this one is " + named + ". Name another: make PYTHON=python3.12 ..."
    if not os.access(place, os.W_OK):
        return os.path.abspath(place) + " is not writable, and .venv is made there. Copy it to where you can write."
    if needs_venv and not _has_venv():
        return (
            "This Python has no venv. On Debian and Ubuntu: apt install python3-venv; elsewhere install the package of "
            "Python that has ensurepip; or install uv, which needs neither."
        )
    return None


def _has_venv():
    """Debian has venv without ensurepip: the one fails because it lacks the other."""
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))


if __name__ == "__main__":
    sys.exit(lacks(needs_venv="venv" in sys.argv[1:]))
