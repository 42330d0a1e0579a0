"""
A mail address that double bounces can be sent to.

qmail takes almost anything for an address. This project takes only what means the same to every program on the way:
control files, users/assign, file names, the log.
"""

import re

from salt.exceptions import SaltInvocationError

# Letters, digits and signs that stand for themselves everywhere. Not among them: / (a path), % (the percent hack),
# quotes and blanks (quoting differs between programs).
_LOCAL = re.compile(r"[A-Za-z0-9!#$&*+=?^_~.-]{1,64}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)


def split(address):
    """
    Split an address into what qmail wants in its two control files.

    Returns a dict with ``local`` (for ``doublebounceto``) and ``host`` (for ``doublebouncehost``).

    Raises SaltInvocationError where it is no whole address of plain ASCII characters; the message says what is wrong.

    address
        The whole address, for example ``doublebounce@example.com``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_address.split doublebounce@example.com
    """
    problem = _problem(address)
    if problem:
        raise SaltInvocationError(f"{address!r} is no address for double bounces: {problem}.")
    local, _, host = address.partition("@")
    return {"local": local, "host": host}


def _problem(address):
    if not isinstance(address, str):
        return "it is no text; quote it in YAML"
    if not address:
        return "it is empty; set qmail_doublebounce:address in pillar"
    if address.count("@") != 1:
        return f"it holds {address.count('@') or 'no'} @, and one belongs into it, as in doublebounce@example.com"
    local, _, host = address.partition("@")
    if not local:
        return "nothing stands before the @"
    if not host:
        return "nothing stands behind the @"
    if not _LOCAL.fullmatch(local):
        return "before the @ may stand up to 64 letters, digits and the signs !#$&*+=?^_~.-"
    if not _HOST.fullmatch(host):
        return "behind the @ stands no host name"
    return None
