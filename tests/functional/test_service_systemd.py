"""What only a real systemd shows: units of every make, and what becomes of mail in flight under each."""

import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import tempfile

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.home import Home
from tests.support.supervisors import UNITS, Daemontools, Systemd, SystemdScript, deliver, lives, wait_until

pytestmark = pytest.mark.under_systemd

SETTLE = 0.2
SLOW = 0.7  # seconds that a delivery takes


@pytest.fixture
def unit(tmp_path):
    """Make a home with its own qmail-send, and a unit for that, in a place that is open to all."""
    made = []

    def unit(name="qmail-send", **settings):
        place = pathlib.Path(tempfile.mkdtemp(prefix="qmail-"))
        place.chmod(0o755)
        home = Home(place / "qmail")
        home.account()
        made.append(Systemd(home, tmp_path, name))
        made[-1].write(**settings)
        return made[-1]

    yield unit
    for each in made:
        each.close()


def starts(unit):
    return len((unit.home.path / "starts").read_text().split())


def given(unit, **more):
    return {"home": str(unit.home.path), "timeout": 60, "settle": SETTLE, **more}


def check_a_restart(modules, unit, **more):
    """Change a control file, restart with mail in flight, and see that it was delivered once and all of it is right."""
    old, before = unit.holder(), len(unit.home.delivered())
    value = f"sink-{before}"
    deliver(unit.home, value, SLOW)
    unit.home.write_control("doublebounceto", f"{value}\n")
    assert modules.qmail_service.restart(**given(unit, **more)) == {"old": old, "new": unit.holder()}
    assert unit.holder() not in (None, old)
    assert unit.home.wait_until_loaded(f"{value}@mail.example.net")
    assert unit.home.delivered()[before:] == [f"begin {value}", f"end {value}"]
    assert modules.qmail_service.status(str(unit.home.path))["loaded"] is True


@pytest.mark.parametrize("kill", ["control-group", "mixed", "process"])
def test_whatever_a_unit_says_mail_in_flight_is_delivered_once(modules, unit, kill):
    """All of them at once: what takes long is the wait for systemd."""
    units = []
    for restart in ("always", "on-failure", "no", "on-abnormal"):
        for pause in (0, 0.1, 5):
            units.append(unit(f"qmail-{restart}-{pause}", KillMode=kill, Restart=restart, RestartSec=pause))
            units[-1].boot()
    context = multiprocessing.get_context("fork")
    told = context.Queue()

    def run(each):
        try:
            check_a_restart(modules, each, name=each.name)
            told.put((each.name, "Stopping" in each.journal()))
        except BaseException as err:
            told.put((each.name, repr(err)))

    runs = [context.Process(target=run, args=(each,)) for each in units]
    for each in runs:
        each.start()
    assert dict(told.get(timeout=100) for _ in runs) == {each.name: False for each in units}
    for each in runs:
        each.join(100)
    for each in units:
        modules.qmail_service.stop(**given(each, name=each.name, settle=0))
        assert each.holder() is None


def test_a_unit_that_was_restarted_too_often_is_restarted_again(modules, unit):
    one = unit(limit="StartLimitBurst=2\nStartLimitIntervalSec=100")
    one.boot()
    for _ in range(3):
        check_a_restart(modules, one)
    assert "Start request repeated too quickly" in one.journal()


def test_a_drop_in_counts(modules, unit):
    one = unit(Restart="no")
    one.lay(UNITS / "qmail-send.service.d/drain.conf", "[Service]\nRestart=always\nKillMode=mixed\n")
    one.boot()
    assert modules.qmail_service_supervisor.find(str(one.home.path))["returns"] is True
    check_a_restart(modules, one)
    assert "Scheduled restart job" in one.journal()


def test_a_masked_unit_that_is_down_is_left_down(modules, states, unit):
    one = unit()
    one.path.rename(UNITS / "kept")
    one.run("mask", "--runtime")
    try:
        ret = states.qmail_service.running("qmail-send", service="qmail-send", **given(one))
        assert (ret.result, ret.changes) == (True, {})
        assert "qmail-send is left down: the unit qmail-send.service is masked" in ret.comment
    finally:
        one.run("unmask", "--runtime")
        (UNITS / "kept").rename(one.path)


