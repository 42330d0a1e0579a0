"""
A restart of qmail-send, step by step: it is told to end, finishes its deliveries, and another one must stay up.

Its supervisor is used as little as possible: only qmail-send itself gets a signal, so that no delivery is cut.
"""

import contextlib
import fcntl
import math
import os
import signal
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

SCRIPTS = ("sysv", "qmailctl")
ENDS_WITHIN = 60  # seconds: a script that stops what has ended already is soon done, and is not cut
RETURNS_WITHIN = 3  # seconds: supervisors start a service again after one
PAUSE = 0.02  # seconds between two looks
AGAIN = 0.5  # seconds until a start is requested again
QUICK = 0.001  # seconds; systemd takes longer to start qmail-send again
NOTED = 3  # seconds that a supervisor gets to record the end of qmail-send


def restart(home, control, queue, provider, name, timeout, settle):
    """
    Restart qmail-send, or start it if it does not run, and return its process ids.

    home, control, queue, provider, name, timeout, settle
        As for ``qmail_service.restart``, which documents all of it.

    For ``qmail_service``.
    """
    service = _service(home, control, queue, provider, name, timeout, settle)
    seen = _pid(service)
    with _turn(service):
        old = _pid(service)
        if old not in (None, seen) and __salt__["qmail_service_loaded.current"](old, home, control, queue):
            return {"old": seen, "new": old}
        if old:
            __salt__["qmail_service_startup.check"](home, control, queue)
        return _renewed(service, old, lambda new: False)


def start(home, control, queue, provider, name, timeout, settle):
    """
    Start qmail-send if it does not run, and return its process ids.

    home, control, queue, provider, name, timeout, settle
        As for ``qmail_service.start``, which documents all of it.

    For ``qmail_service``.
    """
    service = _service(home, control, queue, provider, name, timeout, settle)
    with _turn(service):
        old = _pid(service)
        if old and not service["found"]["down"] and not _told_to_end(service, old):
            return {}
        if old and service["found"]["down"] and service["found"]["alone"]:
            _tell(service, "start")  # from here on it comes back by itself, however long the old one takes to end
            service["found"]["returns"] = True
        return _renewed(service, old, lambda new: __salt__["qmail_service_loaded.current"](new, home, control, queue))


def stop(home, control, queue, provider, name, timeout, settle):
    """
    Stop qmail-send, and return its process ids.

    home, control, queue, provider, name, timeout, settle
        As for ``qmail_service.stop``, which documents all of it.

    For ``qmail_service``.
    """
    service = _service(home, control, queue, provider, name, timeout, settle)
    found = service["found"]
    with _turn(service):
        old = _pid(service)
        if old:
            __salt__["qmail_service_startup.going"](old)
            _remember(service, old, None)  # so that start waits for it, if we do not wait long enough
        if found["alone"]:
            _tell(service, "stop")
        if old or found["provider"] == "systemd":
            with _locked_out(service, old):
                if not found["alone"]:
                    _tell(service, "stop")  # nothing is left that this could cut, and nothing can begin
        _wait_for_silence(service)
        _wait_until_noted(service)
        _remember(service, None, None)
    return {"old": old, "new": None} if old else {}


def came_back(pid, home="/var/qmail", queue=None):
    """
    Forget that an earlier restart has told another qmail-send to end: this one runs, so if none does some day, that is
    somebody's will. If another run restarts qmail-send just now, or the record cannot be written, the next run does it.

    pid
        The process id of the qmail-send that runs.

    home, queue
        As for ``qmail_base_process.find``.

    For the state ``qmail_service``.
    """
    service = {"queue": {"home": home, "queue": queue}, "deadline": 0}
    if not _is_owed(service, pid):
        return
    with contextlib.suppress(CommandExecutionError), _turn(service):
        if _is_owed(service, pid):
            __salt__["qmail_service_loaded.remember"](None, None, **service["queue"])


def _is_owed(service, pid):
    """Return whether another process is recorded as told to end, and has not been followed by any."""
    record = __salt__["qmail_service_loaded.recall"](**service["queue"])
    return bool(record) and record["values"] is None and not _told_to_end(service, pid)


