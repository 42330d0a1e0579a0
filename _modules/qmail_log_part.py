"""
The files of a log: the one that is written to, and those that it was rotated to, packed or not.

For other modules; people use :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import math
import os
import re
import shutil
import stat
import subprocess
import time
import zlib

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

JOURNALD = "journald"
UNPACK = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open, b"\x5d\x00\x00": lzma.open}
UNZSTD = ["zstd", "-dcq"]
UNPACK_ERRORS = (EOFError, zlib.error, lzma.LZMAError, OSError)
ZSTD = b"\x28\xb5\x2f\xfd"
# The first bytes of a log hold times: no two of its files begin alike.
HEAD = 256
# What Python cannot unpack: compress, lz4, zip, 7z, lzop.
PACKED = (b"\x1f\x9d", b"\x04\x22\x4d\x18", b"PK\x03\x04", b"7z\xbc\xaf", b"\x89LZO")
# logrotate's names, with its dateformat and its extension, those of newsyslog, and Plesk's maillog.processed.
ROTATED = re.compile(
    r"(?P<processed>\.processed)?(?:\.(?P<number>\d{1,4})|[.-](?P<date>\d{4}(-?)\d\d\4\d\d)\d*(?:[-_T]\d+)*)?"
    r"(?P<extension>\.log)?(?P<packed>\.(?:gz|bz2|xz|lzma|zst|Z|lz4|lzo|zip|7z))?"
)
DATED = re.compile(r"[.-](\d{4})-?(\d\d)-?(\d\d)\d*(?:[-_T]\d+)*(?:\.\w+)*$")
ROTATED_MULTILOG = re.compile(r"@[0-9a-f]{24}\.[su](?:\.\w{1,4})?")


def _listed(directory):
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise CommandExecutionError(f"cannot read the directory {directory}: {err.strerror}") from err


def _multilog(directory):
    """The files of a multilog directory: ``previous`` exists just before multilog renames it."""
    names = _listed(directory)
    found = [name for name in names if ROTATED_MULTILOG.fullmatch(name)]
    return [
        os.path.join(directory, name) for name in found + [name for name in ("previous", "current") if name in names]
    ]


def _ending(name, base):
    """What the name of a rotated file adds to the log's: ``mail.log`` may also become ``mail-20261124.log``."""
    stem, dot, extension = base.rpartition(".")
    if name.startswith(base):
        return ROTATED.fullmatch(name[len(base) :]) if name != base else None
    if dot and extension == "log" and name.startswith(stem):
        match = ROTATED.fullmatch(name[len(stem) :])
        return match if match and match["extension"] else None
    return None


def _age(match):
    """Sort key of a rotated file among those of its kind, oldest first: dates count up, numbers count down."""
    date = re.sub(r"\D", "", match[0].partition(match["date"])[2]) if match["date"] else ""
    return (match["date"] or "").replace("-", ""), date, -int(match["number"] or 0)


def _syslog(path):
    """The files that a syslog file was rotated to, and the file itself."""
    # In this order: what is renamed in between is among the rotated ones then.
    own = [path] if os.path.exists(path) else []
    rotated = _rotated(path)
    if not rotated and os.path.islink(path):
        rotated = _rotated(os.path.realpath(path))
    return rotated + own


def _is_rotated(match):
    return bool(match and any(match.group("number", "date", "processed")))


def unrotated(path):
    """
    Return the name of a log before it was rotated; the name itself where that is no rotated one's.

    A syslog daemon writes to the rotated file until it is told to open its files again.

    path
        A file.

    For ``qmail_log_file``.
    """
    directory, name = os.path.split(path)
    stems = [name[:end] for end in range(1, len(name))]
    names = [f"{stem}.log" for stem in stems if name.endswith(".log")] + stems
    found = [base for base in names if _is_rotated(_ending(name, base))]
    there = [base for base in found if os.path.exists(os.path.join(directory, base))]
    return os.path.join(directory, (there or found or [name])[0])


