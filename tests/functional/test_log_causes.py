"""Who caused the double bounces of a log, against an account that is kept while the log is made up."""

import random
from collections import Counter

import pytest

from tests.support.log_model import FORMS, QmailSend, eqmail, indimail

START = 1795486275
# Addresses and domains as senders choose them: they look like qmail-send's own words.
ODD = (
    b"info_msg_5:_bytes_7_from_<#@[]>_qp_3_uid_4@flood.example",
    b"#@[]>_qp_1_uid_2@flood.example",
    b"end_msg_7@flood.example",
    b"delivery_1:_failure:_x@flood.example",
    b"joe@from_<#@[]>_qp_1",
    b"x>_from_<@flood.example",
)
LOCAL = (b"one.example", b"two.example", b"Three.Example")


class Story:
    """
    Messages at the same time, each with its bounce and its double bounce, told as qmail-send would log them.

    The account is of what was decided, not of what was written.
    """

    def __init__(self, seed, odd=True, discards=False):
        self.random, self.odd, self.discards = random.Random(seed), odd, discards
        self.doubles, self.singles, self.uids, self.channels = Counter(), Counter(), Counter(), Counter()
        self.recipients, self.senders = {}, {}
        self.free, self.delivery, self.qp = list(range(100, 160)), 0, 1000
        self.lines = []

    def run(self, number):
        flying, left = [], number
        while flying or left:
            if left and len(flying) < 20:
                flying.append(self.message(*self.original()))
                left -= 1
            one = self.random.choice(flying)
            words = next(one, None)
            if words is None:
                flying.remove(one)
            else:
                self.lines.append(words)
        return self

    def original(self):
        sender = self.random.choice(
            ODD if self.odd and self.random.random() < 0.5 else (b"a@s.example", b"b@T.example")
        )
        recipients = []
        for _ in range(self.random.randint(1, 3)):
            if self.random.random() < 0.8:
                local = self.random.choice([*ODD, b"x"]).partition(b"@")[0] if self.odd else b"x"
                name = b"%s-%d@%s" % (local, self.random.randrange(9), self.random.choice(LOCAL))
                recipients.append((b"local", b"1-" + name))
            else:
                recipients.append((b"remote", b"u%d@away.example" % self.random.randrange(9)))
        return sender, self.random.choice([1001, 33]), recipients

    def message(self, sender, uid, recipients, origin=None, qp=None):
        number = self.free.pop(self.random.randrange(len(self.free)))
        if qp is None:
            self.qp = qp = self.qp + 1
        yield b"new msg %d" % number
        yield b"info msg %d: bytes 87 from <%s> qp %d uid %d" % (number, sender, qp, uid)
        failed = []
        for channel, recipient in recipients:
            self.delivery += 1
            delivery, fails = self.delivery, self.random.random() < 0.7
            yield b"starting delivery %d: msg %d to %s %s" % (delivery, number, channel, recipient)
            yield b"status: local 1/10 remote 0/20"
            if fails:
                failed.append((channel, recipient))
            yield b"delivery %d: %s" % (delivery, b"failure: Sorry,_no_mailbox/" if fails else b"success: did_1+0+0/")
        then = None
        if failed and sender == b"#@[]":
            yield b"triple bounce: discarding bounce/%d" % number
        elif failed:
            origin = origin or (sender, uid, failed)
            if not sender and self.discards:
                self.doubled(origin)
                yield b"double bounce: discarding bounce/%d" % number
            else:
                self.qp = notice = self.qp + 1
                to = b"" if sender else b"#@[]"
                if sender:
                    self.singles[self.domain(origin[2][0][1])] += 1
                else:
                    self.doubled(origin)
                then = self.message(to, 1007, [(b"local", b"back@bounces.example")], origin, notice)
                yield b"bounce msg %d qp %d" % (number, notice)
        yield b"end msg %d" % number
        self.free.append(number)
        if then:
            yield from then

    @staticmethod
    def domain(address):
        return address.rpartition(b"@")[2].lower().decode()

    def doubled(self, origin):
        sender, uid, failed = origin
        channel, first = failed[0]
        domain = self.domain(first)
        self.doubles[domain] += 1
        self.channels[domain, channel.decode()] += 1
        self.uids[uid, channel.decode()] += 1
        self.senders.setdefault(domain, Counter())[self.domain(sender)] += 1
        same = {recipient.lower() for _, recipient in failed if self.domain(recipient) == domain}
        self.recipients.setdefault(domain, set()).update(same)


@pytest.fixture
def causes(modules, tmp_path):
    def causes(lines, form="multilog", **named):
        stamped = (FORMS[form](START + number / 10, words) + b"\n" for number, words in enumerate(lines))
        (tmp_path / "log").write_bytes(b"".join(stamped))
        return modules.qmail_log.causes(str(tmp_path / "log"), **named)

    return causes


