"""
qmail-send's lines in systemd's journal: how to ask journalctl for them, and how to read what it wrote into a file.

For other modules; people use :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import contextlib
import io
import json
import re
import select
import subprocess
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

JOURNALD = "journald"
# Anybody may write to the journal under any identifier; as a unit only what runs in it, and that are the programs of
# dot-qmail files, too. splogger has no unit of its own.
UNITS = ("_SYSTEMD_UNIT=qmail-send.service", "_SYSTEMD_UNIT=qmail.service", "SYSLOG_IDENTIFIER=qmail")
OWN_UNIT = re.compile(r"[a-z]?qmail(?:-send)?\d{0,3}\.service")
OWN_NAME = re.compile(r"[a-z]?qmail(?:-send|-start)?\d{0,3}|splogger|send")
# A longer field of an entry in the form export is not read any further, and no longer entry in the form json.
LONGEST = 2**22
BLOCK = 2**16
# What is the same of an entry in whichever file it lies: its boot, its times, and a hash of its fields. Its number is
# another one after it was moved from /run to /var.
OF_THE_ENTRY = ("b", "m", "t", "x")
# How often journalctl is run where it fails: journald empties files before it deletes them, under whoever reads them.
TRIES = 5


def printed(path, options, output, read):
    """
    Iterate over what journalctl prints. Whoever stops early ends it. Raises CommandExecutionError where it fails.

    path
        ``journald`` for the units qmail-send and qmail and for what splogger sends as ``qmail``, or ``journald:UNIT``.

    options
        More options for journalctl.

    output
        One of journalctl's forms; ``short-unix`` has a Unix time in front of each line.

    read
        A function that iterates over what it prints, an open file without a buffer.

    For ``qmail_log_block``.
    """
    # The caller may iterate outside of the loader, where there is no __salt__.
    outputs = __salt__["qmail_base_output.file"], __salt__["qmail_base_output.said"]
    return _printed(_command(path, options, output), read, *outputs)


def _printed(command, read, file, told):
    with file() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            )
        except OSError as err:
            raise CommandExecutionError(f"cannot run journalctl: {err.strerror}") from err
        ended = False
        try:
            yield from read(process.stdout)
            ended = True
        finally:
            if not ended:
                process.kill()
            process.stdout.close()
            status = process.wait()
        if status:
            raise CommandExecutionError(f"journalctl failed with status {status}: {told(errors)}")


def entries(path, options, limit, seconds=None):
    """
    Return entries of the journal, the oldest first: for each a pair, its cursor, and its line as text. Raises
    CommandExecutionError where journalctl fails, or prints nothing in time.

    journalctl's forms for people have no cursor but that of the last entry, behind it: whoever stops reading earlier
    would not know where.

    path, options
        As for ``printed``.

    limit
        Read about this many bytes of lines at most, but one entry beside the first.

    seconds
        End journalctl after this time, and return what it has printed until then; ``None``: wait for it.

    For ``qmail_log_follow``.
    """
    read = _lines if seconds is None else _until(seconds)
    for _ in range(TRIES - 1):
        try:
            return _entries(path, options, limit, read, seconds)
        except CommandExecutionError:
            pass
    return _entries(path, options, limit, read, seconds)


def _entries(path, options, limit, read, seconds):
    found = []
    with contextlib.closing(printed(path, options, "json", read)) as lines:
        for data in lines:
            if data is None and found:
                break
            if data is None:
                raise CommandExecutionError(f"journalctl printed nothing within {seconds:.1f} seconds")
            entry = _entry(data)
            if isinstance(entry.get("__CURSOR"), str):
                found.append((entry["__CURSOR"], _text(entry)))
                limit -= len(found[-1][1]) if len(found) > 1 else 0
            if limit <= 0:
                break
    return found


def is_same(cursor, other):
    """
    Return whether two cursors are those of one entry, which may have moved from one file of the journal to another.

    cursor, other
        The cursors.

    For ``qmail_log_follow``.
    """
    parts, others = (dict(part.partition("=")[::2] for part in text.split(";")) for text in (cursor, other))
    return all(parts.get(name) == others.get(name) for name in OF_THE_ENTRY)


def _command(path, options, output):
    unit = path.partition(":")[2]
    matches = [f"_SYSTEMD_UNIT={unit}"] if unit else " + ".join(UNITS).split()
    return ["journalctl", "--no-pager", "--quiet", "--all", f"--output={output}", *options, *matches]


def _lines(file):
    lines = io.BufferedReader(file)
    return iter(lambda: lines.readline(LONGEST), b"")


def _until(seconds):
    """The same for so long, and then ``None``, whatever else might come."""
    deadline = time.monotonic() + seconds

    def lines(file):
        rest, ready = b"", select.poll()
        ready.register(file, select.POLLIN)
        while ready.poll(max(0, deadline - time.monotonic()) * 1000):
            data = file.read(BLOCK)
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            yield from whole
            rest = rest if len(rest) <= LONGEST else b""
        yield None

    return lines


def _text(entry):
    """Return an entry as ``short-unix`` prints it, in one line."""
    stamp, pid = (str(entry.get(name)) for name in ("__REALTIME_TIMESTAMP", "_PID"))
    when = int(stamp) if re.fullmatch(r"[0-9]{1,17}", stamp) else 0
    host, name = (str(entry.get(name) or "unknown") for name in ("_HOSTNAME", "SYSLOG_IDENTIFIER"))
    said = _message(entry).decode("utf-8", "backslashreplace")
    return f"{when // 10**6}.{when % 10**6:06} {host} {name}[{pid}]: {said}"


def _message(entry):
    """Return what an entry says, in one line."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):  # what is not text comes as numbers
        message = bytes(byte for byte in message if isinstance(byte, int) and 0 <= byte < 256)
    message = message if isinstance(message, bytes) else str(message).encode("utf-8", "replace")
    return message.replace(b"\n", b" ")


