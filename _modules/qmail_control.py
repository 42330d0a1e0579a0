"""
Read and manage qmail's control files, by the rules and with the defaults of the programs that read them.

Only the files that decide where bounces go are written: ``doublebounceto``, ``doublebouncehost``, ``bouncefrom`` and
``bouncehost``. qmail-send reads these when it starts, and at no other time.
"""

import errno
import os

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# name: (what a missing file means: the contents of "me" or not, and else this text), from qmail-control(5).
DEFAULTS = {
    "bouncefrom": (False, "MAILER-DAEMON"),
    "bouncehost": (True, "bouncehost"),
    "doublebouncehost": (True, "doublebouncehost"),
    "doublebounceto": (False, "postmaster"),
    "envnoathost": (True, "envnoathost"),
}
MANAGED = ("bouncefrom", "bouncehost", "doublebouncehost", "doublebounceto")
HOST_OF = {"bouncefrom": "bouncehost", "doublebounceto": "doublebouncehost"}
DISCARDS = b"double bounce: discarding"  # only in a qmail-send that has the discard feature


def get(name, home="/var/qmail", control=None):
    """
    Return the first line of a control file, or ``None`` if the file is missing.

    qmail strips only blanks, tabs and newlines at the end of the line (control.c, ``control_readline``): a carriage
    return or a leading blank is part of the value, and ``#`` does not begin a comment.

    A byte that is not UTF-8 is shown by an escape, such as ``\\xfc``.

    Raises SaltInvocationError for a name that is not a file name, CommandExecutionError for a file that cannot be read.

    name
        The control file, for example ``doublebounceto``.

    home
        The qmail home directory.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.get doublebounceto
    """
    return _first(_contents(name, home, control))


def value(name, home="/var/qmail", control=None):
    """
    Return the value that qmail reads from a one-line control file, and where it comes from.

    Returns a dict with ``value`` (text) and ``source``: ``file``, ``me`` (the file is missing, and the host name in
    ``me`` stands in for it) or ``default`` (qmail's own). The defaults are those of qmail-control(5).

    Raises SaltInvocationError for a file whose default is not known here.

    name
        One of ``doublebounceto``, ``doublebouncehost``, ``bouncefrom``, ``bouncehost``, ``envnoathost``.

    home, control
        As for ``get``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.value doublebouncehost
    """
    if not isinstance(name, str) or name not in DEFAULTS:
        raise SaltInvocationError(f"The default of control file {name!r} is not known; known: {', '.join(DEFAULTS)}.")
    own = get(name, home, control)
    if own is not None:
        return {"value": own, "source": "file"}
    like_me, default = DEFAULTS[name]
    me = get("me", home, control) if like_me else None
    return {"value": default, "source": "default"} if me is None else {"value": me, "source": "me"}


def lines(name, home="/var/qmail", control=None):
    """
    Return the entries of a control file that is a list, such as ``locals``; an empty list if it is missing.

    qmail strips the end of each line as in ``get``, skips empty lines and those that begin with ``#``, and ends an
    entry at a NUL byte (control.c, ``control_readfile``). Only for ``locals``, the contents of ``me`` stand in for a
    missing file.

    name, home, control
        As for ``get``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.lines locals
    """
    contents = _contents(name, home, control)
    if contents is None:
        me = get("me", home, control) if name == "locals" else None
        return [] if me is None else me.split("\0")
    kept = [line for line in map(_stripped, contents.split(b"\n")) if line[:1] not in (b"", b"#", b"\0")]
    return [_text(entry) for line in kept for entry in line.split(b"\0")]


def show(home="/var/qmail", control=None):
    """
    Return where qmail-send sends double bounces by its control files, and which of that is only a default.

    Returns a dict with ``recipient`` (the address; qmail-send puts an ``@`` between the two values, even if
    ``doublebounceto`` already holds one), and under ``doublebounceto`` and ``doublebouncehost`` what ``value`` returns
    with the ``path`` of the file. A qmail-send that started before the files changed still uses the old values: see
    ``qmail_service.status``.

    home, control
        As for ``get``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.show
    """
    shown = {
        name: {**value(name, home, control), "path": path(name, home, control)}
        for name in ("doublebounceto", "doublebouncehost")
    }
    recipient = f"{shown['doublebounceto']['value']}@{shown['doublebouncehost']['value']}"
    return {"recipient": recipient, **shown}


