"""A restart of qmail-send, under each supervisor in use: only when it is due, and never left half done."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
import types

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.home import Home
from tests.support.supervisors import (
    ALL,
    TREES,
    Script,
    SystemdScript,
    Tree,
    below,
    booted,
    deliver,
    deliver_until_let_go,
    end,
    lives,
    on,
    paused,
    wait_until,
)

SINK = "sink@mail.example.net"


@pytest.fixture
def converge(loaders, settings):
    """Apply what the formula's SLS says, a control file and a service that watches it; return what became of that."""

    def converge(value=None, test=False, **more):
        service = ["running", *({key: given} for key, given in {**settings, **more}.items())]
        high = {"qmail-send": {"qmail_service": service}}
        if value:
            high["doublebounceto"] = {"qmail_control": ["managed", {"value": value}, {"home": settings["home"]}]}
            service.append({"watch": [{"qmail_control": "doublebounceto"}]})
        return next(ret for ret in loaders.modules.state.high(high, test=test) if ret.name == "qmail-send")

    return converge


def starts(home):
    return (home.path / "starts").read_text().split()


def test_a_change_makes_one_restart_and_the_next_run_none(supervisor, converge):
    old = supervisor.boot()
    ret = converge("sink")
    assert ret.result is True, ret.comment
    new = supervisor.holder()
    assert ret.changes == {"pid": {"old": old, "new": new}}
    assert supervisor.home.wait_until_loaded(SINK)
    again = converge("sink")
    assert (again.result, again.changes) == (True, {})
    assert starts(supervisor.home) == [str(old), str(new)]
    supervisor.home.write_control("doublebounceto", "by-hand\n")
    assert converge().changes == {"pid": {"old": new, "new": supervisor.holder()}}
    assert supervisor.home.wait_until_loaded("by-hand@mail.example.net")


@on(*(kind for kind in ALL if kind != "sysv"))  # an init script of a test's has a name that nothing could guess
def test_auto_finds_what_runs_it(supervisor, modules):
    pid = supervisor.boot()
    found = modules.qmail_service_supervisor.find(home=str(supervisor.home.path))
    assert (found["provider"], found["name"]) == (supervisor.kind, supervisor.name)
    assert found["pid"] == (pid if supervisor.tells else None)
    assert found["returns"] == supervisor.returns
    assert found["down"] is None


@on("daemontools", "qmailctl")
def test_a_listener_makes_one_restart_too(supervisor, loaders, settings):
    supervisor.boot()
    service = ["running", *({key: value} for key, value in settings.items())]
    listening = {"listen": [{"qmail_control": "doublebounceto"}]}
    high = {
        "doublebounceto": {"qmail_control": ["managed", {"value": "sink"}, {"home": settings["home"]}]},
        "qmail-send": {"qmail_service": [*service, listening]},
    }
    returned = loaders.modules.state.high(high)
    assert all(ret.result is True for ret in returned)
    assert len(starts(supervisor.home)) == 2
    assert supervisor.home.wait_until_loaded(SINK)


@on("daemontools", "qmailctl")
@pytest.mark.parametrize("always", (False, True))
def test_a_change_of_something_else_restarts_it_only_where_that_is_asked_for(supervisor, loaders, settings, always):
    old = supervisor.boot()
    service = ["running", *({key: value} for key, value in {**settings, "always": always}.items())]
    watching = {"watch": [{"file": "else"}]}
    high = {
        "else": {"file": ["managed", {"name": f"{settings['home']}/else"}, {"contents": "changed"}]},
        "qmail-send": {"qmail_service": [*service, watching]},
    }
    returned = {ret.name: ret for ret in loaders.modules.state.high(high)}
    assert returned["qmail-send"].result is True
    assert bool(returned["qmail-send"].changes) is always
    assert (supervisor.holder() == old) is not always


