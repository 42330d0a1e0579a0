"""
Where qmail delivers an address: from the address to the one dot-qmail file that qmail-local reads.

Three programs decide, and this module follows them in order: qmail-send rewrites the address by its control files,
qmail-lspawn finds who receives it (``qmail_route_users``), qmail-local looks for the dot-qmail file.
"""

import os
import stat

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# What is returned for a local address, if qmail gets that far.
FIELDS = ("user", "uid", "gid", "home", "dash", "ext", "source", "exact", "dotqmail", "default")


def resolve(address, home="/var/qmail", root=None, control=None):
    """
    Return where qmail delivers an address.

    Returns a dict that always has:

    - ``channel``: ``local`` or ``remote``; ``recipient``: the address as qmail-send rewrote it;
    - ``outcome``: ``dotqmail`` (a dot-qmail file decides), ``defaultdelivery`` (the mailbox has none, and qmail-start's
      default runs), ``bounce``, ``remote``, ``deferred``, or ``dropped`` (the local part is empty: qmail-lspawn
      takes the message and delivers it nowhere);
    - ``reason``: a sentence that says so;
    - ``domain``: what the host is: ``locals``, ``virtualdomains`` or ``remote``.

    If the channel is local, also ``user``, ``uid``, ``gid``, ``home``, ``ext``, ``dash``, ``source`` (see
    ``qmail_route_users.find``), ``exact`` (the path of this address's own dot-qmail file, whether it exists or not),
    ``dotqmail`` (the path that qmail-local reads, ``None`` if there is none) and ``default`` (what a default file
    matched, ``""`` if none). They are ``None`` if qmail does not get that far.

    Raises SaltInvocationError for what cannot be an address, CommandExecutionError if a file cannot be read.

    The rules are those of qmail-send (rewrite), qmail-lspawn, qmail-getpw and qmail-local, compared with recordings of
    a real qmail.

    address
        The address. Without an ``@``, ``envnoathost`` is appended.

    home
        The qmail home directory.

    root
        A directory that stands for ``/``: every path, and passwd, is taken from below it. The paths in the answer do
        not include it.

    control
        The directory of the control files; ``None`` for ``control`` in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_route.resolve doublebounce@example.com
    """
    __salt__["qmail_base_check.arguments"](home=home, root=root, control=control)
    if not isinstance(address, str) or "\0" in address:
        raise SaltInvocationError(f"{address!r} is not an address.")
    control = _below(root, control or os.path.join(home, "control"))
    domain, recipient = _rewrite(os.fsencode(address), control)
    found = {"channel": "remote" if domain == "remote" else "local", "domain": domain, "recipient": _text(recipient)}
    if domain == "remote":
        host = _text(recipient.rpartition(b"@")[2])
        return {**found, "outcome": "remote", "reason": f"{host} is neither in locals nor in virtualdomains."}
    return {**found, **dict.fromkeys(FIELDS), **_local(recipient, home, root)}


def deliver(recipient, home="/var/qmail", root=None):
    """
    Return where qmail delivers a recipient that qmail-send has already rewritten, as its log shows it.

    Returns a dict as ``resolve`` does for a local address, without ``domain``.

    Raises CommandExecutionError if a file cannot be read.

    recipient
        The recipient after ``to local`` in the log.

    home, root
        As for ``resolve``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_route.deliver 1-doublebounce@example.com
    """
    __salt__["qmail_base_check.arguments"](home=home, root=root)
    if not isinstance(recipient, str) or "\0" in recipient:
        raise SaltInvocationError(f"{recipient!r} is not a recipient.")
    found = {"channel": "local", "recipient": recipient, **dict.fromkeys(FIELDS)}
    return {**found, **_local(os.fsencode(recipient), home, root)}


def catches_all(path):
    """
    Return whether a dot-qmail file receives more than one address, by its name: if it ends in ``default``.

    path
        The path of a dot-qmail file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_route.catches_all /var/qmail/alias/.qmail-default
    """
    __salt__["qmail_base_check.arguments"](path=path)
    name = os.path.basename(path)
    return name.startswith(".qmail-") and name.endswith("-default")


# qmail-send


