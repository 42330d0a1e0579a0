"""
A model of qmail-send that writes the log of messages it makes up, and counts what it did.

It knows nothing of how the log is read: it keeps its own books. Message numbers and process ids are few, so that they
are used again and again, as inodes are.
"""

import json
import random
from collections import Counter
from datetime import datetime, timezone

COUNTS = (
    "double_bounces",
    "discarded",
    "triple_bounces",
    "swallowed",
    "stored",
    "forwarded",
    "deferred",
    "single_bounces",
    "deliveries",
    "double_bounce_deliveries",
    "queued_bytes",
    "double_bounce_bytes",
)
REPORTS = {
    "swallowed": [b"did_0+0+1/", b"did_0+0+0/", b"", b"did_9+9+9/from_a_program/did_0+0+1/"],
    "stored": [b"did_1+0+0/", b"did_1+0+1/", b"did_2+3+1/qp_7/", b"did_0+0+2/"],
    "forwarded": [b"did_0+1+0/qp_31170/", b"did_0+2+1/qp_4/", b"did_0+1+0/"],
}
DOMAINS = [b"one.example", b"two.example", b"three.example", b"Four.Example"]
SINK = b"1-dummy@example.com"


def hour(seconds):
    """The key of an hour, as this machine's clock has it."""
    local = datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    return local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")


class Books:
    """What happened from one moment on and before another."""

    def __init__(self, since=0, until=2**40):
        self.since, self.until = since, until
        self.by, self.waits, self.recipients, self.domains = {}, {}, Counter(), Counter()

    def count(self, now, what, number=1):
        if self.since <= now < self.until:
            self._row(now)[what] += number

    def wait(self, now, since):
        """A message that came at one time was delivered at another: seconds are whole in most logs."""
        if self.since <= now < self.until:
            self._row(now)
            self.waits.setdefault(hour(now), []).append(int(now) - int(since))

    def _row(self, now):
        return self.by.setdefault(hour(now), dict.fromkeys(COUNTS, 0))

    def name(self, now, names, name):
        if self.since <= now < self.until:
            names[name.decode()] += 1

    def totals(self):
        return {name: sum(counts[name] for counts in self.by.values()) for name in COUNTS}

    def waited(self):
        return [seconds for waits in self.waits.values() for seconds in waits]


class Message:
    def __init__(self, sender, recipients, qp, cause=None):
        self.sender, self.recipients, self.qp, self.cause = sender, recipients, qp, cause
        self.number, self.failed, self.seen, self.busy = None, False, False, 0
        self.since, self.is_ordinary = None, sender not in (b"", b"#@[]")


