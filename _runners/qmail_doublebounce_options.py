"""
The settings of a rollout: what was given, over the master's pillar, over the defaults.
"""

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

PILLAR = "qmail_doublebounce:rollout"
DEFAULTS = {
    "target": None,
    "tgt_type": "glob",
    "canary": 1,
    "size": 10,
    "verify": False,
    "timeout": 300,
    "test": False,
}
TGT_TYPES = (
    *("glob", "pcre", "list", "grain", "grain_pcre", "pillar", "pillar_pcre", "pillar_exact"),
    *("nodegroup", "range", "compound", "ipcidr"),
)


def checked(given):
    """
    Return all settings of a rollout, as a dict.

    Raises SaltInvocationError for the first one that is wrong.

    given
        The settings of the command, as a dict; ``None`` for what it does not say.

    For the runner ``qmail_doublebounce_rollout``.
    """
    said = {name: value for name, value in given.items() if value is not None}
    asked = {**DEFAULTS, **_pillar(), **said}
    asked["target"], asked["tgt_type"] = _target(asked["target"], asked["tgt_type"])
    for name in ("verify", "test"):
        if not isinstance(asked[name], bool):
            raise SaltInvocationError(f"{name} is {asked[name]!r}; allowed: True, False.")
    if not _is_number(asked["timeout"]) or not 1 <= asked["timeout"] <= 86400:
        raise SaltInvocationError(f"timeout is {asked['timeout']!r}; allowed: seconds, from 1 to 86400.")
    wave_size(asked["size"], 1)
    canary = asked["canary"]
    if not _is_number(canary):
        asked["canary"] = _names(canary)
    if asked["canary"] == [] or (_is_number(canary) and canary < 0):
        raise SaltInvocationError(f"canary is {canary!r}; allowed: how many, 0 for none, or names of minions.")
    return asked


def wave_size(size, total):
    """
    Return how many minions a wave has.

    Raises SaltInvocationError if the size is wrong.

    size
        A number, or a share such as ``10%``.

    total
        How many minions there are.

    For the runner ``qmail_doublebounce_rollout``.
    """
    share = str(size)[:-1] if str(size).endswith("%") else ""
    if share.isdecimal() and 1 <= int(share) <= 100:
        return max(1, total * int(share) // 100)
    if not _is_number(size) or size < 1:
        raise SaltInvocationError(f"size is {size!r}; allowed: how many minions, or a share of them such as 10%.")
    return size


def _pillar():
    """Return what the master's pillar says."""
    pillar = __salt__["pillar.show_pillar"](__opts__["id"])
    wrong = pillar.get("_errors") if isinstance(pillar, dict) else None
    if wrong:
        raise SaltInvocationError(
            f"The pillar of the master itself, {__opts__['id']}, cannot be read, and it may have settings: {wrong}"
        )
    ours = pillar.get("qmail_doublebounce") if isinstance(pillar, dict) else None
    said = (ours.get("rollout") or {}) if isinstance(ours, dict) else {}
    if not isinstance(said, dict):
        raise SaltInvocationError(f"{PILLAR} is {said!r}, but settings belong there: {', '.join(DEFAULTS)}.")
    unknown = [str(name) for name in said if name not in DEFAULTS]
    if unknown:
        raise SaltInvocationError(f"{PILLAR}:{unknown[0]} is not a setting. The settings are: {', '.join(DEFAULTS)}.")
    return said


def _target(target, tgt_type):
    """Return a target and its type, checked. Names in a list are a list, whatever the type is by default."""
    if not target or not isinstance(target, (str, list)):
        raise SaltInvocationError("No target is given. Name the minions, as in: rollout 'mx*'.")
    if tgt_type not in TGT_TYPES:
        raise SaltInvocationError(f"tgt_type is {tgt_type!r}; allowed: {', '.join(TGT_TYPES)}.")
    if isinstance(target, str) and tgt_type != "list":
        return target, tgt_type
    names = _names(target)
    if tgt_type not in ("list", DEFAULTS["tgt_type"]) or not names:
        raise SaltInvocationError(f"target is {target!r}; allowed with tgt_type={tgt_type}: a text, such as 'mx*'.")
    return names, "list"


def _names(said):
    """Return the names of minions in a list, or in a text with commas; none if it is neither."""
    names = said.split(",") if isinstance(said, str) else said
    if not isinstance(names, list) or not all(isinstance(name, str) or _is_number(name) for name in names):
        return []
    return [name for name in (str(name).strip() for name in names) if name]


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)
