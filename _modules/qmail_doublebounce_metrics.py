"""
What is known of a server's double bounces as OpenMetrics text. What is not known is left out: it is not 0.

The text is right for Prometheus' older format, too, which is what node_exporter's textfile collector reads: no times,
and no unit lines. No address is ever a label: there are as many as spammers invent.
"""

import logging

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

log = logging.getLogger(__name__)

PATIENCE = 10  # seconds to wait for the alarm, which is done much sooner
LIMIT = 2**26  # bytes of the log
SECONDS = 5
# What the counts are called in the label ``outcome``, and here.
OUTCOMES = {
    "queued": "double_bounces",
    "discarded": "discarded",
    "triple_bounced": "triple_bounces",
    "swallowed": "swallowed",
    "stored": "stored",
    "forwarded": "forwarded",
    "deferred": "deferred",
}
KINDS = ("double_bounce", "single_bounce", "unprocessed", "other")
# Each family: what it is, and its help, which is the same on all servers.
FAMILIES = {
    "qmail_double_bounces": (
        "counter",
        "Double bounces: queued, or discarded by qmail-send itself; and how deliveries of the queued ones ended.",
    ),
    "qmail_delivery_delay_seconds": (
        "summary",
        "From the queue to a local delivery, of mail with a sender; quantiles of the last ten to twenty minutes.",
    ),
    "qmail_queue_messages": ("gauge", "Messages in the queue; unprocessed ones were not looked at by qmail-send yet."),
    "qmail_queue_oldest_message_timestamp_seconds": ("gauge", "When the oldest message in the queue came."),
    "qmail_double_bounce_sink_holds": ("gauge", "Whether double bounces go and end as pillar asks."),
    "qmail_double_bounce_problems": ("gauge", "Problems that qmail_doublebounce.status lists."),
    "qmail_send_up": ("gauge", "Whether qmail-send runs."),
    "qmail_send_restart_due": ("gauge", "Whether qmail-send has not read its control files as they are now."),
    "qmail_log_newest_line_timestamp_seconds": ("gauge", "When qmail-send wrote to its log last."),
    "qmail_log_gaps": ("counter", "How often lines of the log were missed: it was gone, or is another one now."),
}


def make(settings, is_asked, test=False):
    """
    Return what ``qmail_doublebounce.metrics`` returns, and why something is missing: ``{"text": …, "missing": […]}``.

    settings
        What ``qmail_doublebounce.settings`` returns.

    is_asked
        Whether pillar asks for anything.

    test
        Write nothing, also no account.

    For ``qmail_doublebounce`` and the state ``qmail_doublebounce``.
    """
    values, missing = {}, []
    for look in (_counts, _queue_and_status):
        try:
            missing += look(values, settings, is_asked, test)
        except (CommandExecutionError, SaltInvocationError) as err:
            missing.append(str(err))
    for reason in missing:
        log.warning("metrics: %s", reason)
    return {"text": _text(values), "missing": missing}


def _counts(values, settings, is_asked, test):
    bounds = {"patience": PATIENCE, "limit": LIMIT, "seconds": SECONDS}
    account = __salt__["qmail_doublebounce_account.read"](settings["qmail"], test=test, **bounds)
    counted = account["log"]
    if counted is None:
        return [account["reason"] or "Somebody else is counting right now."]
    totals = counted["totals"]
    values["qmail_double_bounces"] = [({"outcome": outcome}, totals.get(name, 0)) for outcome, name in OUTCOMES.items()]
    values["qmail_delivery_delay_seconds"] = _delays(counted["delays"])
    values["qmail_log_gaps"] = [({}, counted["gaps"])]
    if counted["newest"] is not None:
        values["qmail_log_newest_line_timestamp_seconds"] = [({}, counted["newest"])]
    return [account["reason"]] if account["reason"] else []


def _delays(delays):
    """The samples of a summary; a quantile of nothing is not known."""
    known = {part: value for part, value in delays["quantiles"].items() if value is not None}
    quantiles = [({"quantile": part}, value) for part, value in known.items()]
    return [*quantiles, ("_sum", delays["sum"]), ("_count", delays["count"])]


def _queue_and_status(values, settings, is_asked, test):
    qmail, missing = settings["qmail"], []
    try:
        queue = __salt__["qmail_queue.summary"](qmail["queue"], qmail["home"])
    except CommandExecutionError as err:
        queue = None
        missing.append(str(err))
    if queue:
        double, single, new = (queue[name] for name in ("double_bounces", "single_bounces", "unprocessed"))
        other = max(0, queue["messages"] - double - single - new)
        values["qmail_queue_messages"] = [
            ({"kind": kind}, number) for kind, number in zip(KINDS, (double, single, new, other))
        ]
        if queue["oldest"] is not None:
            values["qmail_queue_oldest_message_timestamp_seconds"] = [({}, queue["oldest"])]
    found = __salt__["qmail_doublebounce_status.look"](settings, is_asked, queue)
    service = found["service"]
    values["qmail_double_bounce_problems"] = [({}, len(found["problems"]))]
    if is_asked:
        values["qmail_double_bounce_sink_holds"] = [({}, int(found["pillar"]["holds"]))]
    if service["running"] is not None:
        values["qmail_send_up"] = [({}, int(service["running"]))]
    if service["running"] and service["loaded"] is not None:
        values["qmail_send_restart_due"] = [({}, int(not service["loaded"]))]
    return missing


def _text(values):
    lines = []
    for family, (kind, told) in FAMILIES.items():
        if family not in values:
            continue
        lines += [f"# HELP {family} {told}", f"# TYPE {family} {kind}"]
        name = f"{family}_total" if kind == "counter" else family
        lines += [f"{name}{_labels(labels)} {value}" for labels, value in values[family]]
    return "\n".join([*lines, "# EOF", ""])


def _labels(labels):
    """What follows the name of a family: labels, or the ending of a summary's sum and count."""
    if isinstance(labels, str):
        return labels
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}" if labels else ""
