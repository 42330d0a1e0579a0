"""The examples in the documentation of what people call: each runs as it stands, on a qmail home of the test's own."""

import ast
import inspect
import re
import shutil
import subprocess

import pytest
import salt.utils.args

from tests.support.house import REPOSITORY, House
from tests.support.mta import Mta
from tests.support.queue_on_disk import Queue
from tests.support.supervisors import booted

ADDRESS = "doublebounce@example.com"
EXAMPLE = re.compile(r"salt '\*' (?P<function>\S+)(?P<words>.*)")
OF_SALT = re.compile(r" --out[ =]\S+")  # for the command, not for the function


def examples():
    """List which function each example is for, which one it calls, and the rest of its line."""
    house = House()
    return [
        pytest.param(f"{face}.{name}", found["function"], found["words"], id=found[0])
        for face in house.faces
        for name, node in house.called[face].functions.items()
        for found in EXAMPLE.finditer(ast.get_docstring(node))
    ]


@pytest.fixture
def log(tmp_path):
    return shutil.copy(REPOSITORY / "tests/data/logs/maillog", tmp_path / "maillog")


@pytest.fixture
def server(home, modules, log, monkeypatch):
    """A server with the sink of the examples and double bounces; it gives a function the qmail-send that it needs."""
    booted(monkeypatch, False)
    mailbox, place, started = home.add_mailbox("doublebounce", "./Maildir/\n"), str(home.path), []
    Queue(home.path / "queue", split=1).put(7, age=100000)
    (mailbox / "Maildir/new/1.mx").write_text("Return-Path: <#@[]>\n\nHi.\n")
    (home.path / "alias/.qmail-default").write_text("#\n")
    modules["qmail_control.put"]("doublebounceto", "dummy", home=place)
    modules["qmail_mailbox.write"](ADDRESS, home=place)

    def server(function):
        if function == "qmail_doublebounce.probe":
            started.append(Mta(home, modules, log))  # delivers
        elif function.startswith(("qmail_doublebounce.", "qmail_queue.", "qmail_service.")):
            subprocess.run([home.path / "bin/qmailctl", "start"], check=True, timeout=10)
            assert home.wait_until_loaded("dummy@mail.example.net")

    yield server
    for mta in started:
        mta.stop()


def words(line):
    """Split a line as the shell does, and return what Salt makes of the words: arguments, by place and by name."""
    line = OF_SALT.sub("", line).strip()
    command = ["bash", "-c", f"printf '%s\\0' {line}"]
    split = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return salt.utils.args.parse_input(split[:-1] if line else [], condition=False)


@pytest.mark.parametrize(("function", "called", "line"), examples())
def test_an_example_runs(modules, server, home, log, function, called, line):
    assert called == function, "this is an example of another function"
    server(called)
    sink = home.mailbox("doublebounce")
    # The user sink has no name here; a number does, too.
    mine = {
        "/home/sink sink": f"{sink} {home.uid}",
        "/home/sink": sink,
        "/home/joe/Maildir": sink / "Maildir",
        "/var/qmail": home.path,
        "/var/log/maillog": log,
    }
    for place, path in mine.items():
        line = line.replace(place, str(path))
    given, named = words(line)
    # What an example leaves out, because that is where it is by default, is elsewhere for a test.
    usual = {"home": str(home.path), "pillar": {"address": ADDRESS, "qmail": {"home": str(home.path), "log": str(log)}}}
    if called.startswith("qmail_log."):
        usual["path"] = str(log)
    left_out = list(inspect.signature(modules[called]).parameters)[len(given) :]

    modules[called](*given, **{**{name: value for name, value in usual.items() if name in left_out}, **named})


def test_every_face_has_examples():
    assert {param.values[1].partition(".")[0] for param in examples()} == set(House().faces)