@on(*TREES, "qmailctl")
def test_two_changed_files_make_one_restart(supervisor, apply):
    supervisor.boot()
    pillar = {"address": "dummy@example.com", "qmail": {"home": str(supervisor.home.path)}}
    apply("qmail-doublebounce", pillar)
    assert supervisor.home.wait_until_loaded("dummy@example.com")
    assert len(starts(supervisor.home)) == 2
    apply("qmail-doublebounce.clean", pillar)
    assert supervisor.home.wait_until_loaded("postmaster@mail.example.net")
    assert len(starts(supervisor.home)) == 3


def test_the_test_mode_reports_and_does_nothing(supervisor, converge):
    old = supervisor.boot()
    for value in ("sink", None):
        ret = converge(value, test=True)
        assert (ret.result, set(ret.changes.get("pid", {}))) == ((None, {"old", "new"}) if value else (True, set()))
    supervisor.home.write_control("doublebounceto", "sink\n")
    ret = converge(test=True)
    assert (ret.result, ret.changes["pid"]["old"]) == (None, old)
    assert starts(supervisor.home) == [str(old)]


def test_a_drain_beyond_the_timeout_fails_and_the_next_run_puts_it_right(supervisor, converge):
    old = supervisor.boot()
    hold = deliver_until_let_go(supervisor.home, "slow")
    ret = converge("sink", timeout=0.5)
    assert ret.result is False
    assert f"qmail-send {old} still runs: it waits for its deliveries in flight (1)" in ret.comment
    assert ("starts it again by itself" if supervisor.returns else "has ended, run this again") in ret.comment
    assert starts(supervisor.home) == [str(old)]
    again = converge("sink", timeout=0.2)
    assert again.result is False
    hold.unlink()
    wait_until(lambda: not lives(old))
    ret = converge("sink")
    assert ret.result is True, ret.comment
    assert supervisor.home.wait_until_loaded(SINK)
    assert len(starts(supervisor.home)) == 2
    assert supervisor.home.delivered() == ["begin slow", "end slow"]


def test_one_that_is_paused_is_reported_at_once_and_restarted_once_it_goes_on(supervisor, converge):
    old = supervisor.boot()
    with paused(old):
        for test in (True, False):
            ret = converge("sink", test=test)
            assert ret.result is False
            assert ret.comment.startswith(f"qmail-send {old} is paused: a signal has stopped it")
            assert ret.changes == {}
    assert supervisor.holder() == old
    ret = converge("sink")
    assert ret.changes == {"pid": {"old": old, "new": supervisor.holder()}}
    assert supervisor.home.wait_until_loaded(SINK)


@on("sysv", "systemd-once")
@pytest.mark.parametrize("seen", [False, True])
def test_once_one_was_seen_that_somebody_has_started_it_may_be_taken_down_for_good(supervisor, converge, seen):
    old = supervisor.boot()
    hold = deliver_until_let_go(supervisor.home, "slow")
    assert converge("sink", timeout=0.5).result is False
    hold.unlink()
    wait_until(lambda: not lives(old))
    supervisor.run("start")
    new = supervisor.wait()
    ret = converge(test=not seen)
    assert ret.comment == f"qmail-send {new} runs with the control files as they are."
    supervisor.down_on_purpose()
    ret = converge()
    assert ("qmail-send is left down" in ret.comment) is seen, ret.comment
    assert bool(supervisor.holder()) is not seen


def test_one_that_cannot_start_fails_with_its_log_and_the_next_run_puts_it_right(supervisor, converge):
    supervisor.boot()
    (supervisor.home.path / "broken").touch()
    alert = "alert: cannot start: unable to switch to queue directory"
    for timeout in (5, 20, 60):  # all of it is waited for in vain: more only where this machine has not got so far
        ret = converge("sink", timeout=timeout)
        assert ret.result is False
        if isinstance(supervisor, (Script, SystemdScript)) or alert in ret.comment:
            break
    assert "no mail is delivered" in ret.comment
    if not isinstance(supervisor, (Script, SystemdScript)):
        assert alert in ret.comment
    (supervisor.home.path / "broken").unlink()
    ret = converge("sink")
    assert ret.result is True, ret.comment
    assert supervisor.home.wait_until_loaded(SINK)