def _service(home, control, queue, provider, name, timeout, settle):
    """Return what the steps of a restart share. All arguments are checked here, before the first step."""
    asked = {"provider": provider, "name": name, "timeout": timeout, "settle": settle}
    __salt__["qmail_base_check.arguments"](home=home, control=control, queue=queue, **asked)
    found = __salt__["qmail_service_supervisor.find"](home, queue, provider, name)
    shown = __salt__["qmail_base_process.shown"]()
    if not shown and found["provider"] in ("sysv", "qmailctl"):
        raise CommandExecutionError(
            f"Cannot tell which qmail-send runs: this system has no /proc/locks, and {found['name']} does not show it. "
            "Restart qmail-send by hand, or run it under a supervisor."
        )
    service = {
        "queue": {"home": home, "queue": queue},
        "files": {"home": home, "control": control},
        "asked": {"provider": provider, "name": name},
        "found": found,
        "shown": shown,
        "deadline": time.monotonic() + timeout,
        "settle": settle,
    }
    if _pid(service):
        # When it has ended, nothing else shows what would start it.
        unit = found["name"] if found["provider"] == "systemd" else None
        __salt__["qmail_service_unit.remember"](unit, **service["queue"])
        tree = (found["provider"], found["name"]) if found["provider"] not in ("systemd", *SCRIPTS) else None
        __salt__["qmail_service_directory.remember"](tree, **service["queue"])
    return service


def _pid(service):
    if service["shown"]:
        return __salt__["qmail_base_process.find"](**service["queue"])
    return __salt__["qmail_service_supervisor.find"](**service["queue"], **service["asked"])["pid"]


@contextlib.contextmanager
def _turn(service):
    """Two runs at once take turns."""
    where = __salt__["qmail_service_loaded.directory"](**service["queue"], make=True)
    handle = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not _locked(handle):
            if time.monotonic() >= service["deadline"]:
                raise CommandExecutionError("Another run was restarting qmail-send the whole time. Run this again.")
            time.sleep(PAUSE)
        yield
    finally:
        os.close(handle)


def _locked(handle):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _renewed(service, old, is_enough):
    """
    Return the old and the new one. Where none was seen, the one that comes may have been there before, just starting or
    not shown by any look: then it is replaced, unless it ``is_enough``.
    """
    begun = time.clock_gettime(time.CLOCK_BOOTTIME)
    new = _renew(service, old)
    if old or _began_after(begun, new) or is_enough(new):
        return {"old": old, "new": new}
    return {"old": new, "new": _renew(service, new)}


def _renew(service, old):
    """Replace the old qmail-send, if there is one, by a new one, and return its process id."""
    begun, values = time.clock_gettime(time.CLOCK_BOOTTIME), __salt__["qmail_service_loaded.values"](**service["files"])
    time.sleep(__salt__["qmail_base_process.tick"]())  # the start of a process is rounded down to one
    returns = service["found"]["returns"]
    if old:
        __salt__["qmail_service_startup.going"](old)
        if not returns:
            _remember(service, old, None)  # we have to bring it back, in this run or in the next
        _end(old)
        then = f"{service['found']['provider']} starts it again by itself" if returns else "run this again"
        _wait_for_the_end(service, old, f"When it has ended, {then}.")
    new = _wait_for_another(service, RETURNS_WITHIN if old and returns else 0, old)
    # Only what the files held both before and after is certain to have been read in between, and only by a process that
    # was not there before: it reads them before it takes its lock, by which it is seen.
    sure = _began_after(begun, new) and __salt__["qmail_service_loaded.values"](**service["files"]) == values
    _remember(service, new if sure else None, values)
    return new


def _began_after(moment, pid):
    begun = __salt__["qmail_base_process.begun"](pid)
    return begun is None or begun >= moment  # without /proc nothing shows it, and nothing is recorded either


