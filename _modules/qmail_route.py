"""
Where qmail delivers an address: from the address to the one dot-qmail file that qmail-local reads.

Three programs decide, and this module follows them in order: qmail-send rewrites the address by its control files,
qmail-lspawn finds who receives it (``qmail_route_users``), qmail-local looks for the dot-qmail file.
"""

import os
import re
import stat

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# The forms in which recipient checks take a list.
FORMATS = ("plain", "validrcptto", "badrcptto")
DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
NOT_FOLLOWED = "has bytes in its name that are not UTF-8, and is not followed"
NOBODY = "nobody.has.this.address.zq7x3w"  # the local part of an address that is not in use
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

    Bytes that are not UTF-8 are shown by escapes, such as ``\\xfc``. No file with such a name is looked for: ``exact``
    is ``None`` then, and what goes to a home directory with such a name is said to be deferred.

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
    if not _is_text(address):
        raise SaltInvocationError(f"{address!r} is not an address.")
    control = _below(root, control or os.path.join(home, "control"))
    domain, recipient = _rewrite(address.encode(), control)
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
    if not _is_text(recipient):
        raise SaltInvocationError(f"{recipient!r} is not a recipient.")
    found = {"channel": "local", "recipient": recipient, **dict.fromkeys(FIELDS)}
    return {**found, **_local(recipient.encode(), home, root)}


def recipients(domain, format=None, partial=False, home="/var/qmail", root=None, control=None):
    """
    Return every address of a domain that this server delivers, for a list of those that qmail-smtpd shall accept.

    Without a format, returns a dict:

    - ``domain``; ``how``: ``locals``, ``virtualdomains`` or ``remote`` (then there are none);
    - ``recipients``: the addresses, in lower case and sorted. Each ends somewhere: see ``resolve``;
    - ``deferred``: addresses that are deferred today, for example because a home directory is missing. They are in
      the lists, too: whoever rejected their mail would lose it;
    - ``wildcards``: what no list can hold, dicts with ``pattern`` (such as ``list-*@example.com``, or ``*@example.com``
      for a catch-all) and ``dotqmail``, the file that receives it;
    - ``bounces``: the same for files that bounce whatever nobody has: vpopmail's with ``bounce-no-mailbox``, and
      ``bouncesaying``;
    - ``notes``: what else no list can hold, as sentences.

    With a format, returns only the text of that list.

    A colon in the name of a dot-qmail file stands for a dot in the address; qmail would deliver to an address with a
    colon there, too, but none is listed. The system's users are those that it lists: see ``qmail_route_users``.

    Raises SaltInvocationError for a wrong argument, CommandExecutionError if a file cannot be read, and if a list in
    this format would lack addresses that are delivered, or has none; it names them.

    domain
        The domain.

    format
        ``plain``: an address a line, for example for users/recipients of s/qmail. ``validrcptto``: the same for
        control/validrcptto and the database that is made from it, or ``@domain`` if the domain has a catch-all.
        ``badrcptto``: one line for a qmail-smtpd that has the qregex patch, an expression that rejects what is not in
        the list and leaves other domains alone. A plain badrcptto cannot hold this: it lists whom to reject.

    partial
        ``True``: return the list even if it lacks addresses that are delivered, or if the mailboxes of a domain of
        vpopmail cannot be listed; a wildcard stands for these then.

    home, root, control
        As for ``resolve``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_route.recipients example.com
        salt-call --local --out txt qmail_route.recipients example.com format=validrcptto | sed 's/^local: //'
    """
    __salt__["qmail_base_check.arguments"](home=home, root=root, control=control, partial=partial)
    if not isinstance(domain, str) or not DOMAIN.fullmatch(domain):
        raise SaltInvocationError(f"{domain!r} is not a domain.")
    if format is not None and format not in FORMATS:
        raise SaltInvocationError(f"format={format!r} is not known: give one of {', '.join(FORMATS)}.")
    domain = domain.lower()
    found = _all(domain, home, root, _below(root, control or os.path.join(home, "control")), bool(partial))
    return found if format is None else _written(found, format, bool(partial))


