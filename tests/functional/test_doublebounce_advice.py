"""What makes a flood worse is said beside the problems, and is none of them."""

import os
import types

import pytest

from tests.support.queue_on_disk import Queue

ADDRESS = "dummy@example.com"


@pytest.fixture
def advice(modules, home, monkeypatch):
    """A home in which there is nothing to advise, with room on its disk, and a postmaster who reads."""
    (home.path / "alias/.qmail-postmaster").write_text("&joe@example.net\n")
    os.chown(home.path / "alias", home.uid, home.gid)
    about = types.SimpleNamespace(f_bavail=50, f_blocks=100, f_favail=50, f_files=100, f_flag=0)
    monkeypatch.setattr(os, "statvfs", lambda path: about)

    def advice():
        found = modules.qmail_doublebounce.status({}, address=ADDRESS, home=str(home.path))
        assert all(one["remedy"] for one in found["advice"])
        return [one["advice"] for one in found["advice"]]

    advice.room = about
    return advice


def test_where_all_is_as_it_should_be_there_is_no_advice(advice):
    assert advice() == []


def test_double_bounces_that_wait_for_long_are_named(advice, home):
    queue = Queue(home.path / "queue")
    for number in range(1, 102):
        queue.put(number)
    assert advice() == ["101 double bounces wait in the queue, each for up to 7 days (queuelifetime)."]
    home.write_control("queuelifetime", "172800\n")
    assert advice() == []
    home.write_control("queuelifetime", "259200 seconds\n")
    assert "up to 3 days" in advice()[0]
    home.write_control("queuelifetime", "long\n")
    assert "up to 7 days" in advice()[0]


@pytest.mark.parametrize(
    ("text", "words"), [("0\n", "no local mail"), ("1\n", "one slow"), ("2\n", None), ("\n", None)]
)
def test_too_few_local_deliveries_at_once_are_named(advice, home, text, words):
    home.write_control("concurrencylocal", text)
    assert [words in one for one in advice()] == [True] * bool(words)


@pytest.mark.parametrize("value", ["", "a@b.example", "mail.example.net\r", " x", "# x"])
@pytest.mark.parametrize("name", ["bouncefrom", "bouncehost"])
def test_an_odd_sender_of_bounces_is_named(advice, home, name, value):
    home.write_control(name, f"{value}\n")
    (said,) = advice()
    assert said.startswith(f"{name} is {value!r}")
    home.write_control(name, "fine\n")
    assert advice() == []


def test_a_host_that_nobody_elsewhere_can_write_to_is_named(advice, home):
    home.write_control("doublebouncehost", "sub.example.com\n")
    home.write_control("virtualdomains", ".example.com:1\n")
    assert advice() == []  # without rcpthosts all are accepted
    home.write_control("rcpthosts", "example.com\n")
    assert advice() == [
        "doublebouncehost sub.example.com is not in rcpthosts: nobody elsewhere can write to its postmaster."
    ]
    home.write_control("rcpthosts", "# hosts\n.Example.com\n")
    assert advice() == []
    home.write_control("rcpthosts", "example.com\n")
    home.write_control("morercpthosts.cdb", "")
    assert advice() == []


@pytest.mark.parametrize(
    ("contents", "words"), [(None, "has no mailbox"), ("#\n", "swallows mail"), ("./Maildir/\n", None)]
)
def test_a_postmaster_whom_nobody_reads_is_named(advice, home, contents, words):
    file = home.path / "alias/.qmail-postmaster"
    file.unlink()
    if contents:
        file.write_text(contents)
    assert [words in one for one in advice()] == [True] * bool(words)


@pytest.mark.parametrize(("field", "what"), [("f_bavail", "space"), ("f_favail", "inodes")])
def test_a_queue_that_has_hardly_any_room_left_is_named(advice, field, what):
    setattr(advice.room, field, 4)
    (said,) = advice()
    assert f"4.0% of its {what}" in said
    setattr(advice.room, field, 5)
    assert advice() == []


def test_advice_changes_nothing_about_what_holds(modules, running):
    running.write_control("doublebounceto", "dummy\n")
    running.write_control("doublebouncehost", "example.com\n")
    (running.mailbox() / ".qmail").write_text("|exit 0\n")
    modules.qmail_service.restart(home=str(running.path), provider="qmailctl", name=str(running.path / "bin/qmailctl"))
    found = modules.qmail_doublebounce.status({}, address=ADDRESS, home=str(running.path))
    assert "postmaster@mail.example.net has no mailbox" in found["advice"][0]["advice"]
    assert (found["problems"], found["pillar"]["holds"]) == ([], True)
