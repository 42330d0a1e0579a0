"""
The sink: the dot-qmail file at the end of an address's route, what qmail-local does with mail there, and what it has
stored there before.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError


def check(address, home="/var/qmail", control=None, forbidden="002"):
    """
    Tell what would happen to a message for an address, and why.

    Returns a dict: ``address``, ``recipient`` (as qmail rewrites it), ``fate`` (``swallowed``, ``stored``,
    ``forwarded``, ``deferred``, ``bounced``, ``remote``, or ``unknown`` where a program decides), ``reason`` (a
    sentence; where something is wrong, with what to change), ``sink`` (a sentence that tells whether the address can
    be a sink), ``dotqmail`` (the file that decides, ``None`` where there is none), ``exact`` (the address's own
    dot-qmail file, there or not), ``home`` (the directory that qmail-local works in), and ``files``, ``forwards``,
    ``programs`` (the instructions that would be carried out).

    The rules are those of ``qmail_route.resolve`` and ``qmail_mailbox_dotqmail.predict``.

    address
        The address.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    forbidden
        Mode bits that neither the user's home nor the file may have: ``conf-patrn`` of the build, 002 or 022.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.check doublebounce@example.com
    """
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    found = ends(route, forbidden)
    return {
        "address": address,
        **found,
        "sink": __salt__["qmail_mailbox_sink.outlook"](address, route, found["fate"], home),
    }


def ends(route, forbidden="002"):
    """
    Tell what would happen to a message that takes a route, and why.

    Returns what ``check`` does, without ``address`` and ``sink``.

    route
        What ``qmail_route.resolve`` or ``qmail_route.deliver`` returns.

    forbidden
        As for ``check``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.ends '{outcome: remote, recipient: joe@example.org, reason: "It is not ours."}'
    """
    found = {key: route.get(key) for key in ("recipient", "dotqmail", "exact", "home")}
    nothing = {"files": [], "forwards": [], "programs": []}
    outcomes = {"bounce": "bounced", "dropped": "swallowed", "remote": "remote", "deferred": "deferred"}
    if route["outcome"] in outcomes:
        return {**found, "fate": outcomes[route["outcome"]], "reason": route["reason"], **nothing}
    return {**found, **_predict(route, route["dotqmail"] or route["exact"], forbidden=forbidden)}


def predict(dotqmail, home, user, dash="", forbidden="002", default="./Maildir/"):
    """
    Return what becomes of a message that qmail-local delivers through one dot-qmail file.

    Returns a dict with ``fate``, ``files``, ``forwards``, ``programs`` and ``reason``: see
    ``qmail_mailbox_dotqmail.predict``, which has the rules.

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
    return __salt__["qmail_mailbox_dotqmail.predict"](dotqmail, home, user, dash, forbidden, default)


def meaning(address, instruction="|exit 0", home="/var/qmail", control=None):
    """
    Tell what these instructions ask for, in an address's own dot-qmail file, whatever state the mailbox is in now.

    Returns a dict with ``fate``, ``reason``, ``exact``, ``files``, ``forwards`` and ``programs``, as ``check`` does.
    The home, and each file or Maildir that they name, is taken to be in order: what stands in the way there is no part
    of what was asked for. ``fate`` is ``None`` where the address can have no such file, because its route ends before.

    address
        The address.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5).

    home, control
        As for ``check``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.meaning doublebounce@example.com ./Maildir/
    """
    contents = __salt__["qmail_mailbox_sink.contents"](instruction)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    if route["outcome"] in ("remote", "dropped", "deferred") or not route["home"].startswith("/"):
        return {"fate": None, "reason": route["reason"], "exact": None, "files": [], "forwards": [], "programs": []}
    asked = __salt__["qmail_mailbox_dotqmail.asks"](contents, route["exact"], route["home"], route["uid"], route["gid"])
    return {**asked, "exact": route["exact"]}


