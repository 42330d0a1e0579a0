"""
The formula as a Salt extension: where Salt finds its modules, and where a master finds its SLS.

The directory of an installed copy is laid out as a checkout is: ``_modules``, ``_states`` and the like beside
``qmail-doublebounce``. So it can be one of ``file_roots``, and it is what ``salt-call -m`` takes.
"""

import pathlib
import re

FORMULA = "qmail-doublebounce"
VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def path():
    """
    Return the directory that holds the formula and its modules, as a ``pathlib.Path``.

    In a checkout, and where that was installed with ``pip install --editable``, it is the checkout.
    """
    here = pathlib.Path(__file__).resolve().parent
    return here if (here / FORMULA).is_dir() else here.parent


def version():
    """Return the version, as the modules themselves have it."""
    return VERSION.search((path() / "_modules/qmail_doublebounce.py").read_text(encoding="utf-8"))[1]


def loader_directories():
    """
    Return the directories of modules by Salt's name for their kind: what an entry point of the group ``salt.loader``
    returns (``salt.loader._module_dirs``).
    """
    return {folder.name[1:]: [str(folder)] for folder in sorted(path().glob("_[!_]*")) if folder.is_dir()}
