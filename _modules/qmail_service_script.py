"""
Programs that start qmail-send and exit: init scripts, and qmailctl.

Nothing watches such a qmail-send: when it has ended, it stays down until somebody starts it. Salt's own module
``service`` knows which scripts are enabled, and handles the other kinds that it knows (upstart, rc.d). Scripts are run
here, because ``service.start`` waits for as long as anything holds the script's output open, and splogger does that.
"""

import os

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

NOTHING = {"pid": None, "returns": False, "alone": False, "down": None, "file": None}
INIT = ("/etc/init.d", "/etc/rc.d/init.d", "/etc/rc.d")


def status(kind, name):
    """
    Return what is known about a script: a dict with

    - ``pid``: ``None``, it does not say;
    - ``returns``: ``False``, nothing starts qmail-send again when it has ended;
    - ``alone``: ``False``, it is not known what it ends besides qmail-send;
    - ``down``: why a qmail-send that does not run is down on purpose; ``None`` if it is not;
    - ``file``: the path of the script.

    Raises CommandExecutionError if there is no such script.

    kind
        ``sysv`` or ``qmailctl``.

    name
        The name of the init script, or the path of qmailctl.

    For ``qmail_service_supervisor``.
    """
    if kind == "qmailctl":
        if not (os.path.isfile(name) and os.access(name, os.X_OK)):
            raise CommandExecutionError(f"there is no program {name}")
        return {**NOTHING, "file": name}
    path = _path(name)
    if not path and not ("service.available" in __salt__ and __salt__["service.available"](name)):
        raise CommandExecutionError(f"there is no init script {name}")
    disabled = "service.disabled" in __salt__ and __salt__["service.disabled"](name)
    return {**NOTHING, "down": f"the init script {name} is disabled" if disabled else None, "file": path}


def up(kind, name, timeout=60):
    """
    Have a script start qmail-send.

    Raises CommandExecutionError if it reports a failure.

    kind, name
        As for ``status``.

    timeout
        Seconds to wait for the script. It is left to finish by itself after that.

    For ``qmail_service_supervisor``.
    """
    _do("start", kind, name, timeout)


def down(kind, name, timeout=60):
    """
    Have a script stop qmail-send, which has ended already: some scripts take that for a failure.

    Raises CommandExecutionError if it does not end: what it does later could end the next qmail-send.

    kind, name, timeout
        As for ``up``.

    For ``qmail_service_supervisor``.
    """
    path = name if kind == "qmailctl" else _path(name)
    if not path:
        _do("stop", kind, name, timeout)
    elif __salt__["qmail_service_tool.run"]([path, "stop"], timeout, leaves=True)["exit"] is None:
        raise CommandExecutionError(
            f"{path} stop has not ended within {timeout:g} seconds. It may end a qmail-send that is started meanwhile: "
            "see what it waits for, then start qmail-send."
        )


def _do(verb, kind, name, timeout):
    path = name if kind == "qmailctl" else _path(name)
    if path:
        __salt__["qmail_service_tool.must"]([path, verb], timeout, leaves=True)
    elif not __salt__[f"service.{verb}"](name):
        raise CommandExecutionError(f"The service {name} did not {verb}; its own log says why.")


def _path(name):
    paths = (os.path.join(place, name) for place in INIT)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)
