"""
The log that the running qmail-send writes: the path from its descriptors to a file, as the kernel shows it.

qmail-send logs to its descriptor 0; a pipe leads from there to multilog, svlogd, s6-log or splogger, or a socket to
journald. A directory in the usual place may be a year old, or that of another qmail; this one is not.
"""

import os
import stat

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

PROC = "/proc"
# splogger passes lines to syslog, and these daemons write them. Their settings decide which file has qmail's lines.
SPLOGGERS = ("splogger", "logger")
SYSLOGS = ("rsyslogd", "syslog-ng", "syslogd", "sysklogd", "metalog")
SUPERVISORS = ("supervise", "runsv", "s6-supervise")
# Programs between qmail-send and what writes its log: one may insert readable times, or avoid a lock.
MOST_STEPS = 5
WRITES = os.O_WRONLY | os.O_RDWR


def follow(pid):
    """
    Return where a qmail-send logs to: ``{"kind": …, "paths": […]}``, or ``None`` if that isn't shown.

    ``kind`` is ``multilog`` (also for svlogd and s6-log; ``paths`` are its directories), ``file`` (its path),
    ``journald`` (``journald:UNIT``), or ``syslog``: then ``paths`` are all files that this machine's syslog daemon has
    open for writing, ``others`` are the names that other sploggers give their lines, ``mixed`` says that another one
    gives its lines the same name, and ``unit`` is the one splogger belongs to: journald may be the syslog daemon. Root
    is needed to follow the descriptors of another user's processes.

    pid
        The process id of qmail-send.

    For ``qmail_log_file``.
    """
    readers = None
    for number in (0, 1, 2):
        found = _stat(pid, number)
        if found is None:
            continue
        if stat.S_ISFIFO(found.st_mode):
            readers = _readers() if readers is None else readers
        end = _end(pid, number, readers, MOST_STEPS)
        if end:
            return end
    return None


def _end(pid, number, readers, steps):
    found = _stat(pid, number)
    if found is None or not steps:
        return None
    if stat.S_ISREG(found.st_mode):
        path = _path(pid, number)
        return {"kind": "file", "paths": [path]} if path and _flags(pid, number) & WRITES else None
    if stat.S_ISSOCK(found.st_mode):
        unit = __salt__["qmail_base_process.unit"](pid)
        return {"kind": "journald", "paths": [f"journald:{unit}"]} if unit else None
    if not stat.S_ISFIFO(found.st_mode):
        return None
    reading = (readers or {}).get((found.st_dev, found.st_ino), ())
    # A supervisor has the pipe of what it supervises, too: programs that write a log come first.
    ends = [_written(reader) for reader in reading]
    ends += [_end(reader, 1, readers, steps - 1) for reader in reading if _name(reader) not in SUPERVISORS]
    return next(filter(None, ends), None)


def _written(pid):
    """Where a process writes what it reads, if it keeps a log."""
    directories = _directories(pid)
    if directories:
        return {"kind": "multilog", "paths": directories}
    if _name(pid) not in SPLOGGERS:
        return None
    unit = __salt__["qmail_base_process.unit"](pid)
    own, others = _tag(pid), _others(pid)
    told = {"others": [name for name in others if name != own], "mixed": own in others, "unit": unit}
    return {"kind": "syslog", "paths": _syslog_files(), **told}


def _others(pid):
    """The names by which other sploggers send to syslog: another qmail's lines may be in the same file."""
    sploggers = [other for other in _pids() if _name(other) == "splogger" and other != pid]
    # Those of containers show here, too, and send to a syslog of their own.
    return list(dict.fromkeys(_tag(other) for other in sploggers if _space(other) == _space(pid)))


def _space(pid):
    try:
        return os.readlink(f"{PROC}/{pid}/ns/pid")
    except OSError:
        return None


def _tag(pid):
    return [*_text(f"{pid}/cmdline").split("\0")[1:-1], "splogger"][0]


def _readers():
    """Return which processes read from which pipe on their descriptor 0."""
    readers = {}
    for pid in _pids():
        found = _stat(pid, 0)
        if found is not None and stat.S_ISFIFO(found.st_mode) and not _flags(pid, 0) & WRITES:
            readers.setdefault((found.st_dev, found.st_ino), []).append(pid)
    return readers


def _directories(pid):
    """List the directories in which a process keeps a log: it has ``current`` and ``lock`` open there."""
    found = []
    for number in _listed(f"{PROC}/{pid}/fd"):
        path = _path(pid, number)
        if path and os.path.basename(path) in ("current", "lock") and _flags(pid, number) & WRITES:
            directory = os.path.dirname(path)
            if directory not in found and _is_log(directory):
                found.append(directory)
    return found


def _is_log(directory):
    """Return whether a directory holds a log; for a moment during a rotation it has no ``current``."""
    return any(name == "current" or name.startswith("@") for name in _listed(directory))


def _syslog_files():
    found = []
    for pid in _pids():
        if _name(pid) in SYSLOGS:
            for number in _listed(f"{PROC}/{pid}/fd"):
                about = _stat(pid, number)
                if about is not None and stat.S_ISREG(about.st_mode) and _flags(pid, number) & WRITES:
                    found.append(_path(pid, number))
    return [path for path in dict.fromkeys(found) if path]


def _pids():
    return [int(name) for name in _listed(PROC) if name.isdecimal()]


def _listed(directory):
    try:
        return sorted(os.listdir(directory), key=lambda name: (len(name), name))
    except OSError:
        return []


def _stat(pid, number):
    try:
        return os.stat(f"{PROC}/{pid}/fd/{number}")
    except OSError:
        return None


def _path(pid, number):
    """The path of an open file, if it still leads to this file: another namespace may have another one there."""
    link = f"{PROC}/{pid}/fd/{number}"
    try:
        path = os.readlink(link)
        path.encode()  # no answer could name what is not UTF-8
        return path if path.startswith("/") and os.path.samestat(os.stat(path), os.stat(link)) else None
    except (OSError, UnicodeEncodeError):
        return None


def _flags(pid, number):
    for line in _text(f"{pid}/fdinfo/{number}").split("\n"):
        if line.startswith("flags:"):
            return int(line.split()[1], 8)
    return 0


def _name(pid):
    return _text(f"{pid}/comm").strip()


def _text(name):
    try:
        with open(f"{PROC}/{name}", encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