def put(name, value, home="/var/qmail", control=None, test=False):
    """
    Make a control file hold one value, mode 0644 and owned by root, and return what that changed.

    Returns ``{}`` if the file holds it already, else a dict with ``value`` and, if they changed, ``mode``, ``uid`` and
    ``gid``, each ``{"old": …, "new": …}``. What somebody else had written there is kept.

    Raises SaltInvocationError for a value that qmail would read differently, CommandExecutionError if the file cannot
    be written. It takes effect when qmail-send starts the next time: see ``qmail_service.restart``.

    name
        ``doublebounceto``, ``doublebouncehost``, ``bouncefrom`` or ``bouncehost``.

    value
        The line, without its end. Empty means an empty local part (or host), not the default; ``doublebounceto`` may be
        empty only if ``discards`` allows it.

    home, control
        As for ``get``.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.put doublebounceto dummy test=True
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control, test=test)
    _check(name, value)
    if (name, value) == ("doublebounceto", ""):
        _refuse_blank(home, control)
    where = _as_written(path(name, home, control))
    old = __salt__["qmail_file.read"](where)
    held = old and _stripped(old["contents"].split(b"\n", 1)[0])
    # A file that already holds the value keeps its bytes: a comment below the first line does no harm.
    contents = old["contents"] if old and held == value.encode() else f"{value}\n".encode()
    changes = __salt__["qmail_file.replace"](where, contents, uid=os.geteuid(), mode="0644", test=test)
    return _told(changes)


def restore(name, home="/var/qmail", control=None, test=False):
    """
    Put a control file back as it was before ``put`` first wrote it, and return what that changed.

    Returns the same kind of dict as ``put``; ``{}`` if there is nothing to undo, and ``{"left": …}`` with a sentence if
    somebody has changed the file since: then it is left as it is, and is theirs.

    name, home, control, test
        As for ``put``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.restore doublebounceto
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control, test=test)
    _check(name, "")
    return _told(__salt__["qmail_file.restore"](_as_written(path(name, home, control)), test=test))


def discards(home="/var/qmail", control=None):
    """
    Return whether an empty ``doublebounceto`` makes double bounces vanish here, and which program drops them.

    Returns ``qmail-send`` if it has the discard feature (s/qmail, aQmail, indimail, sagredo's and PLD's qmail) and
    drops them itself; ``qmail-lspawn`` if ``doublebouncehost`` is in ``locals``, and mail for the empty local part is
    dropped on delivery; ``None`` if they would end as triple bounces.

    home, control
        As for ``get``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.discards
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control)
    if _has_discard_feature(os.path.join(home, "bin/qmail-send")):
        return "qmail-send"
    host = value("doublebouncehost", home, control)["value"].lower()
    return "qmail-lspawn" if host in (entry.lower() for entry in lines("locals", home, control)) else None


def path(name, home="/var/qmail", control=None):
    """
    Return the path of a control file.

    name, home, control
        As for ``get``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_control.path doublebounceto
    """
    __salt__["qmail_base_check.arguments"](home=home, control=control)
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name:
        raise SaltInvocationError(f"{name!r} is not the name of a control file.")
    return os.path.join(control or os.path.join(home, "control"), name)


def _as_written(where):
    """Return the path by which this file was written: its directory may be spelled otherwise today, by a link."""
    paths = [one["path"] for one in __salt__["qmail_file.written"]() if one["written"]]
    same = (path for path in paths if __salt__["qmail_base_path.is_one"](path, where))
    return where if where in paths else next(same, where)


def _has_discard_feature(binary):
    try:
        with open(binary, "rb") as file:
            return DISCARDS in file.read()
    except FileNotFoundError:
        return False
    except OSError as err:
        raise CommandExecutionError(f"Cannot read {binary}: {__salt__['qmail_base_refusal.told'](err)}") from err


def _refuse_blank(home, control):
    if discards(home, control):
        return
    host = value("doublebouncehost", home, control)["value"]
    raise CommandExecutionError(
        "An empty doublebounceto discards nothing here: this qmail-send has no discard feature, and doublebouncehost "
        f"{host} is not in locals, so each double bounce would end as a triple bounce. Use mode sink, or a "
        "doublebouncehost that is in locals; if it is that of a sink, apply qmail-doublebounce.clean first."
    )


def _contents(name, home, control):
    where = path(name, home, control)
    try:
        # Links are followed here, as qmail follows them, and a FIFO must not block us.
        handle = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            return file.read() or b""
    except FileNotFoundError:
        return None
    except OSError as err:
        raise CommandExecutionError(f"Cannot read control file {where}: {err.strerror}. {_remedy(err)}") from err


def _remedy(err):
    if err.errno == errno.EISDIR:
        return "qmail wants a file there: move the directory away."
    return "qmail-send would not start with it: fix that first."


def _first(contents):
    """Return the value in the contents of a file: its first line, as qmail strips it."""
    return None if contents is None else _text(_stripped(contents.split(b"\n", 1)[0]))


def _stripped(line):
    return line.rstrip(b" \t\n")


def _text(line):
    return line.decode("utf-8", "backslashreplace")


def _check(name, value):
    if name not in MANAGED:
        raise SaltInvocationError(
            f"Control file {name!r} does not decide where bounces go. These do: {', '.join(MANAGED)}."
        )
    if not isinstance(value, str):
        raise SaltInvocationError(f"The value of {name} is {value!r}, which is not text; quote it in YAML.")
    if value != value.strip() or not value.isascii() or (value and not value.isprintable()):
        raise SaltInvocationError(
            f"The value of {name} is {value!r}: with blanks at its ends, control characters, line breaks or characters "
            "beyond ASCII qmail would read another value."
        )
    if name in HOST_OF and "@" in value:
        raise SaltInvocationError(
            f"The value of {name} is {value!r}, a whole address, but qmail-send appends @host to it. Put what is "
            f"before the @ into {name}, and what follows it into {HOST_OF[name]}."
        )


def _told(changes):
    """Describe a change of a control file by its value rather than by its bytes."""
    told = {field: change for field, change in changes.items() if field != "contents"}
    if "contents" not in changes:
        return told
    return {"value": {when: _first(contents) for when, contents in changes["contents"].items()}, **told}