def checks(domain=None, home="/var/qmail", root=None, control=None):
    """
    Return what qmail-smtpd checks recipients with, as far as its files show it: nothing is started.

    Returns a dict: ``program`` (qmail-smtpd, ``None`` if it is missing), ``can`` (which checks the program contains),
    ``scripts`` (what starts it), ``environment`` (of the variables that matter, what a stranger's connection has),
    ``files`` (the lists that exist) and ``spamdyke`` (its values of ``reject-recipient``).

    With a domain, also ``refuses``, whether an address of it that nobody has is refused (``None`` if that is not
    known), ``why``, and ``nobody``: the route of such an address, as ``resolve`` returns it.

    What a shell script computes, and what only the running program knows (chkuser can be built to check always), is not
    seen.

    Raises SaltInvocationError for a wrong argument, CommandExecutionError if a database of recipients is damaged.

    domain
        A domain of this server, or ``None``.

    home, root, control
        As for ``resolve``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_route.checks
        salt '*' qmail_route.checks example.com
    """
    __salt__["qmail_base_check.arguments"](home=home, root=root, control=control)
    if domain is not None and not (isinstance(domain, str) and DOMAIN.fullmatch(domain)):
        raise SaltInvocationError(f"{domain!r} is not a domain.")
    found = __salt__["qmail_route_smtpd.look"](home, root, control)
    if domain is None:
        found.pop("lists")
        return found
    route = resolve(f"{NOBODY}@{domain}", home, root, control)
    default = route.get("dotqmail")
    program = default_program(default, root) if default else None
    refuses, why = __salt__["qmail_route_smtpd.verdict"](found, f"{NOBODY}@{domain}", program)
    found.pop("lists")
    return {**found, "refuses": refuses, "why": why, "nobody": route}


def default_program(path, root=None):
    """
    Return what a default dot-qmail file does with mail for an address that nobody has, as far as its only program is
    known: a dict with ``name`` (``vdelivermail`` or ``bouncesaying``, else ``None``) and ``nobody`` (``bounce``,
    ``delete``, where the mail goes, or ``None``).

    path
        The path of the file.

    root
        As for ``resolve``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_route.default_program /home/vpopmail/domains/example.com/.qmail-default
    """
    __salt__["qmail_base_check.arguments"](path=path, root=root)
    return __salt__["qmail_route_recipients.default_file"](_below(root, path))


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


# The addresses of a domain


def _all(domain, home, root, control, partial):
    own, begin, strange = {}, None, None
    how = "locals" if domain.encode() in _names("locals", control) else "remote"
    if how == "remote":
        own = _own(domain, control)
        # No line of a file holds the end of a line, so that this stands for no address of its own.
        prefix = _prefix(b"\n@" + domain.encode(), domain.encode(), control)
        begin = f"{_text(prefix)}-" if prefix else None
        if begin and __salt__["qmail_base_text.is_altered"](begin):
            strange = f"The prefix {_text(prefix)} of {domain} in virtualdomains {NOT_FOLLOWED}."
        how = "virtualdomains" if begin or own else "remote"
    found = {
        "domain": domain,
        "how": how,
        "recipients": [],
        "deferred": [],
        "wildcards": [],
        "bounces": [],
        "notes": [strange] if strange else [],
    }
    if how == "locals" or begin is not None:
        _collect(found, "" if how == "locals" else begin, set(own), home, root, partial)
    for local, prefix in own.items():
        _judge(found, local, f"{prefix}-" if prefix else None, home, root, any_file=True)
    if domain.encode() in _names("percenthack", control):
        found["notes"].append(f"{domain} is in percenthack: user%host@{domain} is delivered wherever user@host is.")
    return {**found, "recipients": sorted(set(found["recipients"])), "deferred": sorted(set(found["deferred"]))}


def _own(domain, control):
    """Return the addresses of a domain that have an entry of their own in virtualdomains, with its prefix."""
    lines = (
        line.encode().partition(b":") for line in __salt__["qmail_control.lines"]("virtualdomains", control=control)
    )
    keys = {_text(key).lower().rpartition("@"): _text(prefix) for key, colon, prefix in lines if colon}
    return {local: prefix for (local, at, host), prefix in keys.items() if local and at and host == domain}


def _collect(found, begin, own, home, root, partial):
    domain = found["domain"]
    heard = __salt__["qmail_route_recipients.candidates"](begin, home, root, partial)
    for local in sorted((heard["locals"] | heard["users"]) - own):
        _judge(found, local.lower(), begin, home, root, any_file=local in heard["users"])
    for one in heard["wildcards"]:
        kind = "bounces" if one["nobody"] == "bounce" else "wildcards"
        pattern = {"pattern": f"{one['begin']}*@{domain}", "dotqmail": one["dotqmail"]}
        if pattern not in found[kind]:
            found[kind].append(pattern)
    found["notes"] += [*map(_odd, sorted(heard["odd"])), *heard["notes"]]


def _odd(local):
    return f"What receives mail for {local!r} has a name that no plain address has."


