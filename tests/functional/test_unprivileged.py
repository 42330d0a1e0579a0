"""
What only looks needs no root: without it, it returns what it may see, or says in one message what it may not read.

As root, each function is called by a child that has become nobody; otherwise by whoever runs this. It is called over a
home as it is, and over one that is closed to that user.
"""

import contextlib
import ctypes
import inspect
import json
import os
import pathlib
import pwd
import re
import stat
import traceback
import types

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.house import REPOSITORY, House
from tests.support.queue_on_disk import Queue
from tests.support.reading import CHANGE, LOOK

SET_DUMPABLE = 4  # PR_SET_DUMPABLE in sys/prctl.h
REPORTED = (CommandExecutionError, SaltInvocationError)
# What a home that is closed keeps from everybody: an answer all the same would be a lie.
CLOSED = {
    "qmail_control": {"get", "value", "lines", "show", "discards"},
    "qmail_doublebounce": {"settings", "status", "holds", "report", "causes"},
    "qmail_file": {"read", "changed", "is_ours"},
    "qmail_log": {"about", "count", "counts", "summary", "causes"},
    "qmail_mailbox": {"check", "meaning", "has_plesk"},
    "qmail_queue": {"summary", "unprocessed", "double_bounces"},
    "qmail_route": {"resolve", "recipients", "checks"},
    "qmail_service": {"status", "find", "left_down", "check", "idle", "told"},
}
NAMES = [(module, name) for module, names in LOOK.items() for name in names]


@pytest.fixture
def server(home, modules):
    """A home with a queue, a log and a mailbox; a directory of the user's own; and the arguments that fit them."""
    queue = Queue(home.path / "queue")
    queue.put(100)
    log = home.path / "log.txt"
    log.write_text("Nov 24 02:11:15 mx qmail: 1795486275.513354 info msg 7: bytes 705 from <#@[]> qp 8 uid 1007\n")
    own = home.path.parent / "own"
    own.mkdir()
    own.chmod(0o777)
    place = str(home.path)
    qmail = {"home": place, "log": str(log)}
    given = {
        "address": home.ADDRESS,
        "but": home.ADDRESS,
        "domain": home.DOMAIN,
        "recipient": f"1-{home.ADDRESS}",
        "home": place,
        "control": f"{place}/control",
        "queue": f"{place}/queue",
        "log": str(log),
        "path": f"{place}/control/me",
        "dotqmail": f"{home.mailbox()}/.qmail",
        "user": str(home.uid),
        "name": "doublebounceto",
        "pillar": {"address": home.ADDRESS, "qmail": qmail},
        "instruction": "|exit 0",
        "account": None,
        "route": modules.qmail_route.resolve(home.ADDRESS, place),
        "where": modules.qmail_log.position(str(log)),
    }
    return types.SimpleNamespace(home=home, own=own, given=given, log=str(log))


def arguments(function, server, module):
    given = dict(server.given)
    if module == "qmail_log":
        given["path"] = server.log
    if module in ("qmail_service", "qmail_doublebounce", "qmail_file"):
        given.pop("name")
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


def as_nobody(work):
    """Call something in a child that has become nobody, where there is a root to come from; return what it wrote."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            if os.geteuid() == 0:
                nobody = pwd.getpwnam("nobody")
                os.setgroups([])
                os.setgid(nobody.pw_gid)
                os.setuid(nobody.pw_uid)
                ctypes.CDLL(None).prctl(SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc/self were closed to it
            with os.fdopen(writing, "w") as file:
                json.dump(work(), file)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = file.read()
    os.waitpid(child, 0)
    assert told, "the child has ended without a word"
    return json.loads(told)


def outcomes(modules, server):
    """Call everything that looks, and return what came of it: ``{"qmail_log.about": ["returned", …], …}``."""
    functions = {(module, name): modules[f"{module}.{name}"] for module, name in NAMES}
    given = {key: arguments(function, server, key[0]) for key, function in functions.items()}
    for module in House().modules:  # the loader reads them as root: their files may be closed to nobody
        for name in module.functions if module.kind == "module" else ():
            modules[f"{module.name}.{name}"]

    def work():
        os.environ["TMPDIR"] = str(server.own)
        os.chdir("/")
        return {".".join(key): outcome(function, given[key]) for key, function in functions.items()}

    return work


def outcome(function, given):
    try:
        found = function(**given)
        return ["returned", repr(list(found) if inspect.isgenerator(found) else found)]
    except REPORTED as err:
        return ["reported", str(err)]
    except Exception:
        return ["traceback", traceback.format_exc()]


def everything(server):
    """Return all that lies below the test's directory, with contents and times."""
    found = {}
    for path in sorted(server.home.path.parent.rglob("*")):
        about = path.lstat()
        contents = path.read_bytes() if stat.S_ISREG(about.st_mode) else None
        found[str(path)] = (about.st_mode, about.st_uid, about.st_gid, about.st_ctime_ns, contents)
    return found


