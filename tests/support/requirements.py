"""
Print what setup.cfg says has to be installed for the project, or for one of its extras, a line each:

    python3 -m tests.support.requirements [EXTRA]

For ``make``, which installs that and not the project: tests and demo take the modules from the tree, and Salt would
find those of an installed copy, too.
"""

import configparser
import pathlib
import sys

SETUP = pathlib.Path(__file__).resolve().parents[2] / "setup.cfg"


def of(extra=None):
    """Return the requirements as a list of lines; ``None`` for those of the project itself."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(SETUP, encoding="utf-8")
    text = config["options.extras_require"][extra] if extra else config["options"]["install_requires"]
    return text.strip().splitlines()


if __name__ == "__main__":
    print("\n".join(of(*sys.argv[1:])))
