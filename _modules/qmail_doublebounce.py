"""
Where this minion's double bounces go: what pillar wants, and what is so.
"""


def settings(
    pillar=None,
    mode=None,
    address=None,
    instruction=None,
    mailbox=None,
    verify=None,
    home=None,
    control=None,
    queue=None,
    log=None,
    provider=None,
    name=None,
    timeout=None,
):
    """
    Return the settings of this minion: what its pillar says over the defaults, all of it checked.

    Returns a dict with the keys of pillar.example, and ``local`` and ``host``, the two halves of the address
    (``None`` in mode ``discard``, and where pillar says nothing at all).

    Raises SaltInvocationError that tells every problem at once, each with its place in pillar and what is allowed
    there.

    pillar
        The pillar, or the part of it under ``qmail_doublebounce``. ``None`` for this minion's own; over salt-ssh a
        function sees none, so there it must be given.

    mode, address, instruction, mailbox, verify
        Settings of those names, instead of what pillar says.

    home, control, queue, log
        Those under ``qmail``.

    provider, name, timeout
        Those under ``service``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.settings
    """
    given = {
        "mode": mode,
        "address": address,
        "instruction": instruction,
        "mailbox": mailbox,
        "verify": verify,
        "qmail:home": home,
        "qmail:control": control,
        "qmail:queue": queue,
        "qmail:log": log,
        "service:provider": provider,
        "service:name": name,
        "service:timeout": timeout,
    }
    return __salt__["qmail_settings.get"](pillar, given)


def split(address):
    """
    Split an address into what qmail wants in its two control files; see ``qmail_address.split``.

    Returns a dict with ``local`` (for ``doublebounceto``) and ``host`` (for ``doublebouncehost``).

    address
        The whole address, for example ``doublebounce@example.com``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.split doublebounce@example.com
    """
    return __salt__["qmail_address.split"](address)


def status(pillar=None, mode=None, address=None, instruction=None, home=None, control=None, queue=None):
    """
    Tell in one look where double bounces go now, what becomes of them there, and what is wrong. Nothing is sent.

    Returns a dict:

    - ``verdict``: a sentence that says it all;
    - ``recipient``: the address that double bounces go to by the control files, and under ``doublebounceto`` and
      ``doublebouncehost`` the ``value`` of each, its ``source`` (``file``, ``me`` or ``default``) and ``path``;
    - ``fate``: what happens to them there: ``swallowed``, ``discarded`` (qmail-send drops them itself), ``stored``,
      ``forwarded``, ``deferred``, ``bounced`` (each ends as a triple bounce), ``remote``, or ``unknown`` where a
      program decides; ``reason`` says why;
    - ``route``: the recipient as qmail rewrites it, the ``dotqmail`` file that decides, and whether that is a
      ``catch_all``;
    - ``service``: what ``qmail_service.status`` returns;
    - ``queue``: how many ``messages`` wait in the queue, how many of them are ``double_bounces``, and the time of the
      ``oldest`` of these (seconds since the epoch);
    - ``pillar``: the ``mode`` and ``address`` that pillar asks for, and whether that ``holds``;
    - ``problems``: a list, the heaviest first, of dicts with ``problem`` and ``remedy``.

    Raises SaltInvocationError where the settings are not right, CommandExecutionError where a file cannot be read.

    pillar
        As for ``settings``. Where it says nothing, the defaults are used, and that is told.

    mode, address, instruction, home, control, queue
        Settings, instead of what pillar says.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.status
    """
    wanted = settings(pillar, mode, address, instruction, home=home, control=control, queue=queue)
    is_asked = bool(__salt__["qmail_settings.said"](pillar)) or address is not None or mode is not None
    return __salt__["qmail_status.look"](wanted, is_asked)
