"""
What a probe leaves behind in the queue, and how it is removed: only the probe, which is recognized by the random token
in its text.
"""

import contextlib
import os
import stat
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

BLOCK = 1 << 16  # bytes; a probe and its bounce are far shorter
POLL = 0.1  # seconds
SLACK = 2  # seconds by which the time of a file may be too early: file systems round it
HOPS = 2  # the probe itself, and the double bounce that it causes


def clear(token, since, age, known=(), home="/var/qmail", queue=None, grace=0, timeout=10):
    """
    Wait until a probe has left the queue, and have qmail-send give up what does not leave by itself.

    token, since, age, known, home, queue, grace, timeout
        As for ``qmail_queue.give_up``, which documents all of it.

    For ``qmail_queue``.
    """
    began = time.monotonic()
    given_up, alarms, empty = [], 0, 0
    while True:
        now = time.monotonic()
        waiting = _waits(token, since, age + now - began, (*known, *given_up), home, queue)
        # A bounce is queued before its message leaves, perhaps where we have looked already: only two looks are
        # certain.
        empty = 0 if waiting else empty + 1
        if empty == 2 or (waiting and now - began >= timeout):
            return {"given_up": given_up, "waits": [found["msg"] for found in waiting]}
        if waiting and now - began >= grace and alarms < HOPS:
            aged = [found for found in waiting if found["msg"] not in given_up and _age(found, token)]
            alarms += bool(aged)
            given_up += [found["msg"] for found in aged]
            for path in {found["queue"] for found in aged}:
                __salt__["qmail_queue_retry.alarm"](home, path)
        time.sleep(max(POLL, time.monotonic() - now))  # a look at a large queue takes its time, too


def _waits(token, since, age, known, home, queue):
    """
    List the queued messages that hold a token: a list of dicts with ``queue`` (its path) and ``msg`` (the number).

    It looks at those that are known, and at those that came after the probe was sent, even if the clock was set
    meanwhile.
    """
    since = min(since, time.time() - age) - SLACK
    found = []
    try:
        for path in __salt__["qmail_queue_envelope.queues"](queue, home):
            for part in __salt__["qmail_queue_envelope.parts"](path):
                with __salt__["qmail_queue_envelope.opened"](part) as fds:
                    names = list(_names(fds["mess"], since, {str(msg) for msg in known}))
                    found += [{"queue": path, "msg": int(name)} for name in names if _holds(name, fds["mess"], token)]
    except OSError as err:
        raise CommandExecutionError(f"Cannot read the queue: {err}.") from err
    return found


def _names(mess, since, known):
    """Iterate over the messages of one directory that may be the probe."""
    with os.scandir(mess) as entries:
        for entry in entries:
            if not (entry.name.isascii() and entry.name.isdecimal()):
                continue
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                status = entry.stat(follow_symlinks=False)
                # A message restored from a backup has an old mtime; nobody can set the ctime.
                fresh = max(status.st_mtime, status.st_ctime) >= since
                if stat.S_ISREG(status.st_mode) and (fresh or entry.name in known):
                    yield entry.name


def _holds(name, mess, token):
    fd, _ = __salt__["qmail_base_bulk.reader"]()(name, mess)
    if fd is None:
        return False
    try:
        return token.encode() in os.pread(fd, BLOCK, 0)
    finally:
        os.close(fd)


def _age(found, token):
    """Make a message old; return whether it is the probe, and qmail-send has preprocessed it."""
    name = str(found["msg"])
    try:
        part = __salt__["qmail_queue_envelope.part"](found["queue"], found["msg"])
        with __salt__["qmail_queue_envelope.opened"](part) as fds:
            info, _ = __salt__["qmail_base_bulk.reader"]()(name, fds["info"])
            if info is None:
                return False
            try:
                mine = _holds(name, fds["mess"], token)
                if mine:
                    __salt__["qmail_queue_envelope.age"](info)
                return mine
            finally:
                os.close(info)
    except OSError as err:
        raise CommandExecutionError(f"Cannot read the queue: {err}.") from err
