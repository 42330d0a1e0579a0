"""
Service directories: what daemontools, runit and s6 run, each through its own tools.

The three work alike. A program of theirs (``supervise``, ``runsv``, ``s6-supervise``) works in the directory, starts
``./run`` there, and starts it again whenever it has ended. A file ``down`` in the directory prevents the first start.
"""

import fcntl
import glob
import os
import re
import stat
import sys
import termios
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# kind: (what runs the service, what shows its state, what starts it, what takes it down)
KINDS = {
    "daemontools": ("supervise", ["svstat"], ["svc", "-u"], ["svc", "-d"]),
    "runit": ("runsv", ["sv", "status"], ["sv", "up"], ["sv", "down"]),
    "s6": ("s6-supervise", ["s6-svstat"], ["s6-svc", "-u"], ["s6-svc", "-d"]),
}
PLACES = ("/service", "/etc/service", "/run/service", "/var/service")
NAMES = ("qmail-send", "qmail-send.*", "send")  # the usual one; indimail's; QmailToaster's
LOGS = ("log/main", "log")  # beside what log/run names
TREE = "tree"  # the file that holds the kind and the directory of the last qmail-send
CURRENT = "current"  # in the directory of a log
TAIL = 8192  # bytes
DEAF = 3  # seconds
PAUSE = 0.01  # seconds between two looks

_STATE = re.compile(r"(?:up|run:) \(pid ([0-9]+)|down[ :]|finish:")


def runs(pid):
    """
    Return the service directory that a process is run from: a dict with ``kind`` and ``directory``, or ``None``.

    pid
        The process id; what supervises it may be its parent or further up.

    For ``qmail_service_supervisor``.
    """
    kinds = {program: kind for kind, (program, *_) in KINDS.items()}
    for distance, process in enumerate(__salt__["qmail_base_process.above"](pid)):
        if process["name"] in kinds and process["directory"]:
            # A supervisor further up may also be that of sshd or Salt, with qmail-send started by hand below it.
            near = distance == 1 or "qmail" in _script(process["directory"], "run")
            return {"kind": kinds[process["name"]], "directory": process["directory"]} if near else None
    return None


def directories(home="/var/qmail"):
    """
    List qmail-send's service directories in the usual places, each as a dict like that of ``runs``.

    home
        The qmail home directory.

    For ``qmail_service_supervisor``.
    """
    found = []
    for pattern in patterns(home):
        for path in sorted(glob.glob(pattern)):
            real = os.path.realpath(path)  # /service is often a link, and so is what is in it
            if kind(real) and not any(os.path.realpath(entry["directory"]) == real for entry in found):
                found.append({"kind": kind(real), "directory": path})
    return found


def patterns(home="/var/qmail"):
    """
    List where ``directories`` looks, as shell patterns.

    home
        The qmail home directory.

    For ``qmail_service_supervisor``.
    """
    places = (*PLACES, os.path.join(glob.escape(home), "supervise"))
    return [os.path.join(place, name) for place in places for name in NAMES]


def named(name):
    """
    List the paths that a service directory of this name has in the usual places.

    name
        The name, for example ``qmail-send``.

    For ``qmail_service_supervisor``.
    """
    return [os.path.join(place, name) for place in PLACES]


def kind(directory):
    """
    Return, from its files, what supervises a directory, or last did: ``daemontools``, ``runit``, ``s6``, or ``None``.

    directory
        The service directory.

    For ``qmail_service_supervisor``.
    """
    if not os.path.exists(os.path.join(directory, "supervise/status")):
        return None
    if os.path.exists(os.path.join(directory, "supervise/stat")):
        return "runit"
    return "s6" if os.path.isdir(os.path.join(directory, "event")) else "daemontools"


def recall(home="/var/qmail", queue=None):
    """
    Return the service directory that last ran the qmail-send of a queue, a dict with ``kind`` and ``directory``;
    ``None`` if none was recorded.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service_supervisor``.
    """
    path = os.path.join(__salt__["qmail_service_loaded.directory"](home, queue), TREE)
    try:
        with open(path, encoding="utf-8") as file:
            found, _, directory = file.read().rstrip("\n").partition(" ")
    except (OSError, ValueError):
        return None
    return {"kind": found, "directory": directory} if found in KINDS and directory.startswith("/") else None


def remember(tree, home="/var/qmail", queue=None):
    """
    Record the service directory of a qmail-send: of an unusual name or place, nothing else would show it once the
    process has ended.

    Raises CommandExecutionError if that cannot be written.

    tree
        Its kind and its path; ``None`` if something else runs it.

    home, queue
        As for ``qmail_base_process.find``.

    For ``qmail_service_change``.
    """
    known = recall(home, queue)
    if tree != (known and (known["kind"], known["directory"])):
        __salt__["qmail_service_loaded.note"](TREE, tree and " ".join(tree) + "\n", home, queue)


def status(kind, directory):
    """
    Return the state of a service directory: a dict with

    - ``pid``: that of what ``./run`` became; ``None`` if it is down;
    - ``returns``: whether it is started again by itself when it has ended;
    - ``alone``: ``True``, taking it down ends only that process;
    - ``down``: why it is down, or being taken down, on purpose; ``None`` if it is not;
    - ``file``: the path of ``run``.

    Raises CommandExecutionError if nothing supervises the directory, or its tool is missing.

    kind
        ``daemontools``, ``runit`` or ``s6``.

    directory
        The service directory.

    For ``qmail_service_supervisor``.
    """
    words, state = _asked(kind, directory)
    pid = int(state[1]) if state[1] else None
    if pid and __salt__["qmail_base_process.ended"](pid):
        pid = None  # supervise looks only once a second
    down = None
    if pid and "want down" in words:
        down = f"{kind} was told to take {directory} down"
    elif not pid and os.path.exists(os.path.join(directory, "down")):
        down = f"there is a file {os.path.join(directory, 'down')}"
    returns = down is None and not (kind == "daemontools" and _is_run_once(directory))
    return {"pid": pid, "returns": returns, "alone": True, "down": down, "file": os.path.join(directory, "run")}


