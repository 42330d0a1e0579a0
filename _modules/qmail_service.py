"""
The running qmail-send: which settings it has read, and a restart that is known to have happened.

qmail-send reads ``doublebounceto`` and ``doublebouncehost`` when it starts and at no other time, so a restart is due
exactly when the running one has read something other than what they hold now.
"""

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def status(home="/var/qmail", control=None, queue=None):
    """
    Return the state of qmail-send: a dict with ``running``, ``pid``, ``since`` and ``loaded``.

    ``since`` is when it started, in seconds since the epoch. ``loaded`` is ``True`` if the running qmail-send has read
    the control files as they are now, ``False`` if it has not (a restart is due) or none runs, ``None`` if that is not
    known. All four are ``None`` if the system does not show whether it runs.

    A qmail-send that ``restart`` started is known to have read what the files held then, whatever clocks do. For any
    other, its start is compared with the newest change of the files, to the clock tick: see ``qmail_service_loaded``.

    Raises CommandExecutionError if there is no queue, or a control file cannot be read.

    home
        The qmail home directory.

    control, queue
        The directories of the control files and of the queue; ``None`` for those in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.status
    """
    if not __salt__["qmail_base_process.shown"]():
        return dict.fromkeys(("running", "pid", "since", "loaded"))
    pid = __salt__["qmail_base_process.find"](home, queue, __salt__["qmail_service_loaded.expected"](home, queue))
    since = pid and __salt__["qmail_base_process.since"](pid)
    loaded = since and __salt__["qmail_service_loaded.current"](pid, home, control, queue)
    if loaded is None:  # none runs, or it has just ended
        return {"running": False, "pid": None, "since": None, "loaded": False}
    return {"running": True, "pid": pid, "since": since, "loaded": loaded}


