"""
What qmail-local does with one dot-qmail file, predicted without a message.

The rules are qmail-local's own (dot-qmail(5), qmail-local(8), qmail-local.c of notqmail 1.09) and were compared with
the real program. ``qmail_base_access`` knows what the user may read and write, and ``qmail_mailbox_command`` what a
command exits with.
"""

import os
import stat

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

_MOST_BYTES = 1024 * 1024
_MOST_DELIVERIES = 1000  # to files and programs: somebody else's file must not keep us busy
_LONGEST_ADDRESS = 1002  # bytes; qmail-queue.c refuses more
_LONGEST_QUOTE = 80  # characters; a reason is there to be read
_NOT_THERE = ("ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG")  # qmail-local goes on as if there were no file
_HARD = (64, 65, 70, 76, 77, 78, 100, 112)
_IGNORE_THE_REST = 99
_FATES = {"refused": "deferred", "deferred": "deferred", "bounced": "bounced"}
_LISTS = {"maildir": "files", "mbox": "files", "forward": "forwards", "program": "programs"}


def predict(dotqmail, home, user, dash="", forbidden="002", default="./Maildir/", gid=None, contents=None):
    """
    Return what happens to a message that qmail-local delivers through a dot-qmail file, as a dict.

    ``fate`` is ``swallowed`` (delivered, with nothing left of it), ``stored``, ``forwarded``, ``deferred`` (stays in
    the queue and is tried again), ``bounced``, or ``unknown`` if a program decides and only running it would show how,
    or if the file is too large to be judged. Stored outranks forwarded, forwarded outranks swallowed.

    ``files``, ``forwards`` and ``programs`` list what was done, in order: the mboxes and Maildirs written, the
    addresses forwarded to, the commands run. If a later instruction defers or bounces the message, they hold what was
    done until then; forwards come last of all, so then there are none. With ``unknown`` they hold what is done if every
    such program succeeds. ``reason`` is a sentence that says why and, if something is wrong there, what to change. Mail
    that is stored, forwarded or given to a program is not wrong: this module does not know whose file it is, and
    whether anybody reads that mail.

    Only this file is judged, not whether qmail-local would fall back to a ``.qmail-default``. Raises
    ``SaltInvocationError`` for an unknown user, a relative path or bad bits, and ``CommandExecutionError`` if this
    process itself may not look or read.

    dotqmail
        The dot-qmail file, an absolute path. It need not exist.

    home
        The home directory that qmail-local changes to.

    user
        The user that qmail-local runs as: a name or a user id.

    dash
        What follows ``.qmail`` in the name: empty, or ``-`` for an extension. It decides what a missing
        file means: the default delivery, or a bounce.

    forbidden
        Mode bits that neither the home nor the file may have: ``conf-patrn`` of the build. Octal in a
        string; a number stands for the bits themselves.

    default
        The default delivery, as given to qmail-start; several lines are allowed.

    gid
        The group that qmail-local runs as, if it is not the one in passwd.

    contents
        Bytes to judge as if the file held them already, and the user could read it; ``None`` for the file as it is.

    For ``qmail_mailbox``, ``qmail_mailbox_fate`` and ``qmail_mailbox_sink``.
    """
    bits = _bits(forbidden)
    if not isinstance(default, str) or "\0" in default:
        raise SaltInvocationError(f"the default delivery must be text without a NUL, not {default!r}")
    for path in (dotqmail, home):
        if not isinstance(path, str) or not path.startswith("/"):
            raise SaltInvocationError(f"{path!r} must be an absolute path")
    job = {**__salt__["qmail_base_access.identity"](user, gid), "home": "/", "source": dotqmail, "preface": ""}
    if job["uid"] == 0:
        return _result("deferred", "qmail-lspawn never delivers as root; give the address to another user")
    place = _look(home, "search", job)
    refusal = place.get("trouble") or _objection(place, bits | stat.S_ISVTX)
    if refusal:
        return _result("deferred", refusal)
    job["home"] = place["path"]
    if contents is not None:
        return _follow(contents, "", job)

    found = _look(_from_home(dotqmail, home), "read", job)
    absence = _absence(found, dotqmail)
    if absence:
        return _without_file(absence, dash, default, job)
    refusal = found.get("trouble") or _objection(found, bits)
    if refusal:
        return _result("deferred", refusal)
    held = _read(found)
    if not held:
        return _without_file(f"{dotqmail} is empty", "", default, job)
    forward_only = "the file's x bit; chmod u-x it" if found["mode"] & stat.S_IXUSR else ""
    return _follow(held, forward_only, job)


