"""A machine of the tests' own, and the systemd in it, leave this one as it is, and end with who has started them."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.support import inside, needs
from tests.support.machine import REPOSITORY, Machine, Refused
from tests.support.supervisors import lives, wait_until

SLEEP = ["/bin/sleep", "infinity"]
CACHES = {"__pycache__", ".hypothesis", ".pytest_cache"}
WATCHED = ("/dev", "/etc", "/run", "/tmp", "/var", "/usr/lib/systemd")
# What a systemd would clear up, or set, at the start of a machine that it takes for its own.
PLANTED = ("/tmp/.X0-lock", "/tmp/old", "/var/tmp/old", "/run/nologin", "/var/log/wtmp", "/dev/shm/old", "/var/lib/old")
BOOT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell has started in the background ignores it
from tests.support.systemd import Systemd
systemd = Systemd()
print(systemd.machine.pid, flush=True)
if sys.argv[1:]:
    systemd.run(["sh", "-c", sys.argv[1]], check=False)
    systemd.close()
else:
    sys.stdin.read()
"""
MISCHIEF = """
rm -rf /tmp/* /tmp/.X0-lock /run/nologin /var/* /etc/* /dev/shm/*
echo new >/tmp/new; echo new >/var/new; echo new >/usr/new; echo new >/run/new; echo new >>/etc/passwd
hostname another
echo 1 >/proc/sys/vm/overcommit_memory
mkdir /sys/fs/cgroup/another
mount -t tmpfs tmpfs /usr
kill -KILL -1
"""


@pytest.fixture(scope="module")
def outer():
    """A machine in which another one is started: nobody else writes there."""
    try:
        machine = Machine(SLEEP)
    except Refused as err:
        needs.skip_for(str(err))
    yield machine
    machine.close()


def python(code, *words):
    return [sys.executable, "-c", code, *words]


