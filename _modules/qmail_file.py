"""
Replace one small file safely, keep what it replaced, and put it back.

A reader of the file sees the old one or the new one, whole. What somebody else had written there is kept: see
``qmail_kept``. Directories are walked by descriptor, and a symbolic link is followed only where nobody but root (or
the user Salt runs as) could have made it.
"""

import contextlib
import errno
import os
import secrets
import stat

from salt.exceptions import CommandExecutionError, SaltInvocationError

LARGEST = 1 << 20  # bytes; control files and dot-qmail files are far smaller
LINKS = 40  # as many symbolic links as Linux follows in one path
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def read(path):
    """
    Return what is in a file, and whose it is; ``None`` where there is no such file.

    Returns a dict: ``contents`` (bytes), ``uid``, ``gid`` and ``mode`` (text such as ``0644``).

    Raises CommandExecutionError where the path is no regular file, cannot be read, is larger than 1 MiB, or leads
    through a symbolic link that somebody other than root could have made.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.read /var/qmail/control/doublebounceto
    """
    with _explained("read", path), _directory(path) as (directory, name):
        return None if directory is None else _read(directory, name, path)


def replace(path, contents, uid=None, gid=None, mode="0644", note=None, test=False):
    """
    Make a file hold exactly these contents, with this owner and mode, and return what that changed.

    Returns ``{}`` where nothing had to change, else a dict with ``contents``, ``uid``, ``gid``, ``mode`` (those that
    changed; of a new file only the contents), each ``{"old": …, "new": …}``. What somebody else had written there is
    kept first: see ``kept``.

    Raises CommandExecutionError where the directory is missing or cannot be written to, or the path is anything but
    a regular file. The file is then as it was.

    path
        Absolute path of the file. Its directory must exist.

    contents
        Bytes or text (stored as UTF-8).

    uid, gid
        Owner and group, as numbers. ``None`` keeps those of the file; a new file gets those of the user Salt runs as.

    mode
        Permission bits as octal text. ``None`` keeps those of the file; a new file gets ``0644``.

    note
        A line to remember with it, for example the address that the file is for; ``qmail_kept.files`` tells it.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.replace /var/qmail/control/doublebounceto "$(printf 'dummy\\n')" test=True
    """
    contents = contents.encode() if isinstance(contents, str) else contents
    with _explained("write", path), _directory(path) as (directory, name):
        if directory is None:
            raise CommandExecutionError(f"Cannot write {path}: its directory is missing. Make it first.")
        old = _read(directory, name, path)
        new = {
            "contents": contents,
            "uid": _first(uid, old and old["uid"], os.geteuid()),
            "gid": _first(gid, old and old["gid"], os.getegid()),
            "mode": _octal(_first(mode, old and old["mode"], "0644")),
        }
        changes = _difference(old, new)
        if test or not changes:
            return changes
        # Both before the file itself: a crash in between must neither lose theirs nor make ours look like theirs.
        __salt__["qmail_kept.keep"](path, old)
        __salt__["qmail_kept.claim"](path, contents, note)
        _put(directory, name, new)
    return changes


def restore(path, version=None, test=False):
    """
    Put the newest kept version of a file back, or remove the file if there was none, and return what that changed.

    Only what this module wrote is undone: where the file is no longer as ``replace`` left it, somebody else has
    changed it since, and it is left alone. A version asked for by name is put back whatever is there now, which is
    then kept itself.

    Returns the same kind of dict as ``replace``; ``{}`` where there was nothing to undo.

    Raises SaltInvocationError for a version that is not kept, CommandExecutionError where it cannot be put back.

    path
        Absolute path of the file.

    version
        One of the versions that ``kept`` lists; ``None`` for the newest.

    test
        Only return what would change.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.restore /var/qmail/control/doublebounceto test=True
    """
    with _explained("restore", path), _directory(path) as (directory, name):
        old = None if directory is None else _read(directory, name, path)
        if version is None and not (old and __salt__["qmail_kept.ours"](path, old["contents"])):
            return {}
        new = __salt__["qmail_kept.version"](path, version)
        changes = _difference(old, new)
        if test or not changes:
            return changes
        if directory is None:
            raise CommandExecutionError(f"Cannot restore {path}: its directory is missing. Make it first.")
        __salt__["qmail_kept.keep"](path, old)
        _put(directory, name, new)
        __salt__["qmail_kept.end"](path)
    return changes


def kept(path):
    """
    List the kept versions of a file, newest first, as ``qmail_kept.versions`` does.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.kept /var/qmail/control/doublebounceto
    """
    return __salt__["qmail_kept.versions"](path)


