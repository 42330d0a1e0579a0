"""
Where qmail-send's log is, and which files it is made of.

For other modules; people ask :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import zlib

from salt.exceptions import CommandExecutionError, SaltInvocationError

# Where qmail's own documentation, its successors, the distributions and Plesk have the log.
DIRECTORIES = ("/var/log/qmail/send", "/var/log/qmail/qmail-send", "/var/log/qmail")
FILES = ("/var/log/maillog", "/var/log/mail.log", "/var/log/mail/info", "/usr/local/psa/var/log/maillog")
JOURNALD = "journald"
# A unit can't be imitated; an identifier can, by whoever may write to the journal. splogger has no unit of its own.
UNITS = ("_SYSTEMD_UNIT=qmail-send.service", "_SYSTEMD_UNIT=qmail.service", "SYSLOG_IDENTIFIER=qmail")

BLOCK = 2**20
UNPACK = {b"\x1f\x8b\x08": gzip.open, b"BZh": bz2.open, b"\xfd7z": lzma.open}
ROTATED = re.compile(r"(?:\.(?P<number>\d{1,4})|[.-](?P<date>\d{8})(?:-?\d+)?)(?P<packed>\.(?:gz|bz2|xz))?")
ROTATED_MULTILOG = re.compile(r"@[0-9a-f]{24}\.[su]")


def _listed(directory):
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as err:
        raise CommandExecutionError(f"cannot read the directory {directory}: {err.strerror}") from err


def _multilog(directory):
    """The files of a multilog directory: ``previous`` is there while multilog is about to rename it."""
    names = _listed(directory)
    found = [name for name in names if ROTATED_MULTILOG.fullmatch(name)]
    return [
        os.path.join(directory, name) for name in found + [name for name in ("previous", "current") if name in names]
    ]


def _age(name):
    """Sort key of a rotated file, oldest first: dates count up, numbers count down."""
    match = ROTATED.fullmatch(name)
    return (0, name, 0) if match["date"] else (1, "", -int(match["number"]))


def _syslog(path):
    """The files that a syslog file was rotated to, and the file itself."""
    directory, base = os.path.split(path)
    endings = [name[len(base) :] for name in _listed(directory or ".") if name.startswith(base)]
    rotated = [name for name in endings if ROTATED.fullmatch(name)]
    # While logrotate packs a file, it is there twice.
    once = [name for name in rotated if not (ROTATED.fullmatch(name)["packed"] and name.rpartition(".")[0] in rotated)]
    return [path + name for name in sorted(once, key=_age)] + ([path] if os.path.exists(path) else [])


def _named(path):
    """The log that a caller names."""
    if path == JOURNALD or path.startswith(JOURNALD + ":"):
        return {"kind": JOURNALD, "path": path, "files": []}
    directory = os.path.dirname(path) if os.path.basename(path) == "current" else path
    if os.path.isdir(directory) and (directory == path or len(_multilog(directory)) > 1):
        files = _multilog(directory)
        if not files:
            raise SaltInvocationError(
                f"path={path!r} has no log in it: multilog would have put the file 'current' there"
            )
        return {"kind": "multilog", "path": directory, "files": files}
    files = _syslog(path)
    if not files:
        raise SaltInvocationError(f"path={path!r} does not exist: give a file, a multilog directory, or {JOURNALD}")
    return {"kind": "file", "path": path, "files": files}


def _tells(found):
    """Say whether qmail-send wrote to a log lately: a maillog may be that of another program."""
    count = __salt__["qmail_logline.count"]
    said = rb"(?:new|end|info|bounce|starting delivery \d+:)"
    return any(count(data, b" msg ", said) for name in reversed(found["files"][-2:]) for data in _pieces(name))


def _pieces(name):
    """What is in a file, up to where it can't be unpacked."""
    file = opened(name)
    if file is not None:
        with file, contextlib.suppress(EOFError, zlib.error, lzma.LZMAError, OSError):
            yield from iter(lambda: file.read(BLOCK), b"")


def _journal_tells():
    if not shutil.which("journalctl"):
        return False
    command = journal_command(JOURNALD, ["--lines=1"])
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout
    return bool(said.strip())


def find(path=None):
    """
    Return which log there is: ``{"kind": …, "path": …, "files": […]}``.

    ``kind`` is ``multilog`` (a directory), ``file`` (with those it was rotated to) or ``journald``. ``files`` are in
    the order they were written in. Raises SaltInvocationError where ``path`` has no log, CommandExecutionError where
    there is none in the usual places.

    path
        A file, a multilog directory, ``journald``, ``journald:UNIT``, or ``None``: the first of /var/log/qmail/send,
        /var/log/qmail/qmail-send, /var/log/qmail, /var/log/maillog, /var/log/mail.log, /var/log/mail/info,
        /usr/local/psa/var/log/maillog and journald in which qmail-send has written.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logfile.find
    """
    if path not in (None, "auto"):
        if not isinstance(path, str) or not path:
            raise SaltInvocationError(f"path={path!r} is no name: give a file, a multilog directory, or {JOURNALD}")
        return _named(path)
    for directory in DIRECTORIES:
        if _multilog(directory):
            return _named(directory)
    for name in FILES:
        if os.path.exists(name) and _tells(_named(name)):
            return _named(name)
    if _journal_tells():
        return _named(JOURNALD)
    looked = ", ".join((*DIRECTORIES, *FILES, JOURNALD))
    raise CommandExecutionError(f"found no log of qmail-send in {looked}: name it with path")


def opened(name):
    """
    Open one file of a log for reading, unpacked; ``None`` where it was rotated away. For other modules: close it.

    A file that isn't packed is opened without a buffer. Raises CommandExecutionError for what can't be read, or is no
    regular file.

    name
        The file, one of those that ``qmail_logfile.find`` tells.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logfile.find
    """
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise CommandExecutionError(f"cannot read the log {name}: {err.strerror}") from err
    file = os.fdopen(handle, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise CommandExecutionError(f"the log {name} is no regular file")
    unpack = UNPACK.get(os.pread(handle, 3, 0))
    return unpack(file) if unpack else file


def journal_command(path=JOURNALD, options=()):
    """
    Return the command that prints qmail-send's lines from the journal, with a Unix time in front of each.

    path
        ``journald`` for the units qmail-send and qmail and for what splogger sends as ``qmail``, or ``journald:UNIT``.

    options
        More options for journalctl.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_logfile.journal_command journald:qmail-send.service
    """
    unit = path.partition(":")[2]
    matches = [f"_SYSTEMD_UNIT={unit}"] if unit else " + ".join(UNITS).split()
    return ["journalctl", "--no-pager", "--quiet", "--all", "--output=short-unix", *options, *matches]
