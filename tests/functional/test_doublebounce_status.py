"""One look shows where double bounces go, what becomes of them, and what is wrong: by files and the process."""

import os
import subprocess

import pytest

from tests.support.queue_on_disk import Queue
from tests.support.supervisors import paused

ADDRESS = "dummy@example.com"
APPLY = "state.apply qmail-doublebounce"
CANNOT = "alert: cannot start: unable to read controls"


@pytest.fixture
def status(modules, home):
    def status(address=ADDRESS, **named):
        return modules.qmail_doublebounce.status({}, address=address, home=str(home.path), **named)

    return status


@pytest.fixture
def told(status):
    """The problems, each as "problem remedy"."""
    return lambda **named: [f"{found['problem']} {found['remedy']}" for found in status(**named)["problems"]]


def applied(home):
    home.write_control("doublebounceto", "dummy\n")
    home.write_control("doublebouncehost", "example.com\n")
    (home.mailbox() / ".qmail").write_text("|exit 0\n")


def restarted(home):
    subprocess.run([home.path / "bin/qmailctl", "restart"], check=True, timeout=60)
    assert home.wait_until_loaded("dummy@example.com")


def test_a_sink_in_order_is_reported_as_such(status, running):
    applied(running)
    restarted(running)
    found = status()
    assert found["verdict"] == "Double bounces vanish at dummy@example.com."
    assert (found["recipient"], found["fate"], found["problems"]) == (ADDRESS, "swallowed", [])
    assert found["pillar"] == {
        "mode": "sink",
        "address": ADDRESS,
        "instruction": "|exit 0",
        "fate": "swallowed",
        "holds": True,
    }
    assert found["service"]["loaded"] is True


def test_the_log_that_qmail_send_writes_is_named_and_since_when_it_is_silent(status, running):
    found = status()["log"]
    path = str(running.path / "log")
    assert (found["log"], found["files"], found["how"]) == (path, [path], "followed")
    assert found["newest"] == int(os.stat(path).st_mtime)  # the stand-in's lines have no times


def test_a_log_in_a_form_that_nobody_knows_is_reported(modules, running, tmp_path):
    (tmp_path / "maillog").write_text("Nov 24 02:11:15 mx postfix/qmgr[5]: 4F2: removed\n")
    qmail = {"home": str(running.path), "log": str(tmp_path / "maillog")}
    found = modules.qmail_doublebounce.status({"address": ADDRESS, "qmail": qmail})["log"]
    assert found["log"] is None
    assert "postfix" in found["reason"]


def test_the_defaults_of_qmail_are_reported(status, running):
    found = status()
    assert found["recipient"] == "postmaster@mail.example.net"
    assert found["doublebounceto"]["source"] == "default"
    assert found["pillar"]["holds"] is False
    assert "Pillar wants double bounces at dummy@example.com" in found["problems"][-1]["problem"]


def test_an_empty_pillar_is_reported(modules, running):
    found = modules.qmail_doublebounce.status({}, home=str(running.path))
    assert "It has no qmail_doublebounce" in found["pillar"]


def test_a_look_writes_nothing(status, running):
    before = running.snapshot()
    status()
    assert running.snapshot() == before


def test_an_edit_by_hand_is_not_known_to_qmail_send_and_hup_does_not_help(status, told, running):
    applied(running)
    os.kill(running.pid(), 1)
    found = status()
    assert "does not know that yet" in found["verdict"]
    assert found["pillar"]["holds"] is False
    assert any("HUP" in problem for problem in told())


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("dummy@example.com\n", "holds a whole address"),
        ("#dummy\n", "begins with #"),
        ("dummy\r\n", "carriage return"),
        (" dummy\n", "begins with a blank"),
        ("\n", "discards nothing here"),
    ],
)
def test_each_classic_is_recognised_with_its_remedy(told, home, contents, words):
    applied(home)
    home.write_control("doublebounceto", contents)
    assert any(words in problem for problem in told()), told()


def test_a_catch_all_that_receives_them_is_reported(told, status, home):
    home.add_assign(f"+1-:alias:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias/.qmail-default").write_text("./Maildir/\n")
    applied(home)
    home.write_control("doublebounceto", "dummmy\n")
    assert status()["route"]["catch_all"] is True
    assert any("A catch-all receives" in problem for problem in told())


def test_a_sink_that_stores_is_reported(told, status, home):
    applied(home)
    (home.mailbox() / ".qmail").write_text("./Maildir/\n")
    assert status()["fate"] == "stored"
    (problem,) = (problem for problem in told() if "does not swallow" in problem)
    assert problem.endswith(f"{home.mailbox()}/.qmail delivers to './Maildir/'. {APPLY}, unless you want to keep them.")


