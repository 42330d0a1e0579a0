"""Whether qmail-send could read its control files is reported before its next start finds out."""

import os
import threading

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other users: needs root")

SEND = 4244


@pytest.fixture
def unreadable(modules, home):
    """The queue belongs to the user of qmail-send, which does not run."""
    (home.path / "queue/info").mkdir()
    os.chown(home.path / "queue/info", SEND, SEND)
    return lambda **named: modules.qmail_service_startup.unreadable(str(home.path), **named)


def paths(found):
    return [one["path"] for one in found]


def test_a_home_in_order_has_nothing_unreadable(unreadable):
    assert unreadable() == []


@pytest.mark.parametrize(
    "name",
    [
        "me",
        "queuelifetime",
        "concurrencylocal",
        "concurrencyremote",
        "envnoathost",
        "bouncefrom",
        "bouncehost",
        "doublebouncehost",
        "doublebounceto",
        "locals",
        "percenthack",
        "virtualdomains",
    ],
)
def test_each_file_that_it_reads_is_looked_at(unreadable, home, name):
    home.write_control(name, "1\n")
    path = home.control / name
    path.chmod(0o600)
    (found,) = unreadable()
    assert found["path"] == str(path)
    assert f"qmail-send cannot read {path}" in found["trouble"]
    assert found["remedy"] == f"chmod 644 {path}"
    path.chmod(0o640)
    os.chown(path, 0, SEND)
    assert unreadable() == []


def test_what_qmail_send_does_not_read_is_nothing_to_it(unreadable, home):
    home.write_control("rcpthosts", "a\n")
    (home.control / "rcpthosts").chmod(0o600)
    assert unreadable() == []


def test_a_fork_s_binary_names_what_it_reads(unreadable, home):
    home.write_control("bouncemaxbytes", "9\n")
    (home.control / "bouncemaxbytes").chmod(0o600)
    assert unreadable() == []
    (home.path / "bin/qmail-send").write_bytes(b"\x7fELF\0control/me\0control/bouncemaxbytes\0alert: control/x\0")
    assert paths(unreadable()) == [str(home.control / "bouncemaxbytes")]


def test_a_closed_directory_is_reported_once(unreadable, home):
    home.control.chmod(0o700)
    (found,) = unreadable()
    assert found["path"] == str(home.control)
    assert found["remedy"] == f"chmod a+x {home.control}"
    home.control.chmod(0o755)
    home.path.chmod(0o750)
    assert paths(unreadable()) == [str(home.path)]


def test_the_directory_of_the_setting_is_the_one_that_counts(unreadable, home):
    other = home.path / "mail"
    home.control.rename(other)
    home.control.symlink_to(other)
    (other / "me").chmod(0o600)
    assert paths(unreadable()) == [str(home.control / "me")]
    assert paths(unreadable(control=str(other))) == [str(other / "me")]


@pytest.mark.parametrize("kind", ["directory", "loop"])
def test_what_is_not_a_file_is_reported(unreadable, home, kind):
    path = home.control / "doublebounceto"
    path.mkdir() if kind == "directory" else path.symlink_to("doublebounceto")
    (found,) = unreadable()
    assert found["remedy"] == f"mv {path} {path}.away"


def test_a_link_to_nothing_is_a_missing_file(unreadable, home):
    (home.control / "doublebounceto").symlink_to("nowhere")
    assert unreadable() == []


def test_without_me_and_locals_it_does_not_start(unreadable, home):
    (home.control / "locals").unlink()
    assert unreadable() == []
    (home.control / "me").unlink()
    assert "without one of them" in unreadable()[0]["trouble"]


def test_the_user_of_the_running_one_counts(modules, running):
    (running.control / "me").chmod(0)
    (running.path / "queue/info").mkdir()
    os.chown(running.path / "queue/info", SEND, SEND)
    assert modules.qmail_service_startup.unreadable(str(running.path)) == []  # this qmail-send is root's


def test_an_unknown_user_is_reported(modules, home, monkeypatch):
    named = {"address": "dummy@example.com", "home": str(home.path)}
    monkeypatch.setitem(modules["qmail_service_startup.unreadable"].__globals__, "USER", "nobody-by-that-name")
    assert modules.qmail_service_startup.unreadable(str(home.path)) is None
    problems = modules.qmail_doublebounce.status({}, **named)["problems"]
    assert any("Cannot tell whether qmail-send can read its control files" in found["problem"] for found in problems)


@pytest.fixture
def secret(tmp_path):
    """A file that root may read, and the user who writes the log may not."""
    path = tmp_path / "secret"
    path.write_text("alert: secret\n")
    return path


@pytest.fixture(params=["log/main", "log", "elsewhere", "the setting"])
def last_words(request, modules, home, tmp_path):
    """Lay out a log in one of the places that are looked in: return its file ``current``, and what reads it."""
    service = tmp_path / "service/qmail-send"
    place = service / ("log/main" if request.param == "the setting" else request.param)
    place.mkdir(parents=True)
    (service / "log").mkdir(exist_ok=True)
    if request.param == "elsewhere":
        (service / "log/run").write_text("#!/bin/sh\nexec multilog t ../elsewhere\n")
    if request.param == "the setting":
        last_words = modules["qmail_service_startup.last_words"]
        return place / "current", lambda: last_words(str(home.path), provider="qmailctl", log=str(place))
    return place / "current", lambda: modules["qmail_service_directory.log"]("daemontools", str(service))


def test_the_end_of_the_log_is_read(last_words):
    current, read = last_words
    current.write_text("".join(f"alert: {number}\n" for number in range(20000)))
    assert read() == ["alert: 19997", "alert: 19998", "alert: 19999"]


def test_the_user_who_writes_the_log_gets_no_other_file_read(last_words, secret):
    current, read = last_words
    current.symlink_to(secret)
    assert read() == []


def test_nor_makes_root_wait(last_words):
    current, read = last_words
    os.mkfifo(current)
    late = []
    timer = threading.Timer(5, lambda: late.append(os.open(current, os.O_RDWR | os.O_NONBLOCK)))
    timer.start()
    try:
        assert read() == []
    finally:
        timer.cancel()
        timer.join()
    assert not late


def test_a_log_that_is_named_may_be_a_link(modules, home, secret):
    link = secret.with_name("maillog")
    link.symlink_to(secret)
    read = modules["qmail_service_startup.last_words"]
    assert read(str(home.path), provider="qmailctl", log=str(link)) == ["alert: secret"]
