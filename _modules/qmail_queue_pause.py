"""
Hold qmail-send still while something works on its queue, and bring it back whatever happens.

For the other modules of this formula. There are three nets below the work, one under the other: ``finally``, for
errors and interrupts; a guardian process, for signals that end this one at once; and a note on disk, for the end of
both, which the next run reads.
"""

import contextlib
import fcntl
import logging
import os
import select
import signal
import syslog
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# In seconds: how long the guardian goes on trying, and how long it watches whether a start has lasted. What was killed
# may have been about to stop qmail-send, and one delivery may take qmail's timeoutremote, 20 minutes.
TRYING = 3600
WATCHING = 2


def during(work, home="/var/qmail", queue=None, service=None):
    """
    Stop qmail-send, call ``work``, start qmail-send again, and return what ``work`` returned.

    Only what ran before is started again. qmail-send comes back when ``work`` fails or is interrupted, and when this
    process is killed. What somebody else asks for meanwhile is so afterwards: one that he started is started again, as
    it ended at once for want of the lock, and one that he told its service directory to take down stays down.

    Raises SaltInvocationError where an argument is none, CommandExecutionError where qmail-send cannot be stopped or
    started; then ``work`` was not called, or its result is lost.

    work
        A function of one argument, the lock, as ``qmail_base_lock.opened`` returns it; the work takes it.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    service
        More arguments for ``qmail_service.stop`` and ``qmail_service.start``, as a dict.

    For ``qmail_queue``.
    """
    if not callable(work):
        raise SaltInvocationError("qmail_queue_pause.during is for other modules: work must be a function.")
    where = {"home": home, "queue": queue}
    arguments = {**where, **(service or {})}
    __salt__["qmail_base_check.arguments"](**arguments)
    __salt__["qmail_base_process.settle"]()  # else the guardian would lose what it has in their places
    with _turn(where) as note:
        _recover(note, arguments, where)
        if not check(home, queue, service):
            return _while_down(work, note, arguments)
        return _work(work, note, arguments)


def check(home="/var/qmail", queue=None, service=None):
    """
    Return whether qmail-send runs, so that ``during`` would stop it.

    Raises CommandExecutionError where it runs, and could not start again, or nothing is found here that could start it.

    home, queue, service
        As for ``during``.

    For ``qmail_queue``.
    """
    if not __salt__["qmail_service.status"](home, queue=queue)["running"]:
        return False
    given = service or {}
    return __salt__["qmail_service.check"](
        home, queue=queue, provider=given.get("provider", "auto"), name=given.get("name", "auto")
    )


def recover(home="/var/qmail", queue=None, service=None):
    """
    Start qmail-send where an earlier ``during`` stopped it and came to a sudden end, its guardian too.

    Returns whether that was due. Raises CommandExecutionError where qmail-send cannot be started.

    home, queue, service
        As for ``during``.

    For ``qmail_queue``.
    """
    where = {"home": home, "queue": queue}
    if not os.path.exists(_path(where)):
        return False
    with _turn(where) as note:
        return _recover(note, {**where, **(service or {})}, where)


def _recover(note, arguments, where):
    if os.pread(note, 64, 0) != _boot():
        return False
    if __salt__["qmail_service.status"](**where)["running"]:
        _forget(note)
        return False
    log.warning("qmail-send of %s was left stopped by a run that was killed: it is started", where["home"])
    _start(note, arguments)
    return True


def _while_down(work, note, arguments):
    meanwhile = {}
    try:
        with _account(arguments, meanwhile) as lock:
            return work(lock)
    finally:
        if meanwhile.get("asked") == "up":
            log.warning("somebody started qmail-send of %s meanwhile: it is started again", arguments["home"])
            _start(note, arguments)


def _work(work, note, arguments):
    os.pwrite(note, _boot(), 0)
    guardian, line = _guardian(note, arguments)
    meanwhile = {}
    try:
        __salt__["qmail_service.stop"](**arguments)
        with _account(arguments, meanwhile) as lock:
            return work(lock)
    finally:
        try:
            if meanwhile.get("asked") == "down":
                log.warning("somebody told qmail-send of %s to stay down meanwhile: it does", arguments["home"])
                _forget(note)
            else:
                _start(note, arguments)
            with contextlib.suppress(BrokenPipeError):
                os.write(line, b".")
        finally:
            # Without the byte written, the guardian takes this for the end of the process, and starts qmail-send.
            os.close(line)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(guardian, 0)