class QmailSend:
    """One qmail-send: ``lines`` are pairs of a time and its words."""

    def __init__(self, seed, books, discards=False, start=1795486275, step=40, number=1000):
        self.random = random.Random(seed)
        self.books, self.discards, self.step, self.first = books, discards, step, number
        self.now, self.lines = float(start), []
        self.todo, self.messages, self.flying, self.delivery = [], {}, {}, 0
        self.pids = list(range(300, 340))

    def say(self, words):
        self.lines.append((self.now, words))

    def count(self, what, number=1):
        for books in self.books:
            books.count(self.now, what, number)

    def name(self, which, name):
        for books in self.books:
            books.name(self.now, getattr(books, which), name)

    def run(self, steps):
        self.say(b"status: local 0/3 remote 0/20")
        actions = [self.inject, self.preprocess, self.preprocess, self.start, self.start, self.finish, self.finish]
        for _ in range(steps):
            # In milliseconds: no form of a log rounds such a time up to the next second.
            self.now = int((self.now + self.random.random() * self.step) * 1000) / 1000
            if self.random.random() < 0.005:
                self.restart()
            self.random.choice(actions)()
        return self

    def inject(self):
        if len(self.messages) + len(self.todo) > 12:
            return
        sender = self.random.choice(
            [b"", b"", b"a@b.example", b"x_from_<#@[]>_qp_1@c", b"#@[]>@d.example", b"bytes@from"]
        )
        recipients = []
        for number in range(self.random.randint(1, 3)):
            channel = self.random.choice([b"local", b"remote"])
            recipients.append((channel, b"u%d@%s" % (number, self.random.choice(DOMAINS))))
        self.queue(Message(sender, recipients, self.pid()))

    def pid(self):
        """A process id that no message has that is on its way into the queue."""
        busy = {message.qp for message in self.todo}
        return self.random.choice([pid for pid in self.pids if pid not in busy])

    def queue(self, message):
        self.todo.append(message)

    def preprocess(self):
        if not self.todo:
            return
        message = self.todo.pop(self.random.randrange(len(self.todo)))
        free = [number for number in range(self.first, self.first + 40) if number not in self.messages]
        message.number = self.random.choice(free)
        self.messages[message.number] = message
        self.say(b"new msg %d" % message.number)
        message.since, size = self.now, self.random.choice([1, 87, 705, 12345678])
        self.say(b"info msg %d: bytes %d from <%s> qp %d uid 0" % (message.number, size, message.sender, message.qp))
        self.count("queued_bytes", size)
        if message.sender == b"#@[]":
            self.count("double_bounces")
            self.count("double_bounce_bytes", size)
            if message.cause:
                self.name("domains", message.cause)

    def start(self):
        ready = [message for message in self.messages.values() if message.recipients]
        if not ready or len(self.flying) > 8:
            return
        message = self.random.choice(ready)
        channel, recipient = message.recipients.pop(0)
        self.delivery += 1
        message.busy += 1
        self.flying[self.delivery] = message, channel, recipient
        self.say(b"starting delivery %d: msg %d to %s %s" % (self.delivery, message.number, channel, recipient))
        self.say(b"status: local 1/3 remote 0/20")
        self.count("deliveries")
        if message.sender == b"#@[]":
            self.count("double_bounce_deliveries")
        if message.sender == b"#@[]" and not message.seen:
            message.seen = True
            self.name("recipients", recipient)

    def finish(self):
        if not self.flying:
            return
        delivery = self.random.choice(list(self.flying))
        message, channel, recipient = self.flying.pop(delivery)
        message.busy -= 1
        what = self.random.choice(["success", "failure", "failure", "deferral"])
        report = b"Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/"
        if what == "success":
            report = self.succeed(message, channel)
        elif what == "failure":
            message.failed = True
            if not message.cause:
                message.cause = recipient.rpartition(b"@")[2].lower()
        else:
            message.recipients.append((channel, recipient))
            if message.sender == b"#@[]":
                self.count("deferred")
        self.say(b"delivery %d: %s: %s" % (delivery, what.encode(), report))
        if not message.recipients and not message.busy:
            self.end(message)

    def succeed(self, message, channel):
        fate = "forwarded" if channel == b"remote" else self.random.choice(list(REPORTS))
        report = b"1.2.3.4_accepted_message./" if channel == b"remote" else self.random.choice(REPORTS[fate])
        if message.sender == b"#@[]":
            self.count(fate)
        if message.is_ordinary and channel == b"local":
            for books in self.books:
                books.wait(self.now, message.since)
        return report

    def end(self, message):
        if message.failed:
            self.bounce(message)
        self.say(b"end msg %d" % message.number)
        del self.messages[message.number]

    def bounce(self, message):
        if message.sender == b"#@[]":
            self.count("triple_bounces")
            self.say(b"triple bounce: discarding bounce/%d" % message.number)
        elif not message.sender and self.discards:
            self.count("discarded")
            self.name("domains", message.cause)
            self.say(b"double bounce: discarding bounce/%d" % message.number)
        else:
            qp = self.pid()
            if message.sender:
                self.count("single_bounces")
                self.queue(Message(b"", [(b"local", b"sender@one.example")], qp, message.cause))
            else:
                self.queue(
                    Message(b"#@[]", [(self.random.choice([b"local", b"local", b"remote"]), SINK)], qp, message.cause)
                )
            self.say(b"bounce msg %d qp %d" % (message.number, qp))

    def restart(self):
        """A crash: deliveries begin to count at 1 again, and what was on its way is tried again."""
        for message, channel, recipient in self.flying.values():
            message.busy -= 1
            message.recipients.append((channel, recipient))
        self.flying, self.delivery = {}, 0
        self.say(b"status: local 0/3 remote 0/20")


def _syslog(now):
    return datetime.fromtimestamp(now).strftime("%b %e %H:%M:%S").encode()


def _zoned(now):
    return datetime.fromtimestamp(now, timezone.utc).astimezone().isoformat(timespec="microseconds").encode()


def _local(now, form):
    return datetime.fromtimestamp(now, timezone.utc).astimezone().strftime(form).encode()


def _utc(now, form):
    return datetime.fromtimestamp(now, timezone.utc).strftime(form).encode()


def _tai(now):
    return b"@%016x%08x" % (int(now) + 2**62 + 10, int(now % 1 * 1e9))


def _json(now, words):
    entry = {
        "__CURSOR": "s=1;i=2",
        "__REALTIME_TIMESTAMP": str(int(now * 1e6)),
        "_SYSTEMD_UNIT": "qmail-send.service",
        "SYSLOG_IDENTIFIER": "qmail-start",
        # journalctl has it as numbers where it is not text.
        "MESSAGE": words.decode() if words.isascii() and len(words) % 2 else list(words),
    }
    return json.dumps(entry).encode()


