"""
The sink: the dot-qmail file at the end of an address's route, and what qmail-local does with mail there.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError

FATES = {
    "swallowed": "vanishes",
    "stored": "is stored",
    "forwarded": "is forwarded",
    "deferred": "is deferred, and stays in the queue",
    "bounced": "bounces",
    "unknown": "goes wherever a program decides",
}


def check(address, home="/var/qmail", control=None):
    """
    Tell what would happen to a message for an address, and why.

    Returns a dict: ``address``, ``recipient`` (as qmail rewrites it), ``fate`` (``swallowed``, ``stored``,
    ``forwarded``, ``deferred``, ``bounced``, ``remote``, or ``unknown`` where a program decides), ``reason`` (a
    sentence; where the fate is none that a sink should have, with what to change), ``dotqmail`` (the file that
    decides, ``None`` where there is none), ``exact`` (the address's own dot-qmail file, there or not), and ``files``,
    ``forwards``, ``programs`` (the instructions that would be carried out).

    The rules are those of ``qmail_route.resolve`` and ``qmail_dotqmail.predict``.

    address
        The address.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.check doublebounce@example.com
    """
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    found = {"address": address, "recipient": route["recipient"], "dotqmail": route.get("dotqmail")}
    found["exact"] = route.get("exact")
    nothing = {"files": [], "forwards": [], "programs": []}
    outcomes = {"bounce": "bounced", "dropped": "swallowed", "remote": "remote", "deferred": "deferred"}
    if route["outcome"] in outcomes:
        return {**found, "fate": outcomes[route["outcome"]], "reason": route["reason"], **nothing}
    return {**found, **_predict(route, route["dotqmail"] or route["exact"])}


def predict(dotqmail, home, user, dash="", forbidden="002", default="./Maildir/"):
    """
    Return what becomes of a message that qmail-local delivers through one dot-qmail file.

    Returns a dict with ``fate``, ``files``, ``forwards``, ``programs`` and ``reason``: see ``qmail_dotqmail.predict``,
    which has the rules.

    dotqmail
        The dot-qmail file, an absolute path. It need not exist.

    home
        The home directory that qmail-local changes to.

    user
        The user that qmail-local runs as: a name or a user id.

    dash
        What follows ``.qmail`` in the name: empty, or ``-`` for an extension.

    forbidden
        Mode bits that neither the home nor the file may have (``conf-patrn``), octal.

    default
        The default delivery, as given to qmail-start.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.predict /home/sink/.qmail /home/sink sink
    """
    return __salt__["qmail_dotqmail.predict"](dotqmail, home, user, dash, forbidden, default)


def write(address, instruction="|exit 0", home="/var/qmail", control=None, mailbox="auto", test=False):
    """
    Make an address a sink: write these instructions into its own dot-qmail file, and return what that changed.

    Returns ``{}`` where they are there already, else a dict with ``instruction`` and, where they changed, ``uid``,
    ``gid`` and ``mode``, each ``{"old": …, "new": …}``. An existing file keeps its owner and mode if qmail-local can
    use it so; a new one belongs to the user that qmail-local runs as, mode 0600. What somebody else had written there
    is kept: see ``history``.

    Raises SaltInvocationError where the address or the instruction is none for a sink, CommandExecutionError where
    mail for the address would not end as the instruction means: the route ends remote, at a catch-all or nowhere, or
    qmail-local would defer. Nothing is written then.

    address
        The whole address.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5).

    home, control
        As for ``check``.

    mailbox
        ``auto``: the address must be a mailbox of its own, or one that a dot-qmail file makes (an alias, a vpopmail
        address). ``dotqmail``: write the file also where a catch-all receives the address now. ``plesk``: the
        mailbox must be one of Plesk's.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.write doublebounce@example.com test=True
    """
    wanted = contents(instruction)
    __salt__["qmail_address.split"](address)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    _refuse(address, route, mailbox)
    meant = _predict(route, route["exact"], wanted)
    if meant["fate"] in ("deferred", "bounced"):
        raise CommandExecutionError(f"{address} cannot be a sink: {meant['reason']}.")
    owner = _owner(__salt__["qmail_file.read"](route["exact"]), route)
    changes = __salt__["qmail_file.replace"](route["exact"], wanted, **owner, note=address, test=test)
    if not test:
        _confirm(address, meant, home, control)
    return _told(changes)


def contents(instruction):
    """
    Return the contents of a dot-qmail file that holds these instructions, as bytes.

    Raises SaltInvocationError where they can be none: no text, control characters, a blank first line, or a line that
    begins with a blank.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5).

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.contents '|exit 0'
    """
    lines = [instruction] if isinstance(instruction, str) else instruction
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        raise SaltInvocationError(f"instruction {instruction!r} is neither a line nor a list of lines.")
    for line in lines:
        if any((ord(sign) < 32 and sign != "\t") or ord(sign) == 127 for sign in line):
            raise SaltInvocationError(
                f"instruction {line!r} holds a control character; give one line a list entry each."
            )
    if not lines[0].strip():
        raise SaltInvocationError("instruction begins with a blank line: qmail-local defers such mail for ever.")
    if any(line[:1] in (" ", "\t") for line in lines):
        raise SaltInvocationError(
            "instruction has a line that begins with a blank: qmail-local takes it for an address."
        )
    return "".join(f"{line}\n" for line in lines).encode()


def restore(address=None, version=None, test=False):
    """
    Put the dot-qmail file of an address back as it was before it became a sink, and return what that changed.

    Returns ``{}`` where there is nothing to undo, or somebody has changed the file since (it is left as it is then);
    else a dict of the paths, each with what ``write`` would return.

    Raises SaltInvocationError for a version that is not kept.

    address
        The address; ``None`` for every address that was made a sink on this machine.

    version
        One of the versions that ``history`` lists; ``None`` for the newest.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.restore doublebounce@example.com
    """
    changes = {}
    for path in _sinks(address):
        changed = _told(__salt__["qmail_file.restore"](path, version, test=test))
        if changed:
            changes[path] = changed
    return changes


def history(address=None):
    """
    List what was in the dot-qmail files before they became sinks: the kept versions, newest first.

    Returns a dict of the paths, each a list as ``qmail_file.kept`` returns it.

    address
        The address; ``None`` for every address that is a sink on this machine.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.history doublebounce@example.com
    """
    return {path: __salt__["qmail_file.kept"](path) for path in _sinks(address)}


def _sinks(address):
    """Name the dot-qmail files written for an address, wherever its route went at that time."""
    notes = __salt__["qmail_kept.written"]()
    return [entry["path"] for entry in notes if entry["note"] and address in (None, entry["note"])]


def _refuse(address, route, mailbox):
    """Say why an address can be no sink, if it cannot."""
    if route["outcome"] == "remote":
        raise CommandExecutionError(
            f"{address} leaves this server: {route['reason']} Set qmail_doublebounce:address to an address that this "
            "server receives mail for."
        )
    if route["outcome"] == "deferred" or route["exact"] is None:
        raise CommandExecutionError(
            f"{address} ends nowhere: {route['reason']} Set qmail_doublebounce:address to a mailbox."
        )
    if __salt__["qmail_route.catches_all"](route["exact"]):
        raise CommandExecutionError(
            f"{address} would be read from {route['exact']}, which receives other addresses too. "
            "Set qmail_doublebounce:address to another one."
        )
    has_own = route["dotqmail"] == route["exact"] or not route["dash"]
    if not has_own and (mailbox == "plesk" or (mailbox == "auto" and _is_plesk(route))):
        raise CommandExecutionError(
            f"{address} ends nowhere: Plesk runs its domain and has no such mailbox. Make it in Plesk, or by "
            f"PSA_PASSWORD=… plesk bin mail --create {address} -mailbox true -passwd ''"
        )
    if not has_own and route["dotqmail"] and mailbox == "auto" and not _is_vpopmail(route):
        raise CommandExecutionError(
            f"{address} ends at a catch-all, {route['dotqmail']}: it has no mailbox of its own. Mend "
            "qmail_doublebounce:address, or set qmail_doublebounce:mailbox to dotqmail to make it one by writing "
            f"{route['exact']}."
        )


def _is_plesk(route):
    """Plesk's virtualdomains give each domain a number, and its mailboxes lie in a directory named after the domain."""
    number, _, rest = route["recipient"].partition("-")
    host = rest.rpartition("@")[2].lower()
    return route["domain"] == "virtualdomains" and number.isdecimal() and os.path.isdir(f"/var/qmail/mailnames/{host}")


