"""
The exit status of a command in a dot-qmail file, as far as it can be known without running it.

qmail-local passes the command to ``/bin/sh -c`` in the user's home (qmail-command(8)). Plain ``exit N``, ``true`` and
``false`` mean the same to every shell. Odd forms of them, for example ``exit 0`` and a carriage return, do not: only
for these, this machine's shell is asked. Such a command can do no harm.
"""

import os
import re
import subprocess

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

_COMMENT = r"(?:(?<![^ \t;])#.*)?"
_PLAIN = re.compile(
    rf"(?:exit(?:[ \t]+(?P<number>0|[1-9][0-9]?[0-9]?))?|true|(?P<false>false))?(?:[ \t]*;)?[ \t]*{_COMMENT}"
)
_WORD = r"(?:exit|true|false|/bin/true|/bin/false|/usr/bin/true|/usr/bin/false)(?:[ \t]+-?[0-9]+)*"
_HARMLESS = re.compile(rf"{_WORD}(?:[ \t\r]*(?:;|&&|\|\|)[ \t]*{_WORD})*[ \t\r;]*{_COMMENT}")
_SIMPLE = re.compile(rf"([\w./][\w./+:@%,-]*)(?:[ \t]+[\w./+:@%,-]+)*(?:[ \t]*;)?[ \t]*{_COMMENT}", re.ASCII)
_OPERATORS = ("|", "&", ";", ")")
_LONGEST_HARMLESS = 256  # characters
_PATH = "/var/qmail/bin:/command:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL_TIMEOUT = 5  # seconds


def exit_status(command, home, uid, gid):
    """
    Return the exit status that a command in a dot-qmail file ends with, or ``None`` if that cannot be known.

    These are known: ``exit N``, ``true`` and ``false`` and lists of them, the empty command, a command that starts with
    an operator (a syntax error, 2), and a plain command whose program is missing (127) or may not be run (126). A bare
    name is searched for in the usual directories and in this process's own ``PATH``.

    command
        The command, without the leading ``|``.

    home
        The home directory that the command runs in; free of links.

    uid
        The user id that it runs as.

    gid
        The group id that it runs as.

    For ``qmail_mailbox_dotqmail``.
    """
    command = command.strip(" \t")
    if command.startswith(_OPERATORS):
        return 2
    plain = _PLAIN.fullmatch(command)
    if plain and int(plain["number"] or 0) <= 255:
        return 1 if plain["false"] else int(plain["number"] or 0)
    if len(command) <= _LONGEST_HARMLESS and _HARMLESS.fullmatch(command):
        return _ask_shell(command)
    return _missing_program(command, home, uid, gid)


def _missing_program(command, home, uid, gid):
    simple = _SIMPLE.fullmatch(command)
    if not simple:
        return None
    program = simple.group(1)
    if "/" not in program:
        return 127 if _ask_shell('command -v "$1"', program) else None
    error = __salt__["qmail_base_access.lookup"](program, uid, gid, want="execute", cwd=home)["error"]
    if not error:
        return None
    return 127 if error in ("ENOENT", "ENOTDIR") else 126


def _ask_shell(command, *arguments):
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": f"{_PATH}:{os.environ.get('PATH', '')}"},
            cwd="/",
            timeout=_SHELL_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode if done.returncode >= 0 else None
