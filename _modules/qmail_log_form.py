"""
The forms of a log line: what precedes qmail-send's own words, and the time in it.

Known are the stamps of multilog, svlogd (with its prefix) and s6-log, the lines of splogger and syslog in the old and
the new form (RFC 3164 and 5424), and those of journalctl. For other modules; people use :py:func:`qmail_log.summary
<salt.modules.qmail_log.summary>`.
"""

import re
import time
from datetime import datetime, timedelta, timezone

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

DAY = 86400
TAI = 2**62 + 10
MOST_TIMES = 2**10
MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

# <22> is what syslog sends, <22>1 the version of RFC 5424; rsyslog puts one more blank in front of what it was told
# in the old form. s6-log writes both stamps if it is given t and T.
PRIORITY = rb"(?P<priority><\d{1,3}>(?P<rfc5424>1\ (?=\d{4}-))?)?"
TIME = (
    rb"@(?P<tai>[0-9a-f]{24})[ \t](?:\d{4}-\d\d-\d\d[ T_]\d\d:\d\d:\d\d\.\d+[ \t]+)?"
    rb"|(?P<week>[A-Z][a-z]{2}\ )?(?P<date>\d{4}-\d\d-\d\d)(?P<sep>[ T_])(?P<clock>\d\d:\d\d:\d\d)(?:[.,]\d+)?"
    rb"(?(week)\ (?P<place>[A-Z]{1,5}|[+-]\d\d(?:\d\d)?)|(?P<zone>Z|[+-]\d\d:?\d\d)?)[ \t]+"
    rb"|(?P<month>[A-Z][a-z]{2})\ (?P<day>[ \d]\d)\ (?P<hms>\d\d:\d\d:\d\d)(?:\.\d+)?\ "
    rb"|(?P<unix>\d{9,11})\.\d{1,9}\ "
)
# Only programs that write qmail-send's words: a qmail-smtpd or a spam filter may log what a stranger sent it. The
# journal was asked for qmail-send's unit, whatever name its lines have.
NAMES = rb"(?:\w+\.)?(?:[a-z]?qmail(?:-send|-start)?|splogger|send)\d{0,3}(?:\.service)?"
HOST = rb"[^\s\[]*[^\s\[:]"
NAME = (
    rb"(?(rfc5424)" + HOST + rb"\ " + NAMES + rb"\ \S+\ \S+\ (?:-|(?:\[(?:[^\]\\]|\\.)*\])+)\ (?:\xef\xbb\xbf)?\ ?"
    rb"|(?(unix)"
    + HOST
    + rb"\ [^\s\[:]+|(?:"
    + HOST
    + rb"\ (?:\w+\.\w+\ )?|(?(month)|(?(priority)|(?!))))"
    + NAMES
    + rb")(?:\[\d+\])?:\ )"
)
STAMP = rb"(?P<stamp>\d{9,11})\.\d{6}(?P<join>[ +])"
# eQmail puts these before what others write without them.
EQMAIL = rb"(?P<eqmail>qmail-send: (?:notice: )?(?=\w))"
# svlogd puts a configured prefix before every line. A host is missing only in what is sent to syslog.
SAID = (
    rb"(?:status: |new msg \d|info:? msg \d+: |end msg \d|bounce msg \d+ qp |starting delivery \d+"
    rb"|delivery \d+(?:\.\S+)?: |(?:double|triple) bounce: discarding )"
)
PREFIX = (
    rb"(?P<prefix>(?!qmail-send: |starting )[\w.-]{1,32}:?[ \t]{1,2}(?=(?:qmail-send: (?:notice: )?)?" + SAID + rb"))"
)
HEAD = re.compile(
    PRIORITY + rb"(?:" + TIME + rb")?(?:(?P<name>" + NAME + rb")|" + PREFIX + rb")?"
    rb"(?P<said>(?:" + STAMP + rb")?" + EQMAIL + rb"?)"
)