def find(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return what runs qmail-send here, or would run it: a dict with

    - ``provider``: ``daemontools``, ``runit``, ``s6``, ``systemd``, ``sysv`` or ``qmailctl``;
    - ``name``: the service directory, unit, init script, or path of qmailctl;
    - ``pid``: the process that it runs, qmail-send or a script that waits for it; ``None`` if it does not say;
    - ``returns``: whether it starts qmail-send again by itself when that has ended;
    - ``alone``: whether taking it down ends only qmail-send, and none of its deliveries;
    - ``down``: why qmail-send is down, or being taken down, on purpose; ``None`` if it is not.

    Raises SaltInvocationError for an unknown provider, CommandExecutionError if none is found, if the one that is named
    does not run the qmail-send of this queue (it lists what was looked for), or if it would not start it again.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    provider
        ``daemontools``, ``runit``, ``s6``, ``service`` (systemd and init scripts), ``qmailctl``, or ``auto``.

    name
        The service directory (its path, or its name in one of the usual places), unit or init script, or the path of
        qmailctl; ``auto`` for the one that runs qmail-send, or, if none runs, for the usual ones.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.find
    """
    return __salt__["qmail_service_supervisor.find"](home, queue, provider, name)


def left_down(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return why qmail-send is down, or being taken down, on purpose; ``None`` if it is not.

    It is on purpose if there is a file ``down`` in the service directory, if the unit or init script is disabled, or if
    a supervisor was told to take it down and waits for it to end.

    Raises what ``find`` raises.

    home, queue
        As for ``status``.

    provider, name
        What runs qmail-send: see ``find``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.left_down
    """
    found = __salt__["qmail_service_supervisor.find"](home, queue, provider, name)
    record = __salt__["qmail_service_loaded.recall"](home, queue)
    # A qmail-send that an earlier restart ended, and that nothing else brings back, is not down on purpose.
    ours = record and record["values"] is None and not found["alone"] and _is_of_this_boot(record["process"])
    return None if ours else found["down"]


def restart(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", timeout=60, settle=1):
    """
    Restart qmail-send, or start it if it does not run, and return its process ids: ``{"old": …, "new": …}``.

    Only qmail-send itself is told to end (TERM): it starts nothing new, waits for the mail in flight, and is then
    started again, by its supervisor or by this function, never beside the old one. The restart has worked when another
    process runs the queue and stays up; what commands say of themselves does not count. Of two restarts at once, the
    second accepts what the first has done.

    Raises CommandExecutionError if qmail-send has not come back within the timeout; the message says whether the old
    one still waits for its deliveries, how many these are, and whether it comes back by itself afterwards. If
    qmail-send could not start again, because it may no longer read its control files, it is left running, and that is
    an error.

    home, control, queue
        As for ``status``.

    provider, name
        What runs qmail-send: see ``find``.

    timeout
        Seconds to wait for the new process.

    settle
        Seconds that the new process must stay up: one that cannot start dies at once.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.restart
    """
    return __salt__["qmail_service_change.restart"](home, control, queue, provider, name, timeout, settle)


def start(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", timeout=60, settle=1):
    """
    Start qmail-send if it does not run, and return its process ids as ``restart`` does; ``{}`` if it runs.

    If the old one was told to end, and still waits for its deliveries, its end is awaited first.

    Raises what ``restart`` raises.

    home, control, queue, provider, name, timeout, settle
        As for ``restart``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.start
    """
    return __salt__["qmail_service_change.start"](home, control, queue, provider, name, timeout, settle)


def stop(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", timeout=60, settle=1):
    """
    Stop qmail-send, and return its process ids: ``{"old": …, "new": None}``; ``{}`` if it was down already.

    It has ended when this returns, and stays down until it is started, or until the next boot. Deliveries in flight are
    finished first.

    Raises CommandExecutionError if it has not ended within the timeout; the message says what happens when it has.

    home, control, queue, provider, name
        As for ``restart``.

    timeout
        Seconds to wait for its end.

    settle
        Seconds that it must stay down.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.stop
    """
    return __salt__["qmail_service_change.stop"](home, control, queue, provider, name, timeout, settle)


def check(home="/var/qmail", control=None, queue=None, provider="auto", name="auto"):
    """
    Refuse to end a qmail-send that could not start again: it runs, and mail is delivered. Returns ``True``.

    Raises CommandExecutionError with the remedy if its next start would fail, if nothing is found that could start it,
    or if it is paused (STOP, as ``svc -p`` sends it).

    home, control, queue
        As for ``status``.

    provider, name
        What runs qmail-send: see ``find``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.check
    """
    __salt__["qmail_service_startup.check"](home, control, queue)
    __salt__["qmail_service_supervisor.find"](home, queue, provider, name)
    return True


def missing(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return why qmail-send could not be restarted here, with the remedy; ``None`` if it could.

    A qmail-send that is merely down lacks nothing. If the running one was already restarted with these settings, this
    is not checked again: that would take longer than all the rest of a run that changes nothing.

    Raises SaltInvocationError for an unknown provider.

    home, queue
        As for ``status``.

    provider, name
        What runs qmail-send: see ``find``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.missing
    """
    asked = __salt__["qmail_service_loaded.recall"](home, queue).get("by")
    pid = __salt__["qmail_service_loaded.expected"](home, queue) if asked == [provider, name] else None
    if pid and __salt__["qmail_base_process.ended"](pid) is False:
        return None
    try:
        __salt__["qmail_service_supervisor.find"](home, queue, provider, name)
    except CommandExecutionError as err:
        return str(err)
    return None


def idle(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return whether there is no qmail-send to restart: none runs, and nothing is found that would start one.

    Then files can be put back without it, and a qmail-send that is started later reads them as they are.

    Raises CommandExecutionError if it is not known whether one runs, SaltInvocationError for an unknown provider.

    home, queue, provider, name
        As for ``missing``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.idle
    """
    if not missing(home, queue, provider, name):
        return False
    if not __salt__["qmail_base_access.there"](__salt__["qmail_base_process.mutex"](home, queue)):
        return True  # qmail is gone, and its queue with it
    return __salt__["qmail_base_process.find"](home, queue) is None


def unreadable(home="/var/qmail", control=None, queue=None):
    """
    List what prevents qmail-send from reading its control files when it starts the next time.

    Returns a list of dicts, empty if nothing does: ``path`` (the file, or the directory on the way to it), ``trouble``
    (a sentence that names it) and ``remedy`` (a command). ``None`` if it is not known which user qmail-send runs as:
    that of the running one, else the owner of ``queue/info``, else ``qmails``.

    Raises CommandExecutionError if this process itself may not look.

    home, control, queue
        As for ``status``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.unreadable
    """
    return __salt__["qmail_service_startup.unreadable"](home, control, queue)


def last_words(home="/var/qmail", queue=None, provider="auto", name="auto", log="auto"):
    """
    Return the last lines of qmail-send's log: a list of up to three lines, none twice; empty if they are not known.

    qmail-send's supervisor knows its log; if it keeps none, a log file that is named is read.

    home, queue, provider, name
        What runs qmail-send: see ``find``.

    log
        The setting ``qmail:log``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.last_words
    """
    __salt__["qmail_base_check.arguments"](home=home, queue=queue, provider=provider, name=name, log=log)
    return __salt__["qmail_service_startup.last_words"](home, queue, provider, name, log or "auto")


def told(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return the last command to qmail-send's supervisor: a dict with ``when``, a text that changes with every command
    and whenever qmail-send starts or ends, ``up``, whether it was to run qmail-send, and ``ended``, whether it knows of
    no process. ``None`` if it keeps no record.

    Service directories do; systemd, scripts and qmailctl do not.

    Raises what ``find`` raises.

    home, queue, provider, name
        As for ``find``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.told
    """
    found = __salt__["qmail_service_supervisor.find"](home, queue, provider, name)
    return __salt__["qmail_service_supervisor.told"](found["provider"], found["name"])


def directory(home="/var/qmail", queue=None, make=False):
    """
    Return the directory of the records about the qmail-send of a queue.

    Raises CommandExecutionError if it cannot be made.

    home, queue
        As for ``status``.

    make
        Make it if it is missing, open to nobody else.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.directory
    """
    return __salt__["qmail_service_loaded.directory"](home, queue, make)


def _is_of_this_boot(process):
    """Return whether a process that was recorded ran since the machine was started."""
    return str(process).split(" ")[0] == __salt__["qmail_base_process.boot"]()
