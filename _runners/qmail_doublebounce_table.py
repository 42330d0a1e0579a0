"""
A report as a table for a terminal.
"""

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

WIDTH = 16  # characters of the longest bar
LONGEST = 40  # of a name
MOST_CAUSES = 5
WORDS = {
    "down": "DOWN",
    "wrong": "WRONG",
    "silent": "SILENT",
    "odd": "ODD ANSWER",
    "untold": "NOT KNOWN",
    "due": "restart due",
    "warned": "holds, but",
    "unset": "no pillar",
    "holds": "holds",
}
HEAD = ("server", "state", "mode", "24 hours", "", "became of them", "waiting", "oldest", "worst cause", "goes to")
RIGHT = (3, 6, 7)  # columns of numbers


def lines(report):
    """
    Return the lines of a report: a row for each server, the worst first, with what is wrong and its remedy below it,
    and at the end how all are together.

    report
        What ``qmail_doublebounce_totals.report`` returned.

    For the runner ``qmail_doublebounce_survey``.
    """
    totals, servers = report["totals"], report["servers"]
    cells = [HEAD, *(_cells(row, totals["largest"], report["made"]) for row in servers)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    told = [_line(HEAD, widths)]
    for row, one in zip(servers, cells[1:]):
        told += [_line(one, widths), *_notes(row)]
    return [*told, "", *_sums(totals, len(servers)), *_causes(totals)]


def _cells(row, largest, now):
    waiting = "" if row["waiting"] is None else f"{row['waiting']}"
    number = row["double_bounces"]
    cause = row["causes"][0] if row["causes"] else None
    return (
        _cut(row["server"]),
        WORDS[row["level"]] + (", restart due" if row["restart_due"] and row["level"] != "due" else ""),
        row["mode"] or "",
        "" if number is None else f"{number}",
        # At least one sign for every number above 0, so that a single one is visible beside a flood.
        "#" * max(round(number * WIDTH / largest), 1) if number else "",
        _became(row["day"]),
        waiting,
        _age(row["oldest"], now),
        f"{_cut(cause['domain'])} {cause['double_bounces']}" if cause else "",
        _cut(row["sink"] or ""),
    )


def _line(cells, widths):
    aligned = (
        cell.rjust(width) if place in RIGHT else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths))
    )
    return "  ".join(aligned).rstrip()


def _notes(row):
    """Say below a row what is wrong there, and what to do."""
    if row["problems"]:
        for one in row["problems"]:
            yield f"    {one['problem']}"
            if one["remedy"]:
                yield f"    -> {one['remedy']}"
    elif row["why"]:
        yield f"    {row['why']}"


def _became(outcomes):
    """Name the most frequent ends, each with its share."""
    found = __salt__["qmail_doublebounce_page.ends"](outcomes, 2)
    return ", ".join(f"{key.replace('_bounces', '')} {share}" for key, share in found)


def _age(since, now):
    return "" if since is None else __salt__["qmail_doublebounce_page.age"](since, now)


def _sums(totals, number):
    levels = ", ".join(f"{count} {WORDS[level].lower()}" for level, count in totals["levels"].items())
    yield f"{number} servers: {levels}"
    if totals["double_bounces"] is not None:
        yield f"{totals['double_bounces']} double bounces in the last 24 hours; {totals['waiting'] or 0} wait in queues"
    if totals["sinks"]:
        before, after = _became(totals["before"]) or "none", _became(totals["after"]) or "none"
        yield f"{totals['sinks']} sinks came in this time. Before: {before}. After: {after}."


def _causes(totals):
    for one in totals["causes"][:MOST_CAUSES]:
        nobody = f": {one['nobody']}" if one["nobody"] else ""
        yield f"{one['double_bounces']:>9}  {one['domain']}{nobody}"
        yield from (f"{'':>11}{step}" for step in one["remedy"])


def _cut(text):
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