@on(*TREES, "systemd", "qmailctl")
def test_one_that_could_not_read_its_control_files_is_left_running(supervisor, converge, modules, direct):
    old = supervisor.boot()
    (supervisor.home.control / "concurrencylocal").mkdir()
    for test in (True, False):
        ret = converge("sink", test=test)
        assert ret.result is False
        assert "qmail-send is left running, since it could not start again" in ret.comment
        assert f"mv {supervisor.home.control}/concurrencylocal" in ret.comment
    with pytest.raises(CommandExecutionError, match="could not start again"):
        modules.qmail_queue_pause.during(print, home=direct["home"], service={"name": direct["name"]})
    assert supervisor.holder() == old
    assert starts(supervisor.home) == [str(old)]
    (supervisor.home.control / "concurrencylocal").rmdir()
    assert converge().changes["pid"]["old"] == old


@on(*(kind for kind in ALL if kind != "qmailctl"))
def test_one_that_is_down_on_purpose_is_left_down(supervisor, converge):
    supervisor.boot()
    supervisor.down_on_purpose()
    for test in (True, False):
        ret = converge("sink", test=test)
        assert (ret.result, ret.changes) == (True, {})
        assert "qmail-send is left down" in ret.comment
    assert supervisor.holder() is None
    ret = converge(start=True, test=True)
    assert (ret.result, ret.changes) == (None, {"pid": {"old": None, "new": "another"}})
    ret = converge(start=True)
    assert ret.changes == {"pid": {"old": None, "new": supervisor.wait()}}
    assert supervisor.home.wait_until_loaded(SINK)


@on(*(kind for kind in ALL if kind != "qmailctl"))
def test_a_former_sink_stays_one_while_qmail_send_is_left_down(supervisor, modules, states):
    supervisor.boot()
    home = str(supervisor.home.path)
    modules.qmail_mailbox.write("dummy@example.com", home=home)
    supervisor.down_on_purpose()
    for test in (True, False):
        ret = states.qmail_mailbox.given_back(name="others", home=home, service=supervisor.name, test=test)
        assert (ret.result, ret.changes) == (True, {})
        assert ret.comment.startswith("dummy@example.com stays a sink until a later run: qmail-send does not run (")
    assert (supervisor.home.mailbox() / ".qmail").read_text() == "|exit 0\n"


def test_a_stop_waits_for_mail_in_flight_and_lasts_until_a_start(supervisor, modules, converge, direct):
    old = supervisor.boot()
    deliver(supervisor.home, "slow", 1)
    assert modules.qmail_service.stop(**direct) == {"old": old, "new": None}
    assert supervisor.holder() is None
    assert supervisor.home.delivered() == ["begin slow", "end slow"]
    assert modules.qmail_service.stop(**direct) == {}
    # No file down, no disabled unit: it should run.
    ret = converge()
    assert ret.changes == {"pid": {"old": None, "new": supervisor.wait()}}
    assert modules.qmail_service.start(**direct) == {}


@on("daemontools", "qmailctl")
def test_just_behind_the_machines_start_it_works_as_well(supervisor, modules, direct, monkeypatch):
    """Then the clock that all waiting is counted by has just begun."""
    old, began = supervisor.boot(), time.monotonic()

    def sleep(seconds):
        assert time.monotonic() < began + 100, "it goes on waiting"
        time.sleep(seconds)

    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() - began, sleep=sleep)
    monkeypatch.setitem(modules["qmail_service.stop"].func.__globals__, "time", clock)
    assert modules["qmail_service.stop"](**{**direct, "settle": 1.5}) == {"old": old, "new": None}
    assert clock.monotonic() >= 1.5
    assert supervisor.holder() is None
    new = modules["qmail_service.start"](**direct)["new"]
    assert new == supervisor.holder() != old
    assert modules["qmail_service.restart"](**direct) == {"old": new, "new": supervisor.holder()}


def test_a_start_after_a_stop_that_gave_up_waits_for_the_drain(supervisor, modules, direct):
    old = supervisor.boot()
    hold = deliver_until_let_go(supervisor.home, "slow")
    with pytest.raises(CommandExecutionError, match="still runs"):
        modules.qmail_service.stop(**{**direct, "timeout": 0.5})
    hold.unlink()
    new = modules.qmail_service.start(**direct).get("new")
    new = new or wait_until(lambda: supervisor.holder() not in (None, old) and supervisor.holder())
    assert new == supervisor.holder() != old
    assert supervisor.home.delivered() == ["begin slow", "end slow"]


