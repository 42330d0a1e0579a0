"""
Which recipients qmail-smtpd refuses already: its program, how it is started, and the lists that it reads.

Nothing is started or changed. What is known of each check is from its documentation and sources: chkuser 2.0, the
validrcptto patches, RCPTCHECK (notqmail, jms1, sagredo, qmail-ldap), qregex, s/qmail and eQmail, and spamdyke.
"""

import glob
import os
import re
import stat

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LARGEST = 1 << 26  # bytes of a program, or of a list
LARGEST_SCRIPT = 1 << 18  # bytes
# What a program that has a check contains.
IN_PROGRAM = {
    "chkuser": b"chkuser",
    "CHKUSER_START": b"CHKUSER_START",
    "validrcptto": b"validrcptto",
    "RCPTCHECK": b"RCPTCHECK",
    "badrcptto": b"badrcptto",
    "recipients": b"/recipients",
}
# Where it is said how qmail-smtpd is started.
SCRIPTS = (
    "/service/*smtp*/run",
    "/etc/service/*smtp*/run",
    "/run/service/*smtp*/run",
    "/var/service/*smtp*/run",
    "{home}/supervise/*smtp*/run",
    "/etc/systemd/system/*smtp*.service",
    "/etc/systemd/system/*smtp*.service.d/*.conf",
    "/lib/systemd/system/*smtp*.service",
    "/usr/lib/systemd/system/*smtp*.service",
    "/etc/xinetd.d/*smtp*",
    "/etc/inetd.conf",
)
RULES = ("/etc/tcp.smtp.cdb", "/etc/tcprules.d/tcp.smtp.cdb", "{home}/control/tcp.smtp.cdb")
SPAMDYKE = "/etc/spamdyke.conf"
LISTS = ("validrcptto", "validrcptto.cdb", "morevalidrcptto.cdb")
RECIPIENTS = ("control/recipients", "users/recipients.cdb")
VARIABLES = ("CHKUSER_START", "RCPTCHECK")
ASSIGNED = re.compile(r"\b(CHKUSER_START|RCPTCHECK)=(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s\"';]*))")
NAMED_RULES = re.compile(r"-x[ \t]*[\"']?(/[^\s\"']+\.cdb)")
NAMED_SPAMDYKE = re.compile(r"(?:--config-file[ =]|-f[ ]?)[\"']?(/[^\s\"']+)")
REJECTS = re.compile(r"^[ \t]*reject-recipient[ \t]*=[ \t]*(\S+)", re.MULTILINE)
REJECTS_OPTION = re.compile(r"--reject-recipient[ =](\S+)")


def look(home="/var/qmail", root=None, control=None):
    """
    Return what there is of recipient checks, as ``qmail_route.checks`` describes it, and under ``lists`` what
    ``verdict`` needs.

    home, root, control
        As for ``qmail_route.resolve``.

    For ``qmail_route``.
    """
    # Until the end, names are kept so that their bytes can be opened.
    shown = __salt__["qmail_base_text.shown"]
    control = control or os.path.join(home, "control")
    program = os.path.join(home, "bin/qmail-smtpd")
    raw = _raw(_below(root, program), LARGEST)
    can = sorted(name for name, text in IN_PROGRAM.items() if text in raw)
    scripts = _scripts(home, root)
    environment = {**_of_rules(home, root, scripts), **_of_scripts(scripts)}
    files = [os.path.join(control, name) for name in (*LISTS, "badrcptto")]
    files += [os.path.join(home, name) for name in RECIPIENTS]
    spamdyke = _spamdyke(scripts, root)
    return {
        "program": program if raw else None,
        "can": can,
        "scripts": sorted(map(shown, scripts)),
        "environment": {name: shown(value) for name, value in environment.items()},
        "files": [path for path in files if os.path.exists(_below(root, path))],
        "spamdyke": sorted(map(shown, spamdyke)),
        "lists": {
            "accepted": _accepted(control, root),
            "bad": _lines(_below(root, os.path.join(control, "badrcptto"))),
        },
    }


def verdict(found, address, program):
    """
    Return whether qmail-smtpd refuses an address that nobody has: a pair of ``True``, ``False`` or ``None`` (not known)
    and a sentence.

    found
        What ``look`` returned.

    address
        An address of the domain that nobody has.

    program
        What ``qmail_route.default_program`` returns for the default file that receives it; ``None`` if none does.

    For ``qmail_route``.
    """
    said = [_by_spamdyke, _by_rcptcheck, _by_list, _by_badrcptto, _by_chkuser, _by_recipients]
    answers = [answer for answer in (one(found, address, program) for one in said) if answer]
    for wanted in (True, None):
        for answer in answers:
            if answer[0] is wanted:
                return answer
    if found["program"] is None:
        return None, "There is no qmail-smtpd in this qmail's home: another program may receive mail."
    return False, answers[0][1] if answers else "Nothing was found that checks recipients."


def _by_spamdyke(found, address, program):
    for value in found["spamdyke"]:
        if value in ("invalid", "unavailable"):
            return True, f"spamdyke has reject-recipient={value}."
    return None


