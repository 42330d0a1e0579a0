"""
The lines about messages that are still on their way: whoever reads a log in parts has to know them with each part.

Read again before the next part, they bring ``qmail_log_message`` to where the last part left it. The words are those of
``qmail_log_words``.
"""

import re
from itertools import islice

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

NUMBER = rb"(\d[\w.-]*)"
KINDS = {
    "info": re.compile(rb"info msg " + NUMBER + rb": bytes \d+ from <(.*)> qp (\d+) uid \d+"),
    "start": re.compile(rb"starting delivery " + NUMBER + rb": msg " + NUMBER + rb" to (?:local|remote) .*"),
    "report": re.compile(rb"delivery " + NUMBER + rb": (success|failure|deferral|report mangled).*"),
    "bounce": re.compile(rb"bounce msg " + NUMBER + rb" qp (\d+)"),
    "end": re.compile(rb"end msg " + NUMBER),
}
TIME = 11  # digits of a time, before a blank and the words
LETTERS = 4  # of the words: they show which event it is
WORDS = {
    b"info msg": "info",
    b"starting delivery": "start",
    b"delivery": "report",
    b"bounce msg": "bounce",
    b"end msg": "end",
}
FIRST = {words[:LETTERS]: name for words, name in WORDS.items()}
DOUBLE = b"#@[]"

# Memory is bounded whatever a log holds; the oldest messages are dropped first.
MOST_MESSAGES = 2**13
MOST_DELIVERIES = 2**12
MOST_NOTICES = 2**10
LONGEST = 400  # bytes; the fields of a longer line are cut


def keeper(lines, most):
    """
    Return two functions: ``take(runs)`` follows qmail-send's lines, as ``qmail_log_line.runs`` returns them, and
    ``kept()`` returns the lines about messages that have not ended since, in their order, and how many double bounces
    were too many to be followed any further. ``run`` makes a run of these lines again.

    Of a message there remain its ``info msg``, its deliveries that have not ended, and the first one that failed; and,
    if it is a notice, what led to it. 8192 messages are followed at a time, or as many as there are bytes for.

    lines
        What ``kept`` returned for the part before.

    most
        How many bytes ``kept`` returns at most, with one between two lines.

    For ``qmail_log_tally``.
    """
    known = _Open()
    known.take([run(lines)])
    return known.take, lambda: known.kept(most)


def run(lines):
    """
    Return a run of lines, as ``qmail_log_line.runs`` does.

    lines
        What ``kept`` of ``keeper`` returned.

    For ``qmail_log_tally``.
    """
    texts = {line[:TIME] for line in lines}
    return lines, TIME + 1, (0, TIME, {text: int(text) if text.strip() != b"-" else None for text in texts})


class _Open:
    """What is open, each line with its number, so that all of it can be put in order again."""

    def __init__(self):
        self.messages, self.deliveries, self.notices = {}, {}, {}
        self.failed, self.bounced = set(), {}
        self.number, self.unfollowed, self.stamp = 0, 0, b""
        self.acts = {name: getattr(self, f"_{name}") for name in KINDS}

    def take(self, runs):
        first = FIRST.get
        for lines, skip, (start, stop, times) in runs:
            end = skip + LETTERS
            for line in lines:
                # Every other line is none of these: "status: …", or "new msg …".
                name = first(line[skip:end])
                if name is not None:
                    self._take(line[skip:], name, times[line[start:stop]])
        self._bound()

    def _take(self, words, name, when):
        """Take an event; if it is not in qmail-send's own words, in those of a fork."""
        found = KINDS[name].fullmatch(words)
        if found is None or len(words) > LONGEST or (name == "report" and found[1] not in self.deliveries):
            words = __salt__["qmail_log_words.stock"](words)
            name = FIRST.get(words[:LETTERS]) if words else None
            found = name and KINDS[name].fullmatch(words)
        if found:
            self.number += 1
            self.stamp = b"%-*d " % (TIME, when) if when is not None else b"-".ljust(TIME + 1)
            self.acts[name]((self.number, self.stamp + words), *found.groups())

    def _info(self, entry, number, sender, qp):
        chain = self.notices.pop(qp, []) if sender in (b"", DOUBLE) else []
        self._forget(number)
        # The cause of a double bounce counts when it is queued: what led to it is of no use any more.
        self.messages[number] = [entry] if sender == DOUBLE else [*chain, entry]

    def _start(self, entry, delivery, number):
        # A number that is used again before its report: qmail-send was started again.
        self._settle(delivery)
        self.deliveries[delivery] = number, entry
        self.messages.setdefault(number, []).append(entry)

    def _report(self, entry, delivery, outcome):
        number, _ = self.deliveries.get(delivery, (None, None))
        if outcome != b"failure" or number in self.failed or number not in self.messages:
            self._settle(delivery)
            return
        del self.deliveries[delivery]
        self.failed.add(number)
        self.messages[number].append((entry[0], self.stamp + b"delivery %s: failure: " % delivery))

    def _settle(self, delivery):
        number, start = self.deliveries.pop(delivery, (None, None))
        entries = self.messages.get(number, ())
        if start in entries:
            entries.remove(start)

    def _bounce(self, entry, number, qp):
        self.notices[qp] = [*self.messages.get(number, ()), entry]
        self.bounced[number] = qp

    def _end(self, entry, number):
        qp = self.bounced.get(number)
        if qp in self.notices:
            self.notices[qp].append(entry)
        self._forget(number)

    def _forget(self, number):
        self.messages.pop(number, None)
        self.bounced.pop(number, None)
        self.failed.discard(number)

    def _bound(self, messages=MOST_MESSAGES, notices=MOST_NOTICES):
        for number in _oldest(self.messages, messages):
            self.unfollowed += any(b" from <#@[]> qp " in words for _, words in self.messages[number])
            self._forget(number)
        for qp in _oldest(self.notices, notices):
            del self.notices[qp]
        for delivery in _oldest(self.deliveries, MOST_DELIVERIES):
            self._settle(delivery)

    def kept(self, most):
        lines = self._lines()
        while sum(map(len, lines)) + len(lines) > most:
            self._bound(len(self.messages) - 1, len(self.notices) - 1)
            lines = self._lines()
        return lines, self.unfollowed

    def _lines(self):
        groups = (*self.messages.values(), *self.notices.values())
        lines = dict(entry for entries in groups for entry in entries)
        return [lines[number] for number in sorted(lines)]


def _oldest(known, most):
    """The keys of the oldest entries, an eighth at a time, if there are too many."""
    return list(islice(known, len(known) - most + most // 8)) if len(known) > most else []
