"""
One server in the table of many: what it says of itself, checked to the last field, and how serious that is.

Whatever a minion sends may have been written by somebody else: by the owner of a mailbox, by a spammer into the log. So
each field is a number, a known word, or a text of bounded length without what could write over a terminal.
"""

import re
import reprlib

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

HOUR, DAY = 3600, 86400
UNITS = {"h": HOUR, "d": DAY, "w": 7 * DAY}
AGE = re.compile(r"([1-9]\d{0,3})([hdw])")
SHORTEST, LONGEST = DAY, 92 * DAY
MOST_HOURS = 8 * DAY  # a longer time is counted by the day
# How a server is, the worst first, with what that means in a sentence.
LEVELS = {
    "down": "No mail is delivered.",
    "wrong": "Double bounces do not go where pillar says.",
    "silent": "It did not answer.",
    "odd": "It answered something else.",
    "untold": "Its state could not be read.",
    "due": "qmail-send has to be restarted: it does not know where double bounces go.",
    "warned": "Double bounces go where pillar says, but something is wrong.",
    "unset": "It has no pillar for qmail_doublebounce.",
    "holds": "Double bounces go where pillar says.",
}
MODES = ("sink", "discard")
FATES = ("swallowed", "discarded", "stored", "forwarded", "deferred", "bounced", "remote", "unknown")
COUNTS = ("double_bounces", "discarded", "triple_bounces", "swallowed", "stored", "forwarded", "deferred")
COSTS = ("deliveries", "double_bounce_deliveries", "queued_bytes", "double_bounce_bytes", "wait_median", "wait_95")
LONGEST_NAME = 255
WORDS = 400  # characters of a sentence
MOST = 5  # problems, causes, and steps of a remedy
LARGEST = 2**53  # what every reader of JSON holds exactly


