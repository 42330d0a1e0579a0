"""
The sinks that this project made, including those that pillar no longer asks for: whoever gets such an address next
would lose all mail.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def sinks(address=None, home=None, ever=False):
    """
    List the dot-qmail files that are sinks, wherever their addresses' routes led at that time.

    Each is a dict with ``path``, ``address`` and ``home`` (the qmail home; ``None`` if an earlier version wrote it,
    which did not record that), in the order of the paths.

    address
        Only those made for this address, in upper or lower case.

    home
        Only those made for the qmail in this directory, and those for which that is not known.

    ever
        Also those that were sinks and no longer are.

    For ``qmail_mailbox`` and the state ``qmail_mailbox``.
    """
    if home is not None:
        __salt__["qmail_base_check.arguments"](home=home)
    found = [{**entry, "address": entry["note"]} for entry in __salt__["qmail_file.written"]() if entry["note"]]
    return [
        {key: entry[key] for key in ("path", "address", "home")}
        for entry in found
        if (ever or entry["written"])
        and (address is None or str(address).lower() == entry["address"].lower())
        and (home is None or entry["home"] in (None, os.path.realpath(home)))
    ]


def others(but=None, home="/var/qmail", control=None):
    """
    List the sinks that this project made for one qmail, except that of one address, as ``sinks`` does.

    The sink of an address is the file that its mail goes to today, however the address was spelled when it was made.
    One whose qmail is not known is listed if the address that it was made for still leads there.

    but
        The address whose sink is wanted; ``None`` if none is.

    home, control
        As for ``qmail_mailbox.check``.

    For the state ``qmail_mailbox``.
    """
    wanted = but and _exact(but, home, control)
    return [
        sink
        for sink in sinks(home=home)
        if not _is_one(sink["path"], wanted)
        and (sink["home"] or _is_one(sink["path"], _exact(sink["address"], home, control)))
    ]


def restore(paths, version=None, test=False):
    """
    Put dot-qmail files back as they were before they became sinks, and return what that changed.

    Returns a dict of the paths, each with what ``qmail_mailbox.write`` would return, with ``left``, a sentence, if
    somebody has changed the file since, or with ``failed``, a sentence, if it cannot be put back: whoever owns one
    mailbox must not hold up the others. Without those that had nothing to undo.

    Raises SaltInvocationError for a version that is not kept.

    paths, version, test
        As for ``qmail_file.restore``.

    For ``qmail_mailbox`` and the state ``qmail_mailbox``.
    """
    for path in paths if version else ():
        __salt__["qmail_file.version"](path, version)  # before the first of them is touched
    done = {path: _restored(path, version, test) for path in paths}
    return {path: __salt__["qmail_mailbox_sink.told"](changes) for path, changes in done.items() if changes}


def _restored(path, version, test):
    try:
        return __salt__["qmail_file.restore"](path, version, test=test)
    except CommandExecutionError as err:
        return {"failed": str(err)}


def unready(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", test=False):
    """
    Return why qmail-send may still send double bounces to a former sink; ``None`` if it does not.

    It must run, and have read the control files as they are. With ``test`` it counts as restarted, unless it is down on
    purpose.

    home, control, queue
        As for ``qmail_service.status``.

    provider, name
        As for ``qmail_service.left_down``.

    test
        Answer as after a run of the formula.

    For the state ``qmail_mailbox``.
    """
    found = __salt__["qmail_service.status"](home, control, queue)
    if found["running"] is None:
        return "this system does not show whether qmail-send has read the control files"
    if found["running"]:
        return None if found["loaded"] or test else "qmail-send has not read the control files as they are now"
    down = __salt__["qmail_service.left_down"](home, queue, provider, name)
    if test and not down:
        return None
    return f"qmail-send does not run{f' ({down})' if down else ''}"


def problems(but=None, home="/var/qmail", control=None):
    """
    List what is wrong with former sinks: those that still hold what this project wrote there, each as a sentence.

    but, home, control
        As for ``qmail_mailbox.former``, which documents all of it.

    For ``qmail_mailbox``.
    """
    try:
        if but is not None and _exact(but, home, control) is None:
            return []
        found = others(but, home, control)
    except (CommandExecutionError, SaltInvocationError) as err:
        return [f"Cannot tell which mailboxes are still sinks: {err}"]
    return [problem for problem in map(_problem, found) if problem]


def _problem(sink):
    try:
        is_one = __salt__["qmail_file.is_ours"](sink["path"])
    except CommandExecutionError as err:
        return f"Cannot tell whether {sink['address']} is still a sink: {err}"
    if not is_one:
        return None
    return (
        f"{sink['address']} is still a sink, by {sink['path']}, but pillar does not ask for it: whoever gets that "
        "address loses all mail."
    )


def _is_one(path, other):
    return other is not None and __salt__["qmail_base_path.is_one"](path, other)


def _exact(address, home, control):
    return __salt__["qmail_route.resolve"](address, home, control=control).get("exact")
