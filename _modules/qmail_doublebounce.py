"""
Where this minion's double bounces go: what pillar wants, and what is so.
"""

from salt.exceptions import SaltInvocationError


def settings(
    pillar=None,
    mode=None,
    address=None,
    instruction=None,
    mailbox=None,
    verify=None,
    verify_timeout=None,
    home=None,
    control=None,
    queue=None,
    log=None,
    provider=None,
    name=None,
    timeout=None,
    strict=True,
    keys=None,
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

    mode, address, instruction, mailbox, verify, verify_timeout
        Settings of those names, instead of what pillar says.

    home, control, queue, log
        Those under ``qmail``.

    provider, name, timeout
        Those under ``service``.

    strict
        ``False``: raise nothing, but return the defaults, with what is wrong as a list under ``problems``, and those of
        them that name what is not there under ``absent``. For Jinja, which can catch no error;
        ``qmail_doublebounce.configured`` is the state that tells it.

    keys
        The keys at the top of pillar, for Jinja too: a pillar that says nothing is wrong then, and the nearest is told.

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
        "verify_timeout": verify_timeout,
        "qmail:home": home,
        "qmail:control": control,
        "qmail:queue": queue,
        "qmail:log": log,
        "service:provider": provider,
        "service:name": name,
        "service:timeout": timeout,
    }
    found = __salt__["qmail_doublebounce_settings.get"](pillar, given, keys)
    if not strict:
        return found
    found.pop("absent")
    problems = found.pop("problems")
    if problems:
        raise SaltInvocationError("Pillar is not right. " + " ".join(problems))
    return found


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
    - ``queue``: how many ``messages`` wait in the queue, how many of them are ``double_bounces``, and when the
      ``oldest`` message came (seconds since the epoch); ``None`` where there is no queue;
    - ``log``: the log that tells of double bounces and that a probe is followed through, as ``qmail_log.about`` tells
      it, with its ``files`` and the ``newest`` line of qmail-send in it; with ``log`` ``None`` and a ``reason`` where
      there is none to be read;
    - ``pillar``: the ``mode``, ``address`` and ``instruction`` that pillar asks for, the ``fate`` that these mean
      (``None`` where only a program knows, or where it is none that anybody wants), and whether all of that ``holds``:
      ``True`` only where it was seen, and qmail-send could start again with it;
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
    is_asked = bool(__salt__["qmail_doublebounce_settings.said"](pillar)) or address is not None or mode is not None
    return __salt__["qmail_doublebounce_status.look"](wanted, is_asked)


def probe(pillar=None, timeout=None, address=None, home=None, control=None, queue=None, log=None):
    """
    Make one double bounce, follow it through qmail-send's log to its end, and tell what became of it.

    A message with an empty sender is queued to an address of this server that nobody receives mail for. It bounces,
    and its bounce is a double bounce. Where catch-alls receive every address, the double bounce itself is queued, and
    only the last hop is tried.

    However this ends, also interrupted, what is left of it is taken away: a copy is taken out of the Maildir again, and
    what waits in the queue is given up. For that **qmail-send tries everything in its queue once** (ALRM), and twice
    where both hops wait. A probe that goes its way causes no such thing.

    Returns a dict: ``end`` (``swallowed``, ``discarded``, ``stored``, ``forwarded``, ``triple-bounced``, ``deferred``,
    or ``unseen`` where nothing showed it), ``reason``, ``sent`` (``from``, ``to``, and whether the ``whole`` way was
    tried), ``hops`` (each with ``msg``, ``to``, ``report`` and ``seconds``; ``None`` where the log lacks the line),
    ``seconds`` that it took in all, ``left`` (what is left of it, and where that was looked for) and ``log`` (the lines
    about it).

    Raises SaltInvocationError for a timeout that is none, CommandExecutionError where nothing could be sent: qmail-send
    does not run, qmail-queue refuses, there is no log to be found.

    pillar
        As for ``settings``.

    timeout
        Seconds to wait for the end, or ``auto``: 30, or one for every five messages that qmail-send has not looked at
        yet where that is more, and an hour at most. ``None`` for the setting ``verify_timeout``, which is ``auto``
        where pillar does not say otherwise.

    address, home, control, queue, log
        Settings, instead of what pillar says.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.probe timeout=60
    """
    wanted = settings(pillar, address=address, home=home, control=control, queue=queue, log=log)
    return __salt__["qmail_doublebounce_probe.run"](wanted, timeout)


def report(pillar=None, log=None, home=None, queue=None):
    """
    Show the double bounces of the last 24 hours and of the last 7 days, as a table with a bar for each.

    Returns a dict: ``table`` (text, for eyes), and the same as data: ``hours`` (by the beginning of each hour, such as
    ``2026-11-24T02:00+00:00``) and ``days`` (such as ``2026-11-24``), those in which there was any, each with the
    numbers ``queued`` (double bounces that were queued), ``discarded`` (by a qmail-send that drops them itself) and
    ``triple`` (those of the queued ones that nobody received). ``log``, ``files``, ``unread``, ``how`` and ``newest``
    tell what was read, as ``qmail_log.about`` does. A probe is a double bounce, too, and is counted.

    Raises SaltInvocationError where the settings are not right and no ``log`` is given, CommandExecutionError where
    there is no log to be found, or none of qmail-send's lines in it are in a form that is known.

    pillar
        As for ``settings``.

    log
        The log of qmail-send, instead of what pillar says: a file, a multilog directory, or ``journald``. Then a pillar
        that is not right is no hindrance.

    home, queue
        Settings, instead of what pillar says: the log is that of the qmail-send that runs there.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.report
        salt '*' qmail_doublebounce.report --out json
    """
    qmail = settings(pillar, home=home, queue=queue, strict=log is None)["qmail"]
    log = qmail["log"] if log is None else log
    return __salt__["qmail_doublebounce_report.make"](log, home=qmail["home"], queue=qmail["queue"])
