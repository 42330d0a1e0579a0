"""What the libraries that the tests run on would do again and again, to no avail."""

import salt.loader.lazy
import salt.utils.entrypoints

DAY = 24 * 60 * 60


def spare():
    """Have this process do without."""
    # It looks every half second for what is installed. Nothing is while tests run, or it has a place of its own.
    salt.utils.entrypoints.iter_entry_points.__wrapped__.delta = DAY
    for kind in (salt.loader.lazy.LazyLoader, salt.loader.lazy.LoadedMod):
        kind.__getattr__ = _without_mocks(kind.__getattr__)


def _without_mocks(get):
    """hypothesis asks each argument for an attribute that only mocks have: a loader would load all of Salt for it."""

    def asked(self, name):
        if name.startswith("hypothesis_"):
            raise AttributeError(name)
        return get(self, name)

    return asked
