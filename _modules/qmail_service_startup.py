"""
Whether qmail-send could start: it reads its control files as a user of its own, and dies if it may not.

A running one has read them already; only its next start shows what has happened to them since. A missing file is fine
(qmail-control(5)), but anything else that prevents reading one is fatal (qmail-send.c, ``getcontrols``).
"""

import contextlib
import os
import re
import shlex

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# What every qmail-send reads; a fork's binary names what else it reads.
READ = (
    "me",
    "queuelifetime",
    "concurrencylocal",
    "concurrencyremote",
    "envnoathost",
    "bouncefrom",
    "bouncehost",
    "doublebouncehost",
    "doublebounceto",
    "locals",
    "percenthack",
    "virtualdomains",
)
NAMED = re.compile(rb"\0control/([a-z0-9_-]{1,40})\0")  # as the compiler puts it into the program
# The head of a line: multilog's stamp, or syslog's with the name and process that follow it.
STAMP = re.compile(r"^(?:@[0-9a-f]{24} |.*?(?=(?:alert|status|warning): ))")
LONGEST = 200  # characters of a log line that are shown
TAIL = 65536  # bytes
IDS = re.compile(r"^(?:Uid|Gid):\t\d+\t(\d+)|^Groups:\t?([ \d]*)$", re.MULTILINE)
USER = "qmails"


def unreadable(home="/var/qmail", control=None, queue=None):
    """
    List what prevents qmail-send from reading its control files when it starts the next time.

    home, control, queue
        As for ``qmail_service.unreadable``, which documents all of it.

    For ``qmail_service``.
    """
    user = _user(home, queue or os.path.join(home, "queue"))
    if user is None:
        return None
    directory = os.path.dirname(__salt__["qmail_control.path"]("me", home, control))
    closed = _closed(directory, user)
    if closed:
        return [closed]
    paths = {name: __salt__["qmail_control.path"](name, home, control) for name in (*READ, *_named(home))}
    found = list(filter(None, (_trouble(path, user) for path in paths.values())))
    if not found and not os.path.exists(paths["me"]) and not os.path.exists(paths["locals"]):
        trouble = (
            f"There is neither {paths['me']} nor {paths['locals']}: without one of them qmail-send does not start."
        )
        found = [{"path": paths["me"], "trouble": trouble, "remedy": f"hostname -f > {shlex.quote(paths['me'])}"}]
    return found


def last_words(home="/var/qmail", queue=None, provider="auto", name="auto", log="auto"):
    """
    Return the last lines of qmail-send's log: a list of up to three lines, none twice; empty if they are not known.

    home, queue, provider, name, log
        As for ``qmail_service.last_words``, which documents all of it.

    For ``qmail_service`` and ``qmail_service_change``.
    """
    said = []
    with contextlib.suppress(CommandExecutionError):
        found = __salt__["qmail_service_supervisor.find"](home, queue, provider, name)
        said = __salt__["qmail_service_supervisor.log"](found["provider"], found["name"])
    if not said and log.startswith("/"):
        said = [line for line in _tail(log) if "status: " in line or "alert: " in line]
    # A qmail-send that is started every second writes the same every second.
    return list(dict.fromkeys(STAMP.sub("", line)[-LONGEST:] for line in said[-3:]))


def check(home="/var/qmail", control=None, queue=None):
    """
    Refuse to end a qmail-send that could not start again: it runs, and mail is delivered.

    Raises CommandExecutionError that names each file that it could not read, and the remedy; and what ``going`` raises.

    home, control, queue
        As for ``unreadable``.

    For ``qmail_service``, ``qmail_service_change`` and the state ``qmail_service``.
    """
    told = obstacles(home, control, queue)
    if told:
        raise CommandExecutionError(f"qmail-send is left running, since it could not start again. {told}")
    if __salt__["qmail_base_process.shown"]():
        going(__salt__["qmail_base_process.find"](home, queue))


