"""
The addresses of a domain: what users/assign, passwd, the dot-qmail files and vpopmail name, and in which forms lists of
recipients are written.

A name is only a candidate here. Whether mail for it ends anywhere is for ``qmail_route`` to say, which follows it.
"""

import os
import pwd
import re
import subprocess

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

DEFAULT = "default"
LONGEST_FILE = 4096  # bytes of a dot-qmail file that are looked at
LONGEST_USER = 255  # bytes; a mailbox of vpopmail is a directory of that name
MOST_ODD = 1000  # names that no address can have; whoever makes more would fill our memory
VUSERINFO_SECONDS = 120
# The program, then how a mailbox is found, then what is done with mail for nobody.
VDELIVERMAIL = re.compile(r"\|[ \t]*\S*/?vdelivermail[ \t]+(?:''|\"\"|\S+)[ \t]+(?P<end>\S+)[ \t]*")
BOUNCES = re.compile(
    r"\|[ \t]*(?:\S*/)?bouncesaying[ \t]+(?:'[^']*'|\"[^\"]*\"|[^ \t'\"]+)[ \t]*|\|[ \t]*exit 100[ \t;]*"
)
# What an address can hold without quotes, in SMTP: mailbox owners choose the names of their files.
PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")


def candidates(begin, home="/var/qmail", root=None, partial=False):
    """
    Return what could receive mail for a domain: a dict with

    - ``locals``: a set of local parts;
    - ``users``: a set of those that vpopmail or a line of users/assign names: they may end at a default file, and are
      addresses nevertheless;
    - ``wildcards``: a list of dicts: ``begin`` (with what the local part begins), ``dotqmail`` (the default file, or
      ``None`` if the default delivery takes them all) and what ``default_file`` returns for it;
    - ``odd``: names of files, and beginnings of local parts, that no plain address can have, 1000 at most;
    - ``notes``: sentences that say whose mailboxes cannot be listed; there is a wildcard in place of them.

    Raises CommandExecutionError if a file cannot be read, or the mailboxes of a domain of vpopmail cannot be listed.

    begin
        What qmail-send puts before each address of the domain: a prefix with its dash, or nothing.

    home, root
        As for ``qmail_route.resolve``.

    partial
        ``True``: have a note and a wildcard even for a domain of vpopmail.

    For ``qmail_route``.
    """
    found = {"locals": set(), "users": set(), "wildcards": [], "odd": set(), "notes": [], "partial": partial}
    for entry in __salt__["qmail_route_users.everybody"](home, root):
        key, start = entry["key"], begin.lower()
        if entry["whole"]:
            if key.startswith(start):
                _add_user(found, key[len(start) :])
        elif key.startswith(start):
            _wildcard(found, entry, key[len(start) :], entry["begin"], root)
        elif start.startswith(key):
            _wildcard(found, entry, "", entry["begin"] + begin[len(key) :], root)
    return found


def is_plain(local):
    """
    Return whether a local part can stand in a list of recipients: it needs no quotes in SMTP.

    local
        The local part, or its beginning.

    For ``qmail_route``.
    """
    return bool(PLAIN.fullmatch(local))


def default_file(path):
    """
    Return what is known of the only instruction in a default dot-qmail file: a dict with ``name`` and ``nobody``, what
    happens to mail for an address that the program does not know: ``bounce``, ``delete``, or where it goes; ``None`` if
    it is not known.

    ``vdelivermail`` (vpopmail) says it in its last word, ``bouncesaying`` without a program, and ``exit 100``, bounce
    everything.

    path
        The file, under its real path.

    For ``qmail_route``.
    """
    return _program(_contents(path))


def written(domain, locals_, wildcards, form):
    """
    Return a list of recipients as text, in the form that a recipient check takes.

    domain
        The domain, in lower case.

    locals_
        The local parts.

    wildcards
        The beginnings of local parts that are received whatever follows.

    form
        ``plain``, ``validrcptto`` or ``badrcptto``.

    For ``qmail_route``.
    """
    if form == "badrcptto":
        return f"!{_expression(domain, locals_, wildcards)}\n"
    lines = [f"{local}@{domain}" for local in sorted({local.lower() for local in locals_})]
    if form == "validrcptto" and "" in wildcards:
        lines = [f"@{domain}"]
    return "".join(f"{line}\n" for line in lines)