def asks(contents, dotqmail, home, user, gid=None):
    """
    Return what the contents of a dot-qmail file ask for, whatever state its mailbox is in: a dict like that of
    ``predict``.

    The home, and each mbox and Maildir that they name, is assumed to be in order.

    contents
        The contents, bytes.

    dotqmail, home, user, gid
        As for ``predict``.

    For ``qmail_mailbox_fate``.
    """
    job = {**__salt__["qmail_base_access.identity"](user, gid), "home": home, "source": dotqmail, "preface": ""}
    return _follow(contents, "", {**job, "in_order": True})


def parse(contents):
    """
    Return the instructions of a dot-qmail file as a list of ``(kind, text)``, one for each line.

    ``kind`` is ``blank``, ``comment``, ``maildir``, ``mbox``, ``program``, ``forward``, ``list`` (``+list``: what
    follows may only forward) or ``ignored`` (another ``+`` line). ``text`` is what qmail-local takes from the line: no
    sign before a command or address, no blanks or tabs at the end, nothing from a NUL on. A carriage return is part of
    the text.

    contents
        The contents of the file, bytes or text.

    For ``qmail_mailbox_maildir``.
    """
    if isinstance(contents, str):
        contents = contents.encode("utf-8", "surrogateescape")
    return [(kind, _shown(text)) for kind, text in _instructions(contents)]


def _instructions(contents):
    lines = contents.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [_instruction(line.rstrip(b" \t")) for line in lines]


def _instruction(line):
    """A NUL ends the text, but the last byte of the whole line distinguishes a Maildir from an mbox."""
    text = os.fsdecode(line.split(b"\0")[0])
    sign = text[:1]
    if sign in ("", "#"):
        return ("comment" if sign else "blank", text)
    if sign in (".", "/"):
        return ("maildir" if line.endswith(b"/") else "mbox", text)
    if sign == "|":
        return ("program", text[1:])
    if sign == "+":
        return ("list" if text == "+list" else "ignored", text)
    return ("forward", text[1:] if sign == "&" else text)


def _bits(forbidden):
    try:
        bits = forbidden if isinstance(forbidden, int) else int(forbidden, 8)
    except (TypeError, ValueError):
        bits = -1
    if isinstance(forbidden, bool) or not 0 <= bits <= 0o7777:
        raise SaltInvocationError(f"forbidden must be mode bits in octal, such as '002', not {forbidden!r}")
    return bits


def _look(path, want, job):
    return __salt__["qmail_base_access.lookup"](path, job["uid"], job["gid"], want=want, cwd=job["home"])


def _from_home(dotqmail, home):
    """The name as qmail-local opens it, from inside the home: the path to the home is not walked twice."""
    return dotqmail[len(home) :].lstrip("/") if dotqmail.startswith(home + "/") else dotqmail


def _objection(found, bits):
    """Mode bits that stop every delivery. On the home, the sticky bit is qmail's own lock for editing."""
    if not found["mode"] & bits:
        return ""
    sticky = found["mode"] & bits == stat.S_ISVTX
    what = "is sticky, which holds deliveries up" if sticky else "is writable for more than its owner"
    return f"{found['path']} {what}; chmod it to {found['mode'] & ~bits:04o}"


def _absence(found, dotqmail):
    """A sentence for what qmail-local treats as no file at all; empty if there is a file, or no way to it."""
    if found["error"] in _NOT_THERE:
        return f"{dotqmail} is a link to nothing" if os.path.islink(dotqmail) else f"{dotqmail} does not exist"
    if not found["error"] and found["kind"] != "file":
        return f"{dotqmail} is not a file but a {found['kind']}"
    return ""


