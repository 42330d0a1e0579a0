"""The modules that read a log, wired to each other as Salt's loader does it, with constants that a test may set."""

import inspect

from _modules import (
    qmail_base_check,
    qmail_base_process,
    qmail_log_age,
    qmail_log_block,
    qmail_log_file,
    qmail_log_form,
    qmail_log_journal,
    qmail_log_line,
    qmail_log_part,
    qmail_log_time,
    qmail_log_trail,
)

LOG = (
    qmail_base_check,
    qmail_log_age,
    qmail_log_block,
    qmail_log_file,
    qmail_log_form,
    qmail_log_journal,
    qmail_log_line,
    qmail_log_part,
    qmail_log_time,
    qmail_log_trail,
    qmail_base_process,
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
