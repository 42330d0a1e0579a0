"""
What the files of a qmail queue say about its messages: which ones there are, and who sent them.

For the other modules of this formula; :py:mod:`qmail_queue` is what the command line is for. A message ``N`` is
``mess/S/N``, its envelope sender ``info/S/N``, where ``S`` is ``N`` modulo the split of the queue (fmtqfn.c,
INTERNALS). Split, channels and the shape of ``todo`` are looked up, because forks differ in them.
"""

import contextlib
import glob
import itertools
import math
import os
import re
import stat
from collections import namedtuple

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

DOUBLE = b"F#@[]"
SINGLE = b"F"

# A longer sender file does not count as a bounce: qmail's own has 6 bytes, and indimail adds a few headers.
LONGEST = 65536
FIRST = 512

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

CHANNEL = re.compile(r"local|remote|suppl[0-9]+")

# One of the `split` directories of a queue. `waiting`: when each message in todo/ came, by name.
Part = namedtuple("Part", "queue number split channels waiting")
Bounce = namedtuple("Bounce", "name came size fd")

# To give up a message, the mtime of its sender file is set to this or less, in seconds since the epoch.
AGED = 1


def queues(queue=None, home="/var/qmail"):
    """
    Return the paths of the queues that are meant.

    Raises SaltInvocationError for what is not an absolute path, and CommandExecutionError if there is no queue.

    queue
        A queue directory, or a list of them; ``*`` is a pattern. Otherwise ``HOME/queue``, and if that is not a queue
        itself (indimail), all queues in it or beside it.

    home
        The qmail home directory.

    For ``qmail_queue``, ``qmail_queue_glance`` and ``qmail_queue_leftover``.
    """
    __salt__["qmail_base_check.arguments"](home=home)
    if queue is None:
        patterns = [os.path.join(home, name) for name in ("queue", "queue/*", "queue*")]
        found = [next(filter(None, map(_matching, patterns)), [])]
    else:
        patterns = queue if isinstance(queue, (list, tuple)) else [queue]
        found = list(map(_matching, patterns))
    if not all(found) or not found:
        missing = [pattern for pattern in patterns if not _matching(pattern)]
        for pattern in missing:
            __salt__["qmail_base_access.there"](
                os.path.join(str(pattern), "info")
            )  # an error where that is closed to us
        raise CommandExecutionError(f"no qmail queue at {', '.join(missing)}: nothing there has info/ and mess/")
    return list(dict.fromkeys(os.path.realpath(path) for paths in found for path in paths))


def parts(queue, todo=True):
    """
    Return the split directories of one queue, each as a tuple that :py:func:`opened` takes.

    queue
        The queue directory.

    todo
        ``False``: without looking which messages wait in ``todo``.

    For ``qmail_queue``, ``qmail_queue_delete``, ``qmail_queue_glance`` and ``qmail_queue_leftover``.
    """
    with contextlib.ExitStack() as stack:
        top = _below(stack, None, queue)
        channels = tuple(sorted(filter(CHANNEL.fullmatch, os.listdir(top))))
        split = _split(os.listdir(_below(stack, top, "info")))
        waiting = dict(_waiting(_below(stack, top, "todo"))) if todo else {}
    if not split:
        raise CommandExecutionError(f"{queue} is not a qmail queue: there is no {queue}/info/0")
    return [Part(queue, number, split, channels, waiting) for number in range(split)]


def part(queue, number):
    """
    Return the split directory that a message is in, as :py:func:`parts` does.

    queue
        The queue directory.

    number
        The message number.

    For ``qmail_queue_leftover``.
    """
    found = parts(queue)
    return found[number % len(found)]


