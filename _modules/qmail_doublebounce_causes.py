"""
Who makes the double bounces, and what stops them at the source: the log names the domains, the routes and qmail-smtpd's
files say what this server does with mail for nobody there.
"""

import os
import pwd
import re
import shlex
from datetime import datetime

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

MOST = 20  # domains that are examined
TOP = 5  # senders' domains, and programs
DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
# Users that qmail-smtpd runs as: what they queue came over SMTP.
SMTP_USERS = {"qmaild": True, "vpopmail": None}  # with chkuser it runs as vpopmail, as vpopmail's own programs do
EMPTY = "<>"
# The outputter txt puts the name of the minion before each line; no other of Salt's prints the bare text.
LIST = "salt-call --local --out txt qmail_route.recipients {domain} format={form}{more} | sed 's/^local: //' >> {path}"
ALL = "Do this for every domain that you receive mail for: the list refuses whoever is not in it."
UNCHECKED = "qmail-smtpd has no recipient check: install one that has, or put spamdyke before it. Who is there:"
UNSEEN = "No qmail-smtpd is here: let the program that receives mail check recipients. Who is there:"


def find(qmail, log=None, since="7d", until=None):
    """
    Return what ``qmail_doublebounce.causes`` returns, which documents it.

    qmail
        The settings under ``qmail``.

    log, since, until
        As for ``qmail_log.causes``.

    For ``qmail_doublebounce``.
    """
    home, control = qmail["home"], qmail["control"]
    found = __salt__["qmail_log.causes"](log, since, until, home, qmail["queue"])
    total = found["double_bounces"]
    ranked = sorted(found["domains"].items(), key=lambda row: (-row[1]["double_bounces"], row[0]))
    local = [(name, row) for name, row in ranked if row["local"]]
    rows = [_row(name, row, total, home, control) for name, row in local[:MOST]]
    # Whose recipients are checked did not cause what came since: its double bounces are from before, or from inside.
    rows.sort(key=lambda row: row["refuses"] is True)
    relayed = [
        {"domain": name, "double_bounces": row["remote"], "share": _share(row["remote"], total), "senders": _top(row)}
        for name, row in ranked
        if row["remote"]
    ]
    told = {
        "double_bounces": total,
        "single_bounces": found["single_bounces"],
        "unknown": found["unknown"],
        "domains": rows,
        "others": len(local) - len(rows),
        "relayed": sorted(relayed, key=lambda row: -row["double_bounces"])[:TOP],
        "programs": _programs(found["uids"], total),
        **{name: found[name] for name in ("log", "files", "unread", "how", "newest")},
    }
    return {**told, "table": "\n".join(_table(told))}


def nobody(name, home, control):
    """
    Return what happens to mail for an address that nobody has, as ``qmail_doublebounce.causes`` returns it for a
    domain.

    name
        The domain.

    home, control
        Where qmail and its control files are.

    For ``qmail_doublebounce_overview``.
    """
    if not DOMAIN.fullmatch(name):
        return {
            "nobody": "unknown",
            "to": None,
            "refuses": None,
            "why": "This is not the name of a domain.",
            "remedy": [],
        }
    try:
        checks = __salt__["qmail_route.checks"](name, home, None, control)
        what, to = _what(checks["nobody"])
        refuses, why = checks["refuses"], checks["why"]
    except (CommandExecutionError, SaltInvocationError) as err:
        return {"nobody": "unknown", "to": None, "refuses": None, "why": str(err), "remedy": []}
    if what == "remote":
        why = "It is a domain of this server no longer."
    remedy = [] if refuses or what == "remote" else _remedy(name, checks, home, control)
    return {"nobody": "rejects" if refuses else what, "to": to, "refuses": refuses, "why": why, "remedy": remedy}


def _share(number, total):
    return round(number / total, 3) if total else 0.0


def _top(row):
    return dict(list(row["senders"].items())[:TOP])


def _row(name, row, total, home, control):
    """Return all about one domain of this server."""
    return {
        "domain": name,
        "double_bounces": row["local"],
        "share": _share(row["local"], total),
        "single_bounces": row["single_bounces"],
        "recipients": row["recipients"],
        "exact": row["exact"],
        "senders": _top(row),
        **nobody(name, home, control),
    }


def _what(route):
    """Return, in a word, what happens to mail for an address that nobody has, and where it goes."""
    if route["outcome"] in ("remote", "deferred"):
        return route["outcome"], None
    if route["outcome"] == "dropped":
        return "accepts all", "nowhere"
    default = route["dotqmail"] and __salt__["qmail_route.default_program"](route["dotqmail"])
    if default and default["nobody"] == "bounce":
        return "bounces by program", route["dotqmail"]
    if default and default["nobody"]:
        return "accepts all", "nowhere" if default["nobody"] == "delete" else default["nobody"]
    end = __salt__["qmail_mailbox.ends"](route)
    if end["fate"] == "bounced":
        return ("bounces by program", route["dotqmail"]) if end["programs"] else ("bounces", None)
    if end["fate"] in ("stored", "forwarded"):
        return "accepts all", ", ".join([*end["files"], *end["forwards"]][:TOP])
    return {"swallowed": ("accepts all", "nowhere")}.get(end["fate"], (end["fate"], route["dotqmail"]))


# What to do