def make(address, home="/var/qmail", control=None, mailbox="auto", test=False):
    """
    Make the mailbox of an address, where Plesk runs its domain and has none, and return what that changed.

    Returns ``{}`` where nothing had to be made (elsewhere the dot-qmail file that ``write`` writes is all it takes),
    else ``{"mailbox": {"old": None, "new": ADDRESS}}``. Its password is random and kept nowhere: nobody needs it.
    ``restore`` does not remove the mailbox again: mail could be in it. Remove it in Plesk.

    Raises CommandExecutionError with Plesk's own words where it cannot be made, and where Plesk says that there is one.

    address
        The whole address.

    home, control
        As for ``check``.

    mailbox
        ``auto``: where Plesk runs the domain. ``plesk``: Plesk must run it. ``dotqmail``: never.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.make doublebounce@example.com test=True
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control, test=test)
    __salt__["qmail_mailbox_sink.split"](address)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    if not __salt__["qmail_mailbox_sink.is_plesks"](address, route, home, mailbox):
        return {}
    if __salt__["qmail_mailbox_sink.is_without_qmail"](address, home):
        raise CommandExecutionError(__salt__["qmail_mailbox_sink.problem"](address, route, home, mailbox))
    if __salt__["qmail_mailbox_plesk.info"](address) is not None:
        raise CommandExecutionError(
            f"Plesk has a mailbox {address}, but qmail does not find it: {route['reason']} Have Plesk write its mail "
            "files anew: plesk repair mail"
        )
    changes = {"mailbox": {"old": None, "new": address}}
    if test:
        return changes
    __salt__["qmail_mailbox_plesk.create"](address)
    return changes


def write(address, instruction="|exit 0", home="/var/qmail", control=None, mailbox="auto", test=False):
    """
    Make an address a sink: write these instructions into its own dot-qmail file, and return what that changed.

    Returns ``{}`` where they are there already, else a dict with ``instruction`` and, where they changed, ``uid``,
    ``gid`` and ``mode``, each ``{"old": …, "new": …}``. An existing file keeps its owner and mode if qmail-local can
    use it so; a new one belongs to the user that qmail-local runs as, mode 0600. What somebody else had written there
    is kept: see ``history``.

    Raises SaltInvocationError where the address or the instruction is none for a sink, CommandExecutionError where
    mail for the address would not end as the instruction means: the route ends remote, at a catch-all or nowhere, or
    qmail-local would defer. The file is then as it was; the message tells where that could not be had.

    address
        The whole address.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5).

    home, control
        As for ``check``.

    mailbox
        ``auto``: the address must have a mailbox of its own (``make`` makes it under Plesk), or be one that a dot-qmail
        file makes (an alias, a vpopmail address). ``dotqmail``: write the file also where a catch-all receives the
        address now. ``plesk``: the mailbox must be one of Plesk's.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.write doublebounce@example.com test=True
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control, test=test)
    wanted = __salt__["qmail_mailbox_sink.contents"](instruction)
    __salt__["qmail_mailbox_sink.split"](address)
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    if test and __salt__["qmail_mailbox_sink.is_plesks"](address, route, home, mailbox):
        return {
            "instruction": {"old": None, "new": __salt__["qmail_mailbox_sink.lines"](wanted)}
        }  # in the mailbox that "make" would have made
    problem = __salt__["qmail_mailbox_sink.problem"](address, route, home, mailbox)
    if problem:
        raise CommandExecutionError(problem)
    meant = _predict(route, route["exact"], wanted)
    if meant["fate"] in ("deferred", "bounced"):
        raise CommandExecutionError(f"{address} cannot be a sink: {meant['reason']}.")
    _refuse_loop(address, route, meant["forwards"], home, control)
    owner = _owner(__salt__["qmail_file.read"](route["exact"]), route)

    def refused():
        found = check(address, home, control)
        return None if found["fate"] == meant["fate"] else f"{address} cannot be a sink: {found['reason']}."

    remember = {"note": address, "home": os.path.realpath(home), "refused": refused}
    changes = __salt__["qmail_file.replace"](route["exact"], wanted, **owner, **remember, test=test)
    return __salt__["qmail_mailbox_sink.told"](changes)