def _rewrite(address, control):
    """Return what the host is, and the recipient that qmail-send passes on."""
    local, at, host = address.rpartition(b"@")
    if not at:
        local, host = address, _setting("envnoathost", control)
    hacked = _names("percenthack", control)
    while host.lower() in hacked and b"%" in local:
        local, _, host = local.rpartition(b"%")
    recipient = local + b"@" + host
    # What envnoathost or the percent hack inserted may hold an @ of its own; the last one counts.
    host = recipient.rpartition(b"@")[2]
    if host.lower() in _names("locals", control):
        return "locals", recipient
    prefix = _prefix(recipient, host, control)
    return ("virtualdomains", prefix + b"-" + recipient) if prefix else ("remote", recipient)


def _setting(name, control):
    return os.fsencode(__salt__["qmail_control.value"](name, control=control)["value"])


def _names(name, control):
    return {os.fsencode(line).lower() for line in __salt__["qmail_control.lines"](name, control=control)}


def _prefix(recipient, host, control):
    """Return what virtualdomains puts before an address; ``None`` or nothing if it is not virtual."""
    lines = __salt__["qmail_control.lines"]("virtualdomains", control=control)
    entries = (os.fsencode(line).partition(b":") for line in lines)
    prefixes = {key.lower(): prefix for key, colon, prefix in entries if colon}  # the last of equal keys wins
    host = host.lower()
    suffixes = [host[place:] for place, byte in enumerate(host) if byte == ord(".")]
    keys = (recipient.lower(), host, *suffixes, b"")
    return next((prefixes[key] for key in keys if key in prefixes), None)


# qmail-lspawn and qmail-local


def _local(recipient, home, root):
    local = recipient.rpartition(b"@")[0]
    if not local:
        return {"outcome": "dropped", "reason": "The local part is empty: qmail-lspawn accepts such mail and drops it."}
    try:
        user = __salt__["qmail_route_users.find"](_text(local), home, root)
    except CommandExecutionError as err:
        return {"outcome": "deferred", "reason": str(err)}
    exact = os.path.join(user["home"], ".qmail" + user["dash"]) + _safe(user["ext"])
    return {**user, "exact": exact, **_delivery(user, exact, root)}


def _safe(ext):
    return _text(os.fsencode(ext).lower()).replace(".", ":")


def _delivery(user, exact, root):
    if not user["uid"]:
        return {"outcome": "deferred", "reason": f"{user['user']} has uid 0, and qmail makes no delivery as root."}
    if not user["home"].startswith("/"):
        return {"outcome": "bounce", "reason": f"The home directory {user['home']!r} is not an absolute path."}
    if not os.path.isdir(_below(root, user["home"])):
        return {"outcome": "deferred", "reason": f"The home directory {user['home']} of {user['user']} is missing."}
    for path, default in _candidates(user, exact):
        if _is_file(_below(root, path)):
            return {"outcome": "dotqmail", "dotqmail": path, "default": default, "reason": f"{path} decides."}
    if user["dash"]:
        return {"outcome": "bounce", "default": "", "reason": f"There is no {exact}, and no default file above it."}
    return {"outcome": "defaultdelivery", "default": "", "reason": f"There is no {exact}: the default delivery runs."}


def _candidates(user, exact):
    """List the dot-qmail files that qmail-local looks for, in order, each with the $DEFAULT that it would have."""
    ext, safe = os.fsencode(user["ext"]), os.fsencode(_safe(user["ext"]))
    yield exact, _text(ext[-7:]) if safe.endswith(b"default") else ""
    begin = os.fsencode(exact)[: -len(safe)] if safe else os.fsencode(exact)
    for place in range(len(safe), -1, -1):
        if place == 0 or safe[place - 1 : place] == b"-":
            yield _text(begin + safe[:place] + b"default"), _text(ext[place:])


def _is_file(path):
    """qmail-local takes a regular file that it can open, following links; it passes over anything else."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError as err:
        raise CommandExecutionError(f"Cannot look at {path}: {__salt__['qmail_base_refusal.told'](err)}") from err
    except OSError:
        return False


def _below(root, path):
    return path if root is None else os.path.join(root, path.lstrip("/"))


def _text(raw):
    return os.fsdecode(raw)
