"""
Have qmail-send try everything in its queue at once.
"""

import contextlib
import os
import signal

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def alarm(home="/var/qmail", queue=None):
    """
    Send ALRM to the qmail-send of a queue, if one runs. A qmail-send that has ended tries everything when it is
    started.

    It is looked up again: the work before may have taken long, and its process id may be another's by now.

    Raises what ``qmail_base_process.find`` raises.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    For ``qmail_queue`` and ``qmail_queue_leftover``.
    """
    pid = __salt__["qmail_base_process.find"](home, queue)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGALRM)
