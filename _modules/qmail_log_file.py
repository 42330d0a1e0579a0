"""
Which log qmail-send writes, on a machine that may have several.

The running qmail-send shows it. If it doesn't, it is the log in which qmail-send wrote last. For other modules; people
use :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import shutil

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Where qmail's own documentation, its successors, the distributions and Plesk put the log.
DIRECTORIES = ("/var/log/qmail/send", "/var/log/qmail/qmail-send", "/var/log/qmail")
FILES = (
    "/var/log/maillog",
    "/var/log/mail.log",
    "/var/log/mail/info",
    "/usr/local/psa/var/log/maillog",
    "/var/log/messages",
    "/var/log/syslog",
)
JOURNALD = "journald"
# How far back qmail-send's lines are looked for among those of other programs.
LOOK_BACK = 64 * 2**20


def find(path=None, home="/var/qmail", queue=None):
    """
    Return the log: ``{"kind": …, "path": …, "files": […], "unread": […], "how": …}``.

    ``kind`` is ``multilog`` (a directory, of svlogd or s6-log too), ``file`` (with those it was rotated to) or
    ``journald``. ``files`` are in the order they were written in; ``unread`` are those that can't be unpacked here.
    ``how`` says how it was found: ``named`` by the caller, ``followed`` from the running qmail-send, or ``newest``: the
    one of the usual places in which qmail-send wrote last.

    Unless the way to it is known to its end, there are also ``others``, the names under which the sploggers of other
    qmails write to syslog, and ``mixed``: whether one of them writes under the same name as this one's.

    The usual places are /var/log/qmail/send, /var/log/qmail/qmail-send, /var/log/qmail, /var/log/maillog,
    /var/log/mail.log, /var/log/mail/info, /usr/local/psa/var/log/maillog, /var/log/messages, /var/log/syslog, journald,
    and, if splogger passes qmail-send's lines to syslog, the files that the syslog daemon has open.

    Raises SaltInvocationError if ``path`` has no log, CommandExecutionError if qmail-send has written in none of the
    usual places.

    path
        A file, a multilog directory, ``journald`` (of the unit of the running qmail-send, or if that isn't shown, of
        the units qmail-send and qmail, and what splogger sends as ``qmail``), ``journald:UNIT``, or ``None`` or
        ``auto`` to find it.

    home, queue
        The qmail home directory, and its queue (``None``: ``queue`` in the home): they select the running qmail-send.

    For ``qmail_log``, ``qmail_log_follow`` and ``qmail_log_tally``.
    """
    trail = _trail(home, queue)
    if path not in (None, "auto"):
        named = __salt__["qmail_log_part.named"](_journal(trail) if path == JOURNALD else path)
        return {**named, "how": "named", **_others(trail)}
    if trail and trail["kind"] != "syslog":
        found = [__salt__["qmail_log_part.named"](place) for place in trail["paths"]]
        return {**(found[0] if len(found) == 1 else _newest(found) or found[0]), "how": "followed"}
    written = map(__salt__["qmail_log_part.unrotated"], trail["paths"]) if trail else ()
    usual = [*DIRECTORIES, *written, *FILES, _journal(trail)]
    there = filter(None, map(_usual, dict.fromkeys(usual)))
    found = _newest({**log, **_others(trail)} for log in there)
    if not found:
        raise CommandExecutionError(f"found no log of qmail-send in {', '.join(usual)}: name it with path")
    return {**found, "how": "newest"}


def _others(trail):
    """What of the log may be another qmail's."""
    if not trail or trail["kind"] != "syslog":
        return {"others": [], "mixed": False}
    return {"others": trail["others"], "mixed": trail["mixed"]}


def _journal(trail):
    """The journal of the unit that the running qmail-send or its splogger belongs to; all of it if that isn't shown."""
    if trail and trail["kind"] == JOURNALD:
        return trail["paths"][0]
    unit = trail.get("unit") if trail else None
    return f"{JOURNALD}:{unit}" if unit else JOURNALD


def _trail(home, queue):
    """Where the running qmail-send logs to; ``None`` if none runs, or if that isn't shown."""
    try:
        pid = __salt__["qmail_base_process.find"](home, queue)
    except CommandExecutionError:
        return None
    return __salt__["qmail_log_trail.follow"](pid) if pid else None


def _usual(path):
    """The log in one of the usual places, if it is there."""
    if path.partition(":")[0] == JOURNALD and not shutil.which("journalctl"):
        return None
    try:
        return __salt__["qmail_log_part.named"](path)
    except SaltInvocationError:
        return None  # nothing, or a directory with other logs in it


def _newest(logs):
    """The log in which qmail-send wrote last, the first of several; ``None`` if it has written in none."""
    best, when = None, None
    for found in logs:
        try:
            told, _ = __salt__["qmail_log_age.last"](found, LOOK_BACK)
        except CommandExecutionError:
            if found["kind"] != JOURNALD:
                raise
            continue  # journalctl is here, and no journal
        if told is not None and (when is None or told > when):
            best, when = found, told
    return best
