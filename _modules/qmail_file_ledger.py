"""
Record what this project wrote itself, so that it undoes that and nothing else.

Beside the kept versions of a file (see ``qmail_file_kept``) a ``ledger`` holds the digest of what was written over
them, and while that is being written, of what was there before as well. Whoever changes a ledger holds the file's lock:
``qmail_file_kept.lock``.
"""

import hashlib
import time

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LEDGER = "ledger"
NOTHING = {"written": [], "note": None, "home": None, "ended": None, "moment": None}


def files():
    """
    List the files that this project has written, in the order of their paths.

    See ``qmail_file.written``, which documents all of it.

    For ``qmail_file``.
    """
    ledgers = {path: _ledger(path) for path in __salt__["qmail_file_kept.paths"](LEDGER)}
    return [
        {"path": path, "note": ledger["note"], "home": ledger["home"], "written": bool(ledger["written"])}
        for path, ledger in sorted(ledgers.items())
    ]


def written(path):
    """
    Return whether this project has written a file and not put it back since, whatever is in it now.

    path
        Absolute path of the file.

    For ``qmail_file_change``.
    """
    return bool(_ledger(path)["written"])


def ours(path, contents):
    """
    Return whether these contents of a file are what this project wrote there, and has not put back since.

    path
        Absolute path of the file.

    contents
        Bytes.

    For ``qmail_file``, ``qmail_file_change`` and ``qmail_file_entry``.
    """
    return _digest(contents) in _ledger(path)["written"]


def ended(path):
    """
    Return when a file was last put back, in seconds since the epoch; ``None`` if it never was.

    path
        Absolute path of the file.

    For ``qmail_file``.
    """
    return _ledger(path)["ended"]


def moment(path):
    """
    Return when this project last wrote a file.

    path
        As for ``qmail_file.moment``, which documents it.

    For ``qmail_file``.
    """
    boot, seconds = _ledger(path)["moment"] or (None, None)
    # One in the future is of another time namespace: a container may have its own.
    is_known = (
        boot and boot == __salt__["qmail_base_process.boot"]() and seconds <= time.clock_gettime(time.CLOCK_BOOTTIME)
    )
    return seconds if is_known else None


def claim(path, found, contents, note=None, home=None):
    """
    Record that this project is about to write these contents.

    Until ``settle``, both they and what is there now count as written here, the latter only if it did before.

    Not for the command line: ``qmail_file.replace`` calls this before it writes.

    path
        Absolute path of the file.

    found
        What ``qmail_file.read`` returned: a dict, or ``None`` if there is no file.

    contents
        Bytes.

    note, home
        As in ``files``: the address that the file is for, and the qmail home. ``None`` leaves what is recorded.

    For ``qmail_file_change``.
    """
    ledger = _ledger(path)
    now = {_digest(found["contents"])} if found else set()
    told = {"note": note or ledger["note"], "home": home or ledger["home"]}
    _change(path, written=sorted(now & set(ledger["written"]) | {_digest(contents)}), **told)


def settle(path, contents, has_written=False):
    """
    Record that only these contents of a file are this project's.

    Not for the command line: ``qmail_file`` calls this when it has written, or found that others have.

    path
        Absolute path of the file.

    contents
        Bytes; ``None``: nothing in it is this project's.

    has_written
        Whether the file was written just now.

    For ``qmail_file_change``.
    """
    now = {"moment": _moment()} if has_written else {}
    _change(path, written=[] if contents is None else [_digest(contents)], **now)


def end(path):
    """
    Record that a file was put back: what is in it now is no longer this project's.

    Not for the command line: ``qmail_file.restore`` calls this after it has written.

    path
        Absolute path of the file.

    For ``qmail_file_change``.
    """
    _change(path, written=[], ended=time.time(), moment=_moment())


def _digest(contents):
    contents = contents.encode() if isinstance(contents, str) else contents
    return hashlib.sha256(contents).hexdigest()


def _moment():
    boot = __salt__["qmail_base_process.boot"]()
    return boot and [boot, time.clock_gettime(time.CLOCK_BOOTTIME)]


def _ledger(path):
    return {**NOTHING, **(__salt__["qmail_file_kept.load"](path, LEDGER) or {})}  # an older one has fewer keys


def _change(path, **told):
    before = _ledger(path)
    if {**before, **told} != before:
        __salt__["qmail_file_kept.save"](path, LEDGER, {**before, **told})
