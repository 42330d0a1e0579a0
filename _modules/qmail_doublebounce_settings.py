"""
The settings: pillar over the defaults, checked as a whole.
"""

import difflib
import os

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

PILLAR = "qmail_doublebounce"
ROLLOUT = "rollout"  # for the master, whose runner checks it
DEFAULTS = {
    "mode": "sink",
    "address": None,
    "instruction": "|exit 0",
    "mailbox": "auto",
    "verify": False,
    "verify_timeout": "auto",
    "qmail": {"home": "/var/qmail", "control": None, "queue": None, "log": "auto"},
    "service": {"provider": "auto", "name": "auto", "timeout": 60},
}
CHOICES = {
    "mode": ("sink", "discard"),
    "mailbox": ("auto", "dotqmail", "plesk"),
    "service:provider": ("auto", "service", "daemontools", "runit", "s6", "qmailctl"),
}


def get(pillar=None, given=None, keys=None):
    """
    Return the settings of this minion: those given, over its pillar, over the defaults, all of them checked.

    Returns a dict with the keys of pillar.example, ``local`` and ``host``, the two halves of the address (``None`` in
    mode ``discard``, and if there is no address because pillar has no settings at all), ``problems``, a list of what is
    wrong, each with its place in pillar and what is allowed there, and ``absent``, those problems that are well-formed
    values, but name a directory that is not there. If there are problems, the other settings are defaults, except
    ``qmail`` and ``service`` if these are well-formed: they are all that is needed to undo things.

    pillar
        The pillar, or the part of it under ``qmail_doublebounce``. ``None`` for this minion's own; over salt-ssh a
        function cannot see it, so there it must be given.

    given
        Settings given by hand: a dict of places, such as ``qmail:home``, and values. ``None`` means not given.

    keys
        All keys at the top of pillar. If they are given, a pillar without settings is a problem, and the nearest of
        them is named.

    For ``qmail_doublebounce``.
    """
    told = said(pillar)
    problems = []
    merged = _merge({} if told is None else told, DEFAULTS, "", problems)
    for place, value in (given or {}).items():
        if value is not None:
            part, _, name = place.rpartition(":")
            (merged[part] if part else merged)[name] = value
    if keys is not None and told in (None, {}):
        problems.append(_silence(keys))
    if told is None or isinstance(told, dict):
        problems += _problems(merged, bool(told))
    places = {part: merged[part] for part in ("qmail", "service")}
    wrong = any(problem.startswith(f"{PILLAR}:{part}") for problem in problems for part in places)
    absent = [] if wrong else _absent(merged["qmail"])
    problems += absent
    if problems:
        merged = {**_merge({}, DEFAULTS, "", []), **({} if wrong else places)}
    home = merged["qmail"]["home"]
    for name in ("control", "queue"):
        merged["qmail"][name] = merged["qmail"][name] or os.path.join(home, name)
    halves = {"local": None, "host": None}
    if merged["mode"] == "sink" and merged["address"] is not None:
        halves = __salt__["qmail_mailbox.split"](merged["address"])
    return {**merged, **halves, "problems": problems, "absent": absent}


def said(pillar=None):
    """
    Return what pillar itself says under ``qmail_doublebounce``, unchecked; ``None`` if it says nothing.

    pillar
        As for ``get``.

    For ``qmail_doublebounce``, ``qmail_doublebounce_reading`` and the state ``qmail_doublebounce``.
    """
    if pillar is None:
        return __pillar__.get(PILLAR)
    return pillar.get(PILLAR) if isinstance(pillar, dict) and PILLAR in pillar else pillar