def look(modules, server, minion_opts):
    kept = pathlib.Path(minion_opts["qmail_file.kept_directory"])
    work = outcomes(modules, server)
    before = everything(server)
    told = as_nobody(work)
    assert everything(server) == before
    assert not kept.exists()
    tracebacks = [f"{name}: {found}" for name, (how, found) in told.items() if how == "traceback"]
    assert not tracebacks, "\n".join(tracebacks)
    for how, found in told.values():
        assert how == "returned" or (found.strip() and "\n" not in found and "Traceback" not in found)
    return told


def test_each_returns_what_it_may_see_and_writes_nothing(modules, server, minion_opts):
    told = look(modules, server, minion_opts)
    for name in ("qmail_control.get", "qmail_log.count", "qmail_route.resolve", "qmail_queue.summary"):
        assert told[name][0] == "returned", told[name]
    assert "'double_bounces': 1" in told["qmail_queue.summary"][1]


def test_an_account_that_only_root_may_look_at_hides_nothing(modules, running, minion_opts):
    for name, value in (("doublebounceto", "dummy"), ("doublebouncehost", "example.com")):
        modules.qmail_control.put(name, value, home=str(running.path))
    assert pathlib.Path(minion_opts["qmail_file.kept_directory"]).stat().st_mode & 0o077 == 0
    known = modules.qmail_service.status(home=str(running.path))
    assert (known["running"], known["loaded"]) == (True, False)
    told = as_nobody(lambda: modules.qmail_service.status(home=str(running.path)))
    assert {**told, "since": known["since"]} == known


@pytest.fixture
def closed(server):
    """The same home, closed to everybody but root, or to everybody."""
    server.home.path.chmod(0o700 if os.geteuid() == 0 else 0)
    yield server
    server.home.path.chmod(0o755)


def test_what_may_not_be_read_is_said_in_one_message_and_nothing_is_made_up(modules, server, minion_opts, request):
    closed = request.getfixturevalue("closed")
    if os.geteuid() != 0:
        pytest.skip("only root may look into what is closed to all others, to compare it")
    told = look(modules, closed, minion_opts)
    made_up = {
        f"{module}.{name}": told[f"{module}.{name}"][1]
        for module, names in CLOSED.items()
        for name in names
        if told[f"{module}.{name}"][0] != "reported"
    }
    assert made_up == {}
    for module, names in CLOSED.items():
        for name in names:
            said = told[f"{module}.{name}"][1]
            assert re.search(r"ermission denied|may not look|is not allowed to", said), said


@pytest.mark.parametrize("module", sorted({*LOOK, *CHANGE}))
def test_every_function_for_people_either_looks_or_changes(module):
    public = set(House().called[module].functions)
    assert set(LOOK.get(module, ())) | set(CHANGE.get(module, ())) == public
    assert not set(LOOK.get(module, ())) & set(CHANGE.get(module, ()))


def test_security_md_lists_what_looks():
    text = (REPOSITORY / "SECURITY.md").read_text()
    (row,) = re.findall(r"^\| look \| (.+) \|$", text, re.MULTILINE)
    listed = {}
    for part in row.split("; "):
        module, _, names = part.partition(": ")
        listed[module.strip("`")] = set(re.findall(r"`(\w+)`", names))
    for module, names in LOOK.items():
        # What no command line can show is left out there.
        shown = set(names) - {"ends", "places", "each_double_bounce", "lines_since"}
        assert listed[module] in (shown, set()), module
    with contextlib.suppress(KeyError):
        assert set(listed) == set(LOOK)
