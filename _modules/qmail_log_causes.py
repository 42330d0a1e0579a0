"""
Who caused the double bounces in a log: the message at the beginning of each chain of bounces.

A message fails, its notice fails, and the double bounce is about that notice: ``qp`` leads from each to the next. The
words are those of ``qmail_log_words``.
"""

import re
from itertools import islice

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

NUMBER = rb"(\d[\w.-]*)"
INFO = re.compile(rb"info msg " + NUMBER + rb": bytes \d+ from <(.*)> qp (\d+) uid (\d+)")
START = re.compile(rb"starting delivery " + NUMBER + rb": msg " + NUMBER + rb" to (local|remote) ([^ ]*)")
REPORT = re.compile(rb"delivery " + NUMBER + rb": (success|failure|deferral|report mangled)")
BOUNCE = re.compile(rb"bounce msg " + NUMBER + rb" qp (\d+)")
DROP = re.compile(rb"double bounce: discarding bounce/" + NUMBER)
END = re.compile(rb"end msg " + NUMBER)
LETTERS = 4  # of the words: they show which event it is
DOUBLE = b"#@[]"

# Memory is bounded whatever a log holds; the oldest entries are dropped first, and of names the rare ones.
MOST_MESSAGES = 2**16
MOST_DELIVERIES = 2**12
MOST_NOTICES = 2**13
MOST_DOMAINS = 2**10
MOST_SENDERS = 2**5
MOST_UIDS = 2**8
MOST_RECIPIENTS = 2**18
MOST_OF_A_MESSAGE = 16  # recipients that failed
LONGEST_DOMAIN = 64
COUNTS = ("double_bounces", "single_bounces", "recipients")


def follow(parts):
    """
    Follow the messages of a log, and return what ``qmail_log.causes`` returns about them.

    parts
        As for ``qmail_log_message.follow``.

    For ``qmail_log``.
    """
    tracker = _Tracker()
    kinds, take = tracker.kinds.get, tracker.take
    for slot, runs in parts:
        tracker.counting = slot is not None
        for lines, skip, _ in runs:
            end = skip + LETTERS
            for line in lines:
                # Every other line is none of these: "status: …", or "new msg …".
                kind = kinds(line[skip:end])
                if kind is not None:
                    take(line[skip:], kind)
        tracker.bound()
    return tracker.told()


class _Message:
    """A message on its way; ``cause`` is the first one of its chain that failed, perhaps itself."""

    __slots__ = ("cause", "double", "failed", "null", "sender", "uid")

    def __init__(self, sender, uid, cause, null=False, double=False):
        self.sender, self.uid, self.cause, self.null, self.double = sender, uid, cause, null, double
        self.failed = False  # whether the cause is this message itself


class _Cause:
    """A message that failed first: where, and who had sent it."""

    __slots__ = ("channel", "domain", "recipients", "sender", "uid")

    def __init__(self, message, channel, domain):
        self.channel, self.domain, self.recipients = channel, domain, []
        self.sender, self.uid = message.sender, message.uid


