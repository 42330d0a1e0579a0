"""
Where this minion's double bounces go: what pillar asks for, and what is really there.
"""

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

__version__ = "1.0.0"


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
    Return the settings of this minion: its pillar over the defaults, all of it checked.

    Returns a dict with the keys of pillar.example, and ``local`` and ``host``, the two halves of the address (``None``
    in mode ``discard``, and if pillar has no settings at all).

    Raises SaltInvocationError that reports every problem at once, each with its place in pillar and what is allowed
    there.

    pillar
        The pillar, or the part of it under ``qmail_doublebounce``. ``None`` for this minion's own; over salt-ssh a
        function cannot see it, so there it must be given.

    mode, address, instruction, mailbox, verify, verify_timeout
        Settings of those names, instead of what pillar says.

    home, control, queue, log
        Those under ``qmail``.

    provider, name, timeout
        Those under ``service``.

    strict
        ``False``: raise nothing, but return the defaults, with a list of what is wrong under ``problems``, and under
        ``absent`` those problems that name something that is not there. For Jinja, which cannot catch an error; the
        state ``qmail_doublebounce.configured`` reports them.

    keys
        The top-level keys of pillar, also for Jinja: with them, a pillar without settings is a problem, and the nearest
        key is named.

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
        raise SaltInvocationError("Pillar is wrong. " + " ".join(problems))
    return found


def status(pillar=None, mode=None, address=None, instruction=None, home=None, control=None, queue=None):
    """
    Show at a glance where double bounces go now, what happens to them there, and what is wrong. Nothing is sent.

    Returns a dict:

    - ``verdict``: one sentence that sums it up;
    - ``recipient``: the address that double bounces go to by the control files, and under ``doublebounceto`` and
      ``doublebouncehost`` the ``value`` of each, its ``source`` (``file``, ``me`` or ``default``) and ``path``;
    - ``fate``: what happens to them there: ``swallowed``, ``discarded`` (qmail-send drops them itself), ``stored``,
      ``forwarded``, ``deferred``, ``bounced`` (each ends as a triple bounce), ``remote``, or ``unknown`` if a program
      decides; ``reason`` says why;
    - ``route``: the recipient as qmail rewrites it, the ``dotqmail`` file that decides, and whether that is a
      ``catch_all``;
    - ``service``: what ``qmail_service.status`` returns;
    - ``queue``: how many ``messages`` wait in the queue, how many of them are ``double_bounces``, and when the
      ``oldest`` message came (seconds since the epoch); ``None`` if there is no queue;
    - ``log``: the log that shows double bounces and that a probe is followed through, as ``qmail_log.about`` tells
      it, with its ``files`` and the ``newest`` line of qmail-send in it; with ``log`` ``None`` and a ``reason`` where
      there is none to be read;
    - ``pillar``: the ``mode``, ``address`` and ``instruction`` that pillar asks for, the ``fate`` that these mean
      (``None`` if only a program knows it, or if nobody can want it), and whether all of that ``holds``: ``True`` only
      if it was seen, and if qmail-send could start again with it;
    - ``problems``: a list of dicts with ``problem`` and ``remedy``, the most serious first;
    - ``advice``: a list of dicts with ``advice`` and ``remedy``: what makes a flood worse, or this server hard to
      reach. None of it changes whether all ``holds``.

    Raises SaltInvocationError if the settings are wrong, CommandExecutionError if a file cannot be read.

    pillar
        As for ``settings``. If it has no settings, the defaults are used, and the answer says so.

    mode, address, instruction, home, control, queue
        Settings, instead of what pillar says.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.status
    """
    wanted = settings(pillar, mode, address, instruction, home=home, control=control, queue=queue)
    is_asked = _is_asked(pillar) or address is not None or mode is not None
    return __salt__["qmail_doublebounce_status.look"](wanted, is_asked)