def _end(pid):
    """Signal qmail-send alone: its children are the deliveries in flight."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended by itself
    except PermissionError as err:
        raise CommandExecutionError(f"Cannot end qmail-send {pid}: {__salt__['qmail_base_refusal.told'](err)}") from err


def _remember(service, pid, values):
    process = pid and __salt__["qmail_base_process.identity"](pid)
    by = [service["asked"]["provider"], service["asked"]["name"]]
    __salt__["qmail_service_loaded.remember"](process, values, **service["queue"], by=by)


def _told_to_end(service, pid):
    record = __salt__["qmail_service_loaded.recall"](**service["queue"])
    ours = bool(record) and record["process"] == __salt__["qmail_base_process.identity"](pid)
    return ours and record["values"] is None


def _tell(service, verb):
    found = service["found"]
    return __salt__[f"qmail_service_supervisor.{verb}"](found["provider"], found["name"], _left(service, verb))


def _left(service, verb):
    """Return the seconds that a command to the supervisor gets."""
    return max(service["deadline"] - time.monotonic(), ENDS_WITHIN if verb == "stop" else RETURNS_WITHIN)


def _wait_for_the_end(service, old, then):
    """Wait until a qmail-send has ended; it releases its lock a little earlier, and scripts may check the process."""
    while _pid(service) == old or __salt__["qmail_base_process.ended"](old) is False:
        if time.monotonic() >= service["deadline"]:
            raise CommandExecutionError(_drains(service, old, then))
        time.sleep(PAUSE)


@contextlib.contextmanager
def _locked_out(service, old):
    """
    End qmail-send, and hold its lock from that moment on: one that is started meanwhile ends before it does anything.

    A supervisor may be faster, and start another one first: then that one has to end, too.
    """
    found = service["found"]
    told = old if found["alone"] and found["pid"] == old else None  # by its supervisor
    stays = found["alone"] or not found["returns"]
    then = "it stays down" if stays else f"{found['provider']} starts it again by itself"
    lock = __salt__["qmail_base_lock.opened"](**service["queue"])
    try:
        looked, pid = -math.inf, old
        while not __salt__["qmail_base_lock.take"](lock):
            if time.monotonic() - looked > PAUSE:
                looked, pid = time.monotonic(), _pid(service)
            if pid and pid != told:
                _end(pid)
                told = pid
            if time.monotonic() >= service["deadline"]:
                raise CommandExecutionError(_drains(service, pid or old, f"When it has ended, {then}."))
            time.sleep(QUICK)
        # The lock is released a little before the process ends, and scripts may check the process.
        while told and __salt__["qmail_base_process.ended"](told) is False and time.monotonic() < service["deadline"]:
            time.sleep(QUICK)
        yield
    finally:
        __salt__["qmail_base_lock.close"](lock)


def _wait_for_another(service, patience, old=None):
    """
    Wait for a qmail-send that stays up, and start it if nothing else does within this many seconds.

    A script may believe that the old one still runs, by a file below /var/lock/subsys for example, and start nothing:
    then it has to stop first what is not there.
    """
    begun = time.monotonic()
    # However late the old one ended, the new one gets the time that it needs.
    limit = max(service["deadline"], begun + RETURNS_WITHIN + service["settle"])
    candidate, seen, started = None, begun, False
    believes = bool(old) and service["found"]["provider"] in SCRIPTS
    while True:
        pid, now = _pid(service), time.monotonic()
        if pid != candidate:
            candidate, seen = pid, now
        if pid and now - seen >= service["settle"]:
            return pid
        if not pid and not started and now - begun >= patience:
            left = _left(service, "start")
            started = _tell(service, "start")
            begun, patience = time.monotonic(), AGAIN
            believes = believes and begun - now < left  # else it has not ended, and may start one yet
            if started:
                limit = max(limit, begun + RETURNS_WITHIN + service["settle"])
        if not pid and started and believes and now - begun >= RETURNS_WITHIN:
            believes = _tell(service, "stop")
            begun, started = time.monotonic(), False
            limit = max(limit, begun + RETURNS_WITHIN + service["settle"])
        if now >= limit + (service["settle"] if pid else 0):
            raise CommandExecutionError(_does_not_come_up(service))
        time.sleep(PAUSE)


def _wait_for_silence(service):
    """Wait until there has been no qmail-send for a while."""
    quiet = time.monotonic()
    while time.monotonic() - quiet < service["settle"]:
        pid = _pid(service)
        if pid:
            quiet = time.monotonic()
        if pid and quiet >= service["deadline"]:
            raise CommandExecutionError(f"qmail-send was told to stay down, but was started again, and {pid} runs.")
        time.sleep(PAUSE)


def _wait_until_noted(service):
    """Wait until qmail-send's supervisor has recorded its end: what it records after that is somebody's command."""
    found, deadline = service["found"], time.monotonic() + NOTED
    while time.monotonic() < deadline:
        told = __salt__["qmail_service_supervisor.told"](found["provider"], found["name"])
        if told is None or told["ended"]:
            return
        time.sleep(PAUSE)


def _drains(service, pid, then):
    count = f" ({__salt__['qmail_base_process.in_flight'](pid)})" if service["shown"] else ""
    return (
        f"qmail-send {pid} still runs: it waits for its deliveries in flight{count} and starts nothing new. Leave it. "
        f"{then} qmail_doublebounce:service:timeout is how long to wait."
    )


def _does_not_come_up(service):
    obstacles = __salt__["qmail_service_startup.obstacles"](**service["files"], queue=service["queue"]["queue"])
    if obstacles:
        return f"qmail-send does not stay up after its start: no mail is delivered. {obstacles}"
    told = __salt__["qmail_service_startup.last_words"](**service["queue"], **service["asked"])
    said = f"Its log ends: {' / '.join(told)}" if told else "Its log says why"
    return f"qmail-send does not stay up after its start: no mail is delivered. {said}. Fix that, and run this again."