def told(kind, directory):
    """
    Return the last command to a service: see ``qmail_service_supervisor.told``.

    Its supervisor rewrites ``supervise/status`` after every command, and whenever the service starts or ends.

    Raises CommandExecutionError if nothing supervises the directory.

    kind, directory
        As for ``status``.

    For ``qmail_service_supervisor``.
    """
    words, state = _asked(kind, directory)
    try:
        found = os.stat(os.path.join(directory, "supervise/status"))
    except OSError as err:
        raise CommandExecutionError(f"Cannot look at {err.filename}: {err.strerror}.") from err
    has_process = state[1] is not None
    is_up = has_process and "want down" not in words
    when = f"{found.st_ino} {found.st_mtime_ns}"
    return {"when": when, "up": is_up or "want up" in words, "ended": not has_process}


def up(kind, directory, timeout=10):
    """
    Have a service started, and started again whenever it ends; a running one goes on.

    Raises CommandExecutionError if its tool fails or is missing.

    kind, directory
        As for ``status``.

    timeout
        Seconds to wait for the tool; it does not wait for the service.

    For ``qmail_service_supervisor``.
    """
    _tell(kind, KINDS[kind][2], directory, timeout)


def down(kind, directory, timeout=10):
    """
    Have a service ended (TERM), and not started again until a command says so, or until the next boot.

    Raises CommandExecutionError if its tool fails or is missing.

    kind, directory, timeout
        As for ``up``.

    For ``qmail_service_supervisor``.
    """
    _tell(kind, KINDS[kind][3], directory, timeout)


def log(kind, directory, lines=3):
    """
    Return the last lines that a service wrote, if its log is the usual one: a directory with a file ``current`` that
    ``log/run`` names, or ``log/main``, or ``log``. Empty if there is none.

    kind, directory
        As for ``status``. The three write such logs alike.

    lines
        How many.

    For ``qmail_service_supervisor``.
    """
    for place in (*_named(directory), *LOGS):
        found = tail(os.path.join(directory, place, CURRENT), TAIL)
        if found is not None:
            return found[-lines:]
    return []


def tail(path, size):
    """
    Return the last lines of a log file; ``None`` if there is no regular file that can be read.

    A link named ``current`` is not followed: that name is multilog's, and its directory belongs to the user that writes
    the log. Root would read any file for that one, or wait at a FIFO.

    path
        The file.

    size
        How many bytes to read.

    For ``qmail_service_startup``.
    """
    links = os.O_NOFOLLOW if os.path.basename(path) == CURRENT else 0
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | links), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                return None
            file.seek(max(0, about.st_size - size))
            return file.read(size).decode(errors="backslashreplace").splitlines()
    except OSError:
        return None


def _asked(kind, directory):
    """Return what the tool of a supervisor says about a service, and the match that has its process id."""
    program, tell, *_ = KINDS[kind]
    said = __salt__["qmail_service_tool.run"]([*tell, directory])["output"]
    words = said.replace(f"{directory}: ", "", 1).partition("; ")[0]  # what follows is about the log
    state = _STATE.match(words)
    if not state:
        raise CommandExecutionError(f"no {program} works there ({said})")
    return words, state


def _is_run_once(directory):
    """
    Return whether supervise was told to run a service once (svc -o), which svstat does not say.

    Byte 17 of its status is u where it keeps the service up, d where it keeps it down, and 0 where it does neither
    (supervise.c, ``announce``).
    """
    try:
        with open(os.path.join(directory, "supervise/status"), "rb") as file:
            return file.read(18)[17:] == b"\0"
    except OSError:
        return False


def _tell(kind, command, directory, timeout):
    status(kind, directory)  # svc itself exits with 0 even if nothing listens
    __salt__["qmail_service_tool.must"]([*command, directory], timeout)
    _wait_until_heard(directory)


def _wait_until_heard(directory):
    """
    Wait until a command has been read.

    supervise sleeps for a second after each start. A command waits in a FIFO meanwhile, and could end a qmail-send that
    was started in between.
    """
    try:
        control = os.open(os.path.join(directory, "supervise/control"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        deadline = time.monotonic() + DEAF
        while _waiting(control) and time.monotonic() < deadline:
            time.sleep(PAUSE)
    finally:
        os.close(control)


def _waiting(fifo):
    """Return how many bytes wait in a FIFO; nothing is read."""
    return int.from_bytes(fcntl.ioctl(fifo, termios.FIONREAD, bytes(4)), sys.byteorder)


def _named(directory):
    """Return the paths that log/run names, as in: exec multilog t /var/log/qmail."""
    paths = (word.strip("\"';") for word in _script(directory, "log/run").split() if "/" in word)
    # What log/run does, it does in the directory log.
    return [os.path.join("log", path) for path in paths if "\0" not in path]


def _script(directory, name):
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="backslashreplace") as file:
            return file.read(TAIL)
    except OSError:
        return ""
