"""
Keep qmail-send stopped while something works on its queue, and bring it back whatever happens.

For the other modules of this formula. Three safety nets bring it back: ``finally``, for errors and interrupts; a
guardian process, for signals that end this one at once; and a note on disk, which the next run reads, for the end of
both.
"""

import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import syslog
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

# In seconds: how long the guardian keeps trying, and how long it watches whether a start has lasted. The killed process
# may have been stopping qmail-send, and one delivery may take qmail's timeoutremote, 20 minutes.
TRYING = 3600
WATCHING = 2
RESERVE = 2**24  # bytes of memory that the guardian has to itself: it needs a fraction of that


def during(work, home="/var/qmail", queue=None, service=None):
    """
    Stop qmail-send, call ``work``, start qmail-send again, and return what ``work`` returned.

    qmail-send is started again only if it ran before. It comes back when ``work`` fails or is interrupted, and when
    this process is killed. What somebody else asks for meanwhile is done afterwards: a qmail-send that was started
    meanwhile ended at once, because it did not get the lock, and is started again; one whose service directory was told
    to take it down stays down.

    Raises SaltInvocationError for a wrong argument, CommandExecutionError if qmail-send cannot be stopped or started;
    then ``work`` was not called, or its result is lost.

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
    __salt__["qmail_base_process.settle"]()  # otherwise the guardian would lose what it has in their places
    with _turn(where) as note:
        _recover(note, arguments, where)
        if not check(home, queue, service):
            return _while_down(work, note, arguments)
        return _work(work, note, arguments)


def check(home="/var/qmail", queue=None, service=None):
    """
    Return whether qmail-send runs, so that ``during`` would stop it.

    Raises CommandExecutionError if it runs, but could not start again, or if nothing is found here that could start it.

    home, queue, service
        As for ``during``.

    For ``qmail_queue``.
    """
    if not __salt__["qmail_service.status"](home, queue=queue)["running"]:
        return False
    given = {key: value for key, value in (service or {}).items() if key in ("control", "provider", "name")}
    return __salt__["qmail_service.check"](home, queue=queue, **given)


def recover(home="/var/qmail", queue=None, service=None):
    """
    Start qmail-send if an earlier ``during`` stopped it and was killed, with its guardian.

    Returns whether that was due. Raises CommandExecutionError if qmail-send cannot be started.

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
    log.warning("a killed run left qmail-send of %s stopped: starting it", where["home"])
    _start(note, arguments)
    return True


def _while_down(work, note, arguments):
    meanwhile = {}
    try:
        with _account(arguments, meanwhile) as lock:
            return work(lock)
    finally:
        if meanwhile.get("asked") == "up":
            log.warning("somebody started qmail-send of %s meanwhile: starting it again", arguments["home"])
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
                log.warning("somebody took qmail-send of %s down meanwhile: it stays down", arguments["home"])
                _forget(note)
            else:
                _start(note, arguments)
            with contextlib.suppress(BrokenPipeError):
                os.write(line, b".")
        finally:
            # Unless the byte was written, the guardian takes this for the end of the process, and starts qmail-send.
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
        was_started = started()  # before our own end with it shows there, too
        __salt__["qmail_base_lock.close"](lock)
        after = _told(arguments)
        # A supervisor that had not recorded the end by then has done so since: that was nobody's command.
        is_known = before and after and before["ended"]
        if is_known and before["when"] != after["when"]:
            meanwhile["asked"] = "up" if after["up"] else "down"
        elif was_started:
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
    with contextlib.suppress(OSError):  # the next run sees that qmail-send runs, or is not to run
        os.ftruncate(note, 0)


def _guardian(note, arguments):
    """
    Fork a process that outlives this one, and starts qmail-send if this one ends without a word.

    Returns its process id and the descriptor to write the word to.
    """
    parent = os.getpid()
    reading, writing = os.pipe()
    try:
        reserve = bytearray(RESERVE)
        child = os.fork()
    except (OSError, MemoryError) as err:
        os.close(reading)
        os.close(writing)
        _forget(note)
        why = os.strerror(getattr(err, "errno", None) or errno.ENOMEM)
        raise CommandExecutionError(
            f"qmail-send is left running: no process can be started that would bring it back ({why})."
        ) from err
    if child:
        os.close(reading)
        return child, writing
    try:
        os.close(writing)
        _stand_alone()
        if not _word(reading, parent):
            _wait_for_the_end_of(parent)
            del reserve
            _bring_back(note, arguments)
    finally:
        os._exit(0)


def _stand_alone():
    """Leave the session, the terminal, the signals and the log of the parent."""
    os.setsid()
    # Handlers, not SIG_IGN: an ignored signal stays ignored in the programs that a start of qmail-send runs.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    logging.disable()  # Salt's log may go through a thread of the parent's, which is not in this process


def _word(reading, parent):
    """Wait for the parent's word; ``b""`` means that it ended without one."""
    while not select.select([reading], [], [], 1)[0]:
        # Another child of the parent can hold a copy of the pipe's other end, and keep it open.
        if os.getppid() != parent:
            return b""
    return os.read(reading, 1)


def _wait_for_the_end_of(parent):
    """A killed process releases the pipe, and an instant later the lock that qmail-send needs."""
    deadline = time.monotonic() + WATCHING
    while os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(0.01)


def _bring_back(note, arguments):
    """Start qmail-send, and try again until it runs: the killed parent may have been in the middle of stopping it."""
    deadline, told = time.monotonic() + TRYING, None
    while time.monotonic() < deadline:
        try:
            with contextlib.suppress(OSError):  # a full disk
                os.pwrite(note, _boot(), 0)  # a start deletes it, and may not last
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
    Open the note, and lock it, so that two runs do not stop and start the same qmail-send.

    The guardian has the lock, too: while it lives, nobody else takes its note for one that was left behind.
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
            "Another run is working on this queue, or is bringing its qmail-send back. Run this again when that is "
            "done."
        ) from err


def _path(where, make=False):
    return os.path.join(__salt__["qmail_service.directory"](**where, make=make), "paused")


def _boot():
    """Return the id of this boot of the machine: at the next one, qmail-send is started anyway."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64)
    except OSError:
        return b"unknown"
