"""A minion of the tests' own: what it reads and writes lies below one directory, whatever Salt this machine has."""

import json
import pathlib
from unittest import mock

import salt.config

# Seconds for each process that looks for a function in vain: idem has all other modules loaded before it says that it
# is not there, and what vsphere imports compiles a grammar.
WITHOUT = {"disable_modules": ["idem", "vsphere"]}
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# What Salt serves: _modules, _states and the like, whichever there are, and the SLS.
SERVED = (*sorted(path.name for path in REPOSITORY.glob("_[!_]*")), "qmail-doublebounce")


def configure(place, **more):
    """
    Write the configuration of a masterless minion that serves this repository, and return its path.

    Salt takes the directory of this file for minion.d and grains, and puts ``root_dir`` in front of its cache, keys,
    sockets and logs. What it does neither with is named here: its defaults are /srv and /var/cache.
    """
    place = pathlib.Path(place)
    options = {
        "id": "test",
        "root_dir": str(place),
        "file_client": "local",
        "module_dirs": [str(REPOSITORY)],
        "log_level": "error",
        **WITHOUT,
        **roots(place),
        "file_roots": {"base": [str(linked(place / "states"))]},
        "extension_modules": str(place / "extmods"),
        "utils_dirs": [str(place / "extmods/utils")],
    }
    return write(place / "etc/minion", {**options, **more})


def linked(states):
    """
    Lay out what a file server serves of this repository, and return the directory.

    Links, rather than the repository itself: a file server walks all of it at each run, .tox and .venv included.
    """
    states.mkdir(parents=True, exist_ok=True)
    for name in SERVED:
        if not (states / name).is_symlink():
            (states / name).symlink_to(REPOSITORY / name)
    return states


def roots(place):
    """Return what every minion needs to read nothing of /srv, and to keep nothing in /var/lib."""
    return {
        "file_roots": {"base": [str(place / "states")]},
        "pillar_roots": {"base": [str(place / "pillar")]},
        "thorium_roots": {"base": [str(place / "thorium")]},
        "winrepo_dir": str(place / "winrepo"),
        "winrepo_dir_ng": str(place / "winrepo-ng"),
        "qmail_file.kept_directory": str(place / "kept"),
    }


def options(place, **more):
    """
    Return the options of such a minion, as Salt's loaders take them.

    As with salt-call, a state has the pillar that was read at the start, and does not read it again for twice its time.
    But an empty one would be read each time, so there is something in it that nobody asks for.
    """
    place = pathlib.Path(place)
    write(place / "pillar/top.sls", {"base": {"*": ["nothing"]}})
    write(place / "pillar/nothing.sls", {"nothing": "of interest"})
    return {**salt.config.minion_config(str(configure(place, **more))), "__cli": "salt-call"}


def loaders(opts):
    """
    Return pytest-salt-factories' loaders for such options.

    They would first copy what the file server has, for some seconds: Salt finds the same in the repository itself.
    """
    from saltfactories.utils import functional  # the demo has a minion, too, and no pytest

    with mock.patch.object(functional.Loaders, "modules"):
        return functional.Loaders(opts)


def write(path, value):
    """Write a file as Salt reads it: JSON is YAML. Return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")
    return path
