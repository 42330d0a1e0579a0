"""What the libraries that the tests run on would do again and again, to no avail."""

import salt.loader.lazy
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


def _without_looking(get):
    """Return what does not load all of Salt to find that no module has such a name."""

    def asked(self, name):
        if name in ASKED:
            raise AttributeError(name)
        return get(self, name)

    return asked