def probe(pillar=None, timeout=None, address=None, home=None, control=None, queue=None, log=None):
    """
    Make one double bounce, follow it through qmail-send's log to its end, and report what happened to it.

    A message with an empty sender is queued to an address of this server that nobody receives mail for. It bounces, and
    its bounce is a double bounce. If catch-alls receive every address, the double bounce itself is queued, and only the
    last hop is tested.

    However this ends, even if interrupted, what is left of the probe is removed: a copy is taken out of the Maildir
    again, and what waits in the queue is given up. For that **qmail-send tries everything in its queue once** (ALRM),
    and twice if both hops wait. A probe that does not wait causes none of this.

    Returns a dict: ``end`` (``swallowed``, ``discarded``, ``stored``, ``forwarded``, ``triple-bounced``, ``deferred``,
    or ``unseen`` if nothing showed it), ``reason``, ``sent`` (``from``, ``to``, and whether the ``whole`` way was
    tested), ``hops`` (each with ``msg``, ``to``, ``report`` and ``seconds``; ``None`` if the log lacks the line),
    ``seconds`` (how long it took in all), ``left`` (what is left of it, and where that was looked for) and ``log`` (the
    lines about it).

    Raises SaltInvocationError for a wrong timeout, CommandExecutionError if nothing could be sent: qmail-send does not
    run, qmail-queue refuses, or no log is found.

    pillar
        As for ``settings``.

    timeout
        Seconds to wait for the end, or ``auto``: one for every five messages that qmail-send has not looked at yet, but
        at least 30 and at most 3600. ``None`` for the setting ``verify_timeout``, which is ``auto`` unless pillar says
        otherwise.

    address, home, control, queue, log
        Settings, instead of what pillar says.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.probe timeout=60
    """
    wanted = settings(pillar, address=address, home=home, control=control, queue=queue, log=log)
    return __salt__["qmail_doublebounce_probe.run"](wanted, timeout)


def holds(
    pillar=None,
    verify=False,
    mode=None,
    address=None,
    instruction=None,
    home=None,
    control=None,
    queue=None,
    log=None,
):
    """
    Return whether double bounces go where pillar says, and end as it says: a short answer, and an exit status for
    scripts.

    Returns a dict: ``holds``, ``True`` or ``False``, and ``why``, the verdict of ``status``, or what is wrong and its
    remedy. The exit status is 1 if it does not hold.

    Raises what ``status`` raises, and with ``verify`` what ``probe`` raises.

    pillar
        As for ``settings``.

    verify
        ``True``: send a probe, and want it to end as pillar says.

    mode, address, instruction, home, control, queue, log
        Settings, instead of what pillar says.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.holds
        salt '*' qmail_doublebounce.holds verify=True
    """
    __salt__["qmail_base_check.arguments"](verify=verify)
    wanted = settings(pillar, mode, address, instruction, home=home, control=control, queue=queue, log=log)
    found = status(pillar, mode, address, instruction, home, control, queue)
    if not isinstance(found["pillar"], dict) or not found["pillar"]["holds"]:
        __context__["retcode"] = 1
        wrong = [f"{one['problem']} {one['remedy']}" for one in found["problems"]]
        return {"holds": False, "why": " ".join([found["verdict"], *wrong])}
    if not verify:
        return {"holds": True, "why": found["verdict"]}
    expected = __salt__["qmail_doublebounce_proof.expected"](wanted)
    seen = __salt__["qmail_doublebounce_probe.run"](wanted)
    lacks = __salt__["qmail_doublebounce_proof.lacks"](wanted, expected, seen)
    if lacks:
        __context__["retcode"] = 1
    said = f"The probe was {seen['end']} after {seen['seconds']} s. {seen['reason']} {seen['left']} {lacks}"
    return {"holds": not lacks, "why": " ".join(said.split())}