def _export(now, words):
    size = len(words).to_bytes(8, "little")
    message = b"MESSAGE=" + words if len(words) % 2 else b"MESSAGE\n" + size + words
    lie = b"MESSAGE=info msg 1: bytes 2 from <#@[]> qp 3 uid 4\n\n"  # what is not text may hold anything
    return (
        b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=%d\nX\n" % int(now * 1e6)
        + len(lie).to_bytes(8, "little")
        + lie
        + b"\n_SYSTEMD_UNIT=qmail-send.service\n"
        + message
        + b"\n"
    )


FORMS = {
    "multilog": lambda now, words: _tai(now) + b" " + words,
    "multilog-tab": lambda now, words: _tai(now) + b"\t" + words,
    "syslog": lambda now, words: _syslog(now) + b" vm qmail: %.6f " % (int(now * 1e6) / 1e6) + words,
    "syslog-pid": lambda now, words: _syslog(now) + b" vm qmail[%d]: " % (now // 500) + words,
    "syslog-second-qmail": lambda now, words: _syslog(now) + b" vm qmail1: %.6f " % (int(now * 1e6) / 1e6) + words,
    "syslog-sqmail": lambda now, words: _syslog(now) + b" vm sqmail: " + words,
    "syslog-facility": lambda now, words: _syslog(now) + b" vm local0.qmail: " + words,
    "syslog-start": lambda now, words: _syslog(now) + b" vm qmail-start[7]: " + words,
    "syslog-priority": lambda now, words: b"<22>" + _syslog(now) + b" vm qmail: " + words,
    "syslog-as-sent": lambda now, words: b"<22>" + _syslog(now) + b" qmail: %.6f " % (int(now * 1e6) / 1e6) + words,
    "rfc5424": lambda now, words: b"<22>1 " + _zoned(now) + b" vm qmail 77 - - " + words,
    "rfc5424-data": lambda now, words: (
        b"<22>1 " + _utc(now, "%Y-%m-%dT%H:%M:%S.%fZ") + b' vm qmail - - [a@1 b="c\\]d"][e@2] \xef\xbb\xbf' + words
    ),
    "toaster": lambda now, words: _syslog(now) + b" mail.example qmail-send: " + words,
    "rsyslog": lambda now, words: _zoned(now) + b" vm qmail: " + words,
    "readable": lambda now, words: datetime.fromtimestamp(now).strftime("%Y-%m-%d %H:%M:%S.%f000 ").encode() + words,
    "svlogd": lambda now, words: _utc(now, "%Y-%m-%d_%H:%M:%S.%f ")[:-2] + b" " + words,
    "svlogd-prefix": lambda now, words: _utc(now, "%Y-%m-%d_%H:%M:%S.%f ")[:-2] + b" mx1: " + words,
    "svlogd-t-prefix": lambda now, words: _tai(now) + b" mx1: " + words,
    "svlogd-ttt-prefix": lambda now, words: _utc(now, "%Y-%m-%dT%H:%M:%S.%f ")[:-2] + b" qmail: " + words,
    "s6-log-both": lambda now, words: _tai(now) + _local(now, " %Y-%m-%d %H:%M:%S.%f000  ") + words,
    "unix": lambda now, words: b"%.6f vm qmail-send[77]: " % now + words,
    "journal-precise": lambda now, words: _local(now, "%b %d %H:%M:%S.%f") + b" vm qmail-start[77]: " + words,
    "journal-full": lambda now, words: _local(now, "%a %Y-%m-%d %H:%M:%S %Z") + b" vm qmail-start[77]: " + words,
    "journal-iso": lambda now, words: _local(now, "%Y-%m-%dT%H:%M:%S%z") + b" vm qmail-start[77]: " + words,
    "journal-unit": lambda now, words: _local(now, "%a %Y-%m-%d %H:%M:%S %Z") + b" vm qmail.service[77]: " + words,
    "journal-json": _json,
    "journal-export": _export,
}


def eqmail(words):
    """The same words as eQmail has them."""
    if words.startswith(b"info msg "):
        return b"qmail-send: info: " + words[5:].replace(b"_", b" ")
    if words.startswith((b"new ", b"end ", b"bounce ")):
        return b"qmail-send: notice: " + words
    if words.startswith(b"delivery "):
        words = words.replace(b"_", b" ").replace(b"/", b" ")
    return b"qmail-send: " + words


def indimail(words, queue):
    """The same words as indimail has them, with the name of the queue."""
    if words.startswith(b"end msg "):
        words += b" qmail-send:"
    if words.startswith(b"status: "):
        return words
    return words + b" " + queue