@pytest.mark.parametrize("dotqmail", ["./Maildir/\n", "|exit 0\n./Maildir/\n", "|cat >mail\n", "&joe\n", ""])
def test_no_change_to_the_mailbox_that_gets_them_is_advised_but_the_formula(modules, home, dotqmail):
    """It may be the postmaster's, who reads it; and without its only line it would store."""
    home.add_assign(f"=postmaster:popuser:{home.uid}:{home.gid}:{home.mailbox()}:::")
    (home.mailbox() / ".qmail").write_text(dotqmail)
    found = modules.qmail_doublebounce.status({}, home=str(home.path))
    assert found["recipient"] == "postmaster@mail.example.net"
    checked = modules.qmail_mailbox.check(found["recipient"], home=str(home.path))
    assert checked["sink"] == "It should not be one: people write to postmaster."
    for reason in (found["reason"], checked["reason"]):
        assert not any(word in reason for word in ("remove", "write", "replace", "exit 0'"))
    (remedy,) = (one["remedy"] for one in found["problems"] if "postmaster@" in one["problem"])
    assert remedy.startswith("Set qmail_doublebounce:address in pillar, then state.apply qmail-doublebounce")


def test_a_sink_that_is_asked_to_store_is_no_problem(told, status, running):
    applied(running)
    restarted(running)
    (running.mailbox() / ".qmail").write_text("./Maildir/\n")
    found = status(instruction="./Maildir/")
    assert found["pillar"]["holds"] is True
    assert found["verdict"] == "Double bounces are stored at dummy@example.com."
    assert found["problems"] == []


def test_a_sink_that_stores_unasked_does_not_hold(status, running):
    applied(running)
    restarted(running)
    (running.mailbox() / ".qmail").write_text("./Maildir/\n")
    assert status()["pillar"]["holds"] is False


root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")


@pytest.mark.parametrize("mode", [0o1755, 0o777, pytest.param(0o700, marks=root)])
@pytest.mark.parametrize("instruction", ["|exit 0", "#", "./Maildir/", "&joe@elsewhere.example"])
def test_a_mailbox_that_defers_never_holds_and_is_a_problem(status, told, running, mode, instruction):
    applied(running)
    (running.mailbox() / ".qmail").write_text(f"{instruction}\n")
    restarted(running)
    assert status(instruction=instruction)["pillar"]["holds"] is True
    os.chown(running.mailbox(), os.geteuid(), os.getegid())
    running.mailbox().chmod(mode)
    found = status(instruction=instruction)
    assert (found["fate"], found["pillar"]["holds"]) == ("deferred", False)
    assert found["pillar"]["fate"] in ("swallowed", "stored", "forwarded")  # what is asked for is the same as before
    assert any("is deferred" in problem for problem in told(instruction=instruction))


@pytest.mark.parametrize("instruction", ["|exit 111", "|exit 100", "|/nowhere/program"])
def test_what_nobody_wants_never_holds(status, told, running, instruction):
    applied(running)
    restarted(running)
    assert status(instruction=instruction)["pillar"]["holds"] is False
    assert any("Nothing shows whether double bounces end" in problem for problem in told(instruction=instruction))
    (running.mailbox() / ".qmail").write_text(f"{instruction}\n")
    found = status(instruction=instruction)
    assert found["pillar"]["holds"] is False
    assert found["problems"] != []


@pytest.mark.parametrize("instruction", ["|cat >/dev/null", ["|cat >/dev/null", "./Maildir/"]])
def test_what_only_a_program_knows_never_holds_and_is_reported(status, told, running, instruction):
    lines = [instruction] if isinstance(instruction, str) else instruction
    applied(running)
    restarted(running)
    (running.mailbox() / ".qmail").write_text("".join(f"{line}\n" for line in lines))
    found = status(instruction=instruction)
    assert (found["fate"], found["pillar"]["holds"]) == ("unknown", False)
    problems = told(instruction=instruction)
    assert any("Only a program knows" in problem and '"|exit 0" or "#"' in problem for problem in problems)


def test_a_sink_that_swallows_what_pillar_wants_stored_is_reported(status, told, running):
    applied(running)
    restarted(running)
    assert status(instruction="./Maildir/")["pillar"]["holds"] is False
    assert any("asks for double bounces to be stored" in problem for problem in told(instruction="./Maildir/"))


@root
def test_a_control_file_that_qmail_send_cannot_read_is_the_heaviest_problem(status, told, running):
    applied(running)
    restarted(running)
    os.chown(running.control / "doublebounceto", 4242, 4242)
    (running.control / "doublebounceto").chmod(0)
    assert not any("cannot read" in problem for problem in told())  # this qmail-send is root's, and reads everything
    running.stop()
    (running.path / "queue/info").mkdir(parents=True, exist_ok=True)
    os.chown(running.path / "queue/info", 4243, 4243)
    found = status()
    path = running.control / "doublebounceto"
    assert found["pillar"]["holds"] is False
    assert f"qmail-send cannot read {path}" in told()[1]
    assert f"chmod 644 {path}" in told()[1]


