"""
What a probe leaves behind, in the queue or in a Maildir, and how it is taken away again: the probe alone, which is
known by the random token in its subject.
"""

import contextlib
import os
import signal
import time

from salt.exceptions import CommandExecutionError

BLOCK = 1 << 16  # bytes; a probe is far shorter
LONG_AGO = 0  # seconds since the epoch: qmail-send gives up a message that is older than queuelifetime
POLL = 0.1  # seconds


def expire(msg, token, home="/var/qmail", queue=None):
    """
    Have qmail-send try a queued probe one last time, now, and return whether it is the probe.

    The age of a message is the time of its file in ``queue/info``; ALRM makes qmail-send try everything at once. A
    message that does not hold the token is left alone.

    Raises CommandExecutionError where qmail-send does not run, or the files cannot be reached.

    msg
        The number of the message.

    token
        What the message must hold to be the probe.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_leftover.expire 1442234 doublebounce-probe-0123456789abcdef
    """
    queue = queue or os.path.join(home, "queue")
    with _opened(_message(queue, "mess", msg)) as mess, _opened(_message(queue, "info", msg)) as info:
        if mess is None or info is None or token.encode() not in os.read(mess, BLOCK):
            return False
        os.utime(info, (LONG_AGO, LONG_AGO))
    pid = __salt__["qmail_process.find"](home, queue)
    if pid is None:
        raise CommandExecutionError("qmail-send does not run.")
    os.kill(pid, signal.SIGALRM)
    return True


def is_queued(msg, token, home="/var/qmail", queue=None):
    """
    Tell whether a probe is in the queue under this number.

    msg, token, home, queue
        As for ``expire``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_leftover.is_queued 1442234 doublebounce-probe-0123456789abcdef
    """
    with _opened(_message(queue or os.path.join(home, "queue"), "mess", msg)) as mess:
        return mess is not None and token.encode() in os.read(mess, BLOCK)


def waits(token, since, home="/var/qmail", queue=None):
    """
    List the numbers of the queued messages that hold a token, among those that came since a time.

    token
        What the message must hold.

    since
        Seconds since the epoch.

    home, queue
        As for ``expire``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_leftover.waits doublebounce-probe-0123456789abcdef 1795486275
    """
    found = []
    queue = queue or os.path.join(home, "queue")
    for directory, _, names in os.walk(os.path.join(queue, "mess")):
        for name in filter(str.isdecimal, names):
            with contextlib.suppress(OSError):  # gone meanwhile
                fresh = os.stat(os.path.join(directory, name)).st_mtime >= since - 1
                if fresh and is_queued(int(name), token, home, queue):
                    found.append(int(name))
    return found


def unstore(token, maildir):
    """
    Remove a probe from a Maildir, and return how many copies of it were removed.

    Only a file that holds the token is ever removed, by its directory's descriptor; no link is followed below the
    Maildir.

    token
        What the message must hold.

    maildir
        The Maildir, an absolute path.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_leftover.unstore doublebounce-probe-0123456789abcdef /home/joe/Maildir
    """
    removed = 0
    with _opened(os.path.join(maildir, "new"), os.O_DIRECTORY) as directory:
        for name in os.listdir(directory) if directory is not None else ():
            with _opened(name, dir_fd=directory) as file:
                if file is None or token.encode() not in os.read(file, BLOCK):
                    continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
                removed += 1
    return removed


def gone(msg, token, home="/var/qmail", queue=None, timeout=10):
    """
    Wait until a probe has left the queue, and return whether it has.

    msg, token, home, queue
        As for ``expire``.

    timeout
        Seconds to wait.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_leftover.gone 1442234 doublebounce-probe-0123456789abcdef
    """
    deadline = time.monotonic() + timeout
    while is_queued(msg, token, home, queue):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def _message(queue, kind, msg):
    """Return the path of a message's file: it lies in one of conf-split directories, by its number."""
    try:
        split = len(os.listdir(os.path.join(queue, kind)))
    except OSError as err:
        raise CommandExecutionError(f"Cannot look into {queue}/{kind}: {err.strerror}.") from err
    return os.path.join(queue, kind, str(int(msg) % max(split, 1)), str(int(msg)))


@contextlib.contextmanager
def _opened(path, flags=0, dir_fd=None):
    """Yield the descriptor of a file, or ``None`` where there is none that could be the probe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    except OSError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
