"""
What the running qmail-send has read from its control files, as far as that can be known.

After a successful restart it is known for certain, and recorded: which process, and which values. Clocks do not matter
for that. The record is beside what ``qmail_file`` keeps, under the path of ``sendmutex``, and is valid for that one
process. For any other process, its start is compared with the newest change of the files: by our own account of when we
wrote them, in which clocks do not matter either, then by the clock.
"""

import contextlib
import json
import os

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

READ = ("doublebounceto", "doublebouncehost")


def current(pid, home="/var/qmail", control=None, queue=None):
    """
    Return whether a qmail-send has read the control files as they are now; ``None`` if it no longer runs.

    By the record, a process that was told to end has not: it starts nothing new. By the clock, a file may have changed
    within the tick in which the process started.

    pid
        The process id of qmail-send.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    For ``qmail_service`` and ``qmail_service_change``.
    """
    record = recall(home, queue)
    if record and record["process"] == __salt__["qmail_base_process.identity"](pid):
        return record["values"] == values(home, control)
    begun = __salt__["qmail_base_process.begun"](pid)
    if begun is not None and begun + __salt__["qmail_base_process.tick"]() < _wrote(home, control):
        return False
    since = __salt__["qmail_base_process.since"](pid)
    return None if since is None else since + __salt__["qmail_base_process.tick"]() >= _changed(home, control)


def values(home="/var/qmail", control=None):
    """
    Return the values of the control files that qmail-send reads only when it starts, by their names.

    home, control
        As for ``current``.

    For ``qmail_service_change``.
    """
    return {name: __salt__["qmail_control.value"](name, home, control)["value"] for name in READ}


def recall(home="/var/qmail", queue=None):
    """
    Return what was last recorded for a queue: a dict with ``process``, ``values`` and ``by``; ``{}`` if nothing was.

    ``process`` is what ``qmail_base_process.identity`` returned, ``values`` what it has read; ``None`` for a process
    that was told to end, and that nothing else starts again. ``by`` is the provider and the name that restarted it.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service`` and ``qmail_service_change``.
    """
    try:
        with open(os.path.join(directory(home, queue), "loaded"), encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}  # without a record, clocks decide
    known = isinstance(record, dict) and {"process", "values"} <= set(record) <= {"process", "values", "by"}
    return {"by": None, **record} if known else {}  # an older one does not say by what


def expected(home="/var/qmail", queue=None):
    """
    Return the id of the process that was last recorded, if it still runs; ``None`` otherwise.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service``.
    """
    process = str(recall(home, queue).get("process"))
    pid = process.split()[1] if process.count(" ") == 2 else ""
    known = pid.isdecimal() and __salt__["qmail_base_process.identity"](pid) == process
    return int(pid) if known else None


def remember(process, values, home="/var/qmail", queue=None, by=None):
    """
    Record what a process has loaded; ``None`` for the process means that nothing is known any more.

    Raises CommandExecutionError if that cannot be written.

    process
        As ``qmail_base_process.identity`` returns it.

    values
        What it has read, as ``values`` returns it; ``None`` for a process that was told to end.

    home, queue
        As for ``qmail_base_process.find``.

    by
        A list of the provider and the name that restarted it: these are right for as long as it runs.

    For ``qmail_service_change``.
    """
    record = {"process": process, "values": values, "by": by}
    note("loaded", None if process is None else json.dumps(record), home, queue)


def note(name, text, home="/var/qmail", queue=None):
    """
    Write a text beside the record, as a whole or not at all.

    Raises CommandExecutionError if that cannot be written.

    name
        The name of its file.

    text
        The text; ``None`` removes the file.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service_directory`` and ``qmail_service_unit``.
    """
    where = os.path.join(directory(home, queue, make=True), name)
    try:
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where)
            return
        new = f"{where}.new-{os.getpid()}"  # two runs at once may write the same
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(new, where)
    except OSError as err:
        raise CommandExecutionError(f"Cannot write {where}: {__salt__['qmail_base_refusal.told'](err)}") from err


def directory(home="/var/qmail", queue=None, make=False):
    """
    Return the directory of the record.

    home, queue, make
        As for ``qmail_service.directory``, which documents all of it.

    For ``qmail_service``, ``qmail_service_change``, ``qmail_service_directory`` and ``qmail_service_unit``.
    """
    return __salt__["qmail_file.store"](os.path.realpath(__salt__["qmail_base_process.mutex"](home, queue)), make)


def _wrote(home, control):
    """Return when at the latest we wrote one of these files ourselves: clocks do not matter for that."""
    try:
        return max(__salt__["qmail_file.moment"](path) or 0 for path in _paths(READ, home, control))
    except CommandExecutionError:
        return 0  # whoever may not look at our account has the clock


def _paths(names, home, control):
    """List the paths of control files: as they are spelled today, and as they were when we wrote them."""
    paths = [__salt__["qmail_control.path"](name, home, control) for name in names]
    try:
        known = [one["path"] for one in __salt__["qmail_file.written"]()]
    except CommandExecutionError:
        known = []
    return [*paths, *(one for one in known if one not in paths and _is_among(one, paths))]


def _is_among(path, others):
    return any(__salt__["qmail_base_path.is_one"](path, other) for other in others)


def _changed(home, control):
    """Return the newest change of the files that say where double bounces go."""
    names = [*READ]
    if __salt__["qmail_control.value"]("doublebouncehost", home, control)["source"] != "file":
        names.append("me")  # stands in for the missing one
    return max(_latest(__salt__["qmail_file.changed"](path) or 0) for path in _paths(names, home, control))


def _latest(changed):
    """Return when at the latest a file was changed: ext3, and ext4 with small inodes, keep no fraction of a second."""
    return changed + 1 if changed == int(changed) else changed
