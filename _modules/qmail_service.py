"""
The running qmail-send: with which settings it runs, and a restart that is known to have happened.

qmail-send reads ``doublebounceto`` and ``doublebouncehost`` when it starts and at no other time, so a restart is due
exactly when the running one has read something else than what they say now.
"""

import os

from salt.exceptions import CommandExecutionError


def status(home="/var/qmail", control=None, queue=None):
    """
    Return the state of qmail-send: a dict with ``running``, ``pid``, ``since`` and ``loaded``.

    ``since`` is when it started, in seconds since the epoch. ``loaded`` is ``True`` where the running qmail-send has
    read the control files as they are now, ``False`` where it has not (a restart is due) or none runs, ``None`` where
    that cannot be told. All four are ``None`` where the system does not show whether it runs.

    A qmail-send that ``restart`` started is known to have read what the files said then, whatever clocks do. Of any
    other, its start is compared with the newest change of the files, to the clock tick: see ``qmail_service_loaded``.

    Raises CommandExecutionError where there is no queue, or a control file cannot be read.

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
    if loaded is None:  # none runs, or it has ended at this moment
        return {"running": False, "pid": None, "since": None, "loaded": False}
    return {"running": True, "pid": pid, "since": since, "loaded": loaded}


def find(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return what runs qmail-send here, or would where none runs: a dict with

    - ``provider``: ``daemontools``, ``runit``, ``s6``, ``systemd``, ``sysv`` or ``qmailctl``;
    - ``name``: the service directory, unit, init script, or path of qmailctl;
    - ``pid``: the process that it runs, qmail-send or a script that waits for it; ``None`` where it does not tell;
    - ``returns``: whether it starts qmail-send again by itself when that has ended;
    - ``alone``: whether taking it down ends qmail-send alone, and none of its deliveries;
    - ``down``: why qmail-send is down, or going there, on purpose; ``None`` where it is not.

    Raises SaltInvocationError for an unknown provider, CommandExecutionError where none is found, where the one that is
    named does not run the qmail-send of this queue (it lists what was looked for), and where it would not start it
    again.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    provider
        ``daemontools``, ``runit``, ``s6``, ``service`` (systemd and init scripts), ``qmailctl``, or ``auto``.

    name
        The service directory (its path, or its name in one of the usual places), unit or init script, or the path of
        qmailctl; ``auto`` for the one that runs qmail-send, and where none runs for the usual ones.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.find
    """
    return __salt__["qmail_service_supervisor.find"](home, queue, provider, name)


def left_down(home="/var/qmail", queue=None, provider="auto", name="auto"):
    """
    Return why qmail-send is down, or going there, on purpose; ``None`` where it is not.

    On purpose is a file ``down`` in the service directory, a unit or init script that is disabled, or a supervisor
    that was told to take it down and waits for it to end.

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
    # One that an earlier restart ended, and that nobody else brings back, is not down on purpose.
    ours = record and record["values"] is None and not found["alone"]
    return None if ours else found["down"]


def restart(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", timeout=60, settle=1):
    """
    Restart qmail-send, or start it where it does not run, and return its process ids: ``{"old": …, "new": …}``.

    qmail-send alone is told to end (TERM): it starts nothing new, waits for the mail in flight, and is then started
    again, by what supervises it or by us, never beside the old one. It has worked when another process runs the queue
    and stays up; what commands say of themselves does not count. Of two restarts at once, the second takes over what
    the first did.

    Raises CommandExecutionError where qmail-send has not come back within the timeout; the message tells whether the
    old one still waits for its deliveries, how many these are, and whether it comes back by itself after that. One
    that could not start again, as it may not read its control files any more, is left running, and that is an error.

    home, control, queue
        As for ``status``.

    provider, name
        What runs qmail-send: see ``find``.

    timeout
        Seconds to wait for the new process.

    settle
        Seconds that the new process must live: one that cannot start dies at once.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.restart
    """
    return __salt__["qmail_service_change.restart"](home, control, queue, provider, name, timeout, settle)


def start(home="/var/qmail", control=None, queue=None, provider="auto", name="auto", timeout=60, settle=1):
    """
    Start qmail-send where it does not run, and return its process ids as ``restart`` does; ``{}`` where it runs.

    One that was told to end, and still waits for its deliveries, is waited for before.

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
    Stop qmail-send, and return its process ids: ``{"old": …, "new": None}``; ``{}`` where it was down already.

    It is gone when this returns, and stays down until it is started, or until the next boot. Mail in flight is
    waited for.

    Raises CommandExecutionError where it has not ended within the timeout; the message tells what happens when it has.

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

    Raises CommandExecutionError where its next start would fail, with what mends that, and where nothing is found that
    could start it.

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
    Return why qmail-send could not be restarted here, with the remedy; ``None`` where it could.

    A qmail-send that is merely down lacks nothing. Where the one that runs was restarted by these very settings before,
    nobody is asked again: that would take longer than all the rest of a run that changes nothing.

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
    Tell whether there is no qmail-send to restart: none runs, and nothing is found that would start one.

    Then files can be put back without it, and whenever one is started it reads them as they are.

    Raises CommandExecutionError where it cannot be told whether one runs, SaltInvocationError for an unknown provider.

    home, queue, provider, name
        As for ``missing``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.idle
    """
    if not missing(home, queue, provider, name):
        return False
    if not os.path.exists(__salt__["qmail_base_process.mutex"](home, queue)):
        return True  # qmail has gone, and its queue with it
    return __salt__["qmail_base_process.find"](home, queue) is None


def unreadable(home="/var/qmail", control=None, queue=None):
    """
    List what keeps qmail-send from reading its control files when it starts the next time.

    Returns a list of dicts, empty where nothing does: ``path`` (the file, or the directory on the way to it),
    ``trouble`` (a sentence that names it) and ``remedy`` (a command). ``None`` where nobody can tell, because it is not
    known which user qmail-send runs as: that of the running one, else the owner of ``queue/info``, else ``qmails``.

    Raises CommandExecutionError where this process itself may not look.

    home, control, queue
        As for ``status``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.unreadable
    """
    return __salt__["qmail_service_startup.unreadable"](home, control, queue)


def last_words(home="/var/qmail", queue=None, provider="auto", name="auto", log="auto"):
    """
    Return what qmail-send's log ends with: a list of up to three lines, none twice; empty where that cannot be told.

    What supervises qmail-send knows its log; where it keeps none, a log file that is named is looked into.

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
    Return what was last told to what runs qmail-send: a dict with ``when``, a text that is another one after each time
    that anybody tells it anything, and ``up``, whether it was told to run it. ``None`` where it keeps no account.

    Service directories do; systemd, scripts and qmailctl forget what they are told.

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
    Return the directory in which is written down what is known of the qmail-send of a queue.

    Raises CommandExecutionError where it cannot be made.

    home, queue
        As for ``status``.

    make
        Make it where it is missing, open to nobody else.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service.directory
    """
    return __salt__["qmail_service_loaded.directory"](home, queue, make)