def _judge(found, local, begin, home, root, any_file):
    """Put an address where it belongs, by what happens to its mail; a default file that receives it is a wildcard."""
    if begin is None:
        return
    if not __salt__["qmail_route_recipients.is_plain"](local):
        found["notes"].append(_odd(local))
        return
    address = f"{local}@{found['domain']}"
    route = _local((begin + address).encode(), home, root)
    own = any_file or route.get("dotqmail") == route.get("exact")
    if route["outcome"] == "deferred":
        found["deferred"].append(address)
    elif route["outcome"] == "defaultdelivery" or (route["outcome"] == "dotqmail" and own):
        found["recipients"].append(address)


def _written(found, format, partial):
    domain = found["domain"]
    locals_ = [address.rpartition("@")[0] for address in (*found["recipients"], *found["deferred"])]
    begins = [one["pattern"].rpartition("*")[0] for one in found["wildcards"]]
    holds_all = format == "badrcptto" or not begins or (format == "validrcptto" and "" in begins)
    left = [
        *found["notes"],
        *([] if holds_all else [f"{one['pattern']} goes to {one['dotqmail']}." for one in found["wildcards"]]),
    ]
    if left and not partial:
        raise CommandExecutionError(
            f"A list in this format would lack addresses of {domain} that are delivered: {' '.join(left)} With "
            "partial=True it is returned without them."
        )
    if not locals_ and not begins:
        raise CommandExecutionError(f"{domain} has no address that this server delivers, so there is no list.")
    return __salt__["qmail_route_recipients.written"](domain, locals_, begins, format)


# qmail-send


def _is_text(address):
    return isinstance(address, str) and "\0" not in address and __salt__["qmail_base_text.is_sendable"](address)


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
    return __salt__["qmail_control.value"](name, control=control)["value"].encode()


def _names(name, control):
    return {line.encode().lower() for line in __salt__["qmail_control.lines"](name, control=control)}


def _prefix(recipient, host, control):
    """Return what virtualdomains puts before an address; ``None`` or nothing if it is not virtual."""
    lines = __salt__["qmail_control.lines"]("virtualdomains", control=control)
    entries = (line.encode().partition(b":") for line in lines)
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
    user["home"] = _plain(user["home"])
    exact = os.path.join(user["home"], ".qmail" + user["dash"]) + _safe(user["ext"])
    # A name that is not the real one must not lead to another address's file: it is not returned at all.
    altered = __salt__["qmail_base_text.is_altered"](exact)
    is_file = exact.startswith("/") and not altered
    return {**user, "exact": exact if is_file else None, **_delivery(user, exact, altered, root)}


def _safe(ext):
    return _text(ext.encode().lower()).replace(".", ":")


def _plain(directory):
    """Leave out what leads nowhere else in a directory as users/assign or passwd writes it: //, and a dot alone."""
    parts = directory.split("/")
    if not directory.startswith("/") or ".." in parts:
        return directory
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _delivery(user, exact, altered, root):
    if not user["uid"]:
        return {"outcome": "deferred", "reason": f"{user['user']} has uid 0, and qmail makes no delivery as root."}
    if not user["home"].startswith("/"):
        return {"outcome": "bounce", "reason": f"The home directory {user['home']!r} is not an absolute path."}
    if altered and __salt__["qmail_base_text.is_altered"](user["home"]):
        return {"outcome": "deferred", "reason": f"The home directory {user['home']} {NOT_FOLLOWED}."}
    if not os.path.isdir(_below(root, user["home"])):
        return {"outcome": "deferred", "reason": f"The home directory {user['home']} of {user['user']} is missing."}
    for path, default in _candidates(user, exact):
        if not (altered and __salt__["qmail_base_text.is_altered"](path)) and _is_file(_below(root, path)):
            return {"outcome": "dotqmail", "dotqmail": path, "default": default, "reason": f"{path} decides."}
    if altered and not user["dash"]:
        return {"outcome": "deferred", "reason": f"The file {exact} {NOT_FOLLOWED}."}
    if user["dash"]:
        return {"outcome": "bounce", "default": "", "reason": f"There is no {exact}, and no default file above it."}
    return {"outcome": "defaultdelivery", "default": "", "reason": f"There is no {exact}: the default delivery runs."}


def _candidates(user, exact):
    """List the dot-qmail files that qmail-local looks for, in order, each with the $DEFAULT that it would have."""
    ext, safe = user["ext"].encode(), _safe(user["ext"]).encode()
    yield exact, _text(ext[-7:]) if safe.endswith(b"default") else ""
    begin = exact.encode()[: -len(safe)] if safe else exact.encode()
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
    return raw.decode("utf-8", "backslashreplace")
