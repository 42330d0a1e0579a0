"""
The alarm: an event when double bounces flood this server or wait in its queue, when its sink no longer holds, when
qmail-send is down or has not read its control files, when its log falls silent; and another one when that is over.

.. code-block:: yaml

    beacons:
      qmail_doublebounce:
        - interval: 60
"""

ROOM = "qmail_doublebounce_alarm.read"


def validate(config):
    """
    Return whether the configuration is right, and all that is wrong with it in one message.

    config
        A list of dicts. Each of ``double_bounces`` (a minute), ``waiting`` (in the queue), ``oldest`` (seconds) and
        ``silent`` (seconds) is a limit: a number, or ``{above: 100, below: 20}``, so that it fires above the one and
        clears below the other. ``sink``, ``restart``, ``down`` and ``blind`` are ``true`` or ``false``; ``false`` turns
        off any of these eight. ``readings`` is how many in a row must agree, and ``remind`` after how many seconds an
        alarm is repeated; ``0``: never. All else is Salt's own, such as ``interval``.
    """
    if ROOM not in __salt__:
        return False, "This minion lacks the modules of qmail-doublebounce: salt-call saltutil.sync_all"
    found = __salt__["qmail_doublebounce_alarm.wrong"](config)
    return not found, " ".join(found) if found else "The configuration is right."


def beacon(config):
    """
    Take a reading, and return the events that it makes.

    Each is a dict: ``tag`` (``NAME/alarm`` or ``NAME/clear``), ``alarm`` (one of the eight names), ``state`` (``alarm``
    or ``clear``), ``since`` (seconds since the epoch), ``message`` (for people), and for an alarm ``remedy``. Those
    with limits have ``value``, ``above`` and ``below``; ``domain`` is the one that causes most double bounces.
    ``again`` is ``True`` where an alarm is only repeated.

    config
        As for ``validate``.
    """
    return __salt__["qmail_doublebounce_alarm.read"](config)


def close(config):
    """
    Clean up: nothing is left open between two readings, and what is on disk is for the next minion.

    config
        As for ``validate``.
    """