@pytest.mark.parametrize("restart", ["always", "no"])
@pytest.mark.parametrize("test", [True, False])
def test_a_masked_unit_that_runs_is_not_ended_since_systemd_would_not_start_it(states, unit, restart, test):
    one = unit(Restart=restart)
    old = one.boot()
    text = one.path.read_text()
    one.path.unlink()
    one.run("mask")
    try:
        one.home.write_control("doublebounceto", "sink\n")
        for service in ("auto", "qmail-send"):
            ret = states.qmail_service.running("qmail-send", service=service, test=test, **given(one))
            assert ret.result is False
            assert "systemd could not start qmail-send.service again, because it is masked" in ret.comment
            assert "systemctl unmask qmail-send.service" in ret.comment
        assert one.holder() == old
    finally:
        one.run("unmask")
        one.lay(one.path, text)
    assert states.qmail_service.running("qmail-send", **given(one)).changes["pid"]["old"] == old


def test_a_unit_that_nobody_may_start_by_hand_is_not_ended(modules, unit):
    one = unit(limit="RefuseManualStart=yes", Restart="no")
    subprocess.run(["systemctl", "add-wants", "multi-user.target", one.unit], check=True, capture_output=True)
    subprocess.run(["systemctl", "start", "multi-user.target"], check=True)
    old = one.wait()
    with pytest.raises(CommandExecutionError, match="RefuseManualStart"):
        modules.qmail_service.restart(**given(one))
    assert one.holder() == old
    one.write(limit="RefuseManualStart=yes", Restart="always")
    check_a_restart(modules, one)


def test_a_unit_that_is_gone_when_it_ends_is_not_ended(modules, unit):
    one = unit()
    one.path.unlink()
    one.run("daemon-reload")
    subprocess.run(["systemd-run", "--quiet", f"--unit={one.unit}", *one.command.split()], check=True, timeout=20)
    old = one.wait()
    with pytest.raises(CommandExecutionError, match="is gone when it ends") as failure:
        modules.qmail_service.restart(**given(one))
    assert one.holder() == old
    subprocess.run(re.search(r"Fix it: (cp \S+ \S+/)", str(failure.value))[1].split(), check=True)
    check_a_restart(modules, one)


def test_a_unit_whose_file_was_deleted_is_not_ended(modules, unit):
    one = unit(Restart="no")
    old = one.boot()
    one.path.unlink()
    one.run("daemon-reload")
    with pytest.raises(CommandExecutionError, match=r"systemd has no unit qmail-send.service \(not-found\)"):
        modules.qmail_service.restart(**given(one))
    assert one.holder() == old


def test_one_that_systemd_has_started_after_a_crash_is_not_taken_for_the_one_that_we_know(modules, unit):
    one = unit()
    one.boot()
    check_a_restart(modules, one)
    known, home = one.holder(), str(one.home.path)
    one.home.write_control("doublebounceto", "other\n")
    assert modules.qmail_service.status(home)["loaded"] is False
    os.kill(known, signal.SIGKILL)
    wait_until(lambda: one.holder() not in (None, known))
    assert one.home.wait_until_loaded("other@mail.example.net")
    assert modules.qmail_service.status(home)["loaded"] is True
    one.home.write_control("doublebounceto", "sink\n")
    assert modules.qmail_service.status(home)["loaded"] is False
    check_a_restart(modules, one)


@pytest.mark.parametrize("state", ["disabled", "static"])
def test_one_that_runs_is_restarted_though_no_boot_starts_it(modules, unit, state):
    one = unit(Restart="no")
    if state == "static":
        one.lay(one.path, one.path.read_text().partition("[Install]")[0])
    one.run("start")
    one.wait()
    assert one.shown("UnitFileState") == [state]
    check_a_restart(modules, one)


def test_a_static_unit_that_is_down_is_not_down_on_purpose(modules, unit):
    one = unit()
    one.lay(one.path, one.path.read_text().partition("[Install]")[0])
    assert modules.qmail_service.left_down(str(one.home.path), name="qmail-send") is None
    assert modules.qmail_service.start(**given(one))["new"] == one.holder()


@pytest.mark.parametrize("name", ["mail-out", "qmail@a", "qmail@mail.example.com", r"qmail\x2dsend"])
def test_a_unit_of_another_name_is_found_by_the_process(modules, unit, name):
    one = unit(name)
    one.boot()
    found = modules.qmail_service_supervisor.find(str(one.home.path))
    assert (found["provider"], found["name"], found["pid"]) == ("systemd", f"{name}.service", one.holder())
    check_a_restart(modules, one)
    assert modules.qmail_service_supervisor.find(str(one.home.path), name=name)["pid"] == one.holder()
    check_a_restart(modules, one, name=name)


