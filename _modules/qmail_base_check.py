"""
What an argument may be: one rule for each name that this project's functions share.

For the other modules of this formula. A command line turns ``2s`` into text and ``2`` into a number; a wrong argument
must be reported before anything is touched, not halfway.
"""

import math
import re

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

UNFIT = re.compile("[\0\ud800-\udfff]")


def arguments(**given):
    """
    Check arguments by their names, and return them as a dict; flags are ``True`` or ``False`` in it.

    ``timeout``, ``settle`` and ``seconds`` are seconds, ``older_than`` is too, or ``None``; ``test``, ``single``,
    ``always``, ``start``, ``strict``, ``partial``, ``table``, ``verify`` and ``again`` are flags; ``home`` and ``path``
    are absolute paths, ``control``, ``queue`` and ``root`` too, or ``None``; ``log`` is text, or ``None``; ``limit`` is
    a whole number, or ``None``; ``uid`` and ``gid`` are, too; ``name``, ``provider``, ``address`` and ``token`` are
    text; ``mailbox`` is ``auto``, ``dotqmail`` or ``plesk``.

    Raises SaltInvocationError that names every wrong one, with what is allowed.

    given
        The arguments, by the names above.

    For all.
    """
    # Salt itself adds arguments that begin like this.
    given = {name: value for name, value in given.items() if not name.startswith("__pub_")}
    unknown = [name for name in given if name not in _RULES]
    if unknown:
        raise SaltInvocationError(f"There is no rule for {', '.join(unknown)}; there is one for {', '.join(_RULES)}.")
    wrong = [
        f"{name} is {_RULES[name][0]}, not {value!r}." for name, value in given.items() if not _RULES[name][1](value)
    ]
    if wrong:
        raise SaltInvocationError(" ".join(wrong))
    return {name: bool(value) if name in _FLAGS else value for name, value in given.items()}


def _is_seconds(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_flag(value):
    # Salt's own test=1 arrives as a number, and an unset option as None.
    return value is None or (isinstance(value, (bool, int)) and value in (0, 1))


def _is_path(value):
    return _is_text(value) and value.startswith("/")


def _is_text(value):
    # No answer could repeat a surrogate, by which Python shows a byte that is not UTF-8: Salt would not send it.
    return isinstance(value, str) and value != "" and not UNFIT.search(value)


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _or_none(rule):
    words, fits = rule
    return f"{words}, or None", lambda value: value is None or fits(value)


_COUNT = ("a whole number", _is_count)
_SECONDS = ("a number of seconds", _is_seconds)
_FLAG = ("True or False", _is_flag)
_PATH = ("an absolute path", _is_path)
_TEXT = ("text", _is_text)
_FLAGS = ("test", "single", "always", "start", "strict", "partial", "table", "verify", "again")

_RULES = {
    "timeout": _SECONDS,
    "settle": _SECONDS,
    "seconds": _SECONDS,
    "older_than": _or_none(_SECONDS),
    **dict.fromkeys(_FLAGS, _FLAG),
    "home": _PATH,
    "control": _or_none(_PATH),
    "queue": _or_none(_PATH),
    "root": _or_none(_PATH),
    "path": _PATH,
    "log": _or_none(_TEXT),
    "limit": _or_none(_COUNT),
    "uid": _or_none(_COUNT),
    "gid": _or_none(_COUNT),
    "name": _TEXT,
    "provider": _TEXT,
    "address": _TEXT,
    "token": _TEXT,
    "mailbox": ("auto, dotqmail or plesk", lambda value: value in ("auto", "dotqmail", "plesk")),
}