def _by_rcptcheck(found, address, program):
    path = found["environment"].get("RCPTCHECK")
    if path is None or "RCPTCHECK" not in found["can"]:
        return None
    return True, f"qmail-smtpd asks a program about each recipient: RCPTCHECK={path}."


def _by_list(found, address, program):
    accepted = found["lists"]["accepted"]
    if accepted is None or "validrcptto" not in found["can"]:
        return None
    domain = "@" + address.rpartition("@")[2].lower()
    if domain in accepted["domains"]:
        return False, f"{accepted['path']} holds {domain}, which accepts every address of it."
    return True, f"qmail-smtpd accepts only who is in {accepted['path']}."


def _by_badrcptto(found, address, program):
    if "badrcptto" not in found["can"]:
        return None
    domain = "@" + address.rpartition("@")[2].lower()
    for line in found["lists"]["bad"]:
        if line.lower() == domain:
            return True, f"control/badrcptto holds {domain}, which rejects every address of it."
        if line.startswith("!") and len(line) < 65536:
            try:
                if not re.search(line[1:], address, re.IGNORECASE):
                    return True, "An expression in control/badrcptto rejects it."
            except re.error:
                return None, "control/badrcptto has an expression that cannot be read here."
    return None


def _by_chkuser(found, address, program):
    """Since 2.0 it looks for bounce-no-mailbox in .qmail-default, unless it is started with ALWAYS, or not at all."""
    if "chkuser" not in found["can"] or not program or program["name"] != "vdelivermail":
        return None
    value = found["environment"].get("CHKUSER_START", "").upper()
    if "CHKUSER_START" in found["can"] and value not in ("ALWAYS", "DOMAIN"):
        return False, "qmail-smtpd has chkuser, but CHKUSER_START is not set to DOMAIN or ALWAYS."
    if program["nobody"] == "bounce" or value == "ALWAYS":
        return True, "qmail-smtpd has chkuser, which asks vpopmail about each recipient."
    return False, "qmail-smtpd has chkuser, which leaves a domain alone whose .qmail-default does not bounce."


def _by_recipients(found, address, program):
    paths = [path for path in found["files"] if path.endswith(("/recipients", "/recipients.cdb"))]
    if "recipients" not in found["can"] or not paths:
        return None
    return None, f"qmail-smtpd may look recipients up: {paths[0]} exists. It is not read here."


def _scripts(home, root):
    """Read what starts qmail-smtpd: a dict of paths and texts."""
    found = {}
    for pattern in SCRIPTS:
        for path in glob.glob(_below(root, pattern.format(home=glob.escape(home)))):
            text = os.fsdecode(_raw(path, LARGEST_SCRIPT))
            if "smtpd" in text or "spamdyke" in text:
                found[path if root is None else "/" + os.path.relpath(path, root)] = text
    return found


def _of_scripts(scripts):
    texts = (re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE) for text in scripts.values())
    return {match[0]: "".join(match[1:]) for text in texts for match in ASSIGNED.findall(text)}


def _of_rules(home, root, scripts):
    """Read what tcpserver sets for a stranger: the rule without an address in its database."""
    named = [path for text in scripts.values() for path in NAMED_RULES.findall(text)]
    for path in (*named, *(rule.format(home=home) for rule in RULES)):
        if os.path.exists(_below(root, path)):
            return _rule(_below(root, path))
    return {}


def _rule(path):
    try:
        data = next((data for key, data in __salt__["qmail_route_cdb.records"](path) if not key), b"")
    except CommandExecutionError:
        return {}
    # The data of a rule: D to refuse, and for each variable a plus sign, the variable, and a NUL.
    pairs = (part[1:].partition(b"=") for part in data.split(b"\0") if part[:1] == b"+")
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if os.fsdecode(name) in VARIABLES}


def _spamdyke(scripts, root):
    """List what reject-recipient is set to, if something that starts qmail-smtpd starts spamdyke."""
    texts = [text for text in scripts.values() if "spamdyke" in text]
    named = [path for text in texts for path in NAMED_SPAMDYKE.findall(text)]
    found = [value for text in texts for value in REJECTS_OPTION.findall(text)]
    for path in dict.fromkeys(named or ([SPAMDYKE] if texts else [])):
        found += REJECTS.findall(os.fsdecode(_raw(_below(root, path), LARGEST_SCRIPT)))
    return sorted({value.strip("\"'") for value in found})


def _accepted(control, root):
    """Return the list of accepted recipients: its path, and the whole domains in it; ``None`` if there is none."""
    domains, first = set(), None
    for name in LISTS:
        path = os.path.join(control, name)
        real = _below(root, path)
        if not os.path.exists(real):
            continue
        first = first or path
        if name.endswith(".cdb"):
            domains |= {os.fsdecode(key) for key, _ in __salt__["qmail_route_cdb.records"](real) if key[:1] == b"@"}
        else:
            domains |= {line.lower() for line in _lines(real) if line.startswith("@")}
    return first and {"path": first, "domains": domains}


def _lines(path):
    lines = (line.rstrip() for line in os.fsdecode(_raw(path, LARGEST)).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _raw(path, largest):
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            return file.read(largest) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""


def _below(root, path):
    return path if root is None else os.path.join(root, path.lstrip("/"))