def started(code, *words, **more):
    """Start a program that boots a systemd, and return it, and the process id of that."""
    program = subprocess.Popen(
        python(code, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True, **more
    )
    return program, int(program.stdout.readline())


def seen(machine):
    """Return all that is to be seen of a machine's files, mounts, groups, processes and name, by what it is."""
    found = {}
    for path in (path for name in WATCHED for path in [machine.at(name), *machine.at(name).rglob("*")]):
        if is_written_to(path, machine.at(REPOSITORY)):
            continue
        about = path.lstat()
        found[str(path)] = (
            about.st_mode,
            about.st_uid,
            about.st_size,
            about.st_ino,
            about.st_mtime_ns,
            about.st_ctime_ns,
        )
    groups = sorted(str(path) for path in machine.at("/sys/fs/cgroup").glob("*/"))
    told = "hostname; cat /proc/mounts /proc/sys/vm/overcommit_memory /proc/sys/fs/file-max /proc/net/dev"
    processes = sorted(path.name for path in machine.at("/proc").glob("[0-9]*"))
    return {
        **found,
        "groups": groups,
        "processes": processes,
        "told": machine.run(["sh", "-c", told]).stdout.splitlines(),
    }


def is_written_to(path, repository):
    """Return whether other tests may be writing to it now: they put their caches into this repository."""
    if not path.is_relative_to(repository):
        return False
    return path.is_dir() or not CACHES.isdisjoint(path.relative_to(repository).parts)


def test_nothing_outside_changes_whatever_is_done_in_there(outer):
    for name in PLANTED:
        outer.at(name).parent.mkdir(parents=True, exist_ok=True)
        outer.at(name).touch()
        os.utime(outer.at(name), (0, 0))
    before = seen(outer)
    # As a process of that machine, also to its control groups.
    enter = 'echo 0 >/sys/fs/cgroup/cgroup.procs; cd "$1"; shift; exec "$@"'
    done = outer.run(["sh", "-c", enter, "sh", REPOSITORY, *python(BOOT, MISCHIEF)])
    assert done.stdout.strip().isdecimal(), done.stderr
    after = seen(outer)
    temporary = str(outer.at("/tmp"))  # the keeper has had a directory there
    assert before.pop(temporary)[:4] == after.pop(temporary)[:4]
    assert after == before
    outer.at("/run/new").touch()
    assert seen(outer) != after


@pytest.mark.usefixtures("outer")
@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
def test_it_ends_with_whoever_has_started_it(number, tmp_path):
    program, pid = started(BOOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n"
    assert list(tmp_path.iterdir())
    program.send_signal(number)
    program.wait(20)
    wait_until(lambda: not lives(pid))
    wait_until(lambda: not list(tmp_path.iterdir()))


@pytest.mark.usefixtures("outer")
def test_it_ends_though_another_process_holds_what_the_keeper_waits_for():
    """A child of who started it that has not started another program, and lives longer."""
    wait = "    sys.stdin.read()"
    code = "import os\n" + BOOT.replace(wait, f"    if os.fork(): os.kill(os.getpid(), 9)\n{wait}")
    program, pid = started(code)
    program.wait(20)
    wait_until(lambda: not lives(pid))
    program.stdin.close()


@pytest.mark.usefixtures("outer")
def test_it_ends_with_its_keeper(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a keeper that is killed leaves a directory
    machine = Machine(SLEEP)
    machine.keeper.kill()
    wait_until(lambda: not lives(machine.pid))
    machine.close()


@pytest.mark.usefixtures("outer")
def test_what_keeps_it_from_starting_is_reported():
    with pytest.raises(Refused, match="No such file"):
        Machine(["/no/such/init"])


@pytest.mark.parametrize(("ci", "outcome"), [(None, pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_where_it_is_refused_a_test_is_skipped_and_in_ci_it_fails(request, monkeypatch, ci, outcome):
    monkeypatch.delenv("CI", raising=False)
    if ci:
        monkeypatch.setenv("CI", ci)
    without = inside.Without()
    without.items, without.refused = {request.node.nodeid: request.node}, "only root may"
    with pytest.raises(outcome, match="only root may"):
        without.pytest_runtest_setup(request.node)


@pytest.mark.under_systemd
def test_what_is_marked_runs_in_there():
    assert pathlib.Path("/proc/1/comm").read_text() == "systemd\n"
    assert pathlib.Path("/proc/self/cgroup").read_text().endswith(":/system.slice/salt-minion.service\n")
    with contextlib.suppress(OSError):
        (REPOSITORY / "new").touch()
        raise AssertionError("the repository can be written")


@pytest.fixture
def told(request, tmp_path):
    """Return the reports that are taken for this test's own, of these that were written down in there."""

    def told(*reports):
        item, hook = request.node, request.config.hook
        lines = [hook.pytest_report_to_serializable(config=request.config, report=report) for report in reports]
        (tmp_path / "reports").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        without = inside.Without()
        without.runs, without.said = lambda: False, lambda: "its last words"
        with (tmp_path / "reports").open() as without.reports:
            return list(without.told(item))

    return told


def report(item, when, outcome="passed", why=None):
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, why, when)


def test_what_becomes_of_a_test_in_there_becomes_of_it(request, told, monkeypatch):
    monkeypatch.setattr(inside, "PATIENCE", 0)
    one = request.node
    skipped = told(report(one, "setup", "skipped", ("file", 1, "Skipped: for this")), report(one, "teardown"))
    assert [(each.outcome, each.longrepr) for each in skipped] == [
        ("skipped", ("file", 1, "Skipped: for this")),
        ("passed", None),
    ]
    failed = told(report(one, "setup"), report(one, "call", "failed", "for that"), report(one, "teardown"))
    assert [each.outcome for each in failed] == ["passed", "failed", "passed"]
    (passed, ended) = told(report(one, "setup"))
    assert (passed.outcome, ended.outcome) == ("passed", "failed")
    assert "without a word of this test. It said: its last words" in ended.longrepr
