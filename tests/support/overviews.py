"""Made-up answers of many servers to ``qmail_doublebounce.overview``: a fleet as it may be on a bad night."""

import random

HOUR, DAY = 3600, 86400
NOW = 1795923000  # 2026-11-29 03:30 UTC
COUNTS = ("double_bounces", "discarded", "triple_bounces", "swallowed", "stored", "forwarded", "deferred")
DOMAINS = ("shop.example.com", "club.example.net", "news.example.org", "old.example.com", "forms.example.net")
DOWN = (
    "qmail-send does not run: no mail is delivered. Its log ends: alert: cannot start: unable to read controls",
    "Fix what the log reports, then salt-call qmail_service.start",
)
WRONG = (
    "Pillar wants double bounces at doublebounce@example.com, but they go to postmaster@{name}.",
    "state.apply qmail-doublebounce",
)
DUE = (
    "qmail-send 4711 started before the control files changed and still uses the old ones; HUP does not make it read "
    "them.",
    "state.apply qmail-doublebounce, or salt-call qmail_service.restart",
)
MANY = (
    "2417 double bounces wait in the queue. They keep the recipient that they were queued with, and qmail-send gives "
    "them up after queuelifetime.",
    "salt-call qmail_queue.double_bounces limit=10 shows where they go.",
)
ENTRIES = {"down": DOWN, "wrong": WRONG, "due": DUE, "warned": MANY}


def name_of(number):
    return f"mx{number}.example.com"


def kind_of(number):
    """Return how a server is: most are well, and some of each other kind are among them."""
    return {3: "wrong", 7: "due", 11: "silent", 13: "down", 19: "warned", 23: "odd", 29: "wrong", 31: "unset"}.get(
        number % 40, "holds"
    )


def answer(number, now=NOW, days=7):
    """Return what a server says, as ``qmail_doublebounce_row.make`` takes it; ``None`` for one that is silent."""
    kind, chance = kind_of(number), random.Random(number)
    if kind == "silent":
        return None
    if kind == "odd":
        return "The minion function caused an exception: PermissionError: [Errno 13] Permission denied: '/var/qmail'"
    counts = _flood(chance, days * 24)
    begin = (now // HOUR + 1) * HOUR - days * DAY
    came = begin + (80 + chance.randrange(20)) * HOUR
    bad = kind in ("wrong", "unset", "down")
    before = sum(counts[: (came - begin) // HOUR])
    return {
        "form": 1,
        "time": now,
        "verdict": "Double bounces vanish at doublebounce@example.com.",
        "sink": f"postmaster@{name_of(number)}" if bad else "doublebounce@example.com",
        "mode": None if kind == "unset" else "sink",
        "fate": "stored" if bad else "swallowed",
        "holds": {"unset": None, "holds": True, "warned": True}.get(kind, False),
        "down": kind == "down",
        "restart_due": kind == "due",
        "queue": {
            "messages": 40 + chance.randrange(400) + 2417 * (kind == "warned"),
            "double_bounces": 2417 if kind == "warned" else chance.randrange(900) if bad else 0,
            "oldest": now - chance.randrange(60, 7 * DAY),
        },
        "problems": [_entry(ENTRIES[kind], number)] if kind in ENTRIES else [],
        "log": {"path": "/var/log/qmail/current", "newest": now - chance.randrange(40), "reason": None},
        "since": begin,
        "step": HOUR,
        "counts": counts,
        "day": _ends(sum(counts[-24:]), bad),
        "all": _costs(_ends(sum(counts), bad)),
        "came": None if bad else came,
        "before": None if bad else _costs(_ends(before, True), 2700),
        "after": None if bad else _costs(_ends(sum(counts) - before, False), 4),
        "causes": _causes(chance, sum(counts)),
    }


def report(modules, returns, of="mx*.example.com"):
    """Return the report about servers: pairs of a name and what it returned, ``None`` for one that is silent."""
    span = modules["qmail_doublebounce_row.window"]("7d", NOW)
    rows = [_row(modules, name, said, span) for name, said in returns]
    return modules["qmail_doublebounce_totals.report"](rows, span, NOW + 20, of)


def _row(modules, name, said, span):
    if said is None:
        why = f"It did not answer within 300 s. See whether it is up: salt {name} test.ping"
        return modules["qmail_doublebounce_row.bare"](name, "silent", why, NOW - 90_000)
    return modules["qmail_doublebounce_row.make"](name, said, NOW, span)


def _flood(chance, hours):
    """A quiet river of a few, with a flood that rises within hours and falls within days."""
    start, size, length = chance.randrange(hours), chance.choice((0, 0, 40, 300, 2500)), chance.randrange(4, 60)
    return [
        chance.randrange(6) + (round(size * (1 - (hour - start) / length)) if start <= hour < start + length else 0)
        for hour in range(hours)
    ]


def _ends(total, bad):
    lost = total // 50
    ends = {"stored": total - lost, "deferred": total // 9} if bad else {"swallowed": total - lost}
    return {**dict.fromkeys(COUNTS, 0), "double_bounces": total, "triple_bounces": lost, **ends}


def _costs(ends, longest=90):
    total = ends["double_bounces"]
    return {
        **ends,
        "deliveries": 3 * total + 9000,
        "double_bounce_deliveries": total + total // 10,
        "queued_bytes": 9_000_000 + 9000 * total,
        "double_bounce_bytes": 2100 * total,
        "wait_median": longest // 30,
        "wait_95": longest,
    }


def _entry(entry, number):
    problem, remedy = entry
    return {"problem": problem.format(name=name_of(number)), "remedy": remedy}


def _causes(chance, total):
    first = chance.randrange(len(DOMAINS))
    worst = DOMAINS[first:] + DOMAINS[:first]
    return [
        {
            "domain": worst[0],
            "double_bounces": total * 3 // 4,
            "nobody": "bounces",
            "remedy": [f"plesk bin domain_pref --update {worst[0]} -no_usr reject"],
        },
        {"domain": worst[1], "double_bounces": total // 8, "nobody": "accepts all", "remedy": []},
        {"domain": worst[2], "double_bounces": total // 40},
    ]
