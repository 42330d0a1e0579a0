"""
Check the settings before anything is done by them, and prove afterwards that double bounces end as they are meant to.

.. code-block:: yaml

    double bounces vanish:
      qmail_doublebounce.verified:
        - address: doublebounce@example.com
        - watch:
          - sls: qmail-doublebounce.service
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError


def configured(name, problems):
    """
    Ensure that the settings are right: fail with all that is wrong with them. What works by them requires this state.

    name
        What is checked, in your words.

    problems
        What ``qmail_doublebounce.settings`` with ``strict=False`` found; an empty list where all is right.
    """
    ret = {"name": name, "result": True, "comment": "The settings are right.", "changes": {}}
    if not problems:
        return ret
    comment = " ".join(["Pillar is not right.", *problems])
    return {**ret, "result": False, "comment": comment, "skip_watch": True}


def verified(
    name,
    mode="sink",
    address=None,
    instruction="|exit 0",
    home="/var/qmail",
    control=None,
    queue=None,
    log="auto",
    timeout=30,
    always=False,
):
    """
    Ensure that a double bounce ends as the mode means: a probe is queued and followed through qmail-send's log.

    That is done after a change in the same run that this state watches, or in every run with ``always``. Nothing of the
    probe is left behind. Where a program alone knows what becomes of mail, nothing can be proved, and this fails.

    name
        What is to be proved, in your words.

    mode
        ``sink``: it must end in the address's mailbox as the instruction says. ``discard``: qmail must drop it.

    address
        The whole address of the sink.

    instruction
        What the sink does with mail: a line of a dot-qmail file, or a list of lines.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    log
        The log of qmail-send: a file, a multilog directory, ``journald``, or ``auto``.

    timeout
        Seconds to wait for the end of the probe.

    always
        ``True``: in every run, not only after a change.
    """
    ret = {"name": name, "result": True, "comment": "Nothing has changed that would have to be proved.", "changes": {}}
    if not always:
        return ret
    return _prove(ret, mode, address, instruction, home, control, queue, log, timeout)


def mod_watch(
    name,
    sfun=None,
    mode="sink",
    address=None,
    instruction="|exit 0",
    home="/var/qmail",
    control=None,
    queue=None,
    log="auto",
    timeout=30,
    always=False,
    **kwargs,  # Salt itself adds to what the state was given
):
    """
    Send the probe because something that ``verified`` watches has changed; with ``always`` it has been sent already.

    name, mode, address, instruction, home, control, queue, log, timeout, always
        As for ``verified``.

    sfun
        The state function that watches.
    """
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    if sfun not in (None, "verified"):
        comment = f"qmail_doublebounce.{sfun} cannot watch; qmail_doublebounce.verified can."
        return {**ret, "result": False, "comment": comment}
    return _prove(ret, mode, address, instruction, home, control, queue, log, timeout)


def _prove(ret, mode, address, instruction, home, control, queue, log, timeout):
    given = {"mode": mode, "address": address, "instruction": instruction}
    places = {"home": home, "control": control, "queue": queue, "log": log}
    try:
        __salt__["qmail_check.arguments"](timeout=timeout)
        settings = __salt__["qmail_doublebounce.settings"]({}, **given, **places)
        expected = __salt__["qmail_proof.expected"](settings)
        if __opts__["test"]:
            return {**ret, "result": None, "comment": "A probe would be sent, and would have to end as it is meant to."}
        probe = __salt__["qmail_probe.run"](settings, timeout)
        lacks = __salt__["qmail_proof.lacks"](settings, expected, probe)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    told = f"The probe was {probe['end']} after {probe['seconds']} s. {probe['reason']} {probe['left']}".strip()
    if not lacks:
        return {**ret, "comment": told}
    return {**ret, "result": False, "comment": f"{told} {lacks}", "skip_watch": True}