def changed(path):
    """
    Return when a file was last changed: seconds since the epoch, or ``None`` where that cannot be told.

    It is the time of the newest change of contents, name, owner or mode (the inode's ctime), which a file put in
    place with its old times (``cp -p``, ``mv``) has too. A file that ``restore`` removed tells when that was.

    path
        Absolute path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.changed /var/qmail/control/doublebounceto
    """
    with _explained("look at", path):
        try:
            return os.stat(path).st_ctime
        except (FileNotFoundError, NotADirectoryError):
            return __salt__["qmail_kept.ended"](path)


def directory(path, wanted=None):
    """
    Open a directory that somebody else may be changing at this moment, and return its descriptor.

    For the other modules of this formula; the caller closes it. The path is walked by descriptor, one name after the
    other, so to put something else into its place gains nothing.

    Raises CommandExecutionError where the path leads through a link that others could have made, and what the system
    says (OSError) where there is no such directory, or it cannot be opened.

    path
        Absolute path of the directory.

    wanted
        What the error names, where that is more than the directory: the path of a file in it.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_file.directory /var/qmail/control
    """
    todo = [part for part in path.split("/") if part]
    links = 0
    here = os.open("/", DIRECTORY)
    try:
        while todo:
            part = todo.pop(0)
            try:
                below = os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            except OSError as err:
                if err.errno not in (errno.ELOOP, errno.ENOTDIR) or not _is_link(here, part):
                    raise
                links += 1
                target = _target(here, part, wanted or path, links)
                todo[:0] = [piece for piece in target.split("/") if piece and piece != "."]
                below = os.open("/" if target.startswith("/") else ".", DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


@contextlib.contextmanager
def _explained(verb, path):
    """Turn what the system refuses into an error that a person can act on."""
    try:
        yield
    except PermissionError as err:
        raise CommandExecutionError(f"Cannot {verb} {path}: {err.strerror}. Run Salt as root.") from err
    except OSError as err:
        raise CommandExecutionError(f"Cannot {verb} {path}: {err.strerror or err}.") from err


@contextlib.contextmanager
def _directory(path):
    """Yield the descriptor of a file's directory (``None`` where it is missing) and the file's name in it."""
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path or os.path.normpath(path) != path:
        raise SaltInvocationError(f"{path!r} is no absolute path without '.', '..' and doubled slashes.")
    parent, name = os.path.split(path)
    try:
        descriptor = directory(parent, path)
    except FileNotFoundError:
        yield None, name
        return
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def _is_link(parent, name):
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _target(parent, name, path, links):
    """Return where a link points, if only root or this very user could have made it."""
    found = os.fstat(parent)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise CommandExecutionError(
            f"{path} leads through the symbolic link {name}, in a directory that others can write to. "
            "Links are not followed there: replace it by a directory, or name the real path."
        )
    if links > LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.readlink(name, dir_fd=parent)


def _read(directory, name, path):
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise CommandExecutionError(f"{path} is {_kind(found.st_mode)}, not a file. Move it out of the way first.")
        # O_NONBLOCK: the owner of the directory may put a FIFO there at this moment.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise CommandExecutionError(f"{path} is {_kind(found.st_mode)}, not a file. Move it out of the way first.")
        contents = file.read(LARGEST + 1)
    if len(contents) > LARGEST:
        raise CommandExecutionError(f"{path} is larger than {LARGEST} bytes, which no such file of qmail's is.")
    return {
        "contents": contents,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mode": _octal(stat.S_IMODE(found.st_mode)),
    }


def _put(directory, name, new):
    """Write a file under another name, then give it its own; ``None`` removes the file."""
    if new is None:
        os.unlink(name, dir_fd=directory)
        os.fsync(directory)
        return
    # qmail-local takes no such name for an address: they all begin with .qmail.
    temporary = f".new-{secrets.token_hex(8)}"
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
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _difference(old, new):
    if old is None or new is None:
        pair = {"old": old and old["contents"], "new": new and new["contents"]}
        return {} if old is new else {"contents": pair}
    fields = ("contents", "uid", "gid", "mode")
    return {field: {"old": old[field], "new": new[field]} for field in fields if old[field] != new[field]}


def _octal(mode):
    if isinstance(mode, str) and mode.strip("01234567"):
        raise SaltInvocationError(f"mode {mode!r} is no octal number such as 0644.")
    return f"{int(mode, 8) if isinstance(mode, str) else mode:04o}"


def _first(*values):
    return next(value for value in values if value is not None)


def _kind(mode):
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")
