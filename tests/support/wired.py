"""The modules that read a log, wired to each other as Salt's loader does it, with constants that a test may set."""

import importlib
import inspect
import pathlib

MODULES = pathlib.Path(__file__).parents[2] / "_modules"
LOG = [
    importlib.import_module(f"_modules.{path.stem}")
    for pattern in ("qmail_log*.py", "qmail_base_*.py")
    for path in sorted(MODULES.glob(pattern))
]


def wired():
    """Return what the fixture configure_loader_modules returns: each module with the public functions of all."""
    salt = {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in LOG
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    return {module: {"__salt__": salt} for module in LOG}