def _read(found):
    """
    The contents of the very file that was looked up, up to the limit and one byte more.

    The file belongs to somebody else, who must not be able to make us read what that user may not read, or wait.
    """
    name = _shown(found["path"])
    try:
        handle = os.open(found["path"], os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            seen = os.fstat(handle)
            if (seen.st_dev, seen.st_ino) != (found["dev"], found["ino"]):
                raise CommandExecutionError(f"{name} was replaced while it was read: try again")
            return stream.read(_MOST_BYTES + 1)
    except OSError as err:
        raise CommandExecutionError(f"{name}: {err.strerror}") from err


def _without_file(absence, dash, default, job):
    if dash:
        return _result("bounced", f"{absence}, and an extension has no default delivery")
    stand_in = {"source": "the default delivery", "preface": f"{absence}, so the default delivery runs: "}
    return _follow(default.encode("utf-8", "surrogateescape") or b"\n", "", {**job, **stand_in})


def _follow(contents, forward_only, job):
    """Go through the instructions as qmail-local does: one after the other, all forwards together at the end."""
    whole = len(contents) <= _MOST_BYTES
    if not whole:
        contents = contents[: contents.rfind(b"\n") + 1]
    done = {"files": [], "forwards": [], "programs": []}
    doubt = ""
    for number, (kind, text) in enumerate(_instructions(contents), 1):
        forward_only = forward_only or ("the +list above it; remove that" if kind == "list" else "")
        outcome, why = _step(number, kind, text, forward_only, job)
        why = why and f"line {number} of {job['source']}, {_quoted(text)}, {why}"
        if outcome != "refused" and kind in _LISTS:
            done[_LISTS[kind]].append(text)
        if outcome == "unknown":
            doubt = doubt or why
        if outcome in _FATES:
            fate = "unknown" if doubt else _FATES[outcome]
            return _result(fate, job["preface"] + (doubt or why), {**done, "forwards": []})
        if outcome == "ended":
            whole = True
            break
        if len(done["files"]) + len(done["programs"]) >= _MOST_DELIVERIES:
            whole = False
            break
    if not whole:
        doubt = doubt or f"{job['source']} is too large to be judged to its end; shorten it"
    return _sum_up(done, doubt, job)


def _step(number, kind, text, forward_only, job):
    """The result of one instruction: done, ended, unknown, refused (nothing ran), deferred or bounced; and why."""
    if kind == "blank" and number == 1:
        return "refused", "is blank; put an instruction there"
    if kind not in ("maildir", "mbox", "program"):
        return "done", ""
    if forward_only:
        return "refused", f"may not run because of {forward_only}"
    if kind == "program":
        return _run(text, job)
    if job.get("in_order"):
        return "done", ""
    trouble = _maildir_trouble(text, job) if kind == "maildir" else _mbox_trouble(text, job)
    return ("refused", f"can't be written: {trouble}") if trouble else ("done", "")


def _run(command, job):
    status = __salt__["qmail_mailbox_command.exit_status"](command, job["home"], job["uid"], job["gid"])
    if status is None:
        return "unknown", "is a program that decides by itself"
    if status in (0, _IGNORE_THE_REST):
        return ("ended" if status else "done"), ""
    remedy = "remove the carriage return" if command.endswith("\r") else "correct it"
    return ("bounced" if status in _HARD else "deferred"), f"exits with {status}; {remedy}"


def _mbox_trouble(name, job):
    found = _look(name, "append", job)
    if found["error"]:
        return found["trouble"]
    if found["kind"] not in ("file", None):
        return f"{found['path']} is a {found['kind']}; name a file or a Maildir"
    return ""


def _maildir_trouble(name, job):
    """A Maildir is entered, the message written in tmp, and linked into new: two directories on one file system."""
    place = _look(name, "search", job)
    if place["error"]:
        return place["trouble"]
    tmp, new = (_look(half, "create", {**job, "home": place["path"]}) for half in ("tmp", "new"))
    if tmp["error"] or new["error"]:
        return tmp.get("trouble") or new["trouble"]
    if tmp["dev"] != new["dev"]:
        return f"tmp and new in {place['path']} are on two file systems; put them on one"
    if tmp["ino"] == new["ino"]:
        return f"tmp and new in {place['path']} are one directory; make them two"
    return ""


def _sum_up(done, doubt, job):
    if doubt:
        return _result("unknown", job["preface"] + doubt, done)
    if any(len(os.fsencode(address)) > _LONGEST_ADDRESS for address in done["forwards"]):
        why = f"{job['source']} has an address of more than {_LONGEST_ADDRESS} bytes; shorten it"
        return _result("bounced", job["preface"] + why, {**done, "forwards": []})
    if done["files"]:
        return _result("stored", f"{job['preface']}{job['source']} delivers to {_quoted(done['files'][0])}", done)
    if not done["forwards"]:
        return _result("swallowed", f"{job['preface']}{job['source']} leaves nothing of it", done)
    address = done["forwards"][0]
    remedy = "; remove the blank at its beginning" if address[:1] in ("\t", " ") else ""
    return _result("forwarded", f"{job['preface']}{job['source']} forwards to {_quoted(address)}{remedy}", done)


def _result(fate, why, done=None):
    done = done or {"files": [], "forwards": [], "programs": []}
    lists = {key: [_shown(text) for text in texts] for key, texts in done.items()}
    what = "a message's fate is unknown" if fate == "unknown" else f"a message would be {fate}"
    return {"fate": fate, **lists, "reason": _shown(f"{what}: {why}")}


def _shown(text):
    """Text that Salt can send: bytes that are not UTF-8 become escapes."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _quoted(text):
    return repr(_shown(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."))
