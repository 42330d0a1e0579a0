"""
The sink: the dot-qmail file at the end of an address's route, what qmail-local does with mail there, and what it stored
there before.
"""

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def check(address, home="/var/qmail", control=None, forbidden="002"):
    """
    Return what would happen to a message for an address, and why.

    Returns a dict: ``address``, ``recipient`` (as qmail rewrites it), ``fate`` (``swallowed``, ``stored``,
    ``forwarded``, ``deferred``, ``bounced``, ``remote``, or ``unknown`` if a program decides), ``reason`` (a sentence;
    if something is wrong, it says what to change), ``sink`` (a sentence that says whether the address can be a sink),
    ``dotqmail`` (the file that decides, ``None`` if there is none), ``exact`` (the address's own dot-qmail file,
    whether it exists or not), ``home`` (the directory that qmail-local works in), and ``files``, ``forwards``,
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
    Return what would happen to a message that takes a route, and why.

    Returns what ``check`` does, without ``address`` and ``sink``.

    route
        What ``qmail_route.resolve`` or ``qmail_route.deliver`` returns.

    forbidden
        As for ``check``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.ends '{outcome: remote, recipient: joe@example.org, reason: "It is not ours."}'
    """
    return __salt__["qmail_mailbox_fate.ends"](route, forbidden)


def predict(dotqmail, home, user, dash="", forbidden="002", default="./Maildir/"):
    """
    Return what happens to a message that qmail-local delivers through one dot-qmail file.

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
    Return what these instructions ask for in an address's own dot-qmail file, whatever state the mailbox is in now.

    Returns a dict with ``fate``, ``reason``, ``exact``, ``files``, ``forwards`` and ``programs``, as ``check`` does.
    The home, and each file or Maildir that they name, is assumed to be in order: obstacles there are not part of what
    was asked for. ``fate`` is ``None`` if the address cannot have such a file, because its route ends earlier.

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
    return __salt__["qmail_mailbox_fate.meaning"](address, instruction, home, control)


def has_plesk(domain, home="/var/qmail"):
    """
    Return whether Plesk runs a mail domain here: its directory among the mailnames, and Plesk's command, are there.

    domain
        The domain.

    home
        The qmail home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.has_plesk example.com
    """
    __salt__["qmail_base_check.arguments"](name=domain, home=home)
    return "/" not in domain and __salt__["qmail_mailbox_plesk.runs"](domain.lower(), home)


def make(address, home="/var/qmail", control=None, mailbox="auto", test=False):
    """
    Make the mailbox of an address if Plesk runs its domain and has none, and return what that changed.

    Returns ``{}`` if nothing had to be made (without Plesk, the dot-qmail file that ``write`` writes is enough), else
    ``{"mailbox": {"old": None, "new": ADDRESS}}``. Its password is random and is not kept: nobody needs it. ``restore``
    does not remove the mailbox again: mail could be in it. Remove it in Plesk.

    Raises CommandExecutionError with Plesk's own words if it cannot be made, or if Plesk says that it exists.

    address
        The whole address.

    home, control
        As for ``check``.

    mailbox
        ``auto``: if Plesk runs the domain. ``plesk``: Plesk must run it. ``dotqmail``: never.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.make doublebounce@example.com test=True
    """
    return __salt__["qmail_mailbox_write.make"](address, home, control, mailbox, test)


def write(address, instruction="|exit 0", home="/var/qmail", control=None, mailbox="auto", test=False):
    """
    Make an address a sink: write these instructions into its own dot-qmail file, and return what that changed.

    Returns ``{}`` if they are there already, else a dict with ``instruction`` and, if they changed, ``uid``, ``gid``
    and ``mode``, each ``{"old": …, "new": …}``. An existing file keeps its owner and mode if qmail-local can use it so;
    a new one belongs to the user that qmail-local runs as, mode 0600. What somebody else had written there is kept: see
    ``history``.

    Raises SaltInvocationError if the address or the instruction is not suitable for a sink, CommandExecutionError if
    mail for the address would not end as the instruction says: the route ends remote, at a catch-all or nowhere, or
    qmail-local would defer. Then the file is as it was; if that was not possible, the message says so.

    address
        The whole address.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5).

    home, control
        As for ``check``.

    mailbox
        ``auto``: the address must have a mailbox of its own (``make`` makes it under Plesk), or be one that a dot-qmail
        file makes (an alias, a vpopmail address). ``dotqmail``: write the file even if a catch-all receives the address
        now. ``plesk``: the mailbox must be one of Plesk's.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.write doublebounce@example.com test=True
    """
    return __salt__["qmail_mailbox_write.write"](address, instruction, home, control, mailbox, test)


def restore(address=None, version=None, test=False, home=None):
    """
    Put the dot-qmail file of an address back as it was before it became a sink, and return what that changed.

    Returns ``{}`` if there is nothing to undo; else a dict of the paths, each with what ``write`` would return, or with
    ``left``, a sentence, if somebody has changed the file since: then it is left as it is, and is theirs.

    Raises SaltInvocationError for a version that is not kept, and CommandExecutionError if a file cannot be put back;
    all the others are put back nevertheless, and the message names them.

    address
        The address; ``None`` for every address that was made a sink on this machine.

    version
        One of the versions that ``history`` lists: it is put back whatever is there now, and what is there now is kept.
        ``None`` for the newest.

    test
        Only return what would change.

    home
        Only sinks that were made for the qmail in this directory, and those for which that is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.restore doublebounce@example.com
    """
    __salt__["qmail_base_check.arguments"](test=test)
    sinks = __salt__["qmail_mailbox_former.sinks"](address, home, ever=version is not None)
    done = __salt__["qmail_mailbox_former.restore"]([sink["path"] for sink in sinks], version, test)
    failed = [change["failed"] for change in done.values() if "failed" in change]
    if failed:
        others = [path for path, change in done.items() if not {"failed", "left"} & set(change)]
        also = f"Put back{' would be' if test else ''}: {', '.join(others)}." if others else ""
        raise CommandExecutionError(" ".join([*failed, also]).strip())
    return done


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


def sinks(home=None):
    """
    List the dot-qmail files that this project made sinks, and has not put back since.

    Returns a list of dicts in the order of the paths: ``path``, ``address``, and ``home`` (the qmail home that it was
    made for; ``None`` if that is not known).

    home
        Only those for the qmail in this directory, and those for which that is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.sinks
    """
    return __salt__["qmail_mailbox_former.sinks"](home=home)


def purge(maildir, older_than=None, home="/var/qmail", control=None, test=False):
    """
    Delete the double bounces that a mailbox has stored, and nothing else, and return the counts.

    Only files in ``new`` and ``cur`` of a Maildir are looked at, and only those whose first line is ``Return-Path:
    <#@[]>``, as qmail-local writes it, are deleted. Messages that come and go meanwhile are not an error, and it can be
    interrupted and run again. The minion's log and the event ``qmail-doublebounce/progress`` show its progress every
    five seconds.

    Returns a dict: ``deleted`` and ``kept`` (how many messages), ``bytes`` (the size of those deleted), ``seconds``,
    and ``maildirs`` (the paths).

    Raises SaltInvocationError for what is neither a path nor an address, CommandExecutionError if there is no such
    Maildir. An mbox is refused: it is one file with all messages, and mail programs may be writing to it.

    maildir
        The Maildir, an absolute path; or an address, for the Maildirs that ``qmail_mailbox_maildir.of`` lists.

    older_than
        Only those that were delivered more than this many seconds ago.

    home, control
        As for ``check``.

    test
        Delete nothing; the counts say what would be deleted.

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