@contextlib.contextmanager
def _account(arguments, meanwhile):
    """Yield the lock, and note under ``asked`` what somebody asked of qmail-send meanwhile: ``up`` or ``down``."""
    where = {key: arguments[key] for key in ("home", "queue")}
    before = _told(arguments)
    lock = __salt__["qmail_base_lock.opened"](**where)
    started = __salt__["qmail_base_lock.watch"](**where)
    try:
        yield lock
    finally:
        __salt__["qmail_base_lock.close"](lock)
        after = _told(arguments)
        if before and after and before["when"] != after["when"]:
            meanwhile["asked"] = "up" if after["up"] else "down"
        elif started():
            meanwhile["asked"] = "up"


def _told(arguments):
    asked = {key: arguments[key] for key in ("home", "queue", "provider", "name") if key in arguments}
    try:
        return __salt__["qmail_service.told"](**asked)
    except CommandExecutionError:
        return None


def _start(note, arguments):
    __salt__["qmail_service.start"](**arguments)
    _forget(note)


def _forget(note):
    with contextlib.suppress(OSError):  # the next run sees that qmail-send runs, or is not to
        os.ftruncate(note, 0)


def _guardian(note, arguments):
    """
    Fork a process that outlives this one, and starts qmail-send if this one ends without a word.

    Returns its process id and the descriptor to write the word to.
    """
    parent = os.getpid()
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError as err:
        os.close(reading)
        os.close(writing)
        _forget(note)
        raise CommandExecutionError(
            f"qmail-send is left running: there is no room for a process that watches over its stop ({err.strerror})."
        ) from err
    if child:
        os.close(reading)
        return child, writing
    try:
        os.close(writing)
        _stand_alone()
        if not _word(reading, parent):
            _wait_for_the_end_of(parent)
            _bring_back(note, arguments)
    finally:
        os._exit(0)


def _stand_alone():
    """Leave the session, the terminal, the signals and the log of the parent."""
    os.setsid()
    # Handlers, not SIG_IGN: what is ignored stays ignored in the programs that starting qmail-send runs.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    logging.disable()  # Salt's log may go through a thread of the parent's, which is not in this process


def _word(reading, parent):
    """Wait for the parent's word; ``b""`` is that it ended without one."""
    while not select.select([reading], [], [], 1)[0]:
        # Another child of the parent can hold a copy of the pipe's other end, and keep it open.
        if os.getppid() != parent:
            return b""
    return os.read(reading, 1)


def _wait_for_the_end_of(parent):
    """A process that is killed lets go of the pipe, and an instant later of the lock that qmail-send needs."""
    deadline = time.monotonic() + WATCHING
    while os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(0.01)


def _bring_back(note, arguments):
    """Start qmail-send, and again until it runs: the killed parent may have been in the middle of stopping it."""
    deadline, told = time.monotonic() + TRYING, None
    while time.monotonic() < deadline:
        try:
            with contextlib.suppress(OSError):  # a full disk
                os.pwrite(note, _boot(), 0)  # a start takes it back, and may not last
            _start(note, arguments)
            time.sleep(WATCHING)
            if __salt__["qmail_service.status"](arguments["home"], queue=arguments["queue"])["running"]:
                return
        except Exception as err:  # whatever it is: nobody else is left to try again
            if str(err) != told:
                told = str(err)
                syslog.syslog(syslog.LOG_MAIL | syslog.LOG_ERR, f"qmail-send does not start again yet: {told}")
            time.sleep(WATCHING)


@contextlib.contextmanager
def _turn(where):
    """
    Open the note, and lock it, so that two runs do not stop and start one qmail-send.

    The guardian has the lock, too: as long as it lives, nobody else takes its note for one that was left behind.
    """
    path = _path(where, make=True)
    try:
        note = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as err:
        told = __salt__["qmail_base_refusal.told"](err)
        raise CommandExecutionError(f"qmail-send is left as it is: cannot write {path}: {told}") from err
    try:
        _lock(note)
        yield note
    finally:
        os.close(note)


def _lock(note):
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        raise CommandExecutionError(
            "Another run works on this queue, or is bringing its qmail-send back. Run this again when that is done."
        ) from err


def _path(where, make=False):
    return os.path.join(__salt__["qmail_service.directory"](**where, make=make), "paused")


def _boot():
    """Return what names this boot of the machine: after the next one, qmail-send's own start has come."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64)
    except OSError:
        return b"unknown"