def _rotated(path):
    directory, base = os.path.split(path)
    endings = {os.path.join(directory, name): _ending(name, base) for name in _listed(directory or ".")}
    found = {name: match for name, match in endings.items() if _is_rotated(match)}
    plain = {name: name[: -len(match["packed"])] for name, match in found.items() if match["packed"]}
    for name in [name for name in plain if plain[name] in found and _is_packed_from(name, plain[name])]:
        del found[name]
    return _merged(list(_kinds(found)), found)


def _is_packed_from(packed, plain):
    """
    Return whether one file is made of the other, or may be: while logrotate packs a file, it exists twice.

    Once it was told to pack, or no longer to, a number may stand for another file, which was left behind.
    """
    if _packed(packed):
        return True
    with contextlib.suppress(*UNPACK_ERRORS, CommandExecutionError), _opened(packed) as one, _opened(plain) as other:
        # Of what isn't recognized as packed there is too little yet.
        return isinstance(one, io.FileIO) or other.read(HEAD).startswith(one.read(HEAD))
    return True


def _opened(name):
    return opened(name) or io.BytesIO()


def _kinds(found):
    """Yield rotated files kind by kind: those of a kind are in the order of their names, whatever else is there."""
    kinds = {}
    for name in sorted(found, key=lambda name: (_age(found[name]), name)):
        match = found[name]
        kind = "date" if match["date"] else (bool(match["processed"]), bool(match["extension"]))
        kinds.setdefault(kind, []).append(name)
    for kind, names in kinds.items():
        if kind == "date" or len({_age(found[name]) for name in names}) == len(names):
            yield names
            continue
        for packed in dict.fromkeys(found[name]["packed"] for name in names):
            yield [name for name in names if found[name]["packed"] == packed]


def _merged(kinds, found):
    """
    Return the files of all kinds in the order they were written in.

    When its options are changed, logrotate leaves behind what it no longer makes. Only the files' times tell which kind
    that is, and they are asked for only then.
    """
    if len(kinds) < 2:
        return [name for names in kinds for name in names]
    timed = []
    for names in kinds:
        before = math.inf
        for place, name in reversed(list(enumerate(names))):
            # Whatever touched it since, it was written before the next one of its kind.
            before = min(before, newest(name, _mtime(name)))
            timed.append((before, _on_a_tie(found[name]), place, name))
    return [name for *_, name in sorted(timed)]


def _on_a_tie(match):
    """
    Rank files of the same time, as copies are: only the newest of the dates is not before it, and what has neither date
    nor number yet was moved last.
    """
    return 1 if match["date"] else 0 if match["number"] else 2


def _mtime(name):
    try:
        return os.stat(name).st_mtime
    except OSError:
        return math.inf  # it was rotated away just now: the next one of its kind, or its name, tells its time


def newest(name, mtime):
    """
    Return a time that no line of a file is newer than, in seconds since the epoch.

    The date in its name is more reliable than the file's time: a copy has another one.

    name
        The file.

    mtime
        When it was changed last, in seconds since the epoch.

    For ``qmail_log_block``.
    """
    match = DATED.search(name)
    try:
        date = match and time.strptime("".join(match.groups()), "%Y%m%d")
        return min(mtime, time.mktime(date) + 86400) if match else mtime
    except (ValueError, OverflowError):
        return mtime