@on(*TREES, "systemd")
def test_a_start_that_cannot_wait_for_the_drain_leaves_the_rest_to_the_supervisor(supervisor, modules, direct):
    old = supervisor.boot()
    hold = deliver_until_let_go(supervisor.home, "slow")
    stays = isinstance(supervisor, Tree)
    then = "it stays down" if stays else "systemd starts it again by itself"
    with pytest.raises(CommandExecutionError, match=f"When it has ended, {then}"):
        modules.qmail_service.stop(**{**direct, "timeout": 0.5})
    with pytest.raises(CommandExecutionError, match=f"{supervisor.kind} starts it again by itself"):
        modules.qmail_service.start(**{**direct, "timeout": 0.5})
    hold.unlink()
    wait_until(lambda: supervisor.holder() not in (None, old))
    assert supervisor.home.delivered() == ["begin slow", "end slow"]


@on(*TREES, "systemd", "systemd-once")
def test_a_missing_tool_is_named_and_nothing_is_touched(supervisor, converge, monkeypatch, tmp_path):
    old = supervisor.boot()
    monkeypatch.setenv("PATH", str(tmp_path))
    ret = converge("sink")
    assert ret.result is False
    assert f"{supervisor.ask[0]} was not found" in ret.comment
    assert supervisor.holder() == old and starts(supervisor.home) == [str(old)]


def test_two_runs_at_once_make_one_restart(supervisor, modules, direct, monkeypatch):
    old = supervisor.boot()
    deliver(supervisor.home, "slow", 1)
    supervisor.home.write_control("doublebounceto", "sink\n")
    context = multiprocessing.get_context("fork")
    results, both = context.Queue(), context.Barrier(2)
    inside = modules["qmail_service_change.restart"].func.__globals__
    turn = inside["_turn"]

    def together(service):
        both.wait(100)  # each has seen the old one before the first has its turn
        return turn(service)

    monkeypatch.setitem(inside, "_turn", together)
    runs = [context.Process(target=lambda: results.put(modules.qmail_service.restart(**direct))) for _ in range(2)]
    for run in runs:
        run.start()
    told = [results.get(timeout=100) for _ in runs]
    for run in runs:
        run.join(100)
    assert told == [{"old": old, "new": supervisor.holder()}] * 2
    assert supervisor.home.delivered() == ["begin slow", "end slow"]
    assert starts(supervisor.home) == [str(old), str(supervisor.holder())]


@on(*TREES)
def test_nothing_but_qmail_send_is_touched(supervisor, converge):
    smtpd = supervisor.scan / "qmail-smtpd"
    smtpd.mkdir(parents=True)
    (smtpd / "run").write_text("#!/bin/sh\necho $$ >>pids\nexec sleep 100\n")
    (smtpd / "run").chmod(0o755)
    supervisor.boot()
    wait_until((smtpd / "pids").exists)
    assert converge("sink").changes
    assert len((smtpd / "pids").read_text().split()) == 1


@on(*TREES)
def test_a_run_script_that_waits_for_qmail_send_is_no_obstacle(supervisor, converge, modules, direct):
    supervisor.lay_out(f"sh -c '{supervisor.command}; exit 0' qmail-start")
    old = supervisor.boot()
    assert converge("sink").changes == {"pid": {"old": old, "new": supervisor.holder()}}
    assert modules.qmail_service.stop(**direct)["old"] != old
    assert supervisor.holder() is None