def _remedy(domain, checks, home, control):
    """Return the commands that make this server refuse mail for nobody in a domain; words begin with a #."""
    if __salt__["qmail_mailbox.has_plesk"](domain, home):
        return [f"plesk bin domain_pref --update {domain} -no_usr reject"]
    default = checks["nobody"].get("dotqmail")
    program = __salt__["qmail_route.default_program"](default) if default else None
    if "chkuser" in checks["can"] and program and program["name"] == "vdelivermail":
        return _chkuser(default, program, checks)
    return _list(domain, checks, home, control)


def _chkuser(default, program, checks):
    """What makes chkuser look: the switch of the domain, and that of the program."""
    steps = []
    if program["nobody"] != "bounce":
        words = "s/(vdelivermail[ \\t]+\\S+[ \\t]+)\\S+/\\1bounce-no-mailbox/"
        steps.append(f"sed -E -i.before {shlex.quote(words)} {shlex.quote(default)}")
    if "CHKUSER_START" in checks["can"]:
        where = checks["scripts"][0] if checks["scripts"] else "what starts qmail-smtpd"
        steps.append(f"# in {where}, before qmail-smtpd: export CHKUSER_START=DOMAIN, then restart that service")
    return steps or ["# restart qmail-smtpd: chkuser is in the program, and this domain asks for it"]


def _list(domain, checks, home, control):
    can = checks["can"]
    more = f" home={shlex.quote(home)}" if home != "/var/qmail" else ""
    usual = os.path.join(home, "control")
    control = control or usual
    more += f" control={shlex.quote(control)}" if control != usual else ""

    def listed(form, path):
        return LIST.format(domain=domain, form=form, more=more, path=shlex.quote(path))

    if "validrcptto" in can:
        made = "# then make the .cdb file that this qmail-smtpd reads from it (qmail-newmvrt, or cdbmake-12)"
        return [listed("validrcptto", os.path.join(control, "validrcptto")), made, f"# {ALL}"]
    if "recipients" in can:
        return [listed("plain", os.path.join(home, "users/recipients")), "qmail-recipients", f"# {ALL}"]
    if "RCPTCHECK" in can:
        steps = listed("plain", os.path.join(control, "recipients.list"))
        return [steps, "# and set RCPTCHECK for qmail-smtpd to a program that looks $RECIPIENT up in it"]
    if "badrcptto" in can:
        path = os.path.join(control, "badrcptto")
        patched = "# if this qmail-smtpd has the qregex patch"
        older = f"# an older list of this domain in {path} goes on refusing whoever is new: remove that line"
        return [listed("badrcptto", path), patched, older]
    return [
        f"# {UNCHECKED if checks['program'] else UNSEEN}",
        listed("plain", os.path.join(control, "recipients.list")),
    ]


# Who queued the messages


def _programs(uids, total):
    """Name the users who queued messages that caused double bounces: qmail-smtpd, scripts of web sites, forwards."""
    rows = {}
    for one in uids:
        row = rows.setdefault(one["uid"], {"uid": one["uid"], **_user(one["uid"]), "double_bounces": 0})
        row["double_bounces"] += one["double_bounces"]
    ranked = sorted(rows.values(), key=lambda row: (-row["double_bounces"], row["uid"]))
    return [{**row, "share": _share(row["double_bounces"], total)} for row in ranked[:TOP]]


def _user(uid):
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return {"user": None, "is_smtp": False}
    return {"user": name, "is_smtp": SMTP_USERS.get(name, False)}


# For people


def _table(told):
    total = told["double_bounces"]
    yield f"{total} double bounces, beside {told['single_bounces']} single bounces; {told['unknown']} of unknown cause"
    if told["domains"]:
        yield ""
        yield f"{'double':>9} {'share':>6} {'single':>9} {'invented':>9}  domain: what happens to mail for nobody there"
    for row in told["domains"]:
        more = "" if row["exact"] else "+"
        to = f" ({row['to']})" if row["to"] else ""
        figures = f"{row['double_bounces']:>9} {row['share']:>6.1%} {row['single_bounces']:>9}"
        yield f"{figures} {str(row['recipients']) + more:>9}  {row['domain']}: {row['nobody']}{to}"
        if row["senders"]:
            yield f"{'':>17} from {', '.join(f'{name or EMPTY} {n}' for name, n in row['senders'].items())}"
        yield from (f"{'':>17} {step}" for step in row["remedy"])
    if told["others"]:
        yield f"and {told['others']} other domains"
    yield from _lists(told)
    yield ""
    yield _source(told)


def _lists(told):
    for title, rows, name in (
        ("Failed elsewhere, relayed or forwarded from here:", told["relayed"], lambda row: row["domain"]),
        ("Queued by:", told["programs"], _queued_by),
    ):
        if rows:
            yield ""
            yield title
            yield from (f"{row['double_bounces']:>9} {row['share']:>6.1%}  {name(row)}" for row in rows)


def _queued_by(row):
    name = row["user"] or f"the user {row['uid']}"
    ways = {True: "over SMTP", False: "by a program of this machine", None: "over SMTP, or by a program"}
    return f"{name}, {ways[row['is_smtp']]}"


def _source(told):
    unread = f"; not unpacked, and not counted: {', '.join(told['unread'])}" if told["unread"] else ""
    if told["newest"] is None:
        return f"{told['log']}: empty{unread}"
    when = datetime.fromtimestamp(told["newest"])
    return f"{told['log']}: qmail-send wrote to it last on {when:%a %d %b %Y %H:%M}{unread}"
