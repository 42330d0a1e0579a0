"""
The running qmail-send: with which settings it runs, and a restart that is known to have happened.

qmail-send reads ``doublebounceto`` and ``doublebouncehost`` when it starts and at no other time, so a restart is due
exactly when it started before one of them last changed.
"""

import time

from salt.exceptions import CommandExecutionError

STAYS_UP = 1.0  # seconds that a new process must live; one that cannot read its control files dies at once


def status(home="/var/qmail", control=None, queue=None):
    """
    Return the state of qmail-send: a dict with ``running``, ``pid``, ``since`` and ``loaded``.

    ``since`` is when it started, in seconds since the epoch. ``loaded`` is ``True`` where the running qmail-send has
    read the control files as they are now, ``False`` where one of them changed after it started (a restart is due) or
    none runs, ``None`` where that cannot be told.

    Raises CommandExecutionError where it cannot be told whether qmail-send runs.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.status
    """
    pid = __salt__["qmail_process.find"](home, queue)
    if pid is None:
        return {"running": False, "pid": None, "since": None, "loaded": False}
    since = __salt__["qmail_process.since"](pid)
    return {"running": True, "pid": pid, "since": since, "loaded": since >= _changed(home, control)}


def restart(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", timeout=60):
    """
    Restart qmail-send, or start it where it does not run, and return its process ids: ``{"old": …, "new": …}``.

    It has worked when another process runs the queue and stays up; what the restart command says of itself does not
    count. Mail in flight is waited for.

    Raises CommandExecutionError where qmail-send has not come back within the timeout; the message tells whether the
    old one still waits for its deliveries, and how many these are.

    home, control, queue
        As for ``status``.

    provider, name
        What runs qmail-send: see ``qmail_supervisor.find``.

    timeout
        Seconds to wait for the new process.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.restart
    """
    deadline = time.monotonic() + timeout
    old = __salt__["qmail_process.find"](home, queue)
    verb = "start" if old is None else "restart"
    __salt__[f"qmail_supervisor.{verb}"](home, provider, name, timeout)
    new = _wait_for_another(old, home, queue, deadline)
    return {"old": old, "new": new}


def _changed(home, control):
    """Return when the newest of the files changed that say where double bounces go, rounded down to a clock tick."""
    names = ["doublebounceto", "doublebouncehost"]
    if __salt__["qmail_control.value"]("doublebouncehost", home, control)["source"] != "file":
        names.append("me")  # stands in for the missing one
    paths = (__salt__["qmail_control.path"](name, home, control) for name in names)
    newest = max(__salt__["qmail_file.changed"](path) or 0 for path in paths)
    # The start of a process is known to the tick; within one tick the file was there first, as when both are scripted.
    return newest - __salt__["qmail_process.tick"]()


def _wait_for_another(old, home, queue, deadline):
    candidate, seen = None, 0.0
    while True:
        pid = __salt__["qmail_process.find"](home, queue)
        now = time.monotonic()
        if pid != candidate:
            candidate, seen = pid, now
        if pid not in (None, old) and now - seen >= STAYS_UP:
            return pid
        if now >= deadline and (pid in (None, old) or now - seen >= STAYS_UP):
            raise CommandExecutionError(_why_not(old, pid))
        time.sleep(0.05)


def _why_not(old, pid):
    if pid is None:
        return (
            "qmail-send has not come back after the restart: no mail is delivered. Its log tells why; "
            "start it by hand, and run this again."
        )
    return (
        f"qmail-send {old} still runs: it waits for {__salt__['qmail_process.in_flight'](old)} deliveries in flight, "
        "and starts nothing new. Leave it. When it has ended, run this again; service:timeout is how long to wait."
    )
