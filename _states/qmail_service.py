"""
Keep qmail-send running with the control files as they are now, and restart it only for that.

.. code-block:: yaml

    qmail-send:
      qmail_service.running:
        - watch:
          - qmail_control: doublebounceto
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

CURRENT = "qmail-send {pid} runs with the control files as they are."
IDLE = "No qmail-send runs here, and nothing was found that would start one."
UNSEEN = (
    "This system does not show which qmail-send runs (no /proc/locks), so it is unknown whether a restart is due: it "
    "is restarted only when something changes that this state watches."
)


def running(
    name,
    home="/var/qmail",
    control=None,
    queue=None,
    supervisor="auto",
    service="auto",
    timeout=60,
    settle=1,
    start=False,
    always=False,
    undo=False,
):
    """
    Ensure that qmail-send runs, and that it has read its control files as they are now.

    It is restarted if it has read something else: after a change that this state watches, after an earlier restart
    failed, or after somebody edited by hand. Otherwise it is left alone. The state succeeds when another qmail-send has
    come up and stays up. A qmail-send that is down on purpose is left down, and reported: see
    ``qmail_service.left_down``.

    name
        A name for it, for example ``qmail-send``.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    supervisor, service
        What runs qmail-send: ``provider`` and ``name`` of ``qmail_service.find``. (The word ``provider`` in a state is
        Salt's own: it would put Salt's module daemontools in the place of this one.)

    timeout
        Seconds to wait for the new process.

    settle
        Seconds that the new process must stay up: one that cannot start dies at once.

    start
        Start qmail-send even if it is down on purpose.

    always
        Restart it after every change that this state watches, even of something that it does not read when it starts.
        With ``listen`` that is one more restart at the end of the run.

    undo
        What is watched was only put back: then it is not an error if none runs and nothing is found that would start
        one. A qmail-send that is started later reads the control files as they are.
    """
    arguments = {"home": home, "control": control, "queue": queue}
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    try:
        if undo and __salt__["qmail_service.idle"](home, queue, supervisor, service):
            return {**ret, "comment": IDLE, "skip_watch": True}
        found = __salt__["qmail_service.status"](**arguments)
        if found["running"] is None:
            return {**ret, "comment": UNSEEN}
        if found["running"] and found["loaded"]:
            if not __opts__["test"]:
                __salt__["qmail_service_change.came_back"](found["pid"], home, queue)
            return {**ret, "comment": CURRENT.format(**found)}
        arguments.update({"provider": supervisor, "name": service, "timeout": timeout, "settle": settle})
        return _restart(ret, found["pid"], start, arguments)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}


def mod_watch(
    name,
    sfun=None,
    home="/var/qmail",
    control=None,
    queue=None,
    supervisor="auto",
    service="auto",
    timeout=60,
    settle=1,
    start=False,
    always=False,
    undo=False,
    **kwargs,  # Salt itself adds arguments
):
    """
    Restart qmail-send because something that ``running`` watches has changed, if that makes a restart due.

    name, home, control, queue, supervisor, service, timeout, settle, start, always, undo
        As for ``running``.

    sfun
        The state function that watches.
    """
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    if sfun not in (None, "running"):
        return {**ret, "result": False, "comment": f"qmail_service.{sfun} cannot watch; qmail_service.running can."}
    arguments = {"home": home, "control": control, "queue": queue}
    try:
        if undo and __salt__["qmail_service.idle"](home, queue, supervisor, service):
            return {**ret, "comment": IDLE, "skip_watch": True}
        found = __salt__["qmail_service.status"](**arguments)
        if found["running"] is None:
            found = __salt__["qmail_service_supervisor.find"](home, queue, supervisor, service)
        elif found["loaded"] and not always and not __opts__["test"]:  # in test mode nothing has changed yet
            return {**ret, "comment": CURRENT.format(**found)}
        arguments.update({"provider": supervisor, "name": service, "timeout": timeout, "settle": settle})
        return _restart(ret, found["pid"], start, arguments)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err)}


def _restart(ret, pid, start, arguments):
    # Also in test mode: a restart that nothing could carry out would not happen.
    asked = {key: arguments[key] for key in ("home", "queue", "provider", "name")}
    reason = __salt__["qmail_service.left_down"](**asked)
    if reason and not start:
        return {**ret, "comment": f"qmail-send is left down: {reason}. It reads the control files when it is started."}
    if pid:
        __salt__["qmail_service_startup.check"](*(arguments[key] for key in ("home", "control", "queue")))
    done = "started" if pid is None else "restarted"
    if __opts__["test"]:
        changes = {"pid": {"old": pid, "new": "another"}}
        return {**ret, "result": None, "changes": changes, "comment": f"qmail-send would be {done}."}
    # A qmail-send that comes up by itself after this check has read the files as they are: start leaves it alone.
    pids = __salt__["qmail_service.start" if pid is None else "qmail_service.restart"](**arguments)
    if not pids:
        comment = "qmail-send has come up by itself, with the control files as they are."
        return {**ret, "comment": comment, "skip_watch": True}
    return {**ret, "changes": {"pid": pids}, "comment": f"qmail-send was {done}, and {pids['new']} runs now."}