def report(pillar=None, log=None, home=None, queue=None, control=None, table=True, html=None):
    """
    Show the double bounces of the last 24 hours and of the last 7 days, as a table with a bar for each; what became of
    them, and what they cost: before the sink came, and since then.

    Returns a dict: ``table``, text for people, and ``log``, ``files``, ``unread``, ``how`` and ``newest``: what was
    read, as for ``qmail_log.about``. With ``table=False``, the same as plain data in the place of the text:

    - ``hours`` and ``days``: a row for each of the last 24 hours, by its beginning, such as
      ``2026-11-24T02:00+00:00``, and for each of the last 7 days, such as ``2026-11-24``; those with any mail;
    - ``total``: a row for the 7 days;
    - ``sink``: ``None`` if this formula did not write what double bounces go by now; else a dict with ``since`` (when
      it did, in seconds since the epoch, by what is kept of the files that it replaced: of the control files, or of the
      sink's dot-qmail file if those already were as they are), ``hour`` and ``day`` (the keys of the rows in which that
      is, if they are there), and two more rows: ``before``, for what was logged in the 7 days until then, and
      ``after``, for what was logged from then on, to the second;
    - ``since`` and ``until``: the beginning and the end of the 7 days, in seconds since the epoch.

    A row is a flat dict, with the same keys each time. Numbers of double bounces:

    - ``queued``, and ``discarded`` (by a qmail-send that drops them itself);
    - ``triple``: the queued ones that nobody received, so that they bounced a third time;
    - ``swallowed``, ``stored``, ``forwarded``, ``deferred``: how their deliveries ended, each time one did.

    And of all mail:

    - ``single_bounces``: notices to senders;
    - ``deliveries``, ``double_bounce_deliveries``: started, of any message and of double bounces;
    - ``queued_bytes``, ``double_bounce_bytes``: the sizes of the messages that were queued;
    - ``share_of_deliveries``, ``share_of_bytes``: of double bounces, from 0 to 1; ``None`` where there was nothing;
    - ``waits``: how many local deliveries of ordinary mail succeeded; ``wait_median`` and ``wait_95``: how many seconds
      half of them, and 95 of 100, had waited in the queue at most; ``None`` where there were none.

    ``qmail_log.summary`` says how each is counted, and how exact the seconds are. A probe is a double bounce, too, and
    is counted.

    Raises SaltInvocationError if the settings are wrong and no ``log`` is given, CommandExecutionError if no log is
    found, or if none of its lines are recognized as qmail-send's.

    pillar
        As for ``settings``.

    log
        The log of qmail-send, instead of what pillar says: a file, a multilog directory, or ``journald``. Then a wrong
        pillar does not matter.

    home, queue, control
        Settings, instead of what pillar says: they select the log of the qmail-send that runs there, and its control
        files.

    table
        ``False``: data for programs, and no text.

    html
        Write it as a page to this path instead: an absolute one that ends in ``.html``. It needs nothing else, and
        loads nothing. What is there must be such a page. Its mode is 0640. Then the dict has ``path`` and ``bytes``,
        and ``level`` and ``why``, how this server is, as ``salt-run qmail_doublebounce.report`` returns it.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.report
        salt '*' qmail_doublebounce.report table=False --out json
        salt-call qmail_doublebounce.report html=/srv/www/mail.html
    """
    if html is not None:
        wanted = settings(pillar, home=home, queue=queue, control=control, log=log, strict=False)
        return __salt__["qmail_doublebounce_overview.page"](html, wanted, _is_asked(pillar))
    table = __salt__["qmail_base_check.arguments"](table=table)["table"]
    qmail = settings(pillar, home=home, queue=queue, control=control, strict=log is None)["qmail"]
    log = qmail["log"] if log is None else log
    return __salt__["qmail_doublebounce_report.make"](
        log, home=qmail["home"], queue=qmail["queue"], control=qmail["control"], table=table
    )


def causes(since="7d", until=None, pillar=None, log=None, home=None, control=None, queue=None):
    """
    Show who causes the double bounces: the domains that accept mail for addresses that nobody has, and what makes this
    server refuse it instead. Nothing is changed.

    Returns a dict:

    - ``table``: text, for people; all else is the same as data;
    - ``double_bounces``, ``single_bounces``, and double bounces of ``unknown`` cause;
    - ``domains``: a dict for each of this server's domains that caused any, the worst first, at most 20, and how many
      ``others`` there are:

      - ``domain``, ``double_bounces``, ``share`` (of all of them), ``single_bounces``;
      - ``recipients``: how many different addresses failed; ``exact`` is ``False`` if there were more;
      - ``senders``: the five domains that such messages said most often they were from. Senders are forged;
      - ``nobody``: what happens to mail for an address that nobody has: ``bounces`` (there is no default file),
        ``bounces by program`` (vdelivermail, bouncesaying), ``accepts all``, ``rejects`` (qmail-smtpd refuses it),
        ``remote``, ``deferred`` or ``unknown``; ``to`` is the file or address;
      - ``refuses`` and ``why``: whether qmail-smtpd checks recipients there, as ``qmail_route.checks`` returns it. A
        domain that it checks is not to blame, and comes last;
      - ``remedy``: commands that end it; a line that begins with ``#`` is for you to read;

    - ``relayed``: up to five domains elsewhere, to which messages were relayed or forwarded that failed there;
    - ``programs``: up to five users who queued such messages: ``user``, ``uid``, ``double_bounces``, ``share``, and
      ``is_smtp``, whether qmail-smtpd usually runs as that user (``None`` for vpopmail). Others are programs of this
      machine, such as the scripts of a web site, or forwards;
    - ``log``, ``files``, ``unread``, ``how``, ``newest``: what was read, as for ``qmail_log.about``.

    A double bounce counts for the domain of the first recipient that failed, in the message that the first notice was
    about, or in the notice itself if it came from elsewhere.

    Raises SaltInvocationError if the settings or an argument are wrong, CommandExecutionError if no log is found, or if
    none of its lines are recognized as qmail-send's.

    since, until
        As for ``qmail_log.summary``.

    pillar, log, home, control, queue
        As for ``report``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.causes
        salt-call --local qmail_doublebounce.causes since=24h --out json
    """
    qmail = settings(pillar, home=home, control=control, queue=queue, strict=log is None)["qmail"]
    log = qmail["log"] if log is None else log
    return __salt__["qmail_doublebounce_causes.find"](qmail, log, since, until)


