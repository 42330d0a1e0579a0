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

    The address's own dot-qmail file is found as qmail finds it, on Plesk, vpopmail and plain qmail. What somebody else
    had written there is kept, and ``restored`` puts it back. If mail for the address would not end there, the state
    fails and nothing is written.

    name
        The whole address.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5). ``"#"`` makes mail vanish without a shell.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    mailbox
        Who makes a missing mailbox: ``auto``, ``dotqmail`` or ``plesk``; see ``qmail_mailbox.write``.
    """
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    changes = {}
    try:
        __salt__["qmail_mailbox_sink.contents"](instruction)  # before Plesk makes a mailbox in vain
        changes.update(__salt__["qmail_mailbox.make"](name, home, control, mailbox, test=__opts__["test"]))
        write = __salt__["qmail_mailbox.write"]
        changes.update(write(name, instruction, home, control, mailbox, test=__opts__["test"]))
        meant = __salt__["qmail_mailbox.meaning"](name, instruction, home, control)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "changes": changes, "skip_watch": True}
    done = "given to a program" if meant["fate"] == "unknown" else meant["fate"]
    if not changes:
        return {**ret, "comment": f"Mail for {name} is {done} already, by {meant['exact']}."}
    if not __opts__["test"]:
        return {**ret, "changes": changes, "comment": f"Mail for {name} is now {done}, by {meant['exact']}."}
    comment = f"Mail for {name} would be {done}, by {meant['exact']}."
    if "mailbox" in changes:  # only Plesk knows where its file will be
        comment = f"Plesk would make the mailbox, and mail for {name} would be {done}."
    return {**ret, "result": None, "changes": changes, "comment": comment}


def restored(name, address=None, home=None):
    """
    Ensure that the dot-qmail files of sinks are as they were before, owner and mode included.

    A file that was not there is removed. One that somebody has changed since is left as it is, and reported.

    name
        The address; or, without an ``@``, your words for what is undone.

    address
        The address, if ``name`` is not one; ``None`` for every address that was made a sink on this machine.

    home
        Only sinks that were made for the qmail in this directory, and those for which that is not known.
    """
    address = name if address is None and "@" in name else address
    ret = {"name": name, "result": True, "comment": "No mailbox holds anything that this formula wrote.", "changes": {}}
    try:
        sinks = __salt__["qmail_mailbox_former.sinks"](address, home)
        done = __salt__["qmail_mailbox_former.restore"]([sink["path"] for sink in sinks], test=__opts__["test"])
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    return _told(ret, done, "The mailbox")


def given_back(name, but=None, home="/var/qmail", control=None, queue=None, supervisor="auto", service="auto"):
    """
    Ensure that only the wanted one of the mailboxes that were made sinks for a qmail is a sink now.

    The dot-qmail files of the others are put back as they were before, as ``restored`` does it, as soon as qmail-send
    runs with the control files as they are now; until then they stay sinks, which is reported. Let this state require
    ``qmail_service.running``. A mailbox that Plesk made stays: remove it in Plesk.

    name
        Your words for what is given back.

    but
        The address whose mailbox stays a sink; ``None`` if none does.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    supervisor, service
        What runs qmail-send, as for ``qmail_service.running``.
    """
    ret = {"name": name, "result": True, "comment": "This formula made no other mailbox a sink.", "changes": {}}
    test = __opts__["test"]
    try:
        sinks = __salt__["qmail_mailbox_former.others"](but, home, control)
        if not sinks:
            return ret
        addresses = {sink["path"]: sink["address"] for sink in sinks}
        unready = __salt__["qmail_mailbox_former.unready"](home, control, queue, supervisor, service, test)
        if unready:
            return {**ret, "comment": f"{_words(addresses.values())} stays a sink until a later run: {unready}."}
        done = __salt__["qmail_mailbox_former.restore"](list(addresses), test=test)
        plesks = [address for address in addresses.values() if _is_plesks(address, home)]
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    given = [addresses[path] for path, change in done.items() if not _is_left(change)]
    told = _told(ret, done, f"The mailbox of {_words(given)}")
    if plesks:
        told["comment"] += f" If Plesk made {_words(plesks)} only for this, remove it in Plesk."
    return told


def _words(addresses):
    return ", ".join(sorted(set(addresses)))


def _is_plesks(address, home):
    return __salt__["qmail_mailbox_plesk.runs"](address.rpartition("@")[2].lower(), home)


def _is_left(change):
    return "left" in change or "failed" in change


def _told(ret, done, what):
    """Report what was put back, what is left because somebody has changed it, and what cannot be put back."""
    if not done:
        return ret
    changes = {path: change for path, change in done.items() if not _is_left(change)}
    left = [change["left"] for change in done.values() if "left" in change]
    failed = [change["failed"] for change in done.values() if "failed" in change]
    result, verb = (None, "would be") if __opts__["test"] else (True, "is")
    words = [f"{what} {verb} as it was before."] if changes else []
    told = {
        **ret,
        "result": result if changes else True,
        "changes": changes,
        "comment": " ".join([*words, *left, *failed]),
    }
    return {**told, "result": False, "skip_watch": True} if failed else told
