"""
Which lines of a log are qmail-send's own, and what its words are.

Everything here works on blocks of whole lines as bytes: a sender can put anything into an address, and a log of 1 GB is
ordinary. For other modules; people use :py:func:`qmail_log.summary <salt.modules.qmail_log.summary>`.
"""

import functools
import io
import os
import re

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# splogger writes 799 characters at a time; a longer line continues in another one with "+" after the same stamp.
# eQmail's has no stamps: in 1.10 it continues with "+" alone, in 1.11, which begins with its name, without a mark.
SPLOGGER = 799
BLANK = ord(b" ")
# No head is longer.
HEAD_BYTES = 512
# How many lines show what the lines of a block are like.
NEAR = 50
WORDS = re.compile(
    rb"status: |new msg |info:? msg |end msg |bounce msg |starting delivery |delivery |(?:double|triple) bounce: "
    rb"|warning: |alert: |qmail-send: "
)
# A single byte is found ten times as fast as words are. This one is in the words that are counted most, and in few
# others, unless syslog puts the number of a process into each line: after so many in vain, the words are looked for.
SIGN = b"["
IN_VAIN = 2**6
# What is in most of qmail-send's lines, and in few others: to search for it is faster than to examine every line.
SIGNS = (b" msg ", b"delivery ", b"status: ", b"alert: ")


@functools.lru_cache(maxsize=None)
def _matching():
    return __salt__["qmail_log_form.reader"]()[0]


def _match(line):
    return _matching()(line[:HEAD_BYTES])


def _sends(head, line):
    """Return whether this is qmail-send's head, and its words follow: other programs write to a syslog as well."""
    return _owns(head) and WORDS.match(line, head.end()) is not None


def _owns(head):
    if head["join"] == b"+":
        return False
    # syslog puts the name of its program into each line.
    syslog = head["month"] or head["priority"] or (head["prefix"] and (head["zone"] or head["unix"]))
    return bool(head["name"] or not syslog)


def _layout(data):
    """
    The head of the first line of qmail-send; most others will be like it.

    svlogd puts its prefix before every line. A name that is not before every line is that of another program.
    """
    match, start, seen, prefixed = _matching(), 0, 0, []
    while seen < NEAR and start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start : min(end, start + HEAD_BYTES)]
        start, seen = end, seen + 1
        head = match(line)
        if not _sends(head, line):
            continue
        if not head["prefix"]:
            return head
        prefixed.append(head)
    names = [head["prefix"] for head in prefixed]
    return next((head for head in prefixed if names.count(head["prefix"]) * 2 > seen), None)


def _even(layout):
    """Return whether the words of all lines begin at the same place: multilog's stamps all have one length."""
    if layout is None or layout["name"] or layout["prefix"] or layout["said"] or layout["priority"]:
        return False
    return bool(layout["tai"] or not layout.end())


def _constant(layout):
    """Where the name is in a line, which name, and where the words begin, as long as the lines are like this one."""
    if layout is None or layout["eqmail"] or not layout.end():
        return 0, 0, None, 0  # no slice is None
    named = "name" if layout["name"] else "prefix"
    if not layout[named]:
        return 0, 0, b"", layout.end()
    return layout.start(named), layout.end(named), layout[named], layout.end()


def _own(line, head):
    words = line[head.end() :]
    return b"info" + words[5:] if head["eqmail"] and words.startswith(b"info: msg ") else words


def _runs(lines, layout, newest):
    """
    Take qmail-send's lines out of a log that others write to as well, and join what splogger cut.

    A line that is not like the others is a run of its own: of its words alone.
    """
    runs, run, clock, match = [], [], __salt__["qmail_log_form.clock"], _matching()
    start, end, name, body = _constant(layout)
    alike, prefix = (body, clock(layout, newest)), layout and layout["prefix"]
    cut, marked, before, full = False, not (layout and layout["eqmail"]), body - 1, body + SPLOGGER
    for line in lines:
        try:
            if line[before] == BLANK and line[start:end] == name and not cut:
                run.append(line)
                cut = len(line) == full
                continue
        except IndexError:
            pass
        head = match(line[:HEAD_BYTES])
        raw = head.end("join") if head["stamp"] else head.end("name")
        if cut and head["name"] and (head["join"] == b"+" or not head["stamp"]):
            raw += marked and not head["stamp"] and line[raw : raw + 1] == b"+"
            (run or runs[-1][0])[-1] += line[raw:]
        elif head["prefix"] in (None, prefix) and _sends(head, line):
            begin, stop, times = clock(head, newest)
            when = 0, 0, {b"": times[line[begin:stop]]}
            runs += [(run, *alike)] if run else []
            runs.append(([_own(line, head)], 0, when))
            run = []
        else:
            continue
        cut = len(line) - raw == SPLOGGER
    return [*runs, (run, *alike)]


