"""
Keep qmail's control files that say where bounces go.

.. code-block:: yaml

    double bounces go to the sink:
      qmail_control.managed:
        - name: doublebounceto
        - value: doublebounce
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError


def managed(name, value, home="/var/qmail", control=None):
    """
    Ensure that a control file holds this value, with mode 0644 and owned by root.

    qmail-send reads it when it starts: let ``qmail_service.running`` watch this state. What somebody else had written
    there is kept, and ``restored`` puts it back.

    name
        ``doublebounceto``, ``doublebouncehost``, ``bouncefrom`` or ``bouncehost``.

    value
        The line. ``doublebounceto`` takes the part before the ``@``, ``doublebouncehost`` the part after it.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.
    """
    ret = {"name": name, "result": True, "comment": f"{name} is {value!r} already.", "changes": {}}
    try:
        changes = __salt__["qmail_control.put"](name, value, home, control, test=__opts__["test"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": f"{name} would become {value!r}."}
    return {**ret, "changes": changes, "comment": f"{name} is now {value!r}."}


def restored(name, home="/var/qmail", control=None):
    """
    Ensure that a control file is as it was before ``managed`` first wrote it, owner and mode included.

    A file that was not there is removed. One that somebody has changed since is left as it is, and reported.

    name, home, control
        As for ``managed``.
    """
    ret = {"name": name, "result": True, "comment": f"{name} holds nothing that this formula wrote.", "changes": {}}
    try:
        changes = __salt__["qmail_control.restore"](name, home, control, test=__opts__["test"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    if "left" in changes:
        return {**ret, "comment": changes["left"]}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": f"{name} would be as it was before."}
    return {**ret, "changes": changes, "comment": f"{name} is as it was before."}
