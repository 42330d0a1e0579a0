"""Whatever an argument is, a wrong one is reported in words: no function ends in a traceback, and none acts on it."""

import inspect
import itertools
import operator

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.house import House
from tests.support.queue_on_disk import Queue

ADDRESS = "dummy@example.com"
ODD = (
    None,
    True,
    -1,
    1.5,
    float("nan"),
    "",
    "2s",
    "\0",
    "relative/path",
    "/nonexistent/doublebounce",
    "ü",
    "/nonexistent/\udcfc@\udcfc",
    b"\xff",
    [],
    {},
)
# What people call. Those that act on a queue or a process find none here, or only look.
FACES = {
    "qmail_control": ("get", "value", "lines", "show", "put", "restore", "discards", "path"),
    "qmail_doublebounce": ("settings", "status", "holds", "probe", "report", "causes", "metrics", "overview"),
    "qmail_file": ("read", "replace", "restore", "kept", "version", "changed", "moment", "written", "is_ours", "store"),
    "qmail_log": ("about", "count", "counts", "summary", "harm", "tally", "causes", "position"),
    "qmail_mailbox": (
        *("check", "predict", "meaning", "make", "write", "restore", "history", "purge"),
        *("split", "contents", "is_without_qmail", "former", "sinks", "take_out", "has_plesk"),
    ),
    "qmail_queue": ("summary", "glance", "unprocessed", "double_bounces", "expire", "remove"),
    "qmail_route": ("resolve", "deliver", "recipients", "checks", "default_program", "catches_all"),
    "qmail_service": (
        *("status", "find", "left_down", "restart", "start", "stop"),
        *("check", "missing", "idle", "unreadable", "last_words", "told", "directory"),
    ),
}

# What takes what another function returned, or returns what no command line shows.
FOR_MODULES = {"each_double_bounce", "ends", "places", "give_up", "lines_since"}


@pytest.fixture
def usual(home, tmp_path):
    """What each argument may be, by its name."""
    Queue(home.path / "queue")
    (home.path / "bin/qmailctl").unlink()  # nothing here can start qmail-send
    log = tmp_path / "log"
    log.write_text("Nov 24 02:11:15 mx qmail: 1795486275.513354 end msg 5\n")
    place = str(home.path)
    return {
        "address": ADDRESS,
        "domain": "example.com",
        "recipient": f"1-{ADDRESS}",
        "home": place,
        "control": f"{place}/control",
        "queue": f"{place}/queue",
        "log": str(log),
        "path": str(tmp_path / "file"),
        "contents": "text\n",
        "maildir": f"{home.mailbox()}/Maildir",
        "dotqmail": f"{home.mailbox()}/.qmail",
        "user": str(home.uid),
        "name": "doublebounceto",
        "value": "dummy",
        "pillar": {"address": ADDRESS, "qmail": {"home": place, "log": str(log)}},
        "token": "doublebounce-probe-0123456789abcdef",
        "test": True,
        "timeout": 0.1,
        "settle": 0,
    }


def calls(function, usual, named):
    """Call a function with each of its arguments in turn as what it cannot be; yield the argument and what it was."""
    arguments = {name: usual[name] for name in inspect.signature(function).parameters if name in usual}
    arguments.update(named)
    for name, parameter in inspect.signature(function).parameters.items():
        for odd in ODD:
            if not (odd is None and parameter.default is None):
                yield name, odd, {**arguments, name: odd}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in FACES.items() for name in names])
def test_a_wrong_argument_is_reported_in_words(modules, usual, home, module, name):
    function = modules[f"{module}.{name}"]
    named = {
        "qmail_log": {"path": usual["log"]},
        "qmail_route.catches_all": {"path": usual["dotqmail"]},
        "qmail_service": {"name": "auto"},
        "qmail_queue": {"name": "auto"},
        "qmail_doublebounce": {"name": "auto"},
    }.get(module, {})
    named = {key: value for key, value in named.items() if key in inspect.signature(function).parameters}
    before = home.snapshot()
    wrong = []
    for argument, tries in itertools.groupby(calls(function, usual, named), key=operator.itemgetter(0)):
        for _, odd, arguments in tries:
            try:
                function(**arguments)
            except (CommandExecutionError, SaltInvocationError) as err:
                if not str(err):
                    wrong.append((argument, odd, "no words"))
                if not str(err).isprintable():
                    wrong.append((argument, odd, ascii(str(err))))
            except Exception as err:
                wrong.append((argument, odd, repr(err)))
        if argument != "test" and home.snapshot() != before:
            wrong.append((argument, "something has changed"))
            before = home.snapshot()
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("module", FACES)
def test_every_function_for_people_is_tried(module):
    public = set(House().called[module].functions)
    assert public - FOR_MODULES == set(FACES[module])