@contextlib.contextmanager
def opened(part):
    """
    Open one split directory: a context with a dict of descriptors, by ``mess``, ``info``, ``bounce`` and channel.

    A channel that lacks this directory is left out.

    part
        One of :py:func:`parts`.

    For ``qmail_queue``, ``qmail_queue_delete``, ``qmail_queue_glance`` and ``qmail_queue_leftover``.
    """
    number = str(part.number)
    with contextlib.ExitStack() as stack:
        top = _below(stack, None, part.queue)
        fds = {kind: _below(stack, top, kind, number) for kind in ("mess", "info")}
        for kind, *split in (("bounce",), *((channel, number) for channel in part.channels)):
            with contextlib.suppress(FileNotFoundError):
                fds[kind] = _below(stack, top, kind, *split)
        yield fds


def count(part, fds):
    """
    Count one split directory: return how many messages, double bounces and single bounces it holds, the size of all
    messages in bytes, and when the oldest one that is preprocessed came (infinity if there is none).

    part, fds
        One of :py:func:`parts`, and what :py:func:`opened` makes of it.

    For ``qmail_queue``.
    """
    names = set()
    messages = double = single = size = 0
    oldest = math.inf
    for entry in _files(fds["mess"]):
        status = _status(entry.name, fds["mess"])
        if status and _belongs(entry.name, part):
            names.add(entry.name)
            messages += 1
            size += status.st_size
    names.difference_update(part.waiting)
    for name, sender, status, _ in _senders(fds["info"], names, __salt__["qmail_base_bulk.reader"]()):
        double += sender == DOUBLE
        single += sender == SINGLE
        message = _status(name, fds["mess"]) if status.st_mtime <= AGED else None
        oldest = min(oldest, _came(status, message))
    return messages, double, single, size, oldest


def bounces(part, fds, single=False, before=math.inf):
    """
    Iterate over the double bounces in one split directory: tuples of name, arrival time of the message (mtime of the
    sender file), size of the message, and a descriptor of the sender file, which stays open until the next one.

    What is not certain is left out: a message that is also in ``todo``, and one that is younger than its sender file,
    which then is from another message of the same number.

    part, fds
        One of :py:func:`parts`, and what :py:func:`opened` makes of it.

    single
        Single bounces, too.

    before
        Only those that came before this time, in seconds since the epoch.

    For ``qmail_queue`` and ``qmail_queue_delete``.
    """
    wanted = (DOUBLE, SINGLE) if single else (DOUBLE,)
    names = {name for name in os.listdir(fds["mess"]) if name not in part.waiting and _belongs(name, part)}
    senders = _senders(fds["info"], names, __salt__["qmail_base_bulk.reader"]())
    return (
        Bounce(name, _came(status, message), message.st_size, fd)
        for name, sender, status, fd in senders
        if sender in wanted and status.st_mtime < before and stat.S_ISREG(status.st_mode)
        for message in [_status(name, fds["mess"])]
        if message and stat.S_ISREG(message.st_mode) and message.st_mtime <= _written(status)
        if _came(status, message) < before
    )


def births(part, fds):
    """
    Iterate over the messages in one split directory, as the disk has them: for a double bounce, when it came; ``None``
    for any other. Whoever stops has not looked at the rest.

    part, fds
        One of :py:func:`parts`, and what :py:func:`opened` makes of it.

    For ``qmail_queue_glance``.
    """
    for name, sender, status, _ in _senders(fds["info"], None, __salt__["qmail_base_bulk.reader"]()):
        if _belongs(name, part):
            message = _status(name, fds["mess"]) if sender == DOUBLE else None
            yield _came(status, message) if message else None


def recipient(part, fds, name):
    """
    Return the first recipient of a message, done or not; ``None`` if none is left.

    part, fds
        One of :py:func:`parts`, and what :py:func:`opened` makes of it.

    name
        The message number, as text.

    For ``qmail_queue``.
    """
    for channel in filter(fds.get, part.channels):
        fd, contents = __salt__["qmail_base_bulk.reader"]()(name, fds[channel])
        if fd is not None:
            os.close(fd)
            record, end, _ = contents.partition(b"\0")
            if record[:1] in (b"T", b"D"):
                return record[1:].decode(errors="backslashreplace") + ("" if end else "…")
    return None