def form(begin):
    """
    Return which of journalctl's forms for programs a file has, ``json`` or ``export``; ``None`` for any other.

    begin
        The first bytes of the file, 64 or more.

    For ``qmail_log_block``.
    """
    begin = begin if isinstance(begin, bytes) else begin.encode()
    if begin.startswith((b'{"', b'{ "')):
        return "json"
    return "export" if begin.startswith((b"__CURSOR=", b"__REALTIME_TIMESTAMP=")) else None


def lines(blocks, form):
    """
    Iterate over blocks of such a file, and return blocks of lines as ``command`` prints them. Lines of other units and
    names than qmail-send's begin with ``#``.

    blocks
        Blocks of whole lines, as bytes.

    form
        ``json`` or ``export``.

    For ``qmail_log_block``.
    """
    for entries in _json(blocks) if form == "json" else _export(blocks):
        told = b"".join(map(_line, entries))
        if told:
            yield told


def _line(entry):
    """Return an entry as ``short-unix`` prints it; if it isn't qmail-send's, with a mark that says so."""
    unit, name = entry.get("_SYSTEMD_UNIT"), entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM")
    stamp, said = entry.get("__REALTIME_TIMESTAMP"), _message(entry)
    own = (isinstance(unit, str) and OWN_UNIT.fullmatch(unit)) or (isinstance(name, str) and OWN_NAME.fullmatch(name))
    if not own or not isinstance(stamp, str) or not re.fullmatch(r"[0-9]{1,17}", stamp):
        return b"# " + str(name).encode("ascii", "replace").replace(b"\n", b" ") + b": " + said + b"\n"
    when = int(stamp)
    return b"%d.%06d journal qmail-send: %s\n" % (when // 10**6, when % 10**6, said)


def _json(blocks):
    for data in blocks:
        yield [_entry(line) for line in data.split(b"\n") if line.strip()]


def _entry(line):
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    return entry if isinstance(entry, dict) else {"MESSAGE": line}


def _export(blocks):
    """Entries of the form export: ``FIELD=text``, or its length and the bytes if it is not text; then a blank line."""
    rest, entry = b"", {}
    for data in blocks:
        data, at, entries = rest + data, 0, []
        while True:
            end = data.find(b"\n", at)
            if end < 0:
                break
            key, is_text, value = data[at:end].partition(b"=")
            after = end + 1
            if key and not is_text:
                size = int.from_bytes(data[after : after + 8], "little")
                after += 8 + size + 1
                if len(data) < end + 9 or (size <= LONGEST and len(data) < after):
                    break
                value = data[end + 9 : after - 1]
                after = min(after, len(data))
            if key:
                entry[key.decode("ascii", "replace")] = value if not is_text else value.decode("utf-8", "replace")
            elif entry:
                entries.append(entry)
                entry = {}
            at = after
        rest = data[at:]
        yield entries
    if entry:
        yield [entry]