def agrees(found, story):
    assert found["double_bounces"] == sum(story.doubles.values())
    assert found["single_bounces"] == sum(story.singles.values())
    assert found["unknown"] == 0
    assert {name: row["double_bounces"] for name, row in found["domains"].items()} == story.doubles
    for name, row in found["domains"].items():
        assert row["recipients"] == len(story.recipients[name])
        assert row["exact"]
        assert row["single_bounces"] == story.singles[name]
        assert row["senders"] == story.senders[name]
        assert (row["local"], row["remote"]) == (story.channels[name, "local"], story.channels[name, "remote"])
    assert {(one["uid"], one["channel"]): one["double_bounces"] for one in found["uids"]} == story.uids


@pytest.mark.parametrize("form", ["multilog", "syslog", "rfc5424", "svlogd-prefix", "journal-json", "rsyslog"])
@pytest.mark.parametrize("discards", [False, True], ids=["queues", "discards"])
def test_made_up_floods_have_the_causes_that_they_had(causes, form, discards):
    for seed in range(3):
        story = Story(seed, discards=discards).run(200)
        assert sum(story.doubles.values()) > 50
        agrees(causes(story.lines, form), story)


def test_the_forks_words_have_the_same_causes(causes):
    story = Story(7).run(200)
    agrees(causes([indimail(words, b"queue1") for words in story.lines]), story)
    story = Story(7, odd=False).run(200)
    agrees(causes([eqmail(words) for words in story.lines], "syslog"), story)


def test_two_queues_of_indimail_have_numbers_of_their_own(causes):
    one, two = Story(1).run(100), Story(2).run(100)
    mixed = random.Random(3)
    lines, left = (
        [],
        [[indimail(words, b"queue1") for words in one.lines], [indimail(words, b"queue2") for words in two.lines]],
    )
    # What one process queued has a number of its own on the whole machine.
    left[1] = [words.replace(b" qp ", b" qp 77") for words in left[1]]
    while any(left):
        lines.append(mixed.choice([queue for queue in left if queue]).pop(0))
    found = causes(lines)
    assert {name: row["double_bounces"] for name, row in found["domains"].items()} == one.doubles + two.doubles


@pytest.mark.parametrize("seed", range(3))
def test_the_domains_are_those_of_the_summary(causes, modules, tmp_path, seed):
    send = QmailSend(seed, []).run(4000)
    found = causes([words for _, words in send.lines])
    summary = modules.qmail_log.summary(str(tmp_path / "log"))
    assert {name: row["double_bounces"] for name, row in found["domains"].items()} == summary["domains"]
    assert found["double_bounces"] == summary["double_bounces"]
    assert found["single_bounces"] == summary["single_bounces"]


@pytest.mark.parametrize("place", ["logs", "logs-discard"])
@pytest.mark.parametrize("name", ["maillog", "multilog-current"])
def test_the_recordings_have_the_domains_of_the_summary(modules, place, name):
    path = f"tests/data/{place}/{name}"
    found, summary = modules.qmail_log.causes(path), modules.qmail_log.summary(path)
    rows = sorted(found["domains"].items(), key=lambda row: (-row[1]["double_bounces"], row[0]))[:10]
    assert {domain: row["double_bounces"] for domain, row in rows} == summary["domains"]
    assert found["double_bounces"] == summary["double_bounces"] + summary["discarded"]
    assert sum(one["double_bounces"] for one in found["uids"]) == sum(
        row["double_bounces"] for row in found["domains"].values()
    )


def test_only_what_was_logged_since_is_counted_and_its_cause_is_still_known(causes):
    story = Story(4).run(100)
    last = max(number for number, words in enumerate(story.lines) if b"from <#@[]>" in words)
    found = causes(story.lines, since=int(START + last / 10))
    assert found["double_bounces"] < sum(story.doubles.values())
    assert found["double_bounces"] >= 1
    assert found["unknown"] == 0


def test_a_log_that_begins_in_the_middle_says_what_it_does_not_know(causes):
    lines = [b"info msg 5: bytes 9 from <#@[]> qp 7 uid 1007", b"end msg 5"]
    assert causes(lines)["unknown"] == 1
    lines = [b"bounce msg 4 qp 7", *lines]
    assert (causes(lines)["unknown"], causes(lines)["single_bounces"]) == (1, 0)


def test_nothing_but_a_bounded_number_is_remembered(modules):
    account = modules.qmail_log_causes.account()
    lines = []
    for number in range(3 * 2**10):
        lines += [
            b"info msg 1: bytes 9 from <a@s%d.example> qp 1 uid %d" % (number, number),
            b"starting delivery 1: msg 1 to local x@d%d.example" % number,
            b"delivery 1: failure: no/",
            b"bounce msg 1 qp 2",
            b"end msg 1",
            b"info msg 2: bytes 9 from <> qp 2 uid 7",
            b"starting delivery 2: msg 2 to remote a@s.example",
            b"delivery 2: failure: no/",
            b"double bounce: discarding bounce/2",
            b"end msg 2",
        ]
    told = modules.qmail_log_message.follow([lambda: [("x", [(lines, 0, (0, 0, {b"": None}))], 1)]], account)
    assert told["slots"]["x"][0]["discarded"] == 3 * 2**10
    found = account.told()
    assert found["unknown"] == 0
    assert len(found["domains"]) <= 2 * 2**10
    assert len(found["uids"]) <= 2 * 2**8
