"""
The one safe way into a Maildir: delete the double bounces in it, or one known message, and nothing else.

qmail-local writes the envelope sender as the first line of what it delivers: a file that starts with ``Return-Path:
<#@[]>`` is a double bounce. The owner of a Maildir may change it in any way meanwhile, so every file is opened from the
descriptor of its directory, no link is followed, and a name is deleted only from that same directory.
"""

import contextlib
import glob
import itertools
import os
import re
import stat
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

DOUBLE = b"Return-Path: <#@[]>\n"
LONGEST = 1 << 16  # bytes; what take_out looks for is far shorter
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_USER = re.compile(r"[a-z0-9_][a-z0-9_.+=-]{0,63}")

# This many names are read at once and sorted by their inodes, so that the disk seeks less.
BATCH = 32768


def purge(maildir, older_than=None, test=False):
    """
    Delete the double bounces from ``new`` and ``cur`` of a Maildir.

    Returns a dict with ``deleted`` and ``kept``: how many messages; ``bytes``: the size of those deleted; and
    ``seconds``. Messages that vanish meanwhile are not an error. It can be interrupted and run again. Raises
    CommandExecutionError for what is not a Maildir: an mbox holds all messages in one file, which cannot be changed
    safely while mail comes in.

    maildir
        The Maildir, an absolute path. A link is followed only if nobody but root could have made it.

    older_than
        Only those that were delivered more than this many seconds ago.

    test
        Touch nothing; the counts say what would be deleted.

    For ``qmail_mailbox``.
    """
    began = time.monotonic()
    before = __salt__["qmail_base_bulk.cutoff"](older_than)
    try:
        with _opened(maildir) as directories:

            def work(half, tell):
                return _purge(directories, before, test, half, tell)

            again = None if test else lambda done, size: (done, 0, size)
            halves = __salt__["qmail_base_bulk.halves"](work, "qmail_mailbox.purge", again)
    except OSError as err:
        raise CommandExecutionError(f"Cannot clear {maildir}: {err.strerror or err}.") from err
    deleted, kept, size = map(sum, zip(*halves))
    return {"deleted": deleted, "kept": kept, "bytes": size, "seconds": round(max(0.0, time.monotonic() - began), 3)}


def take_out(token, maildir):
    """
    Remove from ``new`` and ``cur`` of a Maildir each message that holds a token, and return how many there were.

    token, maildir
        As for ``qmail_mailbox.take_out``, which documents all of it.

    For ``qmail_mailbox``.
    """
    try:
        with _opened(maildir) as directories:
            return sum(_taken(name, at, token.encode()) for at in directories for name in os.listdir(at))
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {maildir}: {err.strerror or err}.") from err


def of(address, home="/var/qmail", control=None):
    """
    List the Maildirs that mail for an address was or is stored in, below the home directory of its user.

    They are those that its dot-qmail file names, or named in a kept version; and, if the address is a user's own, the
    ``Maildir`` of that user. Raises CommandExecutionError if there is none, and says what there is instead.

    address
        The address.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    For ``qmail_mailbox``.
    """
    route = __salt__["qmail_route.resolve"](address, home, control=control)
    if not route.get("exact"):
        raise CommandExecutionError(f"{address} has no Maildir here: {route['reason']}")
    named = [os.path.normpath(os.path.join(route["home"], text)) for text in _named(route)]
    # What the owner of a mailbox writes must not lead root to somebody else's mailbox.
    below = [path for path in dict.fromkeys(named) if path.startswith(os.path.join(route["home"], ""))]
    found = [path for path in below if os.path.isdir(path)]
    if not found:
        there = [path for path in (*below, *named) if os.path.exists(path)]
        told = f"Its mail goes to {there[0]}. " if there else ""
        raise CommandExecutionError(
            f"No Maildir of {address} is known below {route['home']}. {told}Give the path of the Maildir instead."
        )
    return found


def named(route):
    """
    List where a route's mail may be stored: the Maildirs (with ``/`` at the end) and mboxes that its dot-qmail file
    names now, and ``Maildir`` in the home of its user, where default deliveries and many programs put it.

    route
        As for ``qmail_mailbox.places``, which documents all of it.

    For ``qmail_mailbox``.
    """
    home = route.get("home")
    if not home or not home.startswith("/") or __salt__["qmail_base_text.is_altered"](home):
        return []
    try:
        current = __salt__["qmail_file.read"](route["dotqmail"]) if route["dotqmail"] else None
    except (CommandExecutionError, SaltInvocationError):
        current = None
    places = [os.path.join(home, text) for text in (*_texts(current), "Maildir/")] + _of_vpopmail(route, current)
    return [os.path.normpath(place) + "/" * place.endswith("/") for place in places]


