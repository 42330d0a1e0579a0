"""
Who caused the double bounces in a log: an account by domain, kept while ``qmail_log_message`` follows the messages.

A cause is the message at the beginning of a chain of bounces: it fails, its notice fails, and the double bounce is
about that notice.
"""

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Memory is bounded whatever a log holds: of names the rare ones are dropped.
MOST_DOMAINS = 2**10
MOST_SENDERS = 2**5
MOST_UIDS = 2**8
MOST_RECIPIENTS = 2**18
MOST_OF_A_MESSAGE = 16  # recipients that failed
LONGEST_DOMAIN = 64
LONGEST_RECIPIENT = 128
COUNTS = ("double_bounces", "single_bounces")


def account():
    """
    Return an empty account, for ``qmail_log_message``. Its ``told()`` returns ``unknown``, ``domains`` and ``uids``, as
    ``qmail_log.causes`` does.

    For ``qmail_log``.
    """
    return _Account()


class _Cause:
    """A message that failed first: where, and who had sent it. Its domain is looked at when it is needed."""

    __slots__ = ("channel", "domain", "is_open", "origin", "others", "recipient")

    def __init__(self, origin, channel, recipient):
        self.origin, self.channel, self.recipient = origin, channel, recipient
        self.domain, self.others, self.is_open = None, None, True


class _Account:
    def __init__(self):
        self.domains, self.uids = {}, {}
        self.unknown = self.known = 0  # double bounces, and recipients

    def failed(self, cause, origin, channel, recipient):
        """
        A recipient of a message failed. Return the cause: a new one if there is none yet. Of one that ``is_open`` this
        is one more recipient, counted if it is of the same domain.

        cause
            That of the message.

        origin
            When it came, who had sent it (``<…>``), and the uid that had queued it; ``None`` if that is not known.
        """
        recipient = recipient[-LONGEST_RECIPIENT:]
        if cause is None:
            return _Cause(origin, channel, recipient)
        cause.others = cause.others or []
        if len(cause.others) < MOST_OF_A_MESSAGE - 1 and _domain(recipient) == _domain(cause.recipient):
            cause.others.append(hash(recipient.lower()))
        return cause

    @staticmethod
    def ended(cause):
        """All recipients of a message were tried: what fails from now on is the notice about it."""
        if cause:
            cause.is_open = False

    def single(self, cause):
        """The sender of a message is notified. Return the row in which that counts, or ``None``."""
        row = self._row(cause)
        if row:
            row["single_bounces"] += 1
        return row

    def doubled(self, cause):
        """A notice failed, or the message itself had no sender."""
        row = self._row(cause)
        if row is None:
            self.unknown += 1
            return
        row["double_bounces"] += 1
        row[cause.channel] = row.get(cause.channel, 0) + 1
        seen = row["seen"]
        for recipient in (hash(cause.recipient.lower()), *(cause.others or ())):
            if recipient not in seen:
                self._recipient(row, recipient)
        if cause.origin is None:
            return
        _, sender, uid = cause.origin
        _add(row["senders"], b"" if sender == b"<>" else _domain(sender[1:-1]), MOST_SENDERS)
        _add(self.uids, (uid, cause.channel), MOST_UIDS)

    def _row(self, cause):
        if cause is None:
            return None
        if cause.domain is None:
            cause.domain = _domain(cause.recipient)
        return self.domains.get(cause.domain) or self._new(cause.domain)

    def _new(self, domain):
        if len(self.domains) >= 2 * MOST_DOMAINS:
            self._drop_the_rare()
        self.domains[domain] = {**dict.fromkeys(COUNTS, 0), "seen": set(), "exact": True, "senders": {}}
        return self.domains[domain]

    def _drop_the_rare(self):
        def weight(name):
            return self.domains[name]["double_bounces"], self.domains[name]["single_bounces"]

        for name in sorted(self.domains, key=weight)[:MOST_DOMAINS]:
            self.known -= len(self.domains.pop(name)["seen"])

    def _recipient(self, row, recipient):
        if self.known >= MOST_RECIPIENTS:
            row["exact"] = False
            return
        self.known += 1
        row["seen"].add(recipient)

    def another(self):
        """An empty account, for the second half of a log."""
        return _Account()

    def state(self):
        """What ``add`` takes: plain data."""
        return self.domains, self.uids, self.unknown

    def add(self, state):
        """Add what the account of the second half of a log had in the end."""
        domains, uids, unknown = state
        self.unknown += unknown
        for name, more in domains.items():
            row = self.domains.get(name) or self._new(name)
            row["exact"] = row["exact"] and more["exact"]
            for what in (*COUNTS, b"local", b"remote"):
                row[what] = row.get(what, 0) + more.get(what, 0)
            for recipient in more["seen"] - row["seen"]:
                self._recipient(row, recipient)
            for sender, number in more["senders"].items():
                _add(row["senders"], sender, MOST_SENDERS, number)
        for key, number in uids.items():
            _add(self.uids, key, MOST_UIDS, number)

    def told(self):
        rows = {
            _text(name): {
                **{what: row[what] for what in COUNTS},
                "recipients": len(row["seen"]),
                "exact": row["exact"],
                "local": row.get(b"local", 0),
                "remote": row.get(b"remote", 0),
                "senders": {_text(sender): number for sender, number in _sorted(row["senders"])},
            }
            for name, row in self.domains.items()
            if row["double_bounces"]
        }
        return {
            "unknown": self.unknown,
            "domains": rows,
            "uids": [
                {"uid": int(uid), "channel": _text(channel), "double_bounces": number}
                for (uid, channel), number in _sorted(self.uids)
                if uid.isdigit()
            ],
        }


def _domain(address):
    return address.rpartition(b"@")[2].lower()[-LONGEST_DOMAIN:]


def _sorted(names):
    return sorted(names.items(), key=lambda item: (-item[1], item[0]))


def _add(names, name, most, number=1):
    names[name] = names.get(name, 0) + number
    if len(names) > 2 * most:
        for key in sorted(names, key=names.get)[:most]:
            del names[key]


def _text(name):
    return name.decode("ascii", "backslashreplace")
