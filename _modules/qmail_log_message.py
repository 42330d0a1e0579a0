"""
What qmail-send's words say about messages: their lives from ``info msg`` to ``end msg``, and the bounces between them.

The words are those of ``qmail_log_words``; the common ones are repeated here, in the loop that must be fast.
"""

import marshal
from collections import Counter
from itertools import islice

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

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
DOUBLES, DISCARDED, TRIPLES, SWALLOWED, STORED, FORWARDED, DEFERRED, SINGLES = range(8)
DELIVERIES, DOUBLE_DELIVERIES, BYTES, DOUBLE_BYTES = range(8, 12)

# Memory is bounded whatever a log holds; the oldest entries are dropped first. Counts are exact up to a quarter of a
# million double bounces in the queue at a time, causes up to 65,536 messages that failed and are still on their way,
# and waits up to 65,536 ordinary messages in the queue.
MOST_DOUBLES = 2**18
MOST_MAILS = 2**16
MOST_NULLS = 2**15
MOST_CAUSES = 2**16
MOST_DELIVERIES = 2**12
MOST_NOTICES = 2**13
MOST_NAMES = 2**12
MOST_SLOTS = 2**13
BOUND_EVERY = 2**10  # lines
LONGEST_LINE = 400
LONGEST_NUMBER = 24
LONGEST_SIZE = 15
LONGEST_SENDER = 64
LONGEST_DOMAIN = 64
LONGEST_RECIPIENT = 256

SINGLE_ROW = "single_bounces"
# For lines whose time is not known: see ``qmail_log_form.clock``.
NO_TIME = 0, 0, {b"": None}


def _fate(channel, report):
    """
    What happened to a double bounce that wasn't refused: the index of a count.

    qmail-local writes ``did_FILES+FORWARDS+PROGRAMS/`` after what programs wrote. One program, or none, is a sink. Two
    are more than a sink needs: that is how Plesk keeps a mailbox, with ``deliverquota`` after ``true``.
    """
    what, _, report = report.partition(b": ")
    if what != b"success":
        return DEFERRED
    did = __salt__["qmail_log_words.did"](report)
    if not did:
        # qmail-lspawn drops mail to an empty local part, and writes nothing.
        return FORWARDED if channel != b"local" else STORED if report.strip(b"/ ") else SWALLOWED
    files, forwards, programs = did
    if files or (programs > 1 and not forwards):
        return STORED
    return FORWARDED if forwards else SWALLOWED