def _of_vpopmail(route, file):
    """
    List the Maildirs that a vpopmail domain has for an address: the directories of the users lie in the domain's, and
    in directories with names of one character if there are many users.
    """
    user = (route.get("ext") or "").lower()
    if not file or b"vdelivermail" not in file["contents"] or not _USER.fullmatch(user):
        return []
    homes = [os.path.join(glob.escape(route["home"]), *level, user) for level in ((), ("?",), ("?", "?"))]
    return [os.path.join(found, "Maildir/") for found in itertools.chain.from_iterable(map(glob.glob, homes))]


def _named(route):
    """Yield the Maildirs and mboxes that the dot-qmail file of an address names now, or named in a kept version."""
    current = [__salt__["qmail_file.read"](route["dotqmail"])] if route["dotqmail"] else []
    versions = [version["version"] for version in __salt__["qmail_file.kept"](route["exact"])]
    kept = [__salt__["qmail_file.version"](route["exact"], version) for version in versions]
    for file in current + kept:
        yield from _texts(file)
    if not route["dash"]:
        yield "Maildir"  # the default delivery, and the place of Plesk's deliverquota


def _texts(file):
    parsed = __salt__["qmail_mailbox_dotqmail.parse"](file["contents"]) if file else []
    altered = __salt__["qmail_base_text.is_altered"]
    return [text for kind, text in parsed if kind in ("maildir", "mbox") and not altered(text)]


@contextlib.contextmanager
def _opened(maildir):
    """Yield descriptors of new/ and cur/; an error says what is there instead of a Maildir."""
    is_text = isinstance(maildir, str) and __salt__["qmail_base_text.is_sendable"](maildir)
    if not is_text or not os.path.isabs(maildir) or "\0" in maildir:
        raise SaltInvocationError(f"A Maildir is an absolute path, not {maildir!r}.")
    if os.path.isfile(maildir):
        raise CommandExecutionError(
            f"{maildir} is an mbox: one file with all messages, and mail programs may be writing to it. Nothing is "
            "deleted from it. Have the sink discard double bounces, then move the file away while qmail-send is "
            "stopped."
        )
    with contextlib.ExitStack() as stack:
        top = _keep(stack, __salt__["qmail_base_directory.enter"](maildir))
        found = []
        for name in ("new", "cur"):
            with contextlib.suppress(FileNotFoundError):
                found.append(_keep(stack, os.open(name, DIRECTORY, dir_fd=top)))
        if not found:
            raise CommandExecutionError(f"{maildir} is not a Maildir: there is neither new/ nor cur/ in it.")
        yield found


def _keep(stack, fd):
    stack.callback(os.close, fd)
    return fd


def _purge(directories, before, test, half, tell):
    """Clear one half of the files; return how many are deleted, how many are kept, and the size of the deleted."""
    opened = __salt__["qmail_base_bulk.reader"]()
    deleted = kept = size = 0
    for directory in directories:
        for name in _half_of(directory, half):
            gone = _clear(name, directory, before, test, opened)
            if gone:
                deleted += 1
                size += gone
            elif gone == 0:
                kept += 1
            tell(deleted, size)
    return deleted, kept, size


def _half_of(directory, half):
    """Yield the names of the files with even, or with odd, inodes."""
    with contextlib.ExitStack() as stack:
        # A descriptor of its own: all copies of one share the position in the directory, even the child's.
        entries = stack.enter_context(os.scandir(_keep(stack, os.open(".", DIRECTORY, dir_fd=directory))))
        while True:
            batch = list(itertools.islice(entries, BATCH))
            if not batch:
                return
            mine = (entry for entry in batch if entry.inode() % 2 == half)
            for entry in sorted(mine, key=os.DirEntry.inode):
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                    yield entry.name


def _clear(name, directory, before, test, opened):
    """Delete a file if it is a double bounce: return its size then, 0 for other mail, None if it has vanished."""
    fd, contents = opened(name, directory)
    if fd is None:
        return None
    try:
        if not contents.startswith(DOUBLE):
            return 0
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mtime >= before:
            return 0
        if not test and not _unlink(name, directory, status):
            return None
        return status.st_size
    finally:
        os.close(fd)


def _taken(name, directory, token):
    """Delete a file if it holds a token, and return whether it did and is gone."""
    fd, _ = __salt__["qmail_base_bulk.reader"]()(name, directory)
    if fd is None:
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or token not in os.pread(fd, LONGEST, 0):
            return False
        return _unlink(name, directory, status)
    finally:
        os.close(fd)


def _unlink(name, directory, status):
    """Delete the name of an open file; return whether it still was its name."""
    try:
        if not os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), status):
            return False
        # Between these two calls the owner can put another file there, from this directory or a link to elsewhere: then
        # that name is deleted, which the owner could have deleted, too.
        os.unlink(name, dir_fd=directory)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True