def going(pid):
    """
    Refuse to wait for the end of a qmail-send that is paused: it does not even see that it was told to end.

    Raises CommandExecutionError with the remedy.

    pid
        Its process id; ``None`` if none runs.

    For ``qmail_service_change``.
    """
    if pid and __salt__["qmail_base_process.paused"](pid):
        raise CommandExecutionError(
            f"qmail-send {pid} is paused: a signal has stopped it, as svc -p does, and it would not end. Continue it "
            f"by kill -CONT {pid}, or by svc -c, and run this again."
        )


def obstacles(home="/var/qmail", control=None, queue=None):
    """
    Return what ``unreadable`` lists as sentences, each with its remedy; an empty text if there is nothing.

    Raises what ``unreadable`` raises.

    home, control, queue
        As for ``unreadable``.

    For ``qmail_service_change``.
    """
    found = unreadable(home, control, queue) or ()
    return " ".join(f"{one['trouble']} Fix it: {one['remedy']}" for one in found)


def _user(home, queue):
    """Return the user id and the groups that qmail-send runs with."""
    return _of_the_running(home, queue) or _of_the_queue(queue) or _of_passwd()


def _of_the_running(home, queue):
    try:
        pid = __salt__["qmail_base_process.find"](home, queue)
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            found = IDS.findall(file.read())
    except (CommandExecutionError, OSError):
        return None
    if len(found) != 3:
        return None
    (uid, _), (gid, _), (_, groups) = found
    return int(uid), [int(gid), *map(int, groups.split())]


def _of_the_queue(queue):
    try:
        found = os.stat(os.path.join(queue, "info"))
    except OSError:
        return None
    return (found.st_uid, [found.st_gid]) if found.st_uid else None


def _of_passwd():
    try:
        found = __salt__["qmail_base_access.identity"](USER)
    except SaltInvocationError:
        return None
    return found["uid"], [found["gid"]]


def _named(home):
    """List the control files that this qmail-send's binary names."""
    try:
        with open(os.path.join(home, "bin/qmail-send"), "rb") as file:
            return [name.decode() for name in NAMED.findall(file.read().replace(b"\0", b"\0\0"))]
    except OSError:
        return []


def _closed(directory, user):
    """Return the problem with the first directory on the way that the user cannot enter."""
    parts = os.path.realpath(directory).split("/")
    for number in range(1, len(parts)):
        path = "/".join(parts[: number + 1])
        found = _look(path, user, "search")
        if found["error"] == "EACCES":
            return {
                "path": path,
                "trouble": f"qmail-send cannot read its control files: {_what(found)}.",
                "remedy": f"chmod a+x {shlex.quote(path)}",
            }
    return None


def _trouble(path, user):
    found = _look(path, user, "read")
    if found["error"] == "ENOENT" or (not found["error"] and found["kind"] != "directory"):
        return None
    quoted = shlex.quote(path)
    if found["error"] == "EACCES":
        return {"path": path, "trouble": f"{_cannot(path)}: {_what(found)}.", "remedy": f"chmod 644 {quoted}"}
    what = _what(found) if found["error"] else f"{path} is a directory"
    return {
        "path": path,
        "trouble": f"{_cannot(path)}: {what}.",
        "remedy": f"mv {quoted} {shlex.quote(path + '.away')}",
    }


def _cannot(path):
    return f"qmail-send cannot read {path}"


def _what(found):
    return found["trouble"].partition(";")[0]


def _look(path, user, want):
    """Return what the user finds at a path, with the group that gets furthest."""
    uid, gids = user
    found = [__salt__["qmail_base_access.lookup"](path, uid, gid, want=want) for gid in dict.fromkeys(gids)]
    return next((one for one in found if not one["error"]), found[0])


def _tail(log):
    """Return the last lines of a log file, or of the newest file in a multilog directory."""
    path = os.path.join(log, "current") if os.path.isdir(log) else log
    return __salt__["qmail_service_directory.tail"](path, TAIL) or []