@on(*TREES)
def test_one_that_comes_up_by_itself_after_the_look_is_left_alone(supervisor, converge, monkeypatch, tmp_path):
    late = tmp_path / "late"
    supervisor.lay_out(f"sh -c 'while test -e {late}; do sleep 0.02; done; exec {supervisor.command}'")
    old = supervisor.boot()
    late.touch()
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: supervisor.holder() is None)
    # The first that a run asks, after it has seen that none runs, is the tool of the supervisor.
    tool = supervisor.tools[3]
    wait = f"while test $(wc -l <{supervisor.home.path}/starts) -lt 2; do sleep 0.02; done"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / tool).write_text(f'#!/bin/sh\nrm -f {late}\n{wait}\nexec {shutil.which(tool)} "$@"\n')
    (tmp_path / "bin" / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    ret = converge("sink")
    assert (ret.result, ret.changes) == (True, {})
    assert "has come up by itself" in ret.comment
    assert supervisor.home.wait_until_loaded(SINK)
    assert starts(supervisor.home) == [str(old), str(supervisor.holder())]


@on(*TREES)
def test_a_supervisor_that_writes_down_late_whom_it_has_started_is_waited_for(
    supervisor, modules, direct, monkeypatch, tmp_path
):
    pid = supervisor.boot()
    (tmp_path / "bin").mkdir()
    tool, late = tmp_path / "bin" / supervisor.tools[3], tmp_path / "late"
    late.write_text("x\n" * 3)
    real = shutil.which(supervisor.tools[3])
    # At first it says what the three say of a service that has ended and is not yet started again.
    said = "down: $last: 1s, normally up, want up" if supervisor.kind == "runit" else "$last: down 1 seconds, want up"
    tool.write_text(
        f'#!/bin/sh\ntest -s {late} || exec {real} "$@"\nsed -i 1d {late}\nfor last; do :; done\necho "{said}"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert modules.qmail_service.restart(**direct)["old"] == pid
    assert not late.read_text()


@on(*TREES)
def test_a_directory_that_nothing_supervises_is_refused(supervisor, converge, tmp_path):
    supervisor.boot(up=False)
    supervisor.unsupervise()
    for name in (supervisor.name, str(tmp_path)):
        ret = converge("sink", supervisor=supervisor.kind, service=name)
        assert ret.result is False
        assert f"{supervisor.kind} {name}: no {supervisor.tools[1]} works there" in ret.comment


@on(*TREES)
def test_a_directory_that_runs_something_else_is_refused(supervisor, converge):
    other = supervisor.scan / "other"
    other.mkdir(parents=True)
    (other / "run").write_text("#!/bin/sh\nexec sleep 100\n")
    (other / "run").chmod(0o755)
    old = supervisor.boot()
    wait_until((other / "supervise/status").exists)
    ret = converge("sink", supervisor=supervisor.kind, service=str(other))
    assert ret.result is False
    assert f"but qmail-send is {old}" in ret.comment
    assert supervisor.holder() == old


@on(*TREES)
@pytest.mark.parametrize("waits", [False, True])
def test_what_runs_another_qmail_is_not_touched_while_our_own_is_down(
    supervisor, modules, states, monkeypatch, tmp_path, waits
):
    """In the default home, whose service directory need not name it. What else this machine has is not to be found."""
    if waits:
        supervisor.lay_out(f"sh -c '{supervisor.command}; exit 0' qmail-start")
    other = supervisor.boot()
    own = Home(tmp_path / "own-home")
    kind = {"provider": supervisor.kind}
    monkeypatch.setitem(modules["qmail_service_supervisor.find"].__globals__, "HOME", str(own.path))
    monkeypatch.setitem(modules["qmail_service_directory.patterns"].__globals__, "PLACES", (str(supervisor.scan),))
    for named in (kind, {"name": supervisor.name, **kind}):
        for function in (modules.qmail_service.stop, modules.qmail_service.start):
            with pytest.raises(CommandExecutionError, match="runs the qmail-send of another queue"):
                function(home=str(own.path), timeout=5, settle=0.1, **named)
    assert supervisor.holder() == other
    ret = states.qmail_service.running(name="qmail-send", home=str(own.path), supervisor=supervisor.kind, settle=0.1)
    assert ret.result is False
    assert supervisor.holder() == other


@on("systemd", "systemd-once")
def test_a_unit_is_never_stopped_with_mail_in_flight(supervisor, converge):
    old = supervisor.boot()
    deliver(supervisor.home, "slow", 1.5)
    assert converge("sink").changes["pid"]["old"] == old
    assert "Stopping" not in supervisor.journal()
    assert supervisor.home.delivered() == ["begin slow", "end slow"]


@on("systemd")
def test_a_unit_that_comes_back_from_failures_only_is_started(supervisor, converge):
    # qmail-send ends with exit 0, which is no failure.
    supervisor.write(Restart="on-failure")
    old = supervisor.boot()
    assert converge("sink").changes == {"pid": {"old": old, "new": supervisor.holder()}}


def test_where_nothing_is_found_the_error_lists_what_was_looked_for(home, modules, monkeypatch, tmp_path):
    (home.path / "bin/qmailctl").unlink()
    booted(monkeypatch, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandExecutionError) as failure:
        modules.qmail_service_supervisor.find(home=str(home.path))
    own = (f"{home.path}/supervise/send", f"{home.path}/bin/qmailctl")
    for place in ("/service/qmail-send,", "/run/service/send", "systemd qmail-send", *own):
        assert place in str(failure.value)


@on("systemd-once", "sysv")
def test_one_that_a_restart_took_down_is_brought_back_though_it_is_disabled(supervisor, converge):
    old = supervisor.boot()
    supervisor.disable()
    hold = deliver_until_let_go(supervisor.home, "slow")
    assert converge("sink", timeout=0.2).result is False
    hold.unlink()
    wait_until(lambda: lives(old) is False)
    assert supervisor.holder() is None
    ret = converge()
    assert ret.changes == {"pid": {"old": None, "new": supervisor.holder()}}
    assert supervisor.home.wait_until_loaded(SINK)


@on("daemontools", "runit", "s6", "systemd", "qmailctl")
def test_where_the_system_does_not_show_it_the_watch_alone_counts(supervisor, converge, modules, monkeypatch):
    old = supervisor.boot()
    access, opened = os.access, open
    monkeypatch.setattr(os, "access", lambda path, *more: path != "/proc/locks" and access(path, *more))
    monkeypatch.setattr("builtins.open", lambda path, *more, **named: opened(missing_lock(path), *more, **named))
    unknown = {"running": None, "pid": None, "since": None, "loaded": None}
    assert modules.qmail_service.status(home=str(supervisor.home.path)) == unknown
    ret = converge()
    assert (ret.result, ret.changes) == (True, {})
    assert "no /proc/locks" in ret.comment
    dry = converge("sink", test=True)
    ret = converge("sink")
    if supervisor.kind == "qmailctl":
        # Nothing shows whether a restart has worked, so none is made.
        assert (ret.result, ret.changes, supervisor.holder()) == (False, {}, old)
        return
    assert (dry.result, dry.changes) == (None, {"pid": {"old": old, "new": "another"}})
    # Nothing showed when the new one had got as far as to take its lock.
    assert ret.changes == {"pid": {"old": old, "new": supervisor.wait()}}
    assert supervisor.home.wait_until_loaded(SINK)


def missing_lock(path):
    if path == "/proc/locks":
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return path


@on("sysv", "qmailctl")
def test_a_script_whose_output_stays_open_is_not_waited_for(supervisor, converge):
    old = supervisor.boot()
    supervisor.path.write_text(supervisor.path.read_text().replace('>>"$home/log" 2>&1 ', ""))
    began = time.monotonic()
    assert converge("sink", timeout=300).changes == {"pid": {"old": old, "new": supervisor.holder()}}
    assert time.monotonic() - began < 200


@on("daemontools")
def test_a_qmailctl_that_speaks_to_daemontools_makes_no_second_one(supervisor, converge, modules, tmp_path):
    old = supervisor.boot()
    script = supervisor.home.path / "bin/qmailctl"
    script.write_text(f"#!/bin/sh\necho $1 >>{tmp_path}/told\ncase $1 in start) svc -u {supervisor.name} ;; esac\n")
    found = modules.qmail_service_supervisor.find(home=str(supervisor.home.path), provider="qmailctl")
    assert (found["provider"], found["name"], found["returns"]) == ("qmailctl", str(script), True)
    ret = converge("sink", supervisor="qmailctl", service="auto")
    assert ret.changes == {"pid": {"old": old, "new": supervisor.holder()}}
    assert len(starts(supervisor.home)) == 2
    assert not (tmp_path / "told").exists()


@on("daemontools")
def test_one_that_daemontools_runs_only_once_is_started_again(supervisor, modules, direct):
    old = supervisor.boot()
    home = direct["home"]
    assert modules.qmail_service.find(home)["returns"] is True
    subprocess.run(["svc", "-o", supervisor.name], check=True)
    wait_until(lambda: modules.qmail_service.find(home)["returns"] is False)
    hold = deliver_until_let_go(supervisor.home, "slow")
    with pytest.raises(CommandExecutionError, match="When it has ended, run this again"):
        modules.qmail_service.restart(**{**direct, "timeout": 0.5})
    hold.unlink()
    wait_until(lambda: not lives(old))
    assert modules.qmail_service.start(**direct)["new"] == supervisor.holder() != old
    assert modules.qmail_service.find(home)["returns"] is True


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("exec sleep 20", "systemctl did not answer within 0.2 s"),
        ("echo no bus; exit 4", r"systemctl show .* failed with exit 4: no bus"),
        ("echo LoadState=not-found", r"systemd has no unit qmail-send.service \(not-found\)"),
    ],
)
def test_a_systemctl_that_does_not_tell_is_not_taken_for_a_missing_unit(
    home, modules, monkeypatch, tmp_path, does, said
):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n{does}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    booted(monkeypatch, True)
    if "sleep" in does:
        monkeypatch.setitem(modules["qmail_service_systemd.status"].func.__globals__, "ANSWER", 0.2)
    with pytest.raises(CommandExecutionError, match=f"Looked for: systemd qmail-send: {said}"):
        modules.qmail_service.find(str(home.path), provider="service", name="qmail-send")