def _forget(known, most):
    """Drop the oldest entries, an eighth at a time. A copy has no holes where something was deleted."""
    if len(known) <= most:
        return known
    for key in list(islice(known, len(known) - most + most // 8)):
        del known[key]
    return dict(known)


def _add(names, name, number=1):
    """Count a name; if there are too many, the rare ones are dropped."""
    names[name] = names.get(name, 0) + number
    if len(names) > 2 * MOST_NAMES:
        for key in sorted(names, key=names.get)[:MOST_NAMES]:
            del names[key]


class _Tracker:
    """
    Follows messages from ``info msg`` to ``end msg``, deliveries from their start to their report, and bounces by
    ``qp``.

    A number stands for a message only during its lifetime: message and delivery numbers are used again. Of a message
    with a sender only its time is kept, unless it fails.
    """

    def __init__(self, account=None, strangers=None):
        self.account = account  # of the causes, if they are asked for: see qmail_log_causes
        self.strangers = strangers  # only of the second half of a log: what is about messages of the first half
        self.buckets, self.bucket = __salt__["qmail_log_harm.buckets"]()
        self.mails = {}  # messages with a sender: when they came into the queue, the sender, and the uid
        self.doubles = {}  # double bounces: whether the recipient was counted
        self.nulls = {}  # the same of messages with an empty sender
        self.causes = {}  # messages: the domain that failed first, or what the account has for it
        self.deliveries = {}  # deliveries: the words of their start
        self.notices = {}  # qp: the cause, and the counts and the account's row in which it is a single bounce
        self.recipients = {}
        self.domains = {}
        self.gone, self.caused = [], []  # what _name adds to these
        self.shared = {}
        self.fates = {}
        self.slots = {}
        self.counts = self._none()
        self.counting = False
        self.forked = None  # the words that are read again, in those of qmail-send

    def _none(self):
        """Counts of nothing yet: first those that have a name, then one for each bucket of waits."""
        return [0] * (len(COUNTS) + self.buckets)

    def enter(self, slot):
        """Count from here on for a slot; with ``None``, messages are followed but not counted."""
        self.counting = slot is not None
        if not self.counting:
            self.counts = self._none()
            return
        if slot not in self.slots:
            if len(self.slots) >= MOST_SLOTS:
                slot = ("more", slot[1]) if isinstance(slot, tuple) else "more"
            self.slots.setdefault(slot, self._none())
        self.counts = self.slots[slot]

    def add(self, state):
        """Add what was counted in the second half of a log."""
        for slot, counts in state["slots"].items():
            self.enter(slot)
            self.counts[:] = map(sum, zip(self.counts, counts))
        for mine, more in ((self.recipients, state["recipients"]), (self.domains, state["domains"])):
            for name, number in more.items():
                _add(mine, name, number)

    def feed(self, lines, skip, clock=NO_TIME):  # noqa: C901 - one loop does the common things itself: it is the fastest
        """
        Follow qmail-send's lines; its words begin after ``skip`` bytes, and ``clock`` reads their time.

        This loop takes most of the time, so it does the common things itself. The fourth letter distinguishes the
        words, and fields are taken from the end of a line, where no address can shift them. What doesn't fit is read
        again, as the words of a fork.
        """
        doubles, nulls, causes, deliveries = self.doubles, self.nulls, self.causes, self.deliveries
        letter, end_word, word, longest = skip + 3, skip + 8, skip + 9, skip + LONGEST_LINE
        mails, account, strangers, (start, stop, times) = self.mails, self.account, self.strangers, clock
        known = strangers and strangers.known
        take, notice_of = deliveries.pop, self.notices.pop
        started = doubled = queued = 0
        for line in lines:
            try:
                at = line[letter]
            except IndexError:
                continue
            if at == 116:  # sta_t_us: …
                continue
            if at == 32:  # end_ _msg N, new msg N
                if line[skip] == 101:
                    message = line[end_word:]
                    if strangers and message not in known and b" " not in message:
                        self._put_aside(line[skip:], times[line[start:stop]])
                        continue
                    if message in nulls:
                        del nulls[message]
                    elif message in mails:
                        del mails[message]
                    elif message in doubles:
                        del doubles[message]
                    if message in causes:
                        del causes[message]
                    elif b" " in message:
                        self._fork(line[skip:], times[line[start:stop]])
            elif at == 114:  # sta_r_ting delivery D: msg N to CHANNEL RECIPIENT
                fields = line.rsplit(b" ", 6)
                if fields[0][skip:] != b"starting delivery" or len(line) > longest:
                    self._fork(line[skip:], times[line[start:stop]])
                    continue
                message = fields[3]
                if strangers and message not in known:
                    deliveries.pop(fields[1], None)
                    self._put_aside(line[skip:], times[line[start:stop]])
                    continue
                deliveries[fields[1]] = fields
                started += 1
                if message in doubles:
                    doubled += 1
                    if not doubles[message]:
                        self._goes_to(message, fields[6])
            elif at == 105:  # del_i_very D: success|failure|deferral: REPORT
                blank = line.find(b" ", word)
                delivery = take(line[word:blank], None)
                if delivery is None:
                    if not self._fork(line[skip:], times[line[start:stop]]) and strangers:
                        self._put_aside(line[skip:], times[line[start:stop]])
                    continue
                message = delivery[3]
                fate = line[blank + 1 : blank + 2]
                if fate == b"f":
                    if message not in doubles and (message not in causes or (account and causes[message].is_open)):
                        self._failed(message, delivery[5], delivery[6])
                elif message in doubles:
                    self._fared(delivery[5], line[blank + 1 :])
                elif message in mails and delivery[5] == b"local" and fate == b"s":
                    self._waited(mails[message][0], times[line[start:stop]])
            elif at == 111:  # inf_o_ msg N: bytes B from <SENDER> qp P uid U
                colon = line.find(b":", word)
                try:
                    head, sender, is_qp, qp, _, uid = line.rsplit(b" ", 5)
                    size = head[colon + 8 : -5]
                except ValueError:
                    is_qp = size = b""
                if is_qp != b"qp" or line[skip:word] != b"info msg " or not size.isdigit():
                    self._fork(line[skip:], times[line[start:stop]])
                    continue
                message = line[word:colon]
                if strangers:
                    if sender in (b"<>", b"<#@[]>") and strangers.sent(message, qp):
                        self._reused(message)
                        self._put_aside(line[skip:], times[line[start:stop]])
                        continue
                    known.add(message)
                size = int(size[:LONGEST_SIZE])
                queued += size
                if message in mails or message in doubles or message in nulls or message in causes:
                    self._reused(message)
                if sender == b"<>":
                    self._null(message, uid, notice_of(qp, None))
                elif sender == b"<#@[]>":
                    self._double(message, notice_of(qp, None), size)
                elif colon - word <= LONGEST_NUMBER:
                    mails[message] = times[line[start:stop]], sender[-LONGEST_SENDER:], uid[:LONGEST_NUMBER]
            elif at == 110:  # bou_n_ce msg N qp P
                fields = line.rsplit(b" ", 3)
                if fields[0][skip:] == b"bounce msg":
                    if strangers and strangers.notified(fields[1], fields[3]):
                        self.notices.pop(fields[3], None)
                        self._put_aside(line[skip:], times[line[start:stop]])
                    else:
                        self._notice(fields[1], fields[3])
                else:
                    self._fork(line[skip:], times[line[start:stop]])
            elif at == 98 or at == 112:  # dou_b_le bounce: …, tri_p_le bounce: …
                self._discarded(line[skip:], times[line[start:stop]])
        self.counts[DELIVERIES] += started
        self.counts[DOUBLE_DELIVERIES] += doubled
        self.counts[BYTES] += queued
        self._name()

    def _name(self):
        """Count the names of what was fed, at once: most are the same."""
        for names, found in ((self.recipients, self.gone), (self.domains, self.caused)):
            for name, number in Counter(found).items():
                _add(names, name, number)
            found.clear()

    def _fork(self, words, now):
        """Follow what a fork says; return whether it was one that did."""
        stock = None if self.forked else __salt__["qmail_log_words.stock"](words)
        if not stock or stock == words:
            return False
        self.forked = words
        self.feed((stock,), 0, (0, 0, {b"": now}))
        self.forked = None
        return True

    def _put_aside(self, words, now):
        """Keep a line for the one who knows the first half: as it was written, whoever wrote it."""
        self.strangers.say(self.forked or words, now)

    def _waited(self, since, now):
        """Count how long a message with a sender was in the queue when it was delivered here."""
        if since is not None and now is not None:
            self.counts[len(COUNTS) + self.bucket(now - since)] += 1

    def _goes_to(self, message, recipient):
        self.doubles[message] = True
        if self.counting:
            self.gone.append(recipient)

    def _fared(self, channel, report):
        """Count what happened to a double bounce; most reports are the same."""
        key = report[:1] + channel + report[-LONGEST_RECIPIENT:]
        if key not in self.fates:
            if len(self.fates) > MOST_NAMES:
                self.fates.clear()
            self.fates[key] = _fate(channel, report)
        self.counts[self.fates[key]] += 1

    def _failed(self, message, channel, recipient):
        """Remember the domain of the first recipient that failed, unless a notice has a cause already."""
        if self.account:
            origin = self.mails.get(message) or self.nulls.get(message)
            cause = self.account.failed(self.causes.get(message), origin, channel, recipient)
        else:
            domain = recipient.rpartition(b"@")[2].lower()[-LONGEST_DOMAIN:]
            cause = self.shared.setdefault(domain, domain)
        if len(message) <= LONGEST_NUMBER:
            self.causes[message] = cause

    def _notice(self, message, qp):
        """
        A notice goes to the sender of a message: a single bounce, if there is a sender.

        A message whose beginning isn't known counts as one with a sender, until its notice turns out to be a double
        bounce.
        """
        cause, single, row = self.causes.get(message), None, None
        if self.account:
            self.account.ended(cause)
        if message not in self.nulls:
            single = self.counts
            single[SINGLES] += 1
            row = self.account and self.counting and self.account.single(cause)
        if len(qp) <= LONGEST_NUMBER:
            self.notices[qp] = cause, single, row

    def _null(self, message, uid, notice):
        """A message with an empty sender: the notice that a message bounced, or one from elsewhere."""
        if len(message) <= LONGEST_NUMBER:
            self.nulls[message] = None, b"<>", uid[:LONGEST_NUMBER]
            if notice and notice[0] is not None:
                self.causes[message] = notice[0]

    def _double(self, message, notice, size):
        cause, single, row = notice or (None, None, None)
        if len(message) <= LONGEST_NUMBER:
            self.doubles[message] = False
        self.counts[DOUBLES] += 1
        self.counts[DOUBLE_BYTES] += size
        self._caused(cause)
        if single:
            single[SINGLES] -= 1
        if row:
            row[SINGLE_ROW] -= 1

    def _discarded(self, words, now):
        which, _, message = words.partition(b" bounce: discarding bounce/")
        if not message or b" " in message:
            self._fork(words, now)
        elif self.strangers and message not in self.strangers.known:
            self._put_aside(words, now)
        elif which == b"triple":
            self.counts[TRIPLES] += 1
        elif which == b"double":
            self.counts[DISCARDED] += 1
            self._caused(self.causes.get(message))

    def _caused(self, cause):
        if self.counting and self.account:
            self.account.doubled(cause)
        elif self.counting and cause is not None:
            self.caused.append(cause)

    def _reused(self, message):
        """What is known of a number is about another message."""
        for known in (self.mails, self.doubles, self.nulls, self.causes):
            known.pop(message, None)

    def bound(self):
        """Keep within the bounds of memory."""
        self.mails = _forget(self.mails, MOST_MAILS)
        self.doubles = _forget(self.doubles, MOST_DOUBLES)
        self.nulls = _forget(self.nulls, MOST_NULLS)
        self.causes = _forget(self.causes, MOST_CAUSES)
        self.deliveries = _forget(self.deliveries, MOST_DELIVERIES)
        self.notices = _forget(self.notices, MOST_NOTICES)
        if len(self.shared) > MOST_NAMES:
            self.shared.clear()

    def told(self):
        """The counts, in the shape that ``follow`` returns."""
        size = len(COUNTS)
        return {
            "names": COUNTS,
            "slots": {
                slot: (dict(zip(COUNTS, counts[:size])), counts[size:])
                for slot, counts in self.slots.items()
                if any(counts)
            },
            "recipients": {_text(name): count for name, count in self.recipients.items()},
            "domains": {_text(name): count for name, count in self.domains.items()},
        }


def _text(name):
    return name.decode("ascii", "backslashreplace")


def follow(halves, account=None):
    """
    Follow the messages of a log, and count what happened to bounces.

    Returns ``{"names": (count, …), "slots": {slot: ({count: …}, waits)}, "recipients": {address: …}, "domains":
    {domain: …}, "bytes": …}``, with the counts that ``qmail_log.summary`` explains, and the waits as
    ``qmail_log_harm.row`` takes them. Memory is bounded: beyond 262,144 bounces or 65,536 other messages in the queue
    at a time the oldest aren't followed any further, names are counted exactly up to 8192 of a kind, and beyond 8192
    slots the rest is counted as ``more``.

    halves
        Either one function, or one for each half of the log, which are then read at the same time, by two processes.
        Each returns an iterable of triples, in order of time: a slot, as ``qmail_log_time.segments`` names it, or
        ``None`` for what is followed but not counted; runs of lines, as ``qmail_log_line.runs`` returns them; and how
        many bytes that was.

    account
        What ``qmail_log_causes.account`` returned: each failure and each bounce is entered there, and the
        ``domains`` stay empty.

    For ``qmail_log`` and ``qmail_log_tally``.
    """
    tracker, read = _Tracker(account), [0]

    def work(half, tell):
        return _second(halves[1], account, tell) if half else _followed(tracker, halves[0](), read)

    if not halves[1:]:
        work(0, None)
    else:
        second = __salt__["qmail_base_bulk.halves"](work, "qmail_log")[1]
        if not _joined(tracker, second, read):
            # It depends on the first half in a way that was not foreseen: go on from there, one line after the other.
            _followed(tracker, halves[1](), read)
    return {**tracker.told(), "bytes": read[0]}


def _followed(tracker, parts, read):
    for slot, runs, size in parts:
        tracker.enter(slot)
        if tracker.strangers:
            tracker.strangers.slot = slot
            if tracker.strangers.are_too_many(size):
                return
        for run in runs:
            tracker.feed(*run)
        tracker.bound()
        read[0] += size


def _second(half, account, tell):
    """
    Follow the second half of a log without knowing the first: what that counts, and the lines that are about messages
    of the first half, in a form that can be sent from process to process. ``None`` if those are too many.
    """
    strangers, read = __salt__["qmail_log_stranger.strangers"](), [0]
    tracker = _Tracker(account and account.another(), strangers)

    def told():
        for part in half():
            tell(0, read[0])
            yield part

    _followed(tracker, told(), read)
    if strangers.were_too_many:
        return None
    state = {name: getattr(tracker, name) for name in ("slots", "recipients", "domains")}
    told_of = tracker.account and tracker.account.state()
    return marshal.dumps((state, told_of, strangers.state(), read[0])).decode("latin-1")


def _joined(tracker, second, read):
    """Add what was found in the second half of a log, if it is what one would have found who knew the first."""
    if second is None:
        return False
    found = marshal.loads(second.encode("latin-1"))  # noqa: S302 - our own child made it  # nosec B302
    state, told_of, (lines, asked), size = found
    if not asked.isdisjoint(tracker.notices):
        return False
    for number, (slot, words, now) in enumerate(lines):
        tracker.enter(slot)
        tracker.feed((words,), 0, (0, 0, {b"": now}))
        if not number % BOUND_EVERY:
            tracker.bound()
    tracker.add(state)
    if tracker.account:
        tracker.account.add(told_of)
    read[0] += size
    return True