def window(since, now):
    """
    Return when a time that ends now began, how long each part of it is, and how many parts it has: hours, or days where
    these would be too many. All in seconds, since the epoch.

    Raises SaltInvocationError if it is wrong.

    since
        How far back, such as ``24h``, ``7d`` or ``4w``; from a day to 92.

    now
        Seconds since the epoch.

    For ``qmail_doublebounce_overview`` and the runner ``qmail_doublebounce_survey``.
    """
    found = AGE.fullmatch(since) if isinstance(since, str) else None
    length = int(found[1]) * UNITS[found[2]] if found else 0
    if not SHORTEST <= length <= LONGEST:
        raise SaltInvocationError(f"since={since!r} is not known: give an age from 24h to 92d, such as 7d or 4w.")
    step = HOUR if length <= MOST_HOURS else DAY
    parts = -(-length // step)
    return (int(now) // step + 1 - parts) * step, step, parts


def levels():
    """
    Return how a server can be, the worst first, with what that means in a sentence.

    For ``qmail_doublebounce_totals``.
    """
    return dict(LEVELS)


def make(name, answer, heard, span):
    """
    Return the row of a server that answered: a dict with

    - ``server``, ``level`` (a key of ``LEVELS``), ``why`` (a sentence, for all but ``holds``);
    - ``sink``, ``mode``, ``fate``, ``holds``, ``restart_due``, ``down``, as ``qmail_doublebounce.overview`` returns
      them; ``None`` for what is not known;
    - ``double_bounces`` of the last 24 hours, and what became of them in ``day``; the same of the whole time in
      ``all``, and its parts in ``counts``; ``before`` and ``after`` the sink ``came``;
    - ``waiting``: double bounces in the queue, of so many ``messages``, and since when the ``oldest`` waits;
    - ``problems``, with ``problem`` and ``remedy``, and ``causes``, with ``domain``, ``double_bounces``, ``nobody`` and
      ``remedy``;
    - ``log``, its ``newest`` line, and when the server was ``heard``.

    name
        The id of the minion.

    answer
        What it returned, which may be anything.

    heard
        When, in seconds since the epoch.

    span
        What ``window`` returned: counts that are of another time are left out.

    For ``qmail_doublebounce_overview`` and the runner ``qmail_doublebounce_survey``.
    """
    if not isinstance(answer, dict) or "form" not in answer:
        return bare(name, "odd", answer, heard)
    row = {**bare(name, "holds", "", heard), **_state(answer), **_queue(answer), **_figures(answer, span)}
    level, why = _level(row, answer)
    return {**row, "level": level, "why": why}


def bare(name, level, why, heard=None):
    """
    Return the row of a server of which nothing is known.

    name
        The id of the minion.

    level, why
        A key of ``LEVELS``, and a sentence, or whatever the minion said instead.

    heard
        When it was heard last, in seconds since the epoch; ``None`` if that is not known.

    For the runner ``qmail_doublebounce_survey``.
    """
    words = why if isinstance(why, str) else reprlib.repr(why)
    unknown = ("sink", "mode", "fate", "holds", "restart_due", "down", "double_bounces", "day", "all")
    rest = ("came", "before", "after", "waiting", "messages", "oldest", "log", "newest")
    return {
        "server": plain(name, LONGEST_NAME),
        "level": level,
        "why": plain(words, WORDS) or LEVELS[level],
        **dict.fromkeys((*unknown, *rest)),
        "counts": [],
        "problems": [],
        "causes": [],
        "heard": _moment(heard),
    }


def plain(text, longest=WORDS):
    """
    Return a text in one line, without what could write over a terminal, turn the text around, or hide.

    text
        Anything; of what is not text nothing remains.

    longest
        So many characters of it.

    For ``qmail_doublebounce_totals`` and the runner ``qmail_doublebounce_answer``.
    """
    if not isinstance(text, str):
        return ""
    flat = " ".join(text[: 4 * longest].split())
    if not flat.isprintable():
        flat = "".join(letter if letter.isprintable() else "?" for letter in flat)
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"


def _state(answer):
    said = answer.get("problems")
    return {
        "sink": plain(answer.get("sink"), LONGEST_NAME) or None,
        "mode": _one_of(MODES, answer.get("mode")),
        "fate": _one_of(FATES, answer.get("fate")),
        **{key: _truth(answer.get(key)) for key in ("holds", "restart_due", "down")},
        "problems": [
            {"problem": plain(one.get("problem")), "remedy": plain(one.get("remedy"))}
            for one in _dicts(said)
            if plain(one.get("problem"))
        ],
    }


def _queue(answer):
    queue = answer.get("queue") if isinstance(answer.get("queue"), dict) else {}
    return {
        "waiting": _number(queue.get("double_bounces")),
        "messages": _number(queue.get("messages")),
        "oldest": _moment(queue.get("oldest")),
    }


def _figures(answer, span):
    log = answer.get("log") if isinstance(answer.get("log"), dict) else {}
    day = _outcomes(answer.get("day"))
    return {
        "double_bounces": day["double_bounces"] + day["discarded"] if day else None,
        "day": day,
        "all": _outcomes(answer.get("all"), COSTS),
        "counts": _counts(answer, span),
        "came": _moment(answer.get("came")),
        "before": _outcomes(answer.get("before"), COSTS),
        "after": _outcomes(answer.get("after"), COSTS),
        "causes": [_cause(one) for one in _dicts(answer.get("causes")) if plain(one.get("domain"), LONGEST_NAME)],
        "log": plain(log.get("path")) or None,
        "newest": _moment(log.get("newest")),
    }


def _cause(said):
    remedy = said.get("remedy") if isinstance(said.get("remedy"), list) else []
    return {
        "domain": plain(said.get("domain"), LONGEST_NAME),
        "double_bounces": _number(said.get("double_bounces")) or 0,
        "nobody": plain(said.get("nobody"), 40) or None,
        "remedy": [plain(step) for step in remedy[:MOST] if plain(step)],
    }


def _counts(answer, span):
    """Return how many there were in each part of the time; another clock may have begun an hour earlier or later."""
    begin, step, parts = span
    since, counts = _moment(answer.get("since")), answer.get("counts")
    if since is None or answer.get("step") != step or not isinstance(counts, list):
        return []
    numbers = [one if type(one) is int and 0 <= one <= LARGEST else 0 for one in counts[: 2 * parts]]
    late = (since - begin) // step
    shifted = [0] * min(max(0, late), parts) + numbers[max(0, -late) :]
    return (shifted + [0] * parts)[:parts]


def _level(row, answer):
    """Return how serious it is, and why, in the words of the server."""
    log = answer.get("log") if isinstance(answer.get("log"), dict) else {}
    first = row["problems"][0]["problem"] if row["problems"] else ""
    level = _named(row, answer.get("error"), log.get("reason"))
    if level == "holds":
        return level, ""
    words = {"untold": answer.get("error"), "due": ""}.get(level, first or log.get("reason"))
    return level, plain(words) or LEVELS[level]


def _named(row, error, no_log):
    if error:
        return "untold"
    if row["down"]:
        return "down"
    if row["holds"] is None:
        return "unset"
    if row["holds"]:
        return "warned" if row["problems"] or no_log else "holds"
    return "due" if row["restart_due"] and len(row["problems"]) == 1 else "wrong"


# One field


def _dicts(values):
    return [one for one in values[:MOST] if isinstance(one, dict)] if isinstance(values, list) else []


def _outcomes(value, more=()):
    """Counts, which are numbers, and costs, which may be unknown."""
    if not isinstance(value, dict):
        return None
    known = {key: _number(value.get(key)) or 0 for key in COUNTS}
    return {**known, **{key: _number(value.get(key)) for key in more}}


def _one_of(words, value):
    return value if isinstance(value, str) and value in words else None


def _truth(value):
    return value if isinstance(value, bool) else None


def _number(value):
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST else None


def _moment(value):
    """A moment that every calendar has."""
    value = int(value) if isinstance(value, float) and 0 <= value < LARGEST else value
    number = _number(value)
    return number if number is not None and number < 253370764800 else None  # the year 9999
