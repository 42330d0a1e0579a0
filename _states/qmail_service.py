"""
Keep qmail-send running with the control files as they are now, and restart it only for that.

.. code-block:: yaml

    qmail-send:
      qmail_service.running:
        - watch:
          - qmail_control: doublebounceto
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError


def running(name, home="/var/qmail", control=None, queue=None, provider="auto", service="auto", timeout=60):
    """
    Ensure that qmail-send runs, and that it has read its control files as they are now.

    It is restarted where it started before one of the files changed that say where double bounces go: after a change
    that this state watches, when an earlier restart failed, when somebody edited by hand. Otherwise it is left alone.
    The state succeeds when another qmail-send has come up and stays up.

    name
        A name for it, for example ``qmail-send``.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    provider, service
        What runs qmail-send: see ``qmail_supervisor.find``; ``service`` is its ``name`` there.

    timeout
        Seconds to wait for the new process.
    """
    arguments = {"home": home, "control": control, "queue": queue}
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    try:
        found = __salt__["qmail_service.status"](**arguments)
        if found["running"] and found["loaded"] is not False:
            comment = f"qmail-send {found['pid']} runs with the control files as they are."
            return {**ret, "comment": comment}
        return _restart(ret, found["pid"], {**arguments, "provider": provider, "name": service, "timeout": timeout})
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}


def mod_watch(
    name,
    sfun=None,
    home="/var/qmail",
    control=None,
    queue=None,
    provider="auto",
    service="auto",
    timeout=60,
    **kwargs,  # Salt itself adds to what the state was given
):
    """
    Restart qmail-send because something that ``running`` watches has changed.

    name, home, control, queue, provider, service, timeout
        As for ``running``.

    sfun
        The state function that watches.
    """
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    if sfun not in (None, "running"):
        return {**ret, "result": False, "comment": f"qmail_service.{sfun} cannot watch; qmail_service.running can."}
    arguments = {"home": home, "control": control, "queue": queue}
    try:
        pid = __salt__["qmail_process.find"](home, queue)
        return _restart(ret, pid, {**arguments, "provider": provider, "name": service, "timeout": timeout})
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err)}


def _restart(ret, pid, arguments):
    done = "started" if pid is None else "restarted"
    if __opts__["test"]:
        # Asked here too: a restart that nothing could carry out is not one that would happen.
        __salt__["qmail_supervisor.find"](arguments["home"], arguments["provider"], arguments["name"])
        changes = {"pid": {"old": pid, "new": "another"}}
        return {**ret, "result": None, "changes": changes, "comment": f"qmail-send would be {done}."}
    pids = __salt__["qmail_service.restart"](**arguments)
    return {**ret, "changes": {"pid": pids}, "comment": f"qmail-send was {done}, and {pids['new']} runs now."}