@on("daemontools", "qmailctl")
def test_a_lock_that_somebody_else_holds_is_left_alone(supervisor, converge):
    mutex = supervisor.home.path / "queue/lock/sendmutex"
    holder = subprocess.Popen(["flock", "--close", str(mutex), "sleep", "100"])
    try:
        wait_until(supervisor.holder)
        ret = converge("sink")
        assert ret.result is False
        assert "somebody is working on the queue" in ret.comment
        assert holder.poll() is None
    finally:
        end(below(holder.pid))
        holder.wait()


@on("daemontools", "runit", "qmailctl")
def test_a_wrong_provider_is_reported_with_the_setting_and_what_there_is(supervisor, modules):
    supervisor.boot()
    with pytest.raises(CommandExecutionError) as failure:
        modules.qmail_service_supervisor.find(home=str(supervisor.home.path), provider="s6")
    told = str(failure.value)
    assert "qmail_doublebounce:service:provider s6" in told
    assert f"Here it is {supervisor.kind}, {supervisor.name}: set them to these, or to auto." in told


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("exec /opt/qmail/bin/qmail-send", True),
        ("cd /opt/qmail; exec bin/qmail-send", True),
        ('QMAIL="/opt/qmail"', True),
        ("# The qmail in /opt/qmail.", True),
        ("/opt/qmail", True),
        ("exec /opt/qmail2/rc", False),
        ("exec /opt/qmail-test/rc", False),
        ("exec /opt/qmail.old/rc", False),
        ("exec /srv/opt/qmail/rc", False),
        ("exec /opt/qmail2/rc # not /opt/qmail/rc", True),
    ],
)
@pytest.mark.parametrize("home", ["/opt/qmail", "/opt/qmail/"])
def test_a_script_names_a_home_only_by_its_whole_name(modules, tmp_path, text, is_named, home):
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n{text}\n")
    assert modules.qmail_service_unit.tells_of(home, str(script)) is is_named


def test_what_lies_in_a_home_is_for_it(modules):
    for home in ("/opt/qmail", "/opt/qmail/"):
        assert modules.qmail_service_unit.tells_of(home, "/opt/qmail/rc") is True
        assert modules.qmail_service_unit.tells_of(home, "/opt/qmail2/rc") is False
