"""
The copies of this project's modules on this minion: Salt takes each module from the first place that has it.

The places, in Salt's order (``salt.loader._module_dirs``): ``salt-call -m``, what ``saltutil.sync_all`` brought, and
what pip installed. Before Salt 3006.7 what pip installed came before what was synced (Salt's changelog, #65938).
"""

import importlib.util
import os
import re

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

PACKAGE = "qmail_doublebounce_formula"
FACE = "qmail_doublebounce.py"
VERSION = re.compile(r'^__version__ = "([^"\n]{1,40})"$', re.MULTILINE)


def found():
    """
    Return the copies, as a list of dicts with ``directory`` and ``version`` (``None`` if it does not say one), the one
    that runs first.

    Raises OSError if one cannot be read.

    For ``qmail_doublebounce_advice``.
    """
    places = [
        os.path.dirname(__file__),
        os.path.join(__opts__.get("extension_modules") or "", "modules"),
        *_installed(),
    ]
    real = dict.fromkeys(os.path.realpath(place) for place in places)
    return [
        {"directory": place, "version": _version(place)} for place in real if os.path.isfile(os.path.join(place, FACE))
    ]


def _installed():
    """Return where pip has put the modules: in the package, or beside it, if that is installed as editable."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        return []
    return [
        os.path.join(place, part, "_modules")
        for place in (spec.submodule_search_locations if spec else None) or []
        for part in ("", os.pardir)
    ]


def _version(place):
    with open(os.path.join(place, FACE), encoding="utf-8", errors="replace") as file:
        said = VERSION.search(file.read(65536))
    return said[1] if said else None
