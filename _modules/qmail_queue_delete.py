"""
Delete bounces from a queue that no qmail-send works on.

For the other modules of this formula; ``qmail_queue.remove`` is what the command line is for.
"""

import contextlib
import math
import os
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Seconds. A process that has just ended can hold a lock for an instant longer.
PATIENCE = 2


def bounces(queue, before=None, single=False, test=False, lock=None):
    """
    Delete the double bounces from a queue, holding its lock: qmail-send does not start meanwhile.

    qmail-queue may go on queueing: ``todo``, ``intd`` and ``pid`` are not touched. Returns a dict with ``deleted`` and
    ``kept``: how many messages; and ``bytes``: the size of those deleted. Raises CommandExecutionError if qmail-send
    still holds the lock; then nothing is deleted.

    queue
        The queue directory.

    before
        Only those that came before this time, in seconds since the epoch; ``None`` for all.

    single
        Single bounces, too.

    test
        Only count; lock and touch nothing.

    lock
        What ``qmail_base_lock.opened`` returned, and the caller closes; ``None`` to open it here.

    For ``qmail_queue``.
    """
    before = math.inf if before is None else before
    with contextlib.ExitStack() as stack:
        if not test:
            _lock(stack, queue, lock)
        parts = __salt__["qmail_queue_envelope.parts"](queue)

        def work(half, tell):
            return _delete(parts[half::2], single, before, test, tell)

        again = None if test else lambda done, size: (done, 0, size)
        halves = __salt__["qmail_base_bulk.halves"](work, "qmail_queue.remove", again)
    deleted, kept, size = map(sum, zip(*halves))
    return {"deleted": deleted, "kept": kept, "bytes": size}


def _lock(stack, queue, lock):
    """Take the lock of the queue; if it is opened here, it is held until the stack closes."""
    if lock is None:
        lock = __salt__["qmail_base_lock.opened"](queue=queue)
        stack.callback(__salt__["qmail_base_lock.close"], lock)
    deadline = time.monotonic() + PATIENCE
    while not __salt__["qmail_base_lock.take"](lock):
        if time.monotonic() > deadline:
            path = __salt__["qmail_base_process.mutex"](queue=queue)
            raise CommandExecutionError(f"A qmail-send works on {queue}: it holds {path}. Stop it, and run this again.")
        time.sleep(0.05)


def _delete(parts, single, before, test, tell):
    """Delete the bounces in some split directories; return how many it deleted and kept, and the deleted size."""
    deleted = kept = size = 0
    for part in parts:
        with __salt__["qmail_queue_envelope.opened"](part) as fds:
            bounces = __salt__["qmail_queue_envelope.bounces"](part, fds, single=single, before=before)
            # In the order of their names, which are their inodes, so that the disk seeks less.
            found = sorted((bounce.name, bounce.size) for bounce in bounces)
            kept += len(os.listdir(fds["mess"])) - len(found)
            there = [(fds[kind], set(os.listdir(fds[kind]))) for kind in part.channels if kind in fds]
            always = [fds[kind] for kind in ("bounce", "info", "mess") if kind in fds]  # bounce may be missing
            for name, bytes_ in found:
                if not test:
                    _unlink(name, [*(fd for fd, names in there if name in names), *always])
                deleted += 1
                size += bytes_
                tell(deleted, size)
    return deleted, kept, size


def _unlink(name, directories):
    """
    Delete the files of one message, in the order in which qmail-send does it: channels, ``bounce``, ``info``, ``mess``.

    If this is cut off at any point, the rest is in a state that INTERNALS describes: if ``info`` is still there, the
    message has no recipients left and qmail-send ends it; if only ``mess`` is, qmail-send removes it after 36 hours.
    """
    for directory in directories:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
