"""
What can be a sink: which instructions, which addresses, and which routes of their mail.

qmail accepts almost anything as an address. This project accepts only what means the same to every program on the way:
control files, users/assign, file names, the log.
"""

import os
import re
import unicodedata

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# Letters, digits and signs that stand for themselves everywhere. Not among them: / (a path), % (the percent hack),
# quotes and blanks (quoting differs between programs).
_LOCAL = re.compile(r"[A-Za-z0-9!#$&*+=?^_~.-]{1,64}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)

# Control characters, halves of pairs, and what ends a line or a paragraph: YAML or JSON changes them on their way here.
UNWRITABLE = ("Cc", "Cs", "Zl", "Zp")


def contents(instruction):
    """
    Return the contents of a dot-qmail file that holds these instructions, as bytes.

    instruction
        As for ``qmail_mailbox.contents``, which documents all of it.

    For ``qmail_mailbox``, ``qmail_mailbox_fate``, ``qmail_mailbox_write`` and the state ``qmail_mailbox``.
    """
    lines = [instruction] if isinstance(instruction, str) else instruction
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        raise SaltInvocationError(f"instruction {instruction!r} is neither a line nor a list of lines.")
    for line in lines:
        if any(unicodedata.category(sign) in UNWRITABLE and sign != "\t" for sign in line):
            raise SaltInvocationError(
                f"instruction {line!r} holds a control character; give each line as a list entry of its own."
            )
    if any("\ud800" <= sign <= "\udfff" for line in lines for sign in line):
        raise SaltInvocationError(f"instruction {instruction!r} holds bytes that are not UTF-8.")
    if not lines[0].strip():
        raise SaltInvocationError("instruction begins with a blank line: qmail-local defers such mail forever.")
    if any(line[:1] in (" ", "\t") for line in lines):
        raise SaltInvocationError(
            "instruction has a line that begins with a blank: qmail-local takes it for an address."
        )
    return "".join(f"{line}\n" for line in lines).encode()


def lines(raw):
    """
    Return the lines of a dot-qmail file as text.

    raw
        Its contents, as bytes.

    For ``qmail_mailbox_write``.
    """
    return raw.decode(errors="backslashreplace").splitlines()


def told(changes):
    """
    Describe a change of a dot-qmail file by its lines: as ``instruction`` rather than as ``contents``.

    changes
        What ``qmail_file.replace`` or ``restore`` returned.

    For ``qmail_mailbox_former`` and ``qmail_mailbox_write``.
    """
    others = {field: change for field, change in changes.items() if field != "contents"}
    if "contents" not in changes:
        return others
    found = {when: None if raw is None else lines(raw) for when, raw in changes["contents"].items()}
    return {"instruction": found, **others}


def split(address):
    """
    Split an address into the values of qmail's two control files.

    address
        As for ``qmail_mailbox.split``, which documents all of it.

    For ``qmail_mailbox`` and ``qmail_mailbox_write``.
    """
    problem = _address_problem(address)
    if problem:
        raise SaltInvocationError(f"{address!r} is not an address for double bounces: {problem}.")
    local, _, host = address.partition("@")
    return {"local": local, "host": host}


def problem(address, route, home="/var/qmail", mailbox="auto"):
    """
    Return why mail for an address cannot be made to vanish here, with the remedy; ``None`` if it can.

    address
        The whole address.

    route
        What ``qmail_route.resolve`` returns for it.

    home
        The qmail home directory.

    mailbox
        The setting ``mailbox``: see ``qmail_mailbox.write``.

    For ``qmail_mailbox_write``.
    """
    if route["outcome"] == "remote":
        return (
            f"{address} leaves this server: {route['reason']} Set qmail_doublebounce:address to an address that this "
            "server receives mail for."
        )
    if is_without_qmail(address, home):
        return (
            f"There is no {home}/bin/qmail-send: Plesk runs this server with another mail server, which sends no "
            "double bounces. Do not assign this formula to this minion."
        )
    if is_plesks(address, route, home, mailbox):
        return (
            f"{address} ends nowhere: Plesk runs its domain, and qmail finds no such mailbox. Make it with "
            "qmail_mailbox.make; if Plesk has it, have Plesk rewrite its mail files: plesk repair mail"
        )
    if route["outcome"] == "deferred" or route["exact"] is None:
        return f"{address} ends nowhere: {route['reason']} Set qmail_doublebounce:address to a mailbox."
    if __salt__["qmail_route.catches_all"](route["exact"]):
        return (
            f"{address} would be read from {route['exact']}, which receives other addresses too. "
            "Set qmail_doublebounce:address to another one."
        )
    if mailbox == "auto" and not _has_own(route) and route["dotqmail"] and not _is_vpopmail(route):
        return (
            f"{address} ends at a catch-all, {route['dotqmail']}: it has no mailbox of its own. Fix "
            "qmail_doublebounce:address, or set qmail_doublebounce:mailbox to dotqmail to make it one by writing "
            f"{route['exact']}."
        )
    return None


def outlook(address, route, fate, home="/var/qmail"):
    """
    Say in a sentence whether an address can be a sink, and what would happen to the mail that it gets now.

    address, route, home
        As for ``problem``.

    fate
        What happens to its mail now: see ``qmail_mailbox.check``.

    For ``qmail_mailbox``.
    """
    trouble = _address_problem(address)
    if trouble:
        return f"It cannot be one: {trouble}."
    if address.lower().startswith("postmaster@"):
        return "It should not be one: people write to postmaster."
    if is_plesks(address, route, home) and not is_without_qmail(address, home):
        return "It can be one: the formula has Plesk make the mailbox."
    trouble = problem(address, route, home)
    if trouble:
        return f"It cannot be one: {trouble}"
    if not route["home"].startswith("/"):
        return f"It cannot be one: {route['reason']}"
    given = {"gid": route["gid"], "contents": contents("|exit 0")}
    as_sink = __salt__["qmail_mailbox_dotqmail.predict"](
        route["exact"], route["home"], route["uid"], route["dash"], **given
    )
    if as_sink["fate"] != "swallowed":
        return f"It cannot be one yet: {as_sink['reason']}."
    if fate == "bounced":
        return f"It can be one: nobody gets its mail now. The formula makes {route['exact']}."
    if fate == "swallowed":
        return f"It can be one: its mail vanishes already, by {route['dotqmail']}."
    now = "goes to a program" if fate == "unknown" else f"is {fate}"
    return f"It can be one if it is nobody's: its mail {now} now, and would vanish. Its file is {route['exact']}."


def _has_own(route):
    """Return whether an address has a mailbox or a dot-qmail file of its own, by its route."""
    if route["outcome"] not in ("dotqmail", "defaultdelivery"):
        return False
    return route["dotqmail"] == route["exact"] or not route["dash"]


def is_plesks(address, route, home="/var/qmail", mailbox="auto"):
    """
    Return whether an address lacks a mailbox that Plesk has to make: the setting says so, or Plesk runs the domain.

    Plesk runs a domain if virtualdomains gives it a number, its directory is in the tree of mailnames, and Plesk's
    command is there.

    address, route, home, mailbox
        As for ``problem``.

    For ``qmail_mailbox_write``.
    """
    if mailbox == "dotqmail" or route["outcome"] == "remote" or _has_own(route):
        return False
    is_numbered = route["domain"] == "virtualdomains" and route["recipient"].partition("-")[0].isdecimal()
    return mailbox == "plesk" or (is_numbered and __salt__["qmail_mailbox_plesk.runs"](_domain(address), home))


def is_without_qmail(address, home="/var/qmail"):
    """
    Return whether Plesk runs the domain with another mail server: Plesk's tree is there, but no qmail-send.

    address, home
        As for ``qmail_mailbox.is_without_qmail``, which documents all of it.

    For ``qmail_mailbox`` and ``qmail_mailbox_write``.
    """
    installed = os.path.exists(os.path.join(home, "bin/qmail-send"))
    return not installed and __salt__["qmail_mailbox_plesk.runs"](_domain(address), home)


def _domain(address):
    return address.rpartition("@")[2].lower()


def _is_vpopmail(route):
    """The catch-all of a vpopmail domain is really the program that knows the domain's mailboxes."""
    found = __salt__["qmail_file.read"](route["dotqmail"])
    return bool(found) and b"vdelivermail" in found["contents"]


def _address_problem(address):
    if not isinstance(address, str):
        return "it is not text; quote it in YAML"
    if not address:
        return "it is empty; set qmail_doublebounce:address in pillar"
    if address.count("@") != 1:
        return f"it holds {address.count('@') or 'no'} @, and exactly one is needed, as in doublebounce@example.com"
    local, _, host = address.partition("@")
    if not local:
        return "there is nothing before the @"
    if not host:
        return "there is nothing after the @"
    if not _LOCAL.fullmatch(local):
        return "before the @, only up to 64 letters, digits and the signs !#$&*+=?^_~.- are allowed"
    if not _HOST.fullmatch(host):
        return "what follows the @ is not a host name"
    return None