def overview(since="7d", pillar=None, log=None, home=None, control=None, queue=None):
    """
    Return what a table of many servers needs of this one, in a few kilobytes: where double bounces go and whether that
    is right, how many there were, what became of them, and because of whom. ``salt-run qmail_doublebounce.report`` asks
    each minion for it.

    Returns a dict:

    - ``form``: 1, and ``time``, when it was made, in seconds since the epoch;
    - ``verdict``, ``fate``, ``problems`` (at most five): as ``status`` returns them; ``sink``: where double bounces go;
      ``mode`` and ``holds``: what pillar asks for, and whether that is so, ``None`` without pillar; ``down``: whether
      no mail is delivered; ``restart_due``: whether qmail-send does not know its control files as they are now;
    - ``queue``: as ``status`` returns it, or ``None``;
    - ``since``, ``step`` and ``counts``: how many double bounces there were, in each hour, or in each day if there are
      more than 8, from ``since`` on; ``day`` and ``all``: how many there were in the last 24 hours and in the whole
      time, and what became of them, with the names of ``qmail_log.summary``;
    - ``came``: since when double bounces go by what this formula wrote, as ``report`` returns it, and if that is in
      this time, ``before`` and ``after``: what became of them until then and since. These and ``all`` also have what
      they cost, with the names of ``qmail_log.harm``;
    - ``causes``: the five domains that caused most: ``domain``, ``double_bounces``, and for the first three ``nobody``
      and ``remedy`` as ``causes`` returns them;
    - ``log``: its ``path``, when qmail-send wrote the ``newest`` line, or the ``reason`` why it cannot be read; then
      the figures are missing;
    - ``error``: if the settings are wrong, or the state cannot be read, why; then the state is missing.

    Texts are cut at 300 characters. Raises SaltInvocationError if ``since`` is wrong.

    since
        How far back: an age such as ``24h``, ``7d`` or ``4w``, from a day to 92.

    pillar, log, home, control, queue
        As for ``report``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_doublebounce.overview --out json
    """
    given = {"home": home, "control": control, "queue": queue, "log": log}
    wanted = settings(pillar, **given, strict=False)
    return __salt__["qmail_doublebounce_overview.gather"](wanted, _is_asked(pillar), since)


def metrics(pillar=None, log=None, home=None, control=None, queue=None):
    """
    Return what is known of this server's double bounces as metrics: OpenMetrics text, which Prometheus reads.

    - ``qmail_double_bounces_total`` by ``outcome``: ``queued`` and ``discarded`` (by qmail-send itself) are all there
      were; ``swallowed``, ``stored``, ``forwarded`` and ``deferred`` count how deliveries of queued ones ended, each
      time one did, and ``triple_bounced`` those that failed and were dropped;
    - ``qmail_queue_messages`` by ``kind``: ``double_bounce``, ``single_bounce``, ``unprocessed`` (qmail-send has not
      looked at it yet) and ``other``; together they are all;
    - ``qmail_queue_oldest_message_timestamp_seconds``, if there is one;
    - ``qmail_double_bounce_sink_holds`` (``holds`` of ``status``) and ``qmail_double_bounce_problems`` (how many it
      lists);
    - ``qmail_send_up`` and ``qmail_send_restart_due``;
    - ``qmail_log_newest_line_timestamp_seconds`` and ``qmail_log_gaps_total``: whether the log was seen whole.

    What is not known is left out, and the minion's log says why. The counters begin at 0 with the first call, which
    looks for the end of the log, and go on over rotations and restarts: the account of this lies in
    /var/lib/qmail-doublebounce. The alarm counts in the same one. A call reads 64 MiB of the log at most, and the next
    one goes on there.

    Raises SaltInvocationError if the settings are wrong.

    pillar
        As for ``settings``. If it has no settings, nothing is said about the sink.

    log, home, control, queue
        Settings, instead of what pillar says.

    CLI Example:

    .. code-block:: bash

        salt-call qmail_doublebounce.metrics --out=newline_values_only
        salt '*' qmail_doublebounce.metrics
    """
    wanted = settings(pillar, home=home, control=control, queue=queue, log=log)
    return __salt__["qmail_doublebounce_metrics.make"](wanted, _is_asked(pillar))["text"]


def _is_asked(pillar):
    """Return whether pillar asks for anything."""
    return bool(__salt__["qmail_doublebounce_settings.said"](pillar))
