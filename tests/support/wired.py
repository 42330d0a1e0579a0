"""The modules that read a log, wired to each other as Salt's loader does it, with constants that a test may set."""

import inspect

from _modules import (
    qmail_check,
    qmail_logage,
    qmail_logblock,
    qmail_logfile,
    qmail_logform,
    qmail_logjournal,
    qmail_logline,
    qmail_logpart,
    qmail_logtime,
    qmail_logtrail,
    qmail_process,
)

LOG = (
    qmail_check,
    qmail_logage,
    qmail_logblock,
    qmail_logfile,
    qmail_logform,
    qmail_logjournal,
    qmail_logline,
    qmail_logpart,
    qmail_logtime,
    qmail_logtrail,
    qmail_process,
)


def wired(modules=LOG):
    """Return what the fixture configure_loader_modules returns: each module with the public functions of all."""
    salt = {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    return {module: {"__salt__": salt} for module in modules}
