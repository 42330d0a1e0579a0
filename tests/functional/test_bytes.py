"""Bytes that are not UTF-8, wherever others can write them: Salt can send every answer, and no other file is taken."""

import inspect
import os
import time

import pytest
import salt.utils.msgpack
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import cdb
from tests.support.log_model import FORMS
from tests.support.queue_on_disk import Queue
from tests.support.reading import LOOK

ADDRESS = "dummy@example.com"
ADDRESSES = (ADDRESS, "nobody@example.com", "x@other.example", "m\\xfcll@mail.example.net", "x-y@mail.example.net")
DOMAINS = ("example.com", "other.example", "prefix.example", "strange.example", "mail.example.net")
CONTROL = {
    "doublebounceto": b"m\xfcll\n",
    "doublebouncehost": b"ex\xe4mple.com\n",
    "bouncefrom": b"\xff\n",
    "bouncehost": b"\xff.example\n",
    "envnoathost": b"\xff.example\n",
    "percenthack": b"\xff.example\n",
    "locals": b"mail.example.net\nl\xf6cal.example\n",
    "virtualdomains": b"example.com:1\n\xfc@example.com:1\nother.example:joe\nprefix.example:\xfc\n\xe4.example:1\n"
    b"strange.example:strange\n",
}


def sendable(value):
    """Fail if Salt could not send this to a master, or print it."""
    try:
        salt.utils.msgpack.dumps(value, use_bin_type=True)
        str(value).encode()
    except UnicodeEncodeError:
        pytest.fail(ascii(value))


@pytest.fixture
def strange(home, tmp_path):
    """Write such bytes wherever there is a place for them."""
    for name, contents in CONTROL.items():
        (home.control / name).write_bytes(contents)
    joe = os.fsencode(home.path / "joe")
    for place in (joe, joe + b"/M\xfcll", os.fsencode(home.path) + b"/\xfcber"):
        os.mkdir(place)
    for name in (b".qmail-\xfc", b".qmail-\xfc-default", b".qmail-ok", b".qmail-\xe9-ok-default"):
        with open(joe + b"/" + name, "wb") as file:
            file.write(b"#\n")
    with open(joe + b"/.qmail-default", "wb") as file:
        file.write(b"| vdelivermail '' \xff\n")
    (home.path / "alias/.qmail-default").write_bytes(b"&\xff@example.org\n./M\xfcll/\n|echo \xff\n")
    (home.mailbox() / ".qmail").write_bytes(b"./M\xfcll/\n&\xff@example.org\n")
    owner = f"{home.uid}:{home.gid}".encode()
    lines = [
        *map(os.fsencode, home.assign),
        b"=1-\xfc:\xfcser:" + owner + b":" + os.fsencode(home.path) + b"/\xfcber:::",
        b"+joe-:joe:" + owner + b":" + joe + b":-::",
        b"+strange-:\xfcser:" + owner + b":" + os.fsencode(home.path) + b"/\xfcber:-:\xfc-:",
    ]
    text = b"".join(line + b"\n" for line in [*lines, b"."])
    (home.path / "users/assign").write_bytes(text)
    (home.path / "users/cdb").write_bytes(cdb.from_assign(os.fsdecode(text)))
    queue = Queue(home.path / "queue")
    queue.put(100, recipient=b"T\xfc@example.com\0")
    queue.put(101, sender=b"F\xfc@example.com\0", recipient=b"T\xfc@example.com\0")
    log = tmp_path / "log"
    words = (
        b"info msg 5: bytes 9 from <\xfc@\xfc.example> qp 7 uid 6",
        b"starting delivery 1: msg 5 to local \xfc@\xfc",
    )
    ends = (b"delivery 1: failure: \xfc/", b"bounce msg 5 qp 8", b"info msg 6: bytes 9 from <#@[]> qp 8 uid 6")
    log.write_bytes(b"".join(FORMS["multilog"](time.time(), one) + b"\n" for one in (*words, *ends)))
    return log


@pytest.fixture
def answers(modules, home, strange):
    """Call a function with what it may be given, and return all that it said."""
    place = str(home.path)
    joe = f"{place}/joe"
    usual = {
        "address": ADDRESSES,
        "recipient": ("1-dummy@example.com", "joe-x@other.example", "strange-x@strange.example", "\\xfc-x@example.com"),
        "domain": DOMAINS,
        "home": (place,),
        "queue": (f"{place}/queue",),
        "log": (str(strange),),
        "maildir": (f"{home.mailbox()}/Maildir",),
        "dotqmail": (f"{home.mailbox()}/.qmail", f"{place}/alias/.qmail-default", f"{joe}/.qmail-default"),
        "user": (str(home.uid),),
        "pillar": ({"address": ADDRESS, "qmail": {"home": place, "log": str(strange)}}, {"qmail": {"home": place}}),
        "form": ("plain", "badrcptto"),
    }
    names = {"qmail_control": tuple(CONTROL), "qmail_service": ("auto",)}
    paths = {"qmail_log": (str(strange),), "qmail_file": (str(home.control / "doublebounceto"),)}

    def answers(module, name):
        function = modules[f"{module}.{name}"]
        mine = {**usual, "name": names.get(module, ("auto",)), "path": paths.get(module, usual["dotqmail"])}
        if name in ("ends", "places"):
            mine["route"] = tuple(modules.qmail_route.resolve(one, home=place) for one in ADDRESSES)
        mine = {key: mine[key] for key in inspect.signature(function).parameters if key in mine}
        varied = max(mine, key=lambda key: len(mine[key]), default=None)
        said = []
        for value in mine.get(varied, (None,)):
            given = {key: values[0] for key, values in mine.items()}
            try:
                found = function(**(given if varied is None else {**given, varied: value}))
                said.append(list(found) if inspect.isgenerator(found) else found)
            except (CommandExecutionError, SaltInvocationError) as err:
                said.append(str(err))
            except TypeError as err:
                assert "missing" in str(err), err  # what only another function returns
        return said

    return answers


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in LOOK.items() for name in names])
def test_salt_can_send_every_answer(answers, module, name):
    said = answers(module, name)
    sendable(said)