def _is_vpopmail(route):
    """A vpopmail domain's catch-all is no catch-all but the program that knows the domain's mailboxes."""
    found = __salt__["qmail_file.read"](route["dotqmail"])
    return bool(found) and b"vdelivermail" in found["contents"]


def _owner(old, route):
    """Keep owner and mode of a file that qmail-local can use; else make it the file of the user it runs as."""
    if old:
        mode = int(old["mode"], 8)
        shift = 6 if old["uid"] == route["uid"] else 3 if old["gid"] == route["gid"] else 0
        if mode >> shift & 4 and not mode & 0o122:
            return {"uid": old["uid"], "gid": old["gid"], "mode": old["mode"]}
    return {"uid": route["uid"], "gid": route["gid"], "mode": "0600"}


def _predict(route, dotqmail, wanted=None):
    return __salt__["qmail_dotqmail.predict"](
        dotqmail, route["home"], route["uid"], dash=route["dash"], gid=route["gid"], contents=wanted
    )


def _confirm(address, meant, home, control):
    found = check(address, home, control)
    if found["fate"] != meant["fate"]:
        raise CommandExecutionError(
            f"{address} is written, but mail for it {FATES.get(found['fate'], found['fate'])}: {found['reason']}."
        )


def _told(changes):
    """Tell a change of the file by its lines."""
    told = {field: change for field, change in changes.items() if field != "contents"}
    if "contents" not in changes:
        return told
    lines = {when: None if raw is None else _lines(raw) for when, raw in changes["contents"].items()}
    return {"instruction": lines, **told}


def _lines(raw):
    return raw.decode(errors="backslashreplace").splitlines()