def age(fd):
    """
    Make a message older than any ``queuelifetime``: qmail-send gives it up after the next try.

    fd
        A descriptor of its sender file.

    For ``qmail_queue`` and ``qmail_queue_leftover``.
    """
    os.utime(fd, (AGED, AGED))


def is_aged(name, info):
    """
    Return whether an aged message is still there, and is not another one of the same number.

    name
        The message number, as text.

    info
        The descriptor of its directory in ``info``.

    For ``qmail_queue``.
    """
    status = _status(name, info)
    return status is not None and status.st_mtime == AGED


def _matching(pattern):
    """Return the queues that a path or pattern stands for."""
    is_text = isinstance(pattern, str) and __salt__["qmail_base_text.is_sendable"](pattern)
    if not is_text or not os.path.isabs(pattern):
        raise SaltInvocationError(f"a queue is an absolute path, not {pattern!r}")
    paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
    return [path for path in paths if all(os.path.isdir(os.path.join(path, kind)) for kind in ("info", "mess"))]


def _below(stack, parent, *names):
    """Open a directory; below another one no link is followed. The stack closes it, and those on the way to it."""
    fd = parent
    for name in names:
        fd = os.open(name, DIRECTORY | (0 if fd is None else os.O_NOFOLLOW), dir_fd=fd)
        stack.callback(os.close, fd)
    return fd


def _split(names):
    """Return how many directories there are from 0 on without a gap."""
    return next(number for number in itertools.count() if str(number) not in names)


def _waiting(todo):
    """Iterate over the messages in todo/, with bigtodo in its directories: their names, and when they came."""
    for entry in os.scandir(todo):
        if entry.name.isdecimal() and entry.is_dir(follow_symlinks=False):
            with contextlib.ExitStack() as stack:
                yield from _waiting_files(_below(stack, todo, entry.name))
    yield from _waiting_files(todo)


def _waiting_files(directory):
    for entry in _files(directory):
        status = _status(entry.name, directory)
        if status and entry.name.isdecimal():
            yield entry.name, status.st_mtime


def _files(directory):
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry


def _belongs(name, part):
    """Return whether qmail would look for a file of this name in this directory."""
    return name.isdecimal() and name.isascii() and name[0] != "0" and int(name) % part.split == part.number


def _status(name, directory):
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _came(status, message):
    """
    Return when a message came, by its sender file and by the message itself.

    For one that is to be given up, the sender file no longer shows that; the message was written at that time, too.
    """
    return message.st_mtime if message and status.st_mtime <= AGED else status.st_mtime


def _written(status):
    """
    Return the time until which the message of a sender file was complete.

    qmail-send writes the sender file after qmail-queue has written the message. A utime and a restore from a backup
    change mtime, and a clock that was wrong makes ctime too early: the later one of the two counts. The two seconds are
    for a program that wrote both at once, in the other order.
    """
    return max(status.st_mtime, status.st_ctime) + 2


def _senders(info, names, opened):
    """
    Iterate over the sender files of these messages, or of all with ``None``: name, sender record, status, and the open
    descriptor.
    """
    for entry in _files(info):
        if names is None or entry.name in names:
            fd, contents = opened(entry.name, info)
            if fd is not None:
                try:
                    yield entry.name, _sender(_rest(fd, contents)), os.fstat(fd), fd
                finally:
                    os.close(fd)


def _rest(fd, contents):
    """Return the contents of a sender file whose first bytes are given; nothing, if it is too long for one."""
    if len(contents) < FIRST:
        return contents
    contents += os.read(fd, LONGEST)
    return contents if len(contents) < LONGEST else b""


def _sender(contents):
    """
    Return the sender record of an info file: the one that starts with ``F``.

    None if there is not exactly one, or the last record has no end: then qmail-send would not know it, either.
    """
    if contents == DOUBLE + b"\0":
        return DOUBLE
    if contents[-1:] != b"\0":
        return None
    found = [record for record in contents[:-1].split(b"\0") if record[:1] == b"F"]
    return found[0] if len(found) == 1 else None