def test_a_unit_of_another_name_is_started_by_the_run_after_the_one_that_ended_it(modules, states, unit):
    one = unit("mail-out", Restart="no")
    old = one.boot()
    one.home.write_control("doublebounceto", "sink\n")
    (one.home.path / "hold").touch()
    deliver(one.home, "slow", SLOW)
    with pytest.raises(CommandExecutionError, match=f"qmail-send {old} still runs"):
        modules.qmail_service.restart(**given(one, timeout=0.3))
    (one.home.path / "hold").unlink()
    wait_until(lambda: not lives(old))
    ret = states.qmail_service.running("qmail-send", **given(one))
    assert ret.changes == {"pid": {"old": None, "new": one.holder()}}
    assert one.home.delivered() == ["begin slow", "end slow"]


def test_two_instances_are_told_apart(modules, unit):
    one, two = unit("qmail@one"), unit("qmail@two")
    pids = [one.boot(), two.boot()]
    check_a_restart(modules, one)
    assert two.holder() == pids[1]
    with pytest.raises(CommandExecutionError, match=f"but qmail-send is {pids[1]}"):
        modules.qmail_service.restart(**given(two, name="qmail@one"))
    check_a_restart(modules, two, name="qmail@two")


def test_one_unit_for_all_instances_is_a_template(modules, unit):
    one = unit("qmail@one")
    one.path.rename(UNITS / "qmail@.service")
    one.files.append(UNITS / "qmail@.service")
    one.run("daemon-reload")
    one.run("start")
    one.wait()
    check_a_restart(modules, one)


@pytest.mark.parametrize("kill", ["mixed", "process"])
def test_a_unit_that_somebody_is_stopping_is_left_down_while_it_drains(modules, states, unit, kill):
    one = unit(KillMode=kill)
    old = one.boot()
    (one.home.path / "hold").touch()
    deliver(one.home, "slow", SLOW)
    one.run("stop", "--no-block")
    wait_until(lambda: one.shown("ActiveState") == ["deactivating"])
    one.home.write_control("doublebounceto", "sink\n")
    ret = states.qmail_service.running("qmail-send", **given(one))
    assert (ret.result, ret.changes) == (True, {})
    assert "qmail-send is left down: systemd is stopping qmail-send.service" in ret.comment
    (one.home.path / "hold").unlink()
    started = modules.qmail_service.start(**given(one))
    # It may have ended before it is looked at.
    assert started in ({"old": old, "new": one.holder()}, {"old": None, "new": one.holder()})
    assert one.home.delivered() == ["begin slow", "end slow"]


WRAPPERS = {
    "waits": {"ExecStart": "/bin/sh -c '{command}; exit 0'"},
    "forks": {"Type": "forking", "ExecStart": "/bin/sh -c '{command} &'"},
    "is done": {"Type": "oneshot", "RemainAfterExit": "yes", "ExecStart": "/bin/sh -c '{command} &'", "Restart": "no"},
    "is nested": {"ExecStart": "/bin/sh -c '/bin/sh -c \"{command}; true\"; exit 0'", "Restart": "on-failure"},
}


@pytest.mark.parametrize("how", WRAPPERS)
@pytest.mark.parametrize("restart", ["always", "no"])
def test_what_is_between_systemd_and_qmail_send_is_no_obstacle(modules, unit, how, restart):
    one = unit()
    settings = {"Restart": restart, **WRAPPERS[how]}
    one.write(**{key: value.format(command=one.command) for key, value in settings.items()})
    one.boot()
    check_a_restart(modules, one)
    check_a_restart(modules, one)
    assert modules.qmail_service.stop(**given(one))["new"] is None
    assert modules.qmail_service.start(**given(one))["new"] == one.holder()


@pytest.mark.parametrize("restart", ["always", "no"])
def test_the_last_words_of_one_that_cannot_start_are_reported(modules, unit, restart):
    one = unit(Restart=restart)
    one.boot()
    (one.home.path / "broken").touch()
    with pytest.raises(CommandExecutionError) as failure:
        modules.qmail_service.restart(**given(one, timeout=2))
    assert "alert: cannot start: unable to switch to queue directory. Fix that" in str(failure.value)
    assert "Failed" not in str(failure.value)
    (one.home.path / "broken").unlink()
    modules.qmail_service.start(**given(one))  # or systemd has just done it
    assert one.holder()