def _merge(given, defaults, place, problems):
    """Lay what is given over a copy of the defaults, and note what does not belong there."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in defaults.items()}
    if not isinstance(given, dict):
        problems.append(f"{_path(place)} is {given!r}, but settings belong there: see pillar.example.")
        return merged
    for key, value in given.items():
        where = f"{place}{key}"
        if where == ROLLOUT:
            continue
        if key not in defaults:
            problems.append(f"{_path(where)} is not a setting.{_nearest(key, defaults)}")
        elif isinstance(defaults[key], dict):
            merged[key] = _merge(value, defaults[key], f"{where}:", problems)
        else:
            merged[key] = value
    return merged


def _nearest(key, known):
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f" The nearest is {near[0]}." if near else f" The settings are: {', '.join(known)}."


def _silence(keys):
    others = [str(key) for key in keys if key != PILLAR]
    near = difflib.get_close_matches(PILLAR, others, n=1, cutoff=0.75)
    return (
        f"It has nothing under {PILLAR}; {_path('address')} is required, as in "
        f"doublebounce@example.com.{f' Its nearest key is {near[0]!r}.' if near else ''}"
    )


def _path(place):
    return ":".join(filter(None, (PILLAR, place.rstrip(":"))))


def _problems(merged, given):
    qmail, service = merged["qmail"], merged["service"]
    values = {"mode": merged["mode"], "mailbox": merged["mailbox"], "service:provider": service["provider"]}
    problems = [
        f"{_path(place)} is {value!r}; allowed: {', '.join(CHOICES[place])}."
        for place, value in values.items()
        if value not in CHOICES[place]
    ]
    if not isinstance(merged["verify"], bool):
        problems.append(f"{_path('verify')} is {merged['verify']!r}; allowed: true, false.")
    patience = merged["verify_timeout"]
    if patience not in (None, "auto") and not _is_seconds(patience):
        problems.append(f"{_path('verify_timeout')} is {patience!r}; allowed: auto, or seconds, from 1 to 86400.")
    problems += _address_problems(merged, given)
    problems += _called("instruction", __salt__["qmail_mailbox.contents"], merged["instruction"])
    problems += _path_problems(qmail)
    if not _is_log(qmail["log"]):
        problems.append(f"{_path('qmail:log')} is {qmail['log']!r}; allowed: auto, journald, or an absolute path.")
    if not _is_name(service["name"]):
        problems.append(f"{_path('service:name')} is {service['name']!r}; allowed: auto, or the name of a service.")
    if not _is_seconds(service["timeout"]):
        problems.append(f"{_path('service:timeout')} is {service['timeout']!r}; allowed: seconds, from 1 to 86400.")
    return problems


def _is_seconds(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 86400


def _address_problems(merged, given):
    if merged["address"] is not None:
        return _called("address", __salt__["qmail_mailbox.split"], merged["address"])
    if merged["mode"] == "sink" and given:
        return [f"{_path('address')} is missing; mode sink needs a whole address, as in doublebounce@example.com."]
    return []


def _called(place, function, value):
    try:
        function(value)
    except SaltInvocationError as err:
        return [f"{_path(place)}: {err}"]
    return []


def _path_problems(qmail):
    return [
        f"{_path('qmail:' + name)} is {qmail[name]!r}; allowed: an absolute path without . and .."
        for name in ("home", "control", "queue")
        if not (qmail[name] is None and name != "home") and not _is_path(qmail[name])
    ]


def _absent(qmail):
    """List the directories that are missing, or are not what they should be; or why it is not known."""
    control = qmail["control"] or os.path.join(qmail["home"], "control")
    try:
        for path in filter(None, (qmail["home"], control, qmail["queue"] and os.path.join(qmail["queue"], "lock"))):
            __salt__["qmail_base_access.there"](path)
    except CommandExecutionError as err:
        return [f"{err}."]
    problems = [
        f"{_path('qmail:' + name)} is {qmail[name]}, and there is no such directory. Set it to where qmail lives."
        for name in ("home", "control")
        if qmail[name] and not os.path.isdir(qmail[name])
    ]
    if problems:
        return problems
    lock = os.path.join(qmail["queue"] or "/", "lock/sendmutex")
    if qmail["queue"] and not os.path.exists(lock):
        problems.append(f"{_path('qmail:queue')} is {qmail['queue']}, which is not a queue: there is no {lock}.")
    if not os.path.isdir(control):
        lacks = "which is not a qmail home: it has no directory control"
        problems.append(f"{_path('qmail:home')} is {qmail['home']}, {lacks}.")
    return problems


def _is_path(value):
    if not isinstance(value, str) or "\0" in value or not __salt__["qmail_base_text.is_sendable"](value):
        return False
    return value.startswith("/") and os.path.normpath(value) == value


def _is_log(value):
    return _is_name(value) and (value == "auto" or value.partition(":")[0] == "journald" or value.startswith("/"))


def _is_name(value):
    return isinstance(value, str) and value != "" and value.isprintable()