def restore(address=None, version=None, test=False, home=None):
    """
    Put the dot-qmail file of an address back as it was before it became a sink, and return what that changed.

    Returns ``{}`` where there is nothing to undo; else a dict of the paths, each with what ``write`` would return, or
    with ``left``, a sentence, where somebody has changed the file since: it is left as it is then, and is theirs.

    Raises SaltInvocationError for a version that is not kept.

    address
        The address; ``None`` for every address that was made a sink on this machine.

    version
        One of the versions that ``history`` lists: it is put back whatever is there now, which is kept. ``None`` for
        the newest.

    test
        Only return what would change.

    home
        Only sinks that were made for the qmail in this directory, and those of which that is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.restore doublebounce@example.com
    """
    __salt__["qmail_base_check.arguments"](test=test)
    sinks = __salt__["qmail_mailbox_former.sinks"](address, home, ever=version is not None)
    return __salt__["qmail_mailbox_former.restore"]([sink["path"] for sink in sinks], version, test)


def history(address=None):
    """
    List what was in the dot-qmail files before they became sinks: the kept versions, newest first.

    Returns a dict of the paths, each a list of dicts: ``version``, ``time`` (when it was replaced, ISO 8601, UTC),
    ``exists``, and of the file ``uid``, ``gid``, ``mode`` and ``size`` in bytes.

    address
        The address; ``None`` for every address that is or was a sink on this machine.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.history doublebounce@example.com
    """
    sinks = __salt__["qmail_mailbox_former.sinks"](address, ever=True)
    return {sink["path"]: __salt__["qmail_file.kept"](sink["path"]) for sink in sinks}


def purge(maildir, older_than=None, home="/var/qmail", control=None, test=False):
    """
    Delete the double bounces that a mailbox has stored, and nothing else, and return what that came to.

    Only files in ``new`` and ``cur`` of a Maildir are looked at, and only those whose first line is
    ``Return-Path: <#@[]>``, as qmail-local writes it, are deleted. Messages that come and go meanwhile are no error,
    and it can be interrupted and run again. How far it is, the minion's log and the event
    ``qmail-doublebounce/progress`` tell every five seconds.

    Returns a dict: ``deleted`` and ``kept`` (how many messages), ``bytes`` (the size of those deleted), ``seconds``,
    and ``maildirs`` (the paths).

    Raises SaltInvocationError for what is neither a path nor an address, CommandExecutionError where there is no such
    Maildir. An mbox is refused: it is one file with all messages, and mail programs may be writing to it.

    maildir
        The Maildir, an absolute path; or an address, for the Maildirs that ``qmail_mailbox_maildir.of`` lists.

    older_than
        Only those that were delivered more than so many seconds ago.

    home, control
        As for ``check``.

    test
        Delete nothing; the counts tell what would be deleted.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.purge doublebounce@example.com older_than=86400 test=True
    """
    paths = [maildir]
    if not str(maildir).startswith("/"):
        __salt__["qmail_mailbox_sink.split"](maildir)
        paths = __salt__["qmail_mailbox_maildir.of"](maildir, home, control)
    done = [__salt__["qmail_mailbox_maildir.purge"](path, older_than, test) for path in paths]
    sums = {key: sum(one[key] for one in done) for key in ("deleted", "kept", "bytes", "seconds")}
    return {**sums, "maildirs": paths}


def _refuse_loop(address, route, forwards, home, control):
    for forward in forwards:
        if __salt__["qmail_route.resolve"](forward, home, control=control).get("exact") == route["exact"]:
            raise SaltInvocationError(f"instruction {forward!r} forwards {address} to itself: give another one.")


def _owner(old, route):
    """Keep owner and mode of a file that qmail-local can use; else make it the file of the user it runs as."""
    if old:
        mode = int(old["mode"], 8)
        shift = 6 if old["uid"] == route["uid"] else 3 if old["gid"] == route["gid"] else 0
        if mode >> shift & 4 and not mode & 0o122:
            return {"uid": old["uid"], "gid": old["gid"], "mode": old["mode"]}
    return {"uid": route["uid"], "gid": route["gid"], "mode": "0600"}


def _predict(route, dotqmail, wanted=None, forbidden="002"):
    return __salt__["qmail_mailbox_dotqmail.predict"](
        dotqmail, route["home"], route["uid"], route["dash"], forbidden, gid=route["gid"], contents=wanted
    )