def places(route):
    """
    List where the mail of a route may be stored: the Maildirs (with ``/`` at the end) and mboxes that its dot-qmail
    file names now, and ``Maildir`` in the home of its user, where default deliveries and many programs put it.

    Returns absolute paths, whether they exist or not. A dot-qmail file that cannot be read safely names none.

    route
        What ``qmail_route.resolve`` or ``qmail_route.deliver`` returns.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.places '{home: /home/joe, dotqmail: /home/joe/.qmail}'
    """
    return __salt__["qmail_mailbox_maildir.named"](route)


def take_out(token, maildir):
    """
    Remove from a Maildir each message that holds a token, and return how many there were.

    Raises CommandExecutionError for what is not a Maildir, and if the path leads through a link that others could have
    made.

    token
        What the message must hold: a random text that nobody else can have written.

    maildir
        The Maildir, an absolute path. A link is followed only if nobody but root could have made it.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.take_out doublebounce-probe-0123456789abcdef /home/joe/Maildir
    """
    __salt__["qmail_base_check.arguments"](token=token)
    return __salt__["qmail_mailbox_maildir.take_out"](token, maildir)


def former(but=None, home="/var/qmail", control=None):
    """
    List what is wrong with former sinks: those that still hold what this project wrote there, each as a sentence.

    but
        The address whose sink is wanted; ``None`` if none is. If its route ends nowhere, its sink is not known, and
        none is listed.

    home, control
        As for ``check``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.former doublebounce@example.com
    """
    return __salt__["qmail_mailbox_former.problems"](but, home, control)


def split(address):
    """
    Split an address into the values of qmail's two control files.

    Returns a dict with ``local`` (for ``doublebounceto``) and ``host`` (for ``doublebouncehost``).

    Raises SaltInvocationError if it is not a whole address of plain ASCII characters; the message says what is wrong.

    address
        The whole address, for example ``doublebounce@example.com``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.split doublebounce@example.com
    """
    return __salt__["qmail_mailbox_sink.split"](address)


def contents(instruction):
    """
    Return the contents of a dot-qmail file that holds these instructions, as bytes.

    Raises SaltInvocationError if they are not valid: not text, control characters, a blank first line, or a line that
    begins with a blank.

    instruction
        A line of a dot-qmail file, or a list of lines; see dot-qmail(5).

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.contents '|exit 0'
    """
    return __salt__["qmail_mailbox_sink.contents"](instruction)


def is_without_qmail(address, home="/var/qmail"):
    """
    Return whether Plesk runs an address's domain with another mail server: Plesk's tree is there, but no qmail-send.

    address
        The whole address.

    home
        The qmail home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_mailbox.is_without_qmail doublebounce@example.com
    """
    __salt__["qmail_base_check.arguments"](address=address, home=home)
    return __salt__["qmail_mailbox_sink.is_without_qmail"](address, home)
