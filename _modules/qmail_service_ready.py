"""
Whether this machine has what a run needs: asked before the first thing is written, and nothing is touched for it.
"""

import os

from salt.exceptions import CommandExecutionError


def lacks(home="/var/qmail", queue=None, provider="auto", name="auto", address=None):
    """
    Return why a run of the formula could not restart qmail-send here, with the remedy; ``None`` where it could. Where
    the one that runs was restarted by these very settings before, nobody is asked again.

    A qmail-send that is merely down lacks nothing. Where Plesk runs this server without any qmail, nothing is said
    here: ``qmail_mailbox_sink.problem`` says that better.

    Raises SaltInvocationError for an unknown provider.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    provider, name
        What runs qmail-send: see ``qmail_service_supervisor.find``.

    address
        The whole address of the sink; ``None`` in mode ``discard``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service_ready.lacks
    """
    # To ask takes longer than all the rest of a run that changes nothing.
    asked = __salt__["qmail_service_loaded.recall"](home, queue).get("by")
    pid = __salt__["qmail_service_loaded.expected"](home, queue) if asked == [provider, name] else None
    if pid and __salt__["qmail_base_process.ended"](pid) is False:
        return None
    if address is not None and __salt__["qmail_mailbox_sink.is_without_qmail"](address, home):
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
        As for ``lacks``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_service_ready.idle
    """
    if not lacks(home, queue, provider, name):
        return False
    if not os.path.exists(__salt__["qmail_base_process.mutex"](home, queue)):
        return True  # qmail has gone, and its queue with it
    return __salt__["qmail_base_process.find"](home, queue) is None