# Of what a process has said that was gone at once, the journal may not know which unit it was of.
@pytest.mark.parametrize(("command", "told"), [("/bin/sh -c 'exit 111'", "status=111"), ("/no/such/start", "EXEC")])
def test_for_one_that_does_not_say_a_word_systemd_s_own_words_are_reported(modules, unit, command, told):
    one = unit(Restart="no")
    one.boot()
    one.write(ExecStart=command)
    with pytest.raises(CommandExecutionError) as failure:
        modules.qmail_service.restart(**given(one, name="qmail-send", timeout=2))
    assert told in str(failure.value)
    assert "status: exiting" not in str(failure.value)


def test_a_service_directory_below_a_unit_is_one(modules, tmp_path):
    """As daemontools and runit are started today: the unit holds all services, and none of the others is touched."""
    home = Home(tmp_path / "qmail")
    home.account()
    tree = Daemontools(home, tmp_path)
    tree.lay_out()
    svscan = Systemd(home, tmp_path, "svscan")
    svscan.write(ExecStart=f"{subprocess.check_output(['which', 'svscan'], text=True).strip()} {tree.scan}")
    try:
        svscan.boot()
        pid = svscan.shown("MainPID")
        found = modules.qmail_service_supervisor.find(str(home.path))
        assert (found["provider"], found["name"], found["returns"]) == ("daemontools", tree.name, True)
        modules.qmail_service.restart(str(home.path), settle=SETTLE)
        assert svscan.shown("MainPID") == pid
    finally:
        svscan.close()


def test_the_unit_of_whoever_started_it_by_hand_is_not_its_own(modules, running):
    """A qmailctl that Salt calls leaves qmail-send in the control group of the minion."""
    home = str(running.path)
    assert modules.qmail_base_process.unit(running.pid()) == "salt-minion.service"
    found = modules.qmail_service_supervisor.find(home)
    assert (found["provider"], found["returns"]) == ("qmailctl", False)
    assert modules.qmail_service.restart(home, settle=SETTLE)["new"] == running.pid()


def test_an_init_script_that_somebody_has_called_by_hand_is_what_runs_it(modules, home):
    """Then qmail-send belongs to whoever that was, and systemd knows nothing of it until the restart."""
    home.account()
    (home.path / "bin/qmailctl").unlink()
    script = SystemdScript(home, None)
    try:
        subprocess.run([script.path, "start"], check=True, timeout=20)
        script.wait()
        assert modules.qmail_base_process.unit(script.holder()) == "salt-minion.service"
        assert modules.qmail_service_supervisor.find(str(home.path))["name"] == "qmail-send"
        check_a_restart(modules, script)
        assert modules.qmail_base_process.unit(script.holder()) == "qmail-send.service"
        check_a_restart(modules, script)
    finally:
        script.close()


def change_and_restart(loaders, one, name, service):
    """Change a control file, and have a state that watches it restart qmail-send; five deliveries are in flight."""
    hold = one.home.path / "hold"
    hold.touch()
    for number in range(5):
        deliver(one.home, f"{name}-{number}", 0)
    path = f"{one.home.control}/doublebounceto"
    high = {
        path: {"file": ["managed", {"contents": name}]},
        "qmail-send": {service: ["running", {"watch": [{"file": path}]}]},
    }
    if service == "qmail_service":
        high["qmail-send"][service] += [{"home": str(one.home.path)}, {"settle": SETTLE}]
        subprocess.Popen(["sh", "-c", f"sleep 2; rm {hold}"])  # it waits for that
    returned = loaders.modules.state.high(high)
    assert all(ret.result is True and ret.changes for ret in returned), returned.raw
    hold.unlink(missing_ok=True)
    wait_until(lambda: not one.home.is_fed())
    assert one.home.wait_until_loaded(f"{name}@mail.example.net")
    return [sum(line.startswith(f"{word} {name}-") for line in one.home.delivered()) for word in ("begin", "end")]


def test_on_the_same_unit_the_restart_of_salt_itself_doubles_mail_and_ours_does_not(loaders, unit):
    one = unit()  # as units are without a word of KillMode
    one.boot()
    assert change_and_restart(loaders, one, "salts", "service") == [10, 5]
    assert change_and_restart(loaders, one, "ours", "qmail_service") == [5, 5]
