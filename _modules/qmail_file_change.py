"""
Replace one file, or put it back, as a whole: keep what is there, record what is ours, write, and check.

If several runs work on one file at the same time, each finishes before the next begins.
"""

import contextlib
import os

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

TRIES = 3  # how often a file is read again that somebody else changes meanwhile


def replace(path, contents, uid, gid, mode, note, home, refused, test):
    """
    Make a file hold exactly these contents, with this owner and mode, and return what was changed.

    path, contents, uid, gid, mode, note, home, refused, test
        As for ``qmail_file.replace``, which documents all of it.

    For ``qmail_file``.
    """
    test = __salt__["qmail_base_check.arguments"](uid=uid, gid=gid, test=test)["test"]
    if isinstance(contents, str) and __salt__["qmail_base_text.is_sendable"](contents):
        contents = contents.encode()
    if not isinstance(contents, bytes):
        raise SaltInvocationError(f"contents {contents!r} is neither text nor bytes.")
    wanted = {"contents": contents, "uid": uid, "gid": gid, "mode": _octal(mode)}
    with __salt__["qmail_file_entry.at"]("write", path) as (directory, name):
        if directory is None:
            raise CommandExecutionError(f"Cannot write {path}: its directory is missing. Make it first.")
        changes = _difference(*_step(directory, name, path, wanted))
        if test and changes:
            return changes
        reason = None if changes else _reason(refused)
        if test and reason:
            raise CommandExecutionError(reason)
        if not changes and not reason:
            return {}
        with _turn(directory, name, path):
            for _ in range(TRIES):
                old, new = _step(directory, name, path, wanted)
                if not _difference(old, new):
                    return _unchanged(refused)
                # Both come before the file itself: a crash in between must neither lose theirs nor make ours look like
                # theirs.
                _keep(path, old)
                __salt__["qmail_file_ledger.claim"](path, old, contents, note, home)
                if __salt__["qmail_file_entry.put"](directory, name, new, old, path):
                    _stay(directory, name, path, old, new, refused)
                    return _difference(old, new)
    raise _contended(path)


def restore(path, version, test):
    """
    Put a kept version of a file back, or remove the file if there was none, and return what that changed.

    path, version, test
        As for ``qmail_file.restore``, which documents all of it.

    For ``qmail_file``.
    """
    test = __salt__["qmail_base_check.arguments"](test=test)["test"]
    with __salt__["qmail_file_entry.at"]("restore", path) as (directory, name):
        if version:
            __salt__["qmail_file_kept.version"](path, version)  # before anything is made
        elif not __salt__["qmail_file_ledger.written"](path):
            return {}
        if directory is None and version:
            raise CommandExecutionError(f"Cannot restore {path}: its directory is missing. Make it first.")
        if directory is None:
            return {"left": f"{path} is not there, nor is its directory."}  # which may come back: it may be a mount
        with contextlib.nullcontext() if test else _turn(directory, name, path):
            for _ in range(TRIES):
                old = __salt__["qmail_file_entry.read"](directory, name, path)
                if not version and not _is_ours(path, old):
                    return _leave(path, old, test)
                new = __salt__["qmail_file_kept.version"](path, version)
                changes = _difference(old, new)
                if test:
                    return changes
                if not changes:
                    _settle(path, None)
                    return changes
                _keep(path, old)
                if __salt__["qmail_file_entry.put"](directory, name, new, old, path):
                    _end(path)
                    return changes
    raise _contended(path)


@contextlib.contextmanager
def _turn(directory, name, path):
    """One run after the other, from the look at the file until it is recorded what was done with it."""
    handle = __salt__["qmail_file_kept.lock"](path)
    try:
        __salt__["qmail_file_entry.sweep"](directory, name)
        yield
    finally:
        os.close(handle)


def _step(directory, name, path, wanted):
    """Return what a file is, and what it is to become."""
    old = __salt__["qmail_file_entry.read"](directory, name, path)
    defaults = old or {"uid": os.geteuid(), "gid": os.getegid(), "mode": "0644"}
    return old, {field: defaults[field] if value is None else value for field, value in wanted.items()}


def _unchanged(refused):
    """Nothing has to be written; what another run did at the same time does not count against the file now."""
    reason = _reason(refused)
    if reason:
        raise CommandExecutionError(reason)
    return {}


def _stay(directory, name, path, old, new, refused):
    """Ask whether the new file may stay; if not, put back what was there."""
    reason = _reason(refused)
    if reason:
        raise CommandExecutionError(f"{reason} {_put_back(directory, name, path, old, new)}")
    _settle(path, new, True)


def _reason(refused):
    try:
        return refused and refused()
    except CommandExecutionError as err:
        return str(err)


def _put_back(directory, name, path, old, new):
    """Undo a write that cannot stay, and say in a sentence whether the file is as it was."""
    was_ours = _is_ours(path, old)
    try:
        if not __salt__["qmail_file_entry.put"](directory, name, old, new, path):
            return f"Somebody else changed {path} meanwhile, and it is left as it is."
    except OSError as err:
        return f"Putting {path} back failed: {__salt__['qmail_base_refusal.told'](err)} Check what it holds."
    except CommandExecutionError as err:
        return f"Putting {path} back failed: {err} Check what it holds."
    _settle(path, old if was_ours else None, True)
    return f"{path} is as it was."


def _keep(path, old):
    if not _is_ours(path, old):
        __salt__["qmail_file_kept.keep"](path, old)


def _settle(path, found, has_written=False):
    """Narrow what counts as ours to what is there. If that fails, only a file that is not there counts as ours, too."""
    with contextlib.suppress(CommandExecutionError):
        __salt__["qmail_file_ledger.settle"](path, found and found["contents"], has_written)


def _end(path):
    try:
        __salt__["qmail_file_ledger.end"](path)
    except CommandExecutionError as err:
        raise CommandExecutionError(f"{path} is as it was before, but that cannot be recorded. {err}") from err


def _is_ours(path, old):
    return old is not None and __salt__["qmail_file_ledger.ours"](path, old["contents"])


def _leave(path, old, test):
    """What somebody has changed since is theirs from now on, whatever they write there later."""
    versions = __salt__["qmail_file_kept.versions"](path)
    is_back = bool(versions) and old == __salt__["qmail_file_kept.version"](path)
    if not test:
        __salt__["qmail_file_ledger.settle"](path, None)
    if is_back:  # by hand, or by a run that was cut off
        return {}
    done = "removed" if old is None else "changed"
    return {"left": f"{path} has been {done} by hand since, and is left as it is."}


def _contended(path):
    return CommandExecutionError(f"Somebody else is changing {path} right now. Run this again.")


def _difference(old, new):
    if old is None or new is None:
        pair = {"old": old and old["contents"], "new": new and new["contents"]}
        return {} if old is new else {"contents": pair}
    fields = ("contents", "uid", "gid", "mode")
    return {field: {"old": old[field], "new": new[field]} for field in fields if old[field] != new[field]}


def _octal(mode):
    if mode is None:
        return None
    if isinstance(mode, str) and mode and not mode.strip("01234567"):
        mode = int(mode, 8)
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o7777:
        raise SaltInvocationError(f"mode {mode!r} is not an octal number such as 0644.")
    return f"{mode:04o}"
