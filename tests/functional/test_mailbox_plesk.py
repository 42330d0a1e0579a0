"""Where Plesk runs the domain, Plesk makes the mailbox; whatever else it says is reported in its own words."""

import json
import os
import pathlib
import re
import time

import pytest
from salt.exceptions import CommandExecutionError

BIN = pathlib.Path(__file__).parent.parent / "support/bin"
ADDRESS = "sink@example.com"


class Plesk:
    """Plesk's command on PATH, as a stand-in whose behaviour a test chooses."""

    def __init__(self, home, directory):
        self.home = home
        self.place = directory / "plesk.json"
        self.behave("success")

    def behave(self, behaviour):
        cdb = (self.home.path / "users/cdb").read_bytes().decode("latin-1")
        self.place.write_text(json.dumps({"home": str(self.home.path), "behaviour": behaviour, "cdb": cdb}))

    def calls(self):
        path = self.place.parent / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self):
        return [call["words"][2] for call in self.calls()]


@pytest.fixture
def plesk(home, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/plesk").symlink_to(BIN / "plesk")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    plesk = Plesk(home, tmp_path)
    monkeypatch.setenv("PLESK_STAND_IN", str(plesk.place))
    return plesk


@pytest.fixture
def sink(states, home):
    return lambda address=ADDRESS, **named: states.qmail_mailbox.sink(name=address, home=str(home.path), **named)


def test_a_missing_mailbox_is_made_by_plesk_and_becomes_the_sink(plesk, sink, home, modules):
    returned = sink()
    assert returned.result is True
    assert returned.changes["mailbox"] == {"old": None, "new": ADDRESS}
    assert plesk.verbs() == ["--info", "--create"]
    assert plesk.calls()[1]["words"] == ["bin", "mail", "--create", ADDRESS, "-mailbox", "true", "-passwd", ""]
    assert modules.qmail_mailbox.check(ADDRESS, home=str(home.path))["fate"] == "swallowed"


def test_a_second_run_asks_plesk_nothing(plesk, sink):
    sink()
    before = plesk.verbs()
    assert sink().changes == {}
    assert plesk.verbs() == before


def test_test_mode_asks_but_makes_nothing(plesk, sink, home):
    before = home.snapshot()
    told = sink(test=True)
    assert told.result is None
    assert home.snapshot() == before
    assert plesk.verbs() == ["--info"]
    assert told.comment == f"Plesk would make the mailbox, and mail for {ADDRESS} would be swallowed."
    assert told.changes["mailbox"] == sink().changes["mailbox"]


def test_the_password_is_random_and_is_found_nowhere(plesk, sink, home, caplog):
    caplog.set_level("DEBUG")
    returned = sink()
    home.add_mailbox("third", None)
    sink("fourth@example.com")
    passwords = [call["password"] for call in plesk.calls() if call["words"][2] == "--create"]
    assert len(set(passwords)) == 2
    assert all(len(password) >= 24 for password in passwords)
    words = [word for call in plesk.calls() for word in call["words"]]
    files = [path.read_bytes() for path in home.path.rglob("*") if path.is_file()]
    for password in passwords:
        assert password not in caplog.text + str(returned.full_return) + " ".join(words)
        assert not any(password.encode() in contents for contents in files)


def test_what_plesk_wrote_comes_back_and_the_mailbox_stays(plesk, sink, home, states):
    sink()
    states.qmail_mailbox.restored(name="undo", address=ADDRESS)
    assert (home.mailbox("sink") / ".qmail").read_text() == "| true\n| /usr/bin/deliverquota ./Maildir\n"
    assert plesk.verbs() == ["--info", "--create"]


def test_a_sink_that_pillar_left_is_given_back_and_its_mailbox_in_plesk_is_reported(plesk, sink, running, states):
    sink()
    sink("third@example.com")
    returned = states.qmail_mailbox.given_back(name="others", but="third@example.com", home=str(running.path))
    assert returned.result is True
    assert returned.comment == (
        f"The mailbox of {ADDRESS} is as it was before. If Plesk made {ADDRESS} only for this, remove it in Plesk."
    )
    assert (running.mailbox("sink") / ".qmail").read_text() == "| true\n| /usr/bin/deliverquota ./Maildir\n"
    assert plesk.verbs() == ["--info", "--create"] * 2


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("no domain", "Domain example.com does not exist"),
        ("limit reached", r"\(exit 1\): The limit on the number of mailboxes has been reached. Contact your provider."),
        ("licence expired", "Your license key has expired."),
        ("garbage", r"\(exit 0\): .*31m"),
        ("unknown to qmail", "plesk repair mail"),
        ("forgets users/assign", "plesk repair mail"),
    ],
)
def test_what_plesk_cannot_do_is_reported_in_its_own_words(plesk, sink, home, behaviour, words):
    plesk.behave(behaviour)
    before = {name: about for name, about in home.snapshot().items() if name.startswith("control")}
    returned = sink()
    assert returned.result is False
    made = {"mailbox": {"old": None, "new": ADDRESS}} if behaviour == "forgets users/assign" else {}
    assert returned.changes == made
    assert returned.full_return["skip_watch"] is True
    assert re.search(words, str(returned.comment)), returned.comment
    assert {name: about for name, about in home.snapshot().items() if name.startswith("control")} == before


def test_a_password_that_plesk_repeats_is_blotted_out(plesk, sink):
    plesk.behave("says the password")
    returned = sink()
    assert plesk.calls()[-1]["password"] not in str(returned.comment)
    assert "Cannot use …" in str(returned.comment)


def test_a_plesk_that_hangs_is_given_up(plesk, modules):
    plesk.behave("hang")
    began = time.monotonic()
    with pytest.raises(CommandExecutionError, match=r"did not end within 0\.5 seconds"):
        modules.qmail_mailbox_plesk.info(ADDRESS, timeout=0.5)
    assert time.monotonic() - began < 500


def test_a_wrong_instruction_stops_it_before_plesk_is_asked(plesk, sink):
    assert sink(instruction=" |exit 0").result is False
    assert plesk.verbs() == []


def test_plesk_with_another_mail_server_is_refused(plesk, sink, home):
    (home.path / "bin/qmail-send").unlink()
    before = home.snapshot()
    for address in (ADDRESS, "dummy@example.com"):
        returned = sink(address)
        assert returned.result is False
        assert "with another mail server" in str(returned.comment)
    assert home.snapshot() == before
    assert plesk.verbs() == []


def test_without_plesk_the_setting_plesk_is_refused(sink, home):
    returned = sink(mailbox="plesk")
    assert returned.result is False
    assert "Plesk's command is missing" in str(returned.comment)


def test_the_module_alone_makes_no_mailbox(plesk, modules, home):
    with pytest.raises(CommandExecutionError, match=r"qmail_mailbox\.make"):
        modules.qmail_mailbox.write(ADDRESS, home=str(home.path))
    assert plesk.verbs() == []


def test_the_formula_on_a_server_that_plesk_runs_without_qmail_says_just_that(plesk, loaders, home):
    for name in ("bin/qmail-send", "bin/qmailctl", "queue/lock/sendmutex"):
        (home.path / name).unlink()
    before = home.snapshot()
    pillar = {"qmail_doublebounce": {"address": ADDRESS, "qmail": {"home": str(home.path)}}}
    results = {result.id: result for result in loaders.modules.state.apply("qmail-doublebounce", pillar=pillar)}
    assert results["the settings are right"].result is True
    assert "Plesk runs this server with another mail server" in results["the sink is ready"].comment
    assert results["double bounces are taken care of"].result is False
    assert home.snapshot() == before
