"""
Replace one small file safely, keep what it replaced, and put it back.

A reader of the file sees either the old one or the new one, whole. What somebody else had written there is kept: see
``qmail_file_kept``. If several runs write or restore one file at the same time, each finishes before the next begins.
``qmail_file_entry`` reads and writes where others may be at work.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def read(path):
    """
    Return what is in a file, and whose it is; ``None`` if there is no such file.

    Returns a dict: ``contents`` (bytes), ``uid``, ``gid`` and ``mode`` (text such as ``0644``).

    Raises CommandExecutionError if the path is not a regular file, cannot be read, is larger than 1 MiB, or leads
    through a symbolic link that somebody other than root could have made.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.read /var/qmail/control/doublebounceto
    """
    _check(path)
    with __salt__["qmail_file_entry.at"]("read", path) as (directory, name):
        return None if directory is None else __salt__["qmail_file_entry.read"](directory, name, path)


def replace(path, contents, uid=None, gid=None, mode="0644", note=None, home=None, refused=None, test=False):
    """
    Make a file hold exactly these contents, with this owner and mode, and return what was changed.

    Returns ``{}`` if nothing had to change, else a dict with ``contents``, ``uid``, ``gid``, ``mode`` (those that
    changed; for a new file only the contents), each ``{"old": …, "new": …}``. What somebody else had written there is
    kept first: see ``kept``.

    Raises CommandExecutionError if the directory is missing or cannot be written to, if the path is anything but a
    regular file, or if ``refused`` gives a reason; the message says so if the file is not as it was.

    path
        Absolute path of the file. Its directory must exist.

    contents
        Bytes or text (stored as UTF-8).

    uid, gid
        Owner and group, as numbers. ``None`` keeps those of the file; a new file gets those of the user Salt runs as.

    mode
        Permission bits as octal text. ``None`` keeps those of the file; a new file gets ``0644``.

    note, home
        What to record with it, for ``written``: the address that the file is for, and the qmail home.

    refused
        A function that is called when the file is in place, even if it already was, and returns why it cannot stay, or
        ``None``. If it cannot, the file is put back exactly as it was. For modules, not for a command line.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.replace /var/qmail/control/doublebounceto "$(printf 'dummy\\n')" test=True
    """
    _check(path)
    return __salt__["qmail_file_change.replace"](path, contents, uid, gid, mode, note, home, refused, test)


def restore(path, version=None, test=False):
    """
    Put the newest kept version of a file back, or remove the file if there was none, and return what that changed.

    Only what this module wrote is undone: if the file is no longer as ``replace`` left it, somebody else has changed it
    since. Then it is left alone, and is theirs from then on. A version asked for by name is put back whatever is there
    now, and what is there now is kept.

    Returns the same kind of dict as ``replace``; ``{}`` if there was nothing to undo, and ``{"left": …}`` with a
    sentence if somebody has changed the file.

    Raises SaltInvocationError for a version that is not kept, CommandExecutionError if it cannot be put back.

    path
        Absolute path of the file.

    version
        One of the versions that ``kept`` lists; ``None`` for the newest.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.restore /var/qmail/control/doublebounceto test=True
    """
    _check(path)
    return __salt__["qmail_file_change.restore"](path, version, test)


def kept(path):
    """
    List the kept versions of a file, newest first, as ``qmail_file_kept.versions`` does.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.kept /var/qmail/control/doublebounceto
    """
    _check(path)
    return __salt__["qmail_file_kept.versions"](path)


def changed(path):
    """
    Return when a file was last changed: seconds since the epoch, or ``None`` if that is not known.

    It is the time of the newest change of contents, name, owner or mode (the inode's ctime). A file that was put in
    place with its old times (``cp -p``, ``mv``) has one, too. For a file that ``restore`` removed, it is the time of
    that.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.changed /var/qmail/control/doublebounceto
    """
    _check(path)
    try:
        return os.stat(path).st_ctime
    except (FileNotFoundError, NotADirectoryError):
        return __salt__["qmail_file_ledger.ended"](path)
    except OSError as err:
        raise CommandExecutionError(f"Cannot look at {path}: {__salt__['qmail_base_refusal.told'](err)}") from err


def moment(path):
    """
    Return when this project last wrote a file or put it back, in seconds since the system was started; ``None`` if it
    has not since then. The starts of processes are told in the same seconds, whatever is done to the clock.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.moment /var/qmail/control/doublebounceto
    """
    _check(path)
    return __salt__["qmail_file_ledger.moment"](path)


def version(path, name=None):
    """
    Return one kept version of a file: what ``read`` would have returned; ``None`` if there was no file.

    Raises SaltInvocationError if there is no such version.

    path
        Absolute path of the file.

    name
        A version that ``kept`` lists; ``None`` for the newest.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.version /var/qmail/control/doublebounceto v1
    """
    _check(path)
    return __salt__["qmail_file_kept.version"](path, name)


def written():
    """
    List the files that this project has written, in the order of their paths.

    Each is a dict with ``path``, ``note`` (what the file was written for, such as an address; ``None`` for a control
    file), ``home`` (the qmail home that it was written for; ``None`` if that is not known) and ``written``: ``True``
    until what was there before is put back.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.written
    """
    return __salt__["qmail_file_ledger.files"]()


def is_ours(path):
    """
    Return whether a file holds what this project wrote there, and has not put back since.

    Raises what ``read`` raises.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.is_ours /var/qmail/control/doublebounceto
    """
    found = read(path)
    return found is not None and __salt__["qmail_file_ledger.ours"](path, found["contents"])


def store(path, make=False):
    """
    Return the directory for what is kept of a file.

    Raises CommandExecutionError if it cannot be made, or if it is open to others.

    path
        Absolute path of the file.

    make
        Make it if it is missing, open to nobody else.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.store /var/qmail/control/doublebounceto
    """
    _check(path)
    return __salt__["qmail_file_kept.directory"](path, make)


def _check(path):
    __salt__["qmail_base_check.arguments"](path=path)
    if os.path.normpath(path) != path:
        raise SaltInvocationError(f"{path!r} is not an absolute path without '.', '..' and doubled slashes.")