def _packed(name):
    """Return whether a file is packed in a way that can't be unpacked here."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # reported when it is read
    try:
        magic = os.pread(handle, 6, 0)
    except OSError:
        return False
    finally:
        os.close(handle)
    return magic.startswith(PACKED) or (magic.startswith(ZSTD) and not shutil.which("zstd"))


def _log(kind, path, files):
    unread = [name for name in files if _packed(name)]
    if files and unread == files:
        raise CommandExecutionError(f"no file of the log {path} can be unpacked here: {', '.join(unread)}")
    return {"kind": kind, "path": path, "files": [name for name in files if name not in unread], "unread": unread}


def named(path):
    """
    Return the log of a name: ``{"kind": …, "path": …, "files": […], "unread": […]}``.

    ``kind`` is ``multilog`` (a directory, of svlogd or s6-log too), ``file`` (with those it was rotated to) or
    ``journald``. ``files`` are in the order they were written in; ``unread`` are those of its files that can't be
    unpacked here. Raises SaltInvocationError if there is no such log, CommandExecutionError if nothing of it can be
    read.

    path
        A file, a multilog directory, ``journald``, or ``journald:UNIT``.

    For ``qmail_log_file`` and ``qmail_log_follow``.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise SaltInvocationError(f"path={path!r} is not a log: give a file, a multilog directory, or {JOURNALD}")
    if path == JOURNALD or path.startswith(JOURNALD + ":"):
        return _log(JOURNALD, path, [])
    directory = os.path.dirname(path) if os.path.basename(path) == "current" else path
    if os.path.isdir(directory) and (directory == path or len(_multilog(directory)) > 1):
        files = _multilog(directory)
        if not files:
            raise SaltInvocationError(f"path={path!r} holds no log: multilog would have put the file 'current' there")
        return _log("multilog", directory, files)
    files = _syslog(path)
    if not files:
        raise SaltInvocationError(f"path={path!r} does not exist: give a file, a multilog directory, or {JOURNALD}")
    return _log("file", path, files)


def moved(path, names, opened):
    """
    Return the files that a log is made of now, where it was rotated while they were opened; else ``None``.

    Between the look at the names and the opening of the files one name may come to stand for another file.

    path
        The log, as ``named`` takes it.

    names
        Its files as ``named`` told them before.

    opened
        Pairs: a name, and the file that was opened under it.

    For ``qmail_log_block`` and ``qmail_log_follow``.
    """
    try:
        now = named(path)["files"]
    except SaltInvocationError:
        return None  # it is gone: whoever has it open has the last of it
    return None if now == names and all(_is_still(name, file) for name, file in opened) else now


def _is_still(name, file):
    try:
        return os.path.samestat(os.stat(name), os.fstat(file.fileno()))
    except OSError:
        return False


def opened(name):
    """
    Open one file of a log for reading, unpacked; ``None`` if it was rotated away. For other modules, which close it.

    A file that isn't packed is opened without a buffer. Raises CommandExecutionError for what can't be read, or is not
    a regular file.

    name
        The file, one of those that ``named`` returns.

    For ``qmail_log_age``, ``qmail_log_block`` and ``qmail_log_follow``.
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
        raise CommandExecutionError(f"the log {name} is not a regular file")
    magic = os.pread(handle, 6, 0)
    if magic.startswith(ZSTD):
        return _Zstd(file)
    unpack = next((unpack for begin, unpack in UNPACK.items() if magic.startswith(begin)), None)
    return unpack(file) if unpack else file


class _Zstd(io.RawIOBase):
    """A file that the program zstd unpacks, as it is read."""

    def __init__(self, file):
        super().__init__()
        self.file, self.process, self.at = file, None, 0

    def fileno(self):
        return self.file.fileno()

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=os.SEEK_SET):
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("a packed file is read from its beginning")
        if offset < self.at:
            self._end()
        while self.at < offset and self.read(min(offset - self.at, 2**20)):
            pass
        return self.at

    def read(self, size=-1):
        """Read this many bytes, and fewer only at the end."""
        if self.process is None:
            self._begin()
        data = self.process.stdout.read(size)
        self.at += len(data)
        if len(data) < size and self.process.wait():
            raise OSError(f"zstd ended with status {self.process.returncode}")
        return data

    def _begin(self):
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        self.process = subprocess.Popen(UNZSTD, stdin=self.file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _end(self):
        if self.process:
            self.process.kill()
            self.process.stdout.close()
            self.process.wait()
        self.process, self.at = None, 0

    def close(self):
        if not self.closed:
            self._end()
            self.file.close()
        super().close()
