"""
Keep the sink: the mailbox in which double bounces vanish.

.. code-block:: yaml

    doublebounce@example.com:
      qmail_mailbox.sink: []
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError


def sink(name, instruction="|exit 0", home="/var/qmail", control=None, mailbox="auto"):
    """
    Ensure that mail for an address ends as the instruction says: by default, it vanishes.

    The address's own dot-qmail file is found as qmail finds it, on Plesk, vpopmail and plain qmail. What somebody
    else had written there is kept, and ``restored`` puts it back. Where mail for the address would not end there, the
    state fails and nothing is written.

    name
        The whole address.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5). ``"#"`` makes mail vanish without a shell.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    mailbox
        Who makes the mailbox where there is none: ``auto``, ``dotqmail`` or ``plesk``; see ``qmail_mailbox.write``.
    """
    ret = {"name": name, "result": True, "comment": f"{name} is the sink already.", "changes": {}}
    changes = {}
    try:
        __salt__["qmail_sink.contents"](instruction)  # before Plesk makes a mailbox for nothing
        changes.update(__salt__["qmail_mailbox.make"](name, home, control, mailbox, test=__opts__["test"]))
        write = __salt__["qmail_mailbox.write"]
        changes.update(write(name, instruction, home, control, mailbox, test=__opts__["test"]))
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "changes": changes, "skip_watch": True}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": f"{name} would become the sink."}
    return {**ret, "changes": changes, "comment": f"{name} is now the sink."}


def restored(name, address=None):
    """
    Ensure that the dot-qmail files of sinks are as they were before, owner and mode included.

    A file that was not there is removed. One that somebody has changed since is left as it is.

    name
        The address; or, without an ``@``, your words for what is undone.

    address
        The address, where ``name`` is none; ``None`` for every address that was made a sink on this machine.
    """
    address = name if address is None and "@" in name else address
    ret = {"name": name, "result": True, "comment": "No mailbox holds anything of ours.", "changes": {}}
    try:
        changes = __salt__["qmail_mailbox.restore"](address, test=__opts__["test"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": "The mailbox would be as it was before."}
    return {**ret, "changes": changes, "comment": "The mailbox is as it was before."}