class _Tracker:
    """Follows messages by number and ``qp``. A number stands for a message until ``end msg``, and is used again."""

    def __init__(self):
        self.messages, self.deliveries, self.notices = {}, {}, {}
        self.domains, self.uids, self.shared = {}, {}, {}
        self.seen = set()
        self.doubles = self.singles = self.unknown = 0
        self.counting = False
        kinds = {
            b"info msg": (INFO, self._info),
            b"starting": (START, self._start),
            b"delivery": (REPORT, self._report),
            b"bounce msg": (BOUNCE, self._bounce),
            b"double bounce": (DROP, self._drop),
            b"end msg": (END, self._end),
        }
        self.kinds = {words[:LETTERS]: kind for words, kind in kinds.items()}

    def take(self, words, kind, again=True):
        """Take an event; if it is not in qmail-send's own words, in those of a fork."""
        form, act = kind
        # A report goes on; whatever else does is a fork's.
        found = form.match(words) if form is REPORT else form.fullmatch(words)
        if found is not None and not (form is REPORT and found[1] not in self.deliveries):
            act(*found.groups())
        elif again:
            stock = __salt__["qmail_log_words.stock"](words)
            if stock is not None and stock[:LETTERS] in self.kinds:
                self.take(stock, self.kinds[stock[:LETTERS]], again=False)

    def _info(self, number, sender, qp, uid):
        cause, single = self.notices.pop(qp, (None, None)) if sender in (b"", DOUBLE) else (None, None)
        double = sender == DOUBLE
        self.messages[number] = _Message(self._domain(sender), int(uid), cause, not sender, double)
        if double:
            self._doubled(cause)
            if single is not None:
                single["single_bounces"] -= 1
                self.singles -= 1

    def _start(self, delivery, number, channel, recipient):
        self.deliveries[delivery] = number, channel, recipient

    def _report(self, delivery, outcome):
        number, channel, recipient = self.deliveries.pop(delivery)
        if outcome != b"failure":
            return
        message = self.messages.get(number)
        if message is None:
            message = self.messages[number] = _Message(None, None, None)
        if message.double:
            return
        domain = self._domain(recipient)
        if message.cause is None:
            message.cause, message.failed = _Cause(message, channel, domain), True
        if message.failed and message.cause.domain == domain and len(message.cause.recipients) < MOST_OF_A_MESSAGE:
            message.cause.recipients.append(hash(recipient.lower()))

    def _bounce(self, number, qp):
        message = self.messages.get(number)
        cause, single = (message and message.cause), None
        if message is None or not (message.null or message.double):
            single = self._row(cause) if self.counting else None
            if single is not None:
                single["single_bounces"] += 1
                self.singles += 1
        self.notices[qp] = cause, single

    def _drop(self, number):
        message = self.messages.get(number)
        self._doubled(message and message.cause)

    def _end(self, number):
        self.messages.pop(number, None)

    def _doubled(self, cause):
        if not self.counting:
            return
        self.doubles += 1
        row = self._row(cause)
        if row is None:
            self.unknown += 1
            return
        row["double_bounces"] += 1
        row[cause.channel] = row.get(cause.channel, 0) + 1
        for recipient in cause.recipients:
            self._recipient(row, cause.domain, recipient)
        if cause.uid is None:
            return
        _add(row["senders"], cause.sender, MOST_SENDERS)
        _add(self.uids, (cause.uid, cause.channel), MOST_UIDS)

    def _row(self, cause):
        if cause is None:
            return None
        if cause.domain not in self.domains:
            if len(self.domains) >= 2 * MOST_DOMAINS:
                self._drop_the_rare()
            self.domains[cause.domain] = {**dict.fromkeys(COUNTS, 0), "exact": True, "senders": {}}
        return self.domains[cause.domain]

    def _drop_the_rare(self):
        def weight(name):
            return self.domains[name]["double_bounces"], self.domains[name]["single_bounces"]

        for name in sorted(self.domains, key=weight)[:MOST_DOMAINS]:
            del self.domains[name]

    def _recipient(self, row, domain, recipient):
        key = hash((domain, recipient))
        if key in self.seen:
            return
        if len(self.seen) >= MOST_RECIPIENTS:
            row["exact"] = False
            return
        self.seen.add(key)
        row["recipients"] += 1

    def _domain(self, address):
        domain = address.rpartition(b"@")[2].lower()[-LONGEST_DOMAIN:]
        return self.shared.setdefault(domain, domain)

    def bound(self):
        """Keep within the bounds of memory."""
        self.messages = _forget(self.messages, MOST_MESSAGES)
        self.deliveries = _forget(self.deliveries, MOST_DELIVERIES)
        self.notices = _forget(self.notices, MOST_NOTICES)
        if len(self.shared) > MOST_MESSAGES:
            self.shared.clear()

    def told(self):
        rows = {
            _text(name): {
                **{what: row[what] for what in (*COUNTS, "exact")},
                "local": row.get(b"local", 0),
                "remote": row.get(b"remote", 0),
                "senders": {_text(sender): number for sender, number in _sorted(row["senders"])},
            }
            for name, row in self.domains.items()
            if row["double_bounces"]
        }
        return {
            "double_bounces": self.doubles,
            "single_bounces": self.singles,
            "unknown": self.unknown,
            "domains": rows,
            "uids": [
                {"uid": uid, "channel": _text(channel), "double_bounces": number}
                for (uid, channel), number in _sorted(self.uids)
            ],
        }


def _sorted(names):
    return sorted(names.items(), key=lambda item: (-item[1], item[0]))


def _add(names, name, most):
    names[name] = names.get(name, 0) + 1
    if len(names) > 2 * most:
        for key in sorted(names, key=names.get)[:most]:
            del names[key]


def _forget(known, most):
    if len(known) <= most:
        return known
    for key in list(islice(known, len(known) - most + most // 8)):
        del known[key]
    return dict(known)


def _text(name):
    return name.decode("ascii", "backslashreplace")