def reader():
    """
    Return two functions: one that matches the head of a line, and one that returns the time of such a match.

    A call from module to module for every line would take longer than all the rest. The first one matches any line, if
    only an empty head; the words begin after it. Its groups are ``priority``; the time: ``tai``, ``date`` with ``sep``,
    ``clock`` and ``zone`` or ``place``, ``month`` with ``day`` and ``hms``, or ``unix``; the program's ``name`` as
    syslog has it, or svlogd's ``prefix``; and ``said``, what splogger (``stamp``, ``join``) and eQmail (``eqmail``) put
    before the words. It is for the first 512 bytes of a line.

    For ``qmail_log_line`` and ``qmail_log_time``.
    """
    return HEAD.match, _seconds


def clock(head, newest):
    """
    Return how to read the time of lines whose heads are like this one: where its text begins and ends in each line, and
    a mapping from that text to seconds since the epoch, ``None`` for a text that is not a time.

    splogger's stamp is better than the time of syslog: it has a year and no zone.

    head
        A match of the first function of ``reader``; ``None`` for lines without a time.

    newest
        No line is newer than this, in seconds since the epoch, give or take a day.

    For ``qmail_log_line``.
    """
    if head is None:
        return 0, 0, _Times(lambda text: None)
    if head["stamp"] and head["name"]:
        return (*head.span("stamp"), _Times(int))
    if head["tai"]:
        start = head.start("tai")
        return start, start + 16, _Times(lambda text: int(text, 16) - TAI)
    if head["unix"]:
        return (*head.span("unix"), _Times(int))
    end = max(head.end(part) for part in ("clock", "zone", "place", "hms"))
    return 0, max(end, 0), _Times(lambda text: _seconds(HEAD.match(text + b" "), newest))


class _Times(dict):
    """Seconds by their text: most lines of a busy log have the same as the line before."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def __missing__(self, text):
        try:
            seconds = self.read(text)
        except ValueError:
            seconds = None
        if len(self) >= MOST_TIMES:
            self.clear()
        self[text] = seconds = None if seconds is None else int(seconds)
        return seconds


def _seconds(head, newest):
    """
    Return the time in a head, in seconds since the epoch; ``None`` if it has none, or an impossible one.

    No line is newer than ``newest``, give or take a day: it gives the year if the log doesn't.
    """
    try:
        if head["tai"]:
            return int(head["tai"][:16], 16) - TAI
        if head["unix"]:
            return int(head["unix"])
        return _dated(head) if head["date"] else _yearless(head, newest)
    except (ValueError, OverflowError, OSError, KeyError):
        return None


def _zone(text):
    """Return the zone of a readable date; ``None`` is local time."""
    if text in (b"Z", b"UTC", b"GMT"):
        return timezone.utc
    if not text or text[:1] not in b"+-":
        return None
    minutes = int(text[1:3]) * 60 + (int(text[-2:]) if len(text) > 3 else 0)
    return timezone(timedelta(minutes=-minutes if text[:1] == b"-" else minutes))


def _dated(head):
    zone = _zone(head["zone"] or head["place"])
    if zone is None and head["sep"] != b" ":
        zone = timezone.utc  # svlogd writes UTC and no zone; tai64nlocal and s6-log write a blank
    text = (head["date"] + b"T" + head["clock"]).decode()
    # If an hour comes twice, the name of the zone says which one it is.
    again = (head["place"] or b"").decode() == time.tzname[0]
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=int(again)).timestamp()


def _yearless(head, newest):
    """
    The time of a date without a year: the last such date that isn't after the end of the file.

    A day more is allowed, for clocks and zones that differ.
    """
    month, day = MONTHS[head["month"]], int(head["day"])
    hour, minute, second = (int(part) for part in head["hms"].split(b":"))
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError("no such time")
    year = time.localtime(newest + DAY).tm_year
    for back in range(9):  # 29 February comes every four years, or after eight
        made = time.mktime((year - back, month, day, hour, minute, second, 0, 0, -1))
        if made <= newest + DAY and time.localtime(made).tm_mon == month:
            return made
    raise ValueError("no such date")
