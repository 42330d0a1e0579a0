"""What the libraries that the tests run on would do again and again, to no avail."""

import contextlib
import functools
import os

import salt.crypt
import salt.loader.lazy
import salt.syspaths
import salt.utils.entrypoints

DAY = 24 * 60 * 60
# What hypothesis asks the arguments of a test for; no loader has it.
ASKED = ("hypothesis_internal_is_this_a_mock_check", "execute_example", "setup_example", "teardown_example")


def spare():
    """Have this process do without."""
    # It looks every half second for what is installed. Nothing is while tests run, or it has a place of its own.
    salt.utils.entrypoints.iter_entry_points.__wrapped__.delta = DAY
    for kind in (salt.loader.lazy.LazyLoader, salt.loader.lazy.LoadedMod):
        kind.__getattr__ = _without_looking(kind.__getattr__)
    # A state makes some twenty loaders, each of which looks at all files of Salt.
    kind = salt.loader.lazy.LazyLoader
    kind._refresh_file_mapping = _as_before(kind._refresh_file_mapping)
    # And each of them asks whether there are any options, for which Salt 3008 counts all of them, one by one.
    with contextlib.suppress(ImportError):
        from salt.utils.optsdict import OptsDict

        OptsDict.__bool__ = lambda self: bool(self._base or self._local or self._parent)
    # Each request to a master reads the minion's key again, which takes as long as the rest of it.
    keys = salt.crypt.serialization
    keys.load_pem_private_key = functools.lru_cache(maxsize=None)(keys.load_pem_private_key)


def _without_looking(get):
    """Return what does not load all of Salt to find that no module has such a name."""

    def asked(self, name):
        if name in ASKED:
            raise AttributeError(name)
        return get(self, name)

    return asked


def _as_before(refresh):
    """Return what finds the files of a loader again where nothing was added and nothing removed."""
    known = {}

    def refreshed(self):
        key = tuple(map(_seen, self.module_dirs)), tuple(self.disabled), tuple(self.static_modules)
        if key not in known:
            refresh(self)
            known[key] = self.suffix_map, self.suffix_order, self.file_mapping
        self.suffix_map, self.suffix_order, self.file_mapping = (found.copy() for found in known[key])

    return refreshed


def _seen(directory):
    """Return what distinguishes a directory: Salt's own stays as it is."""
    if directory.startswith(f"{salt.syspaths.INSTALL_DIR}{os.sep}"):
        return directory
    try:
        return directory, *os.listdir(directory)
    except OSError:
        return directory
