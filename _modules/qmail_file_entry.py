"""
One name in a directory where others may be at work: read its file, and put another one in its place.

``at`` opens the directory in which the other functions work by name.
"""

import contextlib
import hashlib
import os
import secrets
import stat

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

LARGEST = 1 << 20  # bytes; control files and dot-qmail files are far smaller
TOKEN = 8  # bytes


@contextlib.contextmanager
def at(verb, path):
    """
    Open the directory of a file: a context with its descriptor (``None`` if it is missing) and the file's name in it.
    What the system refuses in it becomes an error with a remedy.

    verb
        What is done with the file, for the error: ``read``, ``write``.

    path
        Absolute path of the file.

    For ``qmail_file`` and ``qmail_file_change``.
    """
    parent, name = os.path.split(path)
    with contextlib.ExitStack() as stack:
        try:
            directory = None
            with contextlib.suppress(FileNotFoundError):
                directory = __salt__["qmail_base_directory.enter"](parent, path)
                stack.callback(os.close, directory)
            yield directory, name
        except OSError as err:
            raise CommandExecutionError(f"Cannot {verb} {path}: {__salt__['qmail_base_refusal.told'](err)}") from err


def read(directory, name, path):
    """
    Return a file as a dict with ``contents`` (bytes), ``uid``, ``gid``, ``mode`` (text); ``None`` if there is no file.

    Raises CommandExecutionError if it is not a regular file, or larger than 1 MiB, and the system's OSError if it
    cannot be read.

    directory
        The descriptor of its directory.

    name
        Its name there.

    path
        Its path, for errors.

    For ``qmail_file`` and ``qmail_file_change``.
    """
    file = _open(directory, name, path)
    if file is None:
        return None
    with file:
        return _about(file, path)


def put(directory, name, new, old, path):
    """
    Replace what was read before by a new file, and return whether that was done.

    If somebody has changed the file since, in whatever way, nothing is done. That is checked last, just before the
    rename, between two system calls. Whoever saves a file under its name in that instant loses to us, because no
    portable call renames under a condition. Whoever writes *into* the old file in that instant does not: it is held
    open, and what it holds at the end is kept (``qmail_file_kept.keep``).

    Raises CommandExecutionError as ``read`` does, and the system's OSError.

    directory, name, path
        As for ``read``.

    new
        What the file is to be, as ``read`` returns it; ``None`` removes it.

    old
        What ``read`` returned.

    For ``qmail_file_change``.
    """
    with contextlib.ExitStack() as stack:
        held = _open(directory, name, path)
        if held:
            stack.enter_context(held)
        temporary = stack.enter_context(_written(directory, name, new)) if new else None
        if not _is_still(directory, name, held, old, path):
            return False
        if temporary:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        elif held:
            os.unlink(name, dir_fd=directory)
        late = held and _about(held, path)
        if late != old and not __salt__["qmail_file_ledger.ours"](path, late["contents"]):
            __salt__["qmail_file_kept.keep"](path, late)
    os.fsync(directory)
    return True


def sweep(directory, name):
    """
    Remove what a killed run has left half written of a file. The caller holds the file's lock: no other run writes it.

    directory, name
        As for ``read``.

    For ``qmail_file_change``.
    """
    begin = _temporary(name)
    with contextlib.suppress(OSError):
        for found in os.listdir(directory):
            if found.startswith(begin) and len(found) == len(begin) + 2 * TOKEN:
                with contextlib.suppress(OSError):
                    os.unlink(found, dir_fd=directory)


def _temporary(name):
    """
    Return how the names of a file begin while it is being written, in the same directory.

    qmail-local never reads such a name for an address: those all begin with .qmail.
    """
    return f".new-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"


def _open(directory, name, path):
    try:
        # Examined before it is opened: opening a device may have effects.
        _refuse(os.stat(name, dir_fd=directory, follow_symlinks=False), path)
        # O_NONBLOCK: the owner of the directory may put a FIFO there at any moment.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        _refuse(os.fstat(handle), path)
        # Unbuffered: what is read twice must come from the file both times.
        return open(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def _refuse(found, path):
    if not stat.S_ISREG(found.st_mode):
        raise CommandExecutionError(f"{path} is {_kind(found.st_mode)}, not a file. Move it out of the way first.")


def _about(file, path):
    contents = b""
    while len(contents) <= LARGEST:
        piece = os.pread(file.fileno(), LARGEST + 1 - len(contents), len(contents))
        if not piece:
            break
        contents += piece
    if len(contents) > LARGEST:
        raise CommandExecutionError(f"{path} is larger than {LARGEST} bytes, and no such file of qmail's is.")
    found = os.fstat(file.fileno())
    return {
        "contents": contents,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
    }


def _is_still(directory, name, held, old, path):
    """Return whether a name still belongs to the file that we hold open, and that file is as it was read."""
    if (held and _about(held, path)) != old:
        return False
    try:
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return held is None
    return held is not None and os.path.samestat(now, os.fstat(held.fileno()))


@contextlib.contextmanager
def _written(directory, name, new):
    """Yield the name of a new file with these contents, owner and mode; unless renamed, it is removed afterwards."""
    temporary = f"{_temporary(name)}{secrets.token_hex(TOKEN)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with open(handle, "wb") as file:
            file.write(new["contents"])
            file.flush()
            found = os.fstat(handle)
            if (found.st_uid, found.st_gid) != (new["uid"], new["gid"]):
                os.fchown(handle, new["uid"], new["gid"])
            os.fchmod(handle, int(new["mode"], 8))
            os.fsync(handle)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)


def _kind(mode):
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")
