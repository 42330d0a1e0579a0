"""
Count on in a log from where an earlier reading stopped: what is new counts once, through rotations and restarts.

Each reading is bounded by bytes and by time. What is known between two readings is plain data, for whoever keeps it.
"""

import base64
import binascii
import time
import zlib

from salt.exceptions import SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

CHUNK = 2**18  # bytes between two looks at the clock
LOOK_BACK = 2**20  # bytes in which the newest line is looked for at the beginning
UNPACK = 2**27  # bytes of a packed file that are unpacked to get behind them
MOST_DOMAINS = 2**8
# Bytes of lines about open messages: more than 8192 of them have, with all that led to them, in qmail's longest lines.
LARGEST = 2**24
RECENT = 600  # seconds
KEYS = {
    "position": dict,
    "rest": str,
    "open": str,
    "totals": dict,
    "domains": dict,
    "waits": dict,
    "recent": list,
}
NEW = "new"  # the slot of what is counted


def begin(path, home, queue):
    """
    Return the account of a log in which nothing was counted yet: it begins at the end of the log.

    path, home, queue
        As for ``qmail_log.tally``, which documents all of it.

    For ``qmail_log``.
    """
    found = __salt__["qmail_log_file.find"](path, home, queue)
    newest, _ = __salt__["qmail_log_age.last"](found, LOOK_BACK)
    position = __salt__["qmail_log_follow.position"](path, home, queue)
    nothing = {"totals": {}, "domains": {}, "gaps": 0, "unfollowed": 0, "rest": "", "open": "", "waits": {}}
    nothing.update(recent=[0, {}, {}], delays=__salt__["qmail_log_harm.delays"]({}, {}))
    return {**nothing, "position": position, "newest": newest, "read": 0, "behind": False}


def move(account, path, home, queue):
    """
    Return an account that goes on in the log which is written now, if that is another one than before.

    account, path, home, queue
        As for ``qmail_log.tally``, which documents all of it.

    For ``qmail_log``.
    """
    now = __salt__["qmail_log_follow.position"](path, home, queue)
    if now["path"] == account["position"]["path"]:
        return account
    return {**account, "position": now, "rest": "", "open": "", "gaps": account["gaps"] + 1}


def advance(account, limit, seconds):
    """
    Return the account with what was written to the log since.

    account, limit, seconds
        As for ``qmail_log.tally``, which documents all of it.

    For ``qmail_log``.
    """
    _check(account)
    told = {**account, "read": 0, "behind": False}
    take, kept = __salt__["qmail_log_open.keeper"](_unpacked(account["open"]), LARGEST)
    parts = _parts(told, kept()[0], take, limit, time.monotonic() + seconds)
    found = __salt__["qmail_log_message.follow"]([lambda: parts])
    if not told["read"]:
        return told
    lines, unfollowed = kept()
    told["open"] = _packed(lines)
    told["unfollowed"] += unfollowed
    counts, waits = found["slots"].get(NEW, ({}, []))
    told["totals"] = _sum(told["totals"], counts)
    _wait(told, {str(bucket): number for bucket, number in enumerate(waits) if number})
    domains = _sum(told["domains"], found["domains"])
    told["domains"] = {name: domains[name] for name in sorted(domains, key=lambda name: -domains[name])[:MOST_DOMAINS]}
    return told


def _parts(told, before, take, limit, deadline):
    """Yield what qmail-send says, as ``qmail_log_message.follow`` takes it; first of all what is not counted again."""
    runs, whole = __salt__["qmail_log_line.runs"], __salt__["qmail_log_line.whole"]
    yield None, [__salt__["qmail_log_open.run"](before)], 0
    rest = told["rest"].encode("latin-1")
    for data in _chunks(told, limit, deadline):
        data = rest + data
        end = whole(data)  # splogger may go on with the last line in the next one
        rest, data = data[end:], data[:end]
        told["rest"] = rest.decode("latin-1")
        _date(told, data)
        own = runs(data, time.time())
        take(own)
        yield NEW, own, len(data)


def _chunks(told, limit, deadline):
    while True:
        left = limit - told["read"]
        if left <= 0 or time.monotonic() >= deadline:
            told["behind"] = True
            return
        seconds = max(0.1, deadline - time.monotonic())
        found = __salt__["qmail_log_follow.block_since"](told["position"], min(CHUNK, left), seconds, UNPACK)
        is_over = found["position"] == told["position"]
        # While nothing comes, an entry of the journal that is gone is missed at each look.
        told["gaps"] += bool(found["lost"] and not is_over)
        told["position"] = found["position"]
        told["read"] += len(found["data"])
        if found["data"]:
            yield found["data"]
        if is_over:
            return


def _wait(told, waits):
    """Add the waits of a reading to all of them, and to the recent ones: those of this period and of the one before."""
    since, now, before = told["recent"]
    if not 0 <= time.time() - since < RECENT:
        since, now, before = int(time.time()), {}, now if 0 <= time.time() - since < 2 * RECENT else {}
    told["waits"], now = _sum(told["waits"], waits), _sum(now, waits)
    told["recent"] = [since, now, before]
    told["delays"] = __salt__["qmail_log_harm.delays"](*map(_numbered, (told["waits"], _sum(now, before))))


def _numbered(waits):
    """By numbers again: JSON, in which accounts are kept, has only text for keys."""
    return {int(bucket): number for bucket, number in waits.items()}


def _date(told, data):
    """Remember when qmail-send wrote last; without times in the log, that is now."""
    found = __salt__["qmail_log_line.last"](data)
    if found:
        now = time.time()
        when = __salt__["qmail_log_time.first_time"](data[found[0] : found[1]], now)
        told["newest"] = int(now if when is None else when)


def _check(account):
    wrong = not isinstance(account, dict) or [
        name for name, kind in KEYS.items() if not isinstance(account.get(name), kind)
    ]
    if wrong or not _are_counts(account):
        raise SaltInvocationError(
            f"account={ascii(account)[:200]} is not an account: give what qmail_log.tally returned"
        )


def _are_counts(account):
    recent = account["recent"]
    if len(recent) != 3 or not isinstance(recent[0], int) or not all(isinstance(part, dict) for part in recent[1:]):
        return False
    waits = (account["waits"], *recent[1:])
    if not all(isinstance(key, str) and key.isdecimal() and len(key) < 4 for part in waits for key in part):
        return False
    parts = (
        account["totals"],
        account["domains"],
        *waits,
        {name: account.get(name) for name in ("gaps", "unfollowed")},
    )
    return all(isinstance(number, int) and number >= 0 for part in parts for number in part.values())


def _packed(lines):
    return base64.b64encode(zlib.compress(b"\n".join(lines), 1)).decode()


def _unpacked(text):
    if not text:
        return []
    unpack = zlib.decompressobj()
    try:
        lines = unpack.decompress(base64.b64decode(text, validate=True), LARGEST + 1)  # its end is behind the last byte
    except (binascii.Error, ValueError, zlib.error) as err:
        raise SaltInvocationError(f"account: the lines in it are damaged: {err}; begin a new one") from err
    if not unpack.eof:
        raise SaltInvocationError("account: the lines in it have no end; begin a new one")
    return lines.split(b"\n") if lines else []


def _sum(one, other):
    return {
        name: one.get(name, 0) + other.get(name, 0) for name in (*one, *(name for name in other if name not in one))
    }
