"""
The account of a server's double bounces on its disk: what was counted since it began, and where to go on in the log.

There is one for each queue, beside the records about its qmail-send (``qmail_service.directory``), for the alarm and
the metrics together: whoever comes first counts on, and nothing is counted twice. An account that is damaged, or that
another version of this project wrote, is set aside, and counting begins again: the account says so.
"""

import contextlib
import logging
import os
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

VERSION = 1
NAME = "account"
KEPT = ("began", "instead", "asked", "process", "log")


class _DamagedError(Exception):
    """An account that is one by its form, and holds what cannot be."""


def read(qmail, patience=0, limit=2**22, seconds=1, test=False):
    """
    Count on in the log, and return the account: a dict with

    - ``log``: what ``qmail_log.tally`` returned; ``None`` if nothing could be counted yet;
    - ``reason``: why nothing could be counted now; ``None`` if it was;
    - ``began``: when counting began, in seconds since the epoch, and ``instead``: why an account from before was set
      aside then; ``None`` if there was none;
    - ``read``: how many bytes were read now, and ``behind``: whether there is more;
    - ``is_busy``: whether somebody else is counting right now: then it is the account of a moment ago.

    Raises CommandExecutionError if the account cannot be read or written.

    qmail
        The settings under ``qmail``.

    patience
        Seconds to wait for somebody else who is counting.

    limit, seconds
        Read about this many bytes at most, and for about this long.

    test
        Write nothing.

    For ``qmail_doublebounce_metrics`` and ``qmail_doublebounce_reading``.
    """
    path = place(qmail, NAME, make=not test)
    if test:
        return _read(path, qmail, limit, seconds, True)
    lock = __salt__["qmail_base_record.lock"](path, patience)
    if lock is None:
        return {**_known(path, True), "is_busy": True}
    try:
        return _read(path, qmail, limit, seconds, False)
    finally:
        os.close(lock)


def place(qmail, name, make=True):
    """
    Return the path of a record about the qmail-send of a queue.

    Raises CommandExecutionError if its directory cannot be made.

    qmail
        The settings under ``qmail``.

    name
        Its name.

    make
        Make the directory if it is missing, open to nobody else.

    For ``qmail_doublebounce_alarm``.
    """
    return os.path.join(__salt__["qmail_service.directory"](qmail["home"], qmail["queue"], make), name)


def _read(path, qmail, limit, seconds, test):
    before = _known(path, test)
    try:
        after = _counted(before, qmail, limit, seconds)
    except _DamagedError as err:
        after = _counted(_fresh(_set_aside(path, str(err), test)), qmail, limit, seconds)
    kept = {name: after[name] for name in KEPT}
    if not test and after["log"] is not None and kept != {name: before[name] for name in KEPT}:
        __salt__["qmail_base_record.save"](path, {"version": VERSION, **kept})
    return {**after, "is_busy": False}


def _known(path, test):
    """The account on disk, or an empty one."""
    nothing = _fresh(None)
    try:
        record = __salt__["qmail_base_record.load"](path, VERSION)
        if record is not None and not _is_account(record):
            raise CommandExecutionError(f"{path} is damaged: it lacks something.")
    except CommandExecutionError as err:
        if not os.path.lexists(path):
            raise
        return _fresh(_set_aside(path, str(err), test))
    return {**nothing, **(record or {})}


def _is_account(record):
    return (
        isinstance(record.get("began"), int)
        and isinstance(record.get("log"), dict)
        and isinstance(record.get("asked"), str)
        and isinstance(record.get("process"), (str, type(None)))
        and isinstance(record.get("instead"), (str, type(None)))
    )


def _set_aside(path, reason, test):
    told = f"{reason} It is {path}.damaged now."
    if not test:
        try:
            os.rename(path, f"{path}.damaged")
        except OSError as err:
            raise CommandExecutionError(f"{reason} Remove it: {__salt__['qmail_base_refusal.told'](err)}") from err
        log.warning("%s", told)
    return told


def _counted(before, qmail, limit, seconds):
    """Return the account with what is new; with the reason, if that cannot be read."""
    process = _process(qmail)
    # Another qmail-send may write another log.
    again = before["asked"] != qmail["log"] or (process is not None and process != before["process"])
    asked = {"home": qmail["home"], "queue": qmail["queue"], "path": qmail["log"]}
    try:
        again = again or not _is_there(before["log"])
        found = __salt__["qmail_log.tally"](before["log"], **asked, limit=limit, seconds=seconds, again=again)
    except SaltInvocationError as err:
        if before["log"] is None or not str(err).startswith(("account", "where=")):
            return {**before, "reason": str(err)}
        raise _DamagedError(str(err)[:200]) from err
    except CommandExecutionError as err:
        return {**before, "reason": str(err)}
    process = process or before["process"]
    read = {name: found.pop(name) for name in ("read", "behind")}
    return {**before, "asked": qmail["log"], "process": process, "log": found, "reason": None, **read}


def _fresh(reason):
    """An account in which nothing was counted, and why there is none from before."""
    nothing = {"asked": None, "process": None, "log": None, "reason": None, "read": 0, "behind": False}
    told = reason and f"{reason[:300]} Counting began again."
    return {**nothing, "began": int(time.time()), "instead": told}


def _is_there(account):
    """Return whether the log of an account is where it was."""
    path = account["position"].get("path") if account and isinstance(account.get("position"), dict) else None
    return not isinstance(path, str) or not path.startswith("/") or os.path.exists(path)


def _process(qmail):
    """The running qmail-send, by a text that no other one has; ``None`` if that is not known."""
    with contextlib.suppress(CommandExecutionError):
        pid = __salt__["qmail_base_process.find"](qmail["home"], qmail["queue"])
        return __salt__["qmail_base_process.identity"](pid) if pid else None
    return None