def _program(contents):
    lines = [line.rstrip(" \t") for line in contents.split("\n") if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        return {"name": None, "nobody": None}
    said = VDELIVERMAIL.fullmatch(lines[0])
    if said:
        end = said["end"].strip("'\"")
        ends = {"bounce-no-mailbox": "bounce", "delete": "delete", "delete-no-mailbox": "delete"}
        return {"name": "vdelivermail", "nobody": ends.get(end, end)}
    bounces = BOUNCES.fullmatch(lines[0])
    return {"name": "bouncesaying" if bounces else None, "nobody": "bounce" if bounces else None}


def _expression(domain, locals_, wildcards):
    """
    An extended regular expression for whom to let in: these recipients, and every address of another domain.

    POSIX has no way to say "not": an address ends otherwise than in @domain if, from some place on, it is the end of
    that, and what stands before is another character.
    """
    end = f"@{domain}"
    names = [*map(_escaped, sorted(locals_)), *(f"{_escaped(begin)}.*" for begin in sorted(wildcards))]
    others = (f"(^|[^{_inside(end[place])}]){_escaped(end[place + 1 :])}$" for place in range(len(end)))
    return "|".join([f"^({'|'.join(names)}){_escaped(end)}$"] * bool(names) + list(others))


def _escaped(text):
    return re.sub(r"([][\\.*+?(){}|^$])", r"\\\1", text)


def _inside(sign):
    return sign  # of a domain: a letter, a digit, a dot or a dash; alone in brackets, none has a meaning


def _add(found, local):
    # A colon in the name of a file stands for a dot of the address.
    local = local.replace(":", ".")
    if not local:
        return
    if is_plain(local):
        found["locals"].add(local)
        return
    _add_odd(found, local)


def _add_odd(found, name):
    if len(found["odd"]) < MOST_ODD:
        found["odd"].add(__salt__["qmail_base_text.shown"](name))


def _add_user(found, local):
    if local not in found["users"]:
        _add({**found, "locals": found["users"]}, local)


def _add_wildcard(found, begin, dotqmail, told):
    # Whoever names a file would else write lines into the list that a recipient check trusts.
    if begin and not is_plain(begin):
        _add_odd(found, begin)
        return
    found["wildcards"].append({"begin": begin, "dotqmail": dotqmail, **told})


def _wildcard(found, entry, before, base, root):
    """Collect what one entry receives: its dot-qmail files are named after what follows ``base`` in the extension."""
    _add(found, before)
    if not entry["dash"]:
        _add_wildcard(found, before, None, {"name": None, "nobody": None})
    head = ".qmail" + entry["dash"]
    start = head + base.lower().replace(".", ":")
    if __salt__["qmail_base_text.is_altered"](entry["home"] + start):
        # Its files are not found by a name that is not theirs: it may receive anything.
        _add_wildcard(found, before, None, {"name": None, "nobody": None})
        return
    for name in _names(_below(root, entry["home"])):
        path = os.path.join(entry["home"], name)
        if name.startswith(head) and _is_default(name, head):
            _default(found, entry, before, start, name, path, root)
        elif name.startswith(start):
            _add(found, before + name[len(start) :])


def _is_default(name, head):
    stem = name[: -len(DEFAULT)]
    return name.endswith(DEFAULT) and (stem == head or (stem.startswith(head) and stem.endswith("-")))


def _default(found, entry, before, start, name, path, root):
    """A default file receives what begins as its name does, up to a dash."""
    stem = name[: -len(DEFAULT)]
    if not (stem.startswith(start) or start.startswith(stem)):
        return
    begin = before + stem[len(start) :].replace(":", ".")
    told = _program(_contents(_below(root, path)))
    if told["name"] == "vdelivermail" and begin == before and not _add_vpopmail(found, entry, before, root):
        told = {"name": None, "nobody": None}
    _add_wildcard(found, begin, path, told)


def _add_vpopmail(found, entry, before, root):
    """Add the mailboxes of a domain; return whether they could be listed."""
    try:
        for user in _vpopmail(entry, root):
            _add_user(found, before + user)
    except CommandExecutionError as err:
        # Anybody can write such a default file, but vpopmail names the user of a directory after the domain.
        if "." in entry["user"] and not before and not found["partial"]:
            raise
        if str(err) not in found["notes"]:
            found["notes"].append(str(err))
        return False
    return True


def _names(directory):
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {directory}: {__salt__['qmail_base_refusal.told'](err)}") from err


def _contents(path):
    """Read a dot-qmail file as text; "" if it is not a file."""
    try:
        file = __salt__["qmail_base_path.plain"](path)
        if file is None:
            return ""
        with file:
            return __salt__["qmail_base_text.shown"](file.read(LONGEST_FILE))
    except OSError:
        return ""


def _vpopmail(entry, root):
    """List the users of a domain of vpopmail: from its database, or by its own command if they are kept elsewhere."""
    path = os.path.join(_below(root, entry["home"]), "vpasswd.cdb")
    if os.path.exists(path):
        keys = (key for key, _ in __salt__["qmail_route_cdb.records"](path))
        return (key.decode("utf-8", "backslashreplace") for key in keys if len(key) <= LONGEST_USER)
    if root is not None:
        return []
    return _vuserinfo(entry)


def _vuserinfo(entry):
    """
    Ask vuserinfo, as the user whose files the domain is in: not as root, for others can write to that program.

    Which program that is, is taken from passwd, and from no file that a mailbox owner could have written.
    """
    try:
        program_ = os.path.join(pwd.getpwnam("vpopmail").pw_dir, "bin/vuserinfo")
        done = subprocess.run(
            [program_, "-n", "-D", entry["user"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_becoming(entry),
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            timeout=VUSERINFO_SECONDS,
            check=False,
        )
    except (KeyError, OSError, subprocess.SubprocessError) as err:
        raise CommandExecutionError(
            f"Cannot list the mailboxes of {entry['user']}: there is no {entry['home']}/vpasswd.cdb, and vpopmail's "
            f"vuserinfo cannot be asked ({err}). List them with vpopmail's own commands."
        ) from err
    said = __salt__["qmail_base_text.shown"](done.stdout)
    if done.returncode:
        words = " ".join("".join(sign if sign.isprintable() else " " for sign in said[:1000]).split())
        raise CommandExecutionError(f"vuserinfo -n -D {entry['user']} failed (exit {done.returncode}): {words}")
    # A name a line; between two, a line of dashes. Some versions write "name:" before it.
    return re.findall(r"^(?:name:[ \t]*)?(?!-+$)(\S+)[ \t]*$", said, re.MULTILINE)


def _becoming(entry):
    if os.geteuid() != 0:
        return None

    def become():
        os.setgroups([])
        os.setgid(entry["gid"])
        os.setuid(entry["uid"])

    return become


def _below(root, path):
    return path if root is None else os.path.join(root, path.lstrip("/"))
