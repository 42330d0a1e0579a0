"""
Check the settings before anything is done with them, and prove afterwards that double bounces end as intended.

.. code-block:: yaml

    double bounces vanish:
      qmail_doublebounce.verified:
        - address: doublebounce@example.com
        - watch:
          - sls: qmail-doublebounce.service
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError


def configured(
    name, problems, home="/var/qmail", queue=None, supervisor="auto", service="auto", address=None, undo=False
):
    """
    Ensure that the settings are right and that this machine is as they say: fail with everything that is wrong with
    them, or with the reason why qmail-send could not be restarted here. The states that use the settings require this
    one; it touches nothing.

    name
        What is checked, in your words.

    problems
        What ``qmail_doublebounce.settings`` with ``strict=False`` found: a list of sentences, empty if everything is
        right.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    supervisor, service
        What runs qmail-send, as for ``qmail_service.running``.

    address
        The whole address of the sink; ``None`` in mode ``discard``.

    undo
        ``True`` if files are only put back: that needs no qmail-send if none runs and none would be started.
    """
    ret = {"name": name, "result": True, "comment": "The settings are right.", "changes": {}}
    failed = {**ret, "result": False, "skip_watch": True}
    problems = [problems] if isinstance(problems, str) else problems
    if not isinstance(problems, list) or not all(isinstance(problem, str) for problem in problems):
        return {**failed, "comment": f"problems is a list of sentences, not {problems!r}."}
    if problems:
        return {**failed, "comment": " ".join(["Pillar is wrong.", *problems])}
    asked = {"home": home, "queue": queue, "provider": supervisor, "name": service}
    try:
        # If Plesk runs this server without any qmail, the state of the mailbox reports that better.
        elsewhere = address is not None and __salt__["qmail_mailbox.is_without_qmail"](address, home)
        lacks = None if elsewhere else __salt__["qmail_service.missing"](**asked)
        if lacks and undo and __salt__["qmail_service.idle"](**asked):
            return {**ret, "comment": f"No qmail-send is restarted, because none runs here. {lacks}"}
    except (CommandExecutionError, SaltInvocationError) as err:
        lacks = str(err)
    return {**failed, "comment": lacks} if lacks else ret


def applied(name):
    """
    Have changes exactly if something that this state watches has changed. The formula ends with it, so that other
    states can require, watch or listen to the whole formula as ``sls: qmail-doublebounce``, which itself does no other
    work.

    name
        What has been applied, in your words.
    """
    return {"name": name, "result": True, "comment": "Nothing has changed.", "changes": {}}


def verified(
    name,
    mode="sink",
    address=None,
    instruction="|exit 0",
    home="/var/qmail",
    control=None,
    queue=None,
    log="auto",
    timeout="auto",
    always=False,
):
    """
    Ensure that a double bounce ends as the mode says: a probe is queued and followed through qmail-send's log.

    This is done after a change in the same run that this state watches, or in every run with ``always``. Nothing of the
    probe is left behind. If only a program knows what happens to mail, nothing can be proved, and this fails.

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
        Seconds to wait for the end of the probe; ``auto``: more if many messages are ahead of it in the queue, see
        ``qmail_doublebounce.probe``.

    always
        ``True``: in every run, not only after a change.
    """
    ret = {"name": name, "result": True, "comment": "Nothing has changed that needs proof.", "changes": {}}
    if not always:
        return ret
    return _prove(ret, mode, address, instruction, home, control, queue, log, timeout)


def exported(name, pillar=None, log=None, home=None, control=None, queue=None):
    """
    Ensure that a file holds the metrics of ``qmail_doublebounce.metrics`` as they are now, for node_exporter's textfile
    collector. It is replaced as a whole, with mode 0644.

    Nothing changes where no number has changed. With ``test=True`` nothing is written, also no account of what was
    counted.

    name
        The path of the file, which must end in ``.prom``: node_exporter reads no other. Its directory must exist.

    pillar, log, home, control, queue
        As for ``qmail_doublebounce.metrics``.
    """
    ret = {"name": name, "result": True, "comment": "No number has changed.", "changes": {}}
    failed = {**ret, "result": False, "skip_watch": True}
    if not isinstance(name, str) or not name.endswith(".prom"):
        return {**failed, "comment": f"name is {name!r}; allowed: an absolute path that ends in .prom."}
    test = bool(__opts__["test"])
    try:
        settings = __salt__["qmail_doublebounce.settings"](pillar, home=home, control=control, queue=queue, log=log)
        is_asked = bool(__salt__["qmail_doublebounce_settings.said"](pillar))
        found = __salt__["qmail_doublebounce_metrics.make"](settings, is_asked, test)
        changes = __salt__["qmail_file.replace"](name, found["text"], mode="0644", test=test)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**failed, "comment": str(err)}
    told = " ".join(["Some are missing:", *found["missing"]]) if found["missing"] else ""
    if not changes:
        return {**ret, "comment": " ".join(filter(None, (ret["comment"], told)))}
    changes = _told(changes)
    if test:
        return {
            **ret,
            "result": None,
            "changes": changes,
            "comment": " ".join(filter(None, ("It would change.", told))),
        }
    return {**ret, "changes": changes, "comment": " ".join(filter(None, ("It has the numbers of now.", told)))}


def _told(changes):
    """Show the lines that have changed, rather than two whole texts."""
    if "contents" not in changes:
        return changes
    pair = changes.pop("contents")
    old, new = ([] if one is None else one.decode().splitlines() for one in (pair["old"], pair["new"]))
    lines = {
        "old": [line for line in old if line not in new],
        "new": [line for line in new if line not in old and not line.startswith("#")],
    }
    return {"metrics": lines, **changes}


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
    timeout="auto",
    always=False,
    **kwargs,  # Salt itself adds arguments
):
    """
    Send the probe because something that ``verified`` watches has changed; with ``always`` it has been sent already.
    For ``applied``, report what has changed; ``configured`` and ``exported`` are done already.

    name, mode, address, instruction, home, control, queue, log, timeout, always
        As for ``verified``.

    sfun
        The state function that watches.
    """
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    if sfun == "configured":
        return {**ret, "comment": "The settings are right."}
    if sfun == "exported":
        return {**ret, "comment": "It has the numbers of now."}
    if sfun == "applied":
        return _changed(ret, kwargs.get("__reqs__", {}).get("watch", []))
    return _prove(ret, mode, address, instruction, home, control, queue, log, timeout)


def _changed(ret, watched):
    # The key under which Salt keeps the result of a state.
    keys = {"_|-".join(low[part] for part in ("state", "__id__", "name", "fun")): low["__id__"] for low in watched}
    changed = [title for key, title in keys.items() if __running__.get(key, {}).get("changes")]
    result, comment = (None, "This would change.") if __opts__["test"] else (True, "This has changed.")
    return {**ret, "result": result, "comment": comment, "changes": {"changed": changed}}


def _prove(ret, mode, address, instruction, home, control, queue, log, timeout):
    given = {"mode": mode, "address": address, "instruction": instruction}
    places = {"home": home, "control": control, "queue": queue, "log": log}
    try:
        if timeout not in (None, "auto"):
            __salt__["qmail_base_check.arguments"](timeout=timeout)
        settings = __salt__["qmail_doublebounce.settings"]({}, **given, **places)
        expected = __salt__["qmail_doublebounce_proof.expected"](settings)
        if __opts__["test"]:
            return {**ret, "result": None, "comment": "A probe would be sent, and it would have to end as intended."}
        probe = __salt__["qmail_doublebounce_probe.run"](settings, timeout)
        lacks = __salt__["qmail_doublebounce_proof.lacks"](settings, expected, probe)
    except (CommandExecutionError, SaltInvocationError) as err:
        return {**ret, "result": False, "comment": str(err), "skip_watch": True}
    told = f"The probe was {probe['end']} after {probe['seconds']} s. {probe['reason']} {probe['left']}".strip()
    if not lacks:
        return {**ret, "comment": told}
    return {**ret, "result": False, "comment": f"{told} {lacks}", "skip_watch": True}