@pytest.mark.parametrize("form", ["plain", "validrcptto", "badrcptto"])
def test_salt_can_send_every_list_and_none_holds_such_bytes(modules, home, strange, form):
    for domain in DOMAINS:
        try:
            found = modules.qmail_route.recipients(domain, form, partial=True, home=str(home.path))
        except CommandExecutionError as err:
            sendable(str(err))
            continue
        assert "\\x" not in found
        assert found.isascii()


def test_what_cannot_be_followed_is_said_to_be_there(modules, home, strange):
    found = modules.qmail_route.recipients("strange.example", home=str(home.path))
    assert {"pattern": "*@strange.example", "dotqmail": None} in found["wildcards"]
    assert "The prefix \\xfc of" in modules.qmail_route.recipients("prefix.example", home=str(home.path))["notes"][0]
    assert modules.qmail_route.resolve("x@strange.example", home=str(home.path))["outcome"] == "deferred"


@pytest.mark.parametrize("place", ["name", "home", "prefix"])
def test_no_file_is_taken_for_one_whose_bytes_look_like_it_when_they_are_shown(modules, home, place):
    """What is shown as \\xfc could be the name of another file, too."""
    where = str(home.path)
    if place == "name":
        (home.path / "alias/.qmail-m\\xfcll").write_text("#\n")
        (home.control / "doublebounceto").write_bytes(b"m\xfcll\n")
        address = modules.qmail_control.show(home=where)["recipient"]
        assert address == "m\\xfcll@mail.example.net"
        assert modules.qmail_mailbox.check(address, home=where)["fate"] == "bounced"
    if place == "home":
        (home.path / "\\xfc").mkdir()
        os.chown(home.path / "\\xfc", home.uid, home.gid)
        home.assign = [os.fsdecode(os.fsencode(line).replace(b"/dummy:", b"/../../\xfc:")) for line in home.assign]
        home.assign = [line.replace(str(home.mailbox().parent) + "/../../", f"{home.path}/") for line in home.assign]
        (home.path / "users/cdb").write_bytes(cdb.from_assign("\n".join(home.assign)))
    if place == "prefix":
        (home.control / "virtualdomains").write_bytes(b"example.com:\xfc\n")
    if place in ("home", "prefix"):
        before = home.snapshot()
        with pytest.raises(CommandExecutionError) as refused:
            modules.qmail_mailbox.write(ADDRESS, home=where, mailbox="dotqmail")
        sendable(str(refused.value))
        assert home.snapshot() == before


def test_the_status_names_such_a_value(modules, home):
    (home.control / "doublebounceto").write_bytes(b"m\xfcll\n")
    found = modules.qmail_doublebounce.status(pillar={"address": ADDRESS}, home=str(home.path))
    problems = [one for one in found["problems"] if "not UTF-8" in one["problem"]]
    assert len(problems) == 1
    assert problems[0]["problem"].startswith(f"{home.control}/doublebounceto holds m\\xfcll, ")
    assert problems[0]["remedy"].startswith("state.apply qmail-doublebounce")


def test_the_value_that_is_shown_does_not_count_as_the_bytes(modules, home):
    (home.control / "doublebounceto").write_bytes(b"m\xfcll\n")
    changes = modules.qmail_control.put("doublebounceto", "m\\xfcll", home=str(home.path))
    assert changes["value"] == {"old": "m\\xfcll", "new": "m\\xfcll"}
    assert (home.control / "doublebounceto").read_bytes() == b"m\\xfcll\n"


def test_the_formula_is_applied_over_such_bytes_and_clean_puts_them_back(apply, running):
    pillar = {"address": ADDRESS, "qmail": {"home": str(running.path)}}
    for name, contents in (("doublebounceto", b"m\xfcll\n"), ("doublebouncehost", b"ex\xe4mple.com \n\xff\n")):
        (running.control / name).write_bytes(contents)
    (running.mailbox() / ".qmail").write_bytes(b"./M\xfcll/\n")
    before = running.snapshot()
    for sls, test, changes in (
        ("qmail-doublebounce", True, True),
        ("qmail-doublebounce", False, True),
        ("qmail-doublebounce", False, False),
        ("qmail-doublebounce.clean", True, True),
        ("qmail-doublebounce.clean", False, True),
        ("qmail-doublebounce.clean", False, False),
    ):
        results = apply(sls, pillar, test=test)
        sendable([result.raw for result in results])
        assert all(result.result is (None if test and result.changes else True) for result in results), [
            result.comment for result in results
        ]
        assert any(result.changes for result in results) is changes
        if test:
            continue
        if sls == "qmail-doublebounce":
            assert (running.control / "doublebounceto").read_bytes() == b"dummy\n"
    assert running.snapshot() == before
