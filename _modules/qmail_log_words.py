"""
The grammar of qmail-send's log: what its words say about messages and deliveries.

The words are those of qmail-log(5), and of the forks: indimail puts the name of its queue after each line, and eQmail
leaves blanks in addresses and reports. Only this module knows them; ``qmail_log_message`` repeats the common ones, in
the loop that must be fast.
"""

import re
from collections import namedtuple

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LONGEST_FIELD = 256

QUEUE = re.compile(rb"[A-Za-z][\w.-]*")
# name: what forks write; what qmail-send writes; and which numbers start again in each of indimail's queues. Blanks in
# addresses appear as _ in the log, so nobody can put such words into one.
EVENTS = (
    ("new", rb"new msg (?P<msg>\d+)", b"new msg %s", ("msg",)),
    (
        "info",
        rb"info:? msg (?P<msg>\d+): bytes (?P<size>\d+) from <(?P<sender>.*)> qp (?P<qp>\d+) uid (?P<uid>\d+)",
        b"info msg %s: bytes %s from <%s> qp %s uid %s",
        ("msg",),
    ),
    (
        "start",
        rb"starting delivery (?P<delivery>\d+)(?:\.[\w.-]+)?: msg (?P<msg>\d+) to (?P<channel>local|remote) (?P<to>.*)",
        b"starting delivery %s: msg %s to %s %s",
        ("delivery", "msg"),
    ),
    (
        "report",
        rb"delivery (?P<delivery>\d+)(?:\.[\w.-]+)?: (?P<outcome>success|failure|deferral): ?(?P<report>.*)",
        b"delivery %s: %s: %s",
        ("delivery",),
    ),
    (
        "mangled",
        rb"delivery (?P<delivery>\d+)(?:\.[\w.-]+)?: report mangled, will defer:?",
        b"delivery %s: report mangled, will defer",
        ("delivery",),
    ),
    ("bounce", rb"bounce msg (?P<msg>\d+) qp (?P<qp>\d+)", b"bounce msg %s qp %s", ("msg",)),
    ("end", rb"end msg (?P<msg>\d+)(?: [\w.-]+:)?", b"end msg %s", ("msg",)),
    (
        "drop",
        rb"(?P<kind>double|triple) bounce: discarding bounce/(?P<msg>\d+)",
        b"%s bounce: discarding bounce/%s",
        ("msg",),
    ),
)
Kind = namedtuple("Kind", "name form words own")
EVENTS = tuple(Kind(name, re.compile(form), words, own) for name, form, words, own in EVENTS)
NUMBERS = ("msg", "size", "qp", "uid")

# What is counted: the words, and what qmail-send writes before them in the same line. Words that are long and end in a
# rare letter are found faster.
MARKS = {
    "double_bounces": (b" from <#@[]> qp", rb"info msg \d+: bytes \d+"),
    "discarded": (b"double bounce: discarding ", rb""),
    "triple_bounces": (b"triple bounce: discarding ", rb""),
}

# After a forward, qmail-local also names the process that queued it.
DID = re.compile(rb"did.(\d{1,9})\+(\d{1,9})\+(\d{1,9})(?:[/ ]qp.\d{1,20})?[/ ]?$")


def event(words):
    """
    Return the event that a line of qmail-send reports; ``None`` if it is not about a message.

    Returns a dict with ``event`` and what belongs to it, numbers of messages and processes as numbers, everything else
    as text:

    - ``new``: ``msg``;
    - ``info``: ``msg``, ``size``, ``sender``, ``qp``, ``uid``;
    - ``start``: ``delivery``, ``msg``, ``channel`` (``local`` or ``remote``), ``to``;
    - ``report``: ``delivery``, ``outcome`` (``success``, ``failure`` or ``deferral``), ``report``, and ``did``, what
      the function of that name returns for it;
    - ``bounce``: ``msg``, ``qp``;
    - ``drop``: ``kind`` (``double`` or ``triple``), ``msg``;
    - ``end``: ``msg``.

    words
        qmail-send's words in the line, as bytes.

    For ``qmail_log``.
    """
    kind, match, _ = _parsed(words)
    if match is None:
        return None
    found = {key: int(value) if key in NUMBERS else _text(value) for key, value in match.groupdict().items()}
    if kind.name == "mangled":
        return {"event": "report", **found, "outcome": "deferral", "report": "report mangled, will defer", "did": None}
    if kind.name == "report":
        found["did"] = did(match["report"])
    return {"event": kind.name, **found}


def stock(words):
    """
    Put what a fork writes in qmail-send's own words; ``None`` if it is not about a message.

    A number that starts again in each of a fork's queues gets the name of its queue after it.

    words
        The fork's words, as bytes.

    For ``qmail_log_message`` and ``qmail_log_open``.
    """
    kind, match, mark = _parsed(words)
    if match is None:
        return None
    fields = {key: value[-LONGEST_FIELD:].replace(b" ", b"_") for key, value in match.groupdict().items()}
    return kind.words % tuple(value + mark if key in kind.own else value for key, value in fields.items())


def did(report):
    """
    Return what qmail-local reports: how many ``files``, ``forwards`` and ``programs``; ``None`` if it does not say.

    It follows whatever the programs wrote: ``did_FILES+FORWARDS+PROGRAMS/``.

    report
        The report of a delivery, as bytes.

    For ``qmail_log_message``.
    """
    found = DID.search(report)
    return found and tuple(map(int, found.groups()))


def marks():
    """
    Return what is counted without following messages: for each name its words, and a regular expression for what
    qmail-send writes before them in the same line, both as bytes.

    For ``qmail_log``.
    """
    return MARKS


def _parsed(words):
    """Return the name of an event, the match, and the mark of the fork's queue that it belongs to."""
    rest, _, queue = words.rpartition(b" ")
    tries = [(rest, b"." + queue)] if QUEUE.fullmatch(queue) else []
    for text, mark in (*tries, (words, b"")):
        for kind in EVENTS:
            match = kind.form.fullmatch(text)
            if match:
                return kind, match, mark
    return None, None, b""


def _text(value):
    return value.decode("utf-8", "backslashreplace")
