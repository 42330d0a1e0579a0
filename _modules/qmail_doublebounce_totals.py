"""
Many rows as one: how many servers are how, their figures together, and what is wrong or causes it on several of them.
"""

import re

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

MOST_PROBLEMS = 50
MOST_CAUSES = 20
WAITS = ("wait_median", "wait_95")
MOST_SERVERS = 50  # named with a problem
# What differs from server to server in the same problem: addresses, paths, numbers.
PARTICULAR = re.compile(r"\S*[@/\d]\S*")


def report(rows, span, made, about=""):
    """
    Return a report: a dict with ``servers``, the rows, the worst first; ``totals``, what they are together; ``of``,
    ``since``, ``step``, ``parts`` and ``made``.

    rows
        A list of what ``qmail_doublebounce_row.make`` and ``bare`` returned.

    span
        What ``qmail_doublebounce_row.window`` returned.

    made
        When that was, in seconds since the epoch.

    about
        In a word or two, of what it is: the target.

    For ``qmail_doublebounce_overview`` and the runner ``qmail_doublebounce_survey``.
    """
    ranks = {level: place for place, level in enumerate(__salt__["qmail_doublebounce_row.levels"]())}
    rows = sorted(rows, key=lambda row: (ranks[row["level"]], -(row["double_bounces"] or 0), row["server"]))
    begin, step, parts = span
    about = __salt__["qmail_doublebounce_row.plain"](about)
    return {
        "servers": rows,
        "totals": _totals(rows, ranks),
        "of": about,
        "since": begin,
        "step": step,
        "parts": parts,
        "made": int(made),
    }


def _totals(rows, ranks):
    """
    Return what rows are together: a dict with

    - ``levels``: how many servers are how, the worst first, as ``qmail_doublebounce_row`` names it;
    - ``double_bounces`` of the last 24 hours, ``day`` and ``all``, ``waiting``, ``messages``, ``oldest``, and
      ``counts``, as in a row; ``largest`` is the largest number of double bounces in a row;
    - ``sinks``: how many of them came in this time, with ``before`` and ``after`` of these alone;
    - ``problems``: the same problem on several servers once, in the words of the first, with ``servers`` (names),
      ``others`` (how many more) and ``level``; ``more_problems``: how many are left out;
    - ``causes``: domains, the worst first, with ``servers``, ``double_bounces``, ``nobody`` and ``remedy``.
    """
    found = [row["level"] for row in rows]
    levels = {level: found.count(level) for level in ranks if level in found}
    problems = _problems(rows)
    moved = [row for row in rows if row["came"] is not None and row["before"] and row["after"]]
    return {
        "levels": levels,
        **{key: _sum(rows, key) for key in ("double_bounces", "waiting", "messages")},
        "oldest": min((row["oldest"] for row in rows if row["oldest"] is not None), default=None),
        "largest": max((row["double_bounces"] or 0 for row in rows), default=0),
        **{key: _outcomes(rows, key) for key in ("day", "all")},
        "counts": [sum(numbers) for numbers in zip(*(row["counts"] for row in rows if row["counts"]))],
        "sinks": len(moved),
        **{key: _outcomes(moved, key) for key in ("before", "after")},
        "problems": problems[:MOST_PROBLEMS],
        "more_problems": max(0, len(problems) - MOST_PROBLEMS),
        "causes": _causes(rows),
    }


def _sum(rows, key):
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known) if known else None


def _outcomes(rows, key):
    """Add counts and costs up; of waits, take the longest."""
    known = [row[key] for row in rows if row[key]]
    added = {}
    for name in known[0] if known else ():
        numbers = [one[name] for one in known if one[name] is not None]
        added[name] = (max if name in WAITS else sum)(numbers) if numbers else None
    return added or None


def _problems(rows):
    found = {}
    for row in rows:
        said = row["problems"] or ([{"problem": row["why"], "remedy": ""}] if row["why"] else [])
        for one in said:
            key = PARTICULAR.sub("…", one["problem"]), PARTICULAR.sub("…", one["remedy"])
            problem = found.setdefault(key, {**one, "level": row["level"], "servers": [], "others": 0})
            if len(problem["servers"]) < MOST_SERVERS:
                problem["servers"].append(row["server"])
            else:
                problem["others"] += 1
    return list(found.values())


def _causes(rows):
    found = {}
    for row in rows:
        for one in row["causes"]:
            known = found.setdefault(one["domain"], {**one, "double_bounces": 0, "servers": 0})
            known["double_bounces"] += one["double_bounces"]
            known["servers"] += 1
            if not known["remedy"]:
                known.update({key: one[key] for key in ("nobody", "remedy")})
    return sorted(found.values(), key=lambda one: (-one["double_bounces"], one["domain"]))[:MOST_CAUSES]