def runs(data, newest):
    """
    Return qmail-send's own lines in runs that have one form: a list of triples of the lines, as bytes; how many bytes
    to skip in each, to come to qmail-send's words; and how to read their time, as ``qmail_log_form.clock`` returns it.

    Lines of other programs are left out if the log names its programs. If it doesn't, they are included, and don't
    begin with words of qmail-send. What splogger cut is joined again.

    data
        Whole lines, as bytes.

    newest
        No line is newer than this, in seconds since the epoch, give or take a day.

    For ``qmail_log`` and ``qmail_log_tally``.
    """
    data = data if isinstance(data, bytes) else data.encode()
    layout = _layout(data)
    lines = data.split(b"\n")
    if _even(layout):
        clock = __salt__["qmail_log_form.clock"]
        return [(lines, layout.end(), clock(layout if layout["tai"] else None, newest))]
    return _runs(lines, layout, newest)


def whole(data):
    """
    Return how many bytes of a block are lines with their ends: splogger may have cut the last one of qmail-send, so
    that its end is in the next block.

    data
        Whole lines, as bytes.

    For ``qmail_log``, ``qmail_log_block`` and ``qmail_log_tally``.
    """
    data = data if isinstance(data, bytes) else data.encode()
    end = len(data)
    for _ in range(NEAR):
        start = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
        if end - start > SPLOGGER:
            line = data[start:end].rstrip(b"\n")
            head = _match(line)
            raw = head.end("join") if head["stamp"] else head.end("name")
            raw += not head["stamp"] and line[raw : raw + 1] == b"+"
            if not head["name"] or len(line) - raw != SPLOGGER:
                break
            if _sends(head, line):
                return start
        elif _sends(_match(data[start:end]), data[start:end]):
            break
        end = start
        if not end:
            break
    return len(data)


def without(data, names):
    """
    Return the lines of a block that do not have one of these names in syslog.

    data
        Whole lines, as bytes.

    names
        The names, such as ``qmail2``: those of other qmails.

    For ``qmail_log``, ``qmail_log_age`` and ``qmail_log_follow``.
    """
    data = data if isinstance(data, bytes) else data.encode()
    own = rb"(?:" + b"|".join(re.escape(os.fsencode(name)) for name in names) + rb")"
    # The second is that of RFC 5424.
    theirs = re.compile(rb"(?:^|[ .])" + own + rb"(?:\[\d+\])?: $|^\S+ " + own + rb" \S+ \S+ [-[]")
    return b"".join(line for line in io.BytesIO(data) if not theirs.search(_match(line)["name"] or b""))


def last(data):
    """
    Return where the last line of qmail-send begins and ends in a block, or ``None``.

    data
        Whole lines, as bytes.

    For ``qmail_log_age`` and ``qmail_log_tally``.
    """
    data = data if isinstance(data, bytes) else data.encode()
    signs = {sign: data.rfind(sign) for sign in SIGNS}
    while max(signs.values()) >= 0:
        at = max(signs.values())
        start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1 or len(data)
        line = data[start:end]
        if _sends(_match(line), line):
            return start, end
        signs = {sign: data.rfind(sign, 0, start) if found >= start else found for sign, found in signs.items()}
    return None


def count(data, mark, before):
    """
    Count qmail-send's lines that have ``mark`` directly after ``before``.

    qmail-send writes blanks in addresses and reports as ``_`` (qsutil.c, ``logsafe``), so a ``mark`` with blanks at
    both ends is never part of one: a line counts if qmail-send's words in it begin as ``before`` does. A line that is
    not like the others is examined more closely.

    data
        Whole lines, as bytes.

    mark
        The words to count, as bytes.

    before
        A regular expression for all of qmail-send's words before them.

    For ``qmail_log``.
    """
    data, mark, before = (part if isinstance(part, bytes) else part.encode() for part in (data, mark, before))
    places = _places(data, mark)
    if not places:
        return 0
    layout, lead = _layout(data), before.partition(b"\\")[0] or mark
    lines = [data.rfind(b"\n", 0, at) + 1 for at in places]
    if _even(layout):
        begin, end = layout.end(), layout.end() + len(lead)
        return sum([data[line + begin : line + end] == lead for line in lines])
    start, end, name, body = _constant(layout)
    behind = body + len(lead)
    alike = [data[line + body : line + behind] == lead and data[line + start : line + end] == name for line in lines]
    number = sum(alike)
    if number == len(alike):
        return number
    says = _says(layout, mark, before)
    for line, at, is_own in zip(lines, places, alike):
        others = data[line + start : line + end] != name or data[line + body - 1 : line + body] != b" "
        if not is_own and others:
            number += says(data[line : at + len(mark)])
    return number


def _places(data, mark):
    """Return where a mark begins in a block, each time."""
    sign, size, find, places, left = SIGN if SIGN in mark else mark, len(mark), data.find, [], IN_VAIN
    before, at = mark.index(sign), find(sign)
    while at >= 0:
        begin = at - before
        if data[begin : begin + size] == mark:
            places.append(begin)
        elif left:
            left -= 1
        else:
            sign, before = mark, 0
        at = find(sign, at + 1)
    return places


def _says(layout, mark, before):
    """Return a function that returns whether a line is qmail-send's, with ``before`` and then the mark."""
    prefix, said = layout and layout["prefix"], re.compile(before + re.escape(mark))

    def says(line):
        head = _match(line)
        return head["prefix"] in (None, prefix) and _owns(head) and said.fullmatch(_own(line, head)) is not None

    return says