def test_a_host_that_is_not_ours_is_reported(told, status, home):
    applied(home)
    home.write_control("doublebouncehost", "elsewhere.example\n")
    assert status()["fate"] == "remote"
    assert any("leave this server" in problem for problem in told())


def test_what_waits_in_the_queue_is_counted(told, status, home):
    assert status()["queue"] is None
    queue = Queue(home.path / "queue")
    for number in range(300):
        queue.put(number + 1, sender=b"F#@[]\0" if number % 2 else b"Fjoe@example.org\0")
    assert (status()["queue"]["messages"], status()["queue"]["double_bounces"]) == (300, 150)
    assert any("150 double bounces wait" in problem for problem in told())


def test_a_forgotten_qmail_newu_is_reported(told, home):
    os.utime(home.path / "users/cdb", (1, 1))
    assert any("qmail-newu" in problem for problem in told())


@pytest.mark.parametrize(
    ("assign", "cdb", "is_stale"), [(9, 9, False), (9, 10, False), (10, 9, True), (9, None, False)]
)
def test_a_cdb_is_stale_only_where_its_source_is_newer(told, home, assign, cdb, is_stale):
    os.utime(home.path / "users/assign", (assign, assign))
    if cdb is None:
        (home.path / "users/cdb").unlink()
    else:
        os.utime(home.path / "users/cdb", (cdb, cdb))
    assert any("users/assign is newer" in problem for problem in told()) is is_stale


def test_a_qmail_send_that_is_down_comes_first(told, status, home):
    applied(home)
    assert "no mail is delivered" in told()[0]
    assert status()["verdict"] == (
        "No mail is delivered: qmail-send does not run. By its control files, double bounces vanish at "
        "dummy@example.com."
    )


@pytest.fixture
def with_a_log(modules, home, tmp_path):
    """Look where qmail-send's log ends with these lines."""

    def look(*lines):
        (tmp_path / "maillog").write_text("".join(f"Nov 24 02:11:15 mx qmail: 1.5 {line}\n" for line in lines))
        qmail = {"home": str(home.path), "log": str(tmp_path / "maillog")}
        return modules.qmail_doublebounce.status({"address": ADDRESS, "qmail": qmail})

    return look


def test_the_log_of_one_that_cannot_start_is_reported(home, with_a_log):
    applied(home)
    found = with_a_log("status: exiting", CANNOT, CANNOT)
    first = found["problems"][0]
    assert first["problem"].endswith(f"no mail is delivered. Its log ends: status: exiting / {CANNOT}")
    assert first["remedy"] == f"Fix what the log reports, then salt-call qmail_service.start home={home.path}"


def test_one_that_is_started_again_and_again_delivers_nothing(running, with_a_log, modules, monkeypatch):
    applied(running)
    restarted(running)
    monkeypatch.setitem(modules["qmail_doublebounce_status.look"].__globals__, "YOUNG", 3600)
    assert with_a_log(CANNOT, "status: local 0/10 remote 0/20")["problems"] == []
    found = with_a_log(CANNOT)
    assert found["verdict"].startswith("No mail is delivered: qmail-send keeps dying.")
    assert found["pillar"]["holds"] is False
    assert "dies each time" in found["problems"][0]["problem"]
    monkeypatch.setitem(modules["qmail_doublebounce_status.look"].__globals__, "YOUNG", 0)
    assert with_a_log(CANNOT)["problems"] == []  # it runs, and has for long


def test_one_that_is_paused_delivers_nothing(running, status):
    applied(running)
    restarted(running)
    assert status()["pillar"]["holds"] is True
    pid = running.pid()
    with paused(pid):
        found = status()
    assert found["verdict"].startswith("No mail is delivered: qmail-send is paused. By its control files, ")
    assert found["pillar"]["holds"] is False
    assert found["problems"] == [
        {
            "problem": f"qmail-send {pid} is paused: a signal has stopped it, as svc -p does. No mail is delivered.",
            "remedy": f"Continue it: kill -CONT {pid}, or svc -c",
        }
    ]


def test_where_nothing_shows_whether_it_runs_the_verdict_says_so(status, home, modules, monkeypatch):
    monkeypatch.setitem(modules["qmail_base_process.shown"].__globals__, "PROC", str(home.path))
    assert status()["verdict"].startswith("Cannot tell whether qmail-send runs. By its control files, ")


def test_mode_discard_holds_where_it_discards(status, running):
    running.write_control("doublebouncehost", "localhost\n")
    running.write_control("doublebounceto", "\n")
    subprocess.run([running.path / "bin/qmailctl", "restart"], check=True, timeout=60)
    assert running.wait_until_loaded("@localhost")
    found = status(address=None, mode="discard")
    assert found["fate"] == "swallowed"
    assert found["pillar"]["holds"] is True


def test_a_qmail_send_that_discards_itself_is_reported(status, home):
    (home.path / "bin/qmail-send").write_bytes(b"double bounce: discarding ")
    home.write_control("doublebounceto", "\n")
    assert status(address=None, mode="discard")["fate"] == "discarded"
