"""
Which unit of systemd runs qmail-send, even if its name is not a usual one, such as ``qmail@mx.service``.

The control group of the process shows it. When the process has ended, nothing shows it any more, so it is recorded
beside the record of ``qmail_service_loaded`` before anything is ended.
"""

import os
import re

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

UNIT = "unit"  # the file that holds its name
LARGEST = 1 << 16  # bytes of a script or unit that are searched


def of(pid, home="/var/qmail"):
    """
    Return the unit that a qmail-send belongs to; ``None`` if it belongs to none, or only to that of a program that
    started it by hand: salt-minion, cron.

    pid
        The process id of qmail-send.

    home
        The qmail home directory.

    For ``qmail_service_supervisor``.
    """
    name = __salt__["qmail_base_process.unit"](pid) if __salt__["qmail_service_systemd.booted"]() else None
    if name is None:
        return None
    for usual in __salt__["qmail_service_systemd.units"]():
        if name == __salt__["qmail_service_systemd.full"](usual):
            return usual
    try:
        path = __salt__["qmail_service_systemd.status"](name)["file"]
    except CommandExecutionError:
        return None  # one of a user's own systemd
    return name if "qmail" in name or tells_of(home, path) else None


def tells_of(home, path):
    """
    Return whether a script or unit belongs to a home: it is in it, or names it.

    home
        The qmail home directory.

    path
        The file, or ``None``.

    For ``qmail_service_supervisor``.
    """
    home = home.rstrip("/")
    if not path or path.startswith(f"{home}/"):
        return bool(path)
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            text = file.read(LARGEST)
    except OSError:
        return False
    # Not as part of a longer name: /opt/qmail2, /opt/qmail.old and /srv/opt/qmail are other homes than /opt/qmail.
    return bool(re.search(rf"(?<![\w.-]){re.escape(home)}(?![\w-]|\.\w)", text))


def recall(home="/var/qmail", queue=None):
    """
    Return the recorded unit of another name that last ran the qmail-send of a queue; ``None`` if none was recorded, or
    if systemd does not run this system.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service_supervisor``.
    """
    if not __salt__["qmail_service_systemd.booted"]():
        return None
    directory = __salt__["qmail_service_loaded.directory"](home, queue)
    try:
        with open(os.path.join(directory, UNIT), encoding="utf-8") as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def remember(name, home="/var/qmail", queue=None):
    """
    Record the unit of a qmail-send, if its name is not one that is looked for anyway.

    Raises CommandExecutionError if that cannot be written: when qmail-send has ended, nothing else would show it.

    name
        The unit; ``None`` if something else runs it.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service_change``.
    """
    other = None if name in __salt__["qmail_service_systemd.units"]() else name
    if other != recall(home, queue):
        __salt__["qmail_service_loaded.note"](UNIT, other and f"{other}\n", home, queue)
