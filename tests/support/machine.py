"""
A machine of the tests' own, beside this one: with its processes, mounts, control groups, network and name, and an init
that runs it. Of this one it has the programs, read-only; /etc is a copy, and /run, /tmp, /var and /dev are in memory.

    python3 -m tests.support.machine '{"init": ["/bin/sleep", "infinity"]}'

As root. The program above is its keeper: it says which process the init is, and ends the machine, with all that runs
in it, when its standard input ends, or its parent does. So whoever has started a machine may be killed, and takes it
along.
"""

import contextlib
import glob
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile

from tests.support import mounts
from tests.support.control_group import ControlGroup

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# In sched.h: CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET, and CLONE_NEWPID. Mounts are made by mounts.py.
OF_ITS_OWN = 0x2000000 | 0x4000000 | 0x8000000 | 0x40000000
PROCESSES = 0x20000000
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG in sys/prctl.h
NAME = "machine.test"
OF_THE_KERNEL = ("/proc", "/sys")
IN_MEMORY = ("/dev", "/etc", "/run", "/tmp", "/var")
# Settings and units of this machine's, and where its services and their data are.
LEFT_OUT = (
    *("/etc/hostname", "/etc/init.d", "/etc/machine-id", "/etc/mtab"),
    *("/etc/rc?.d", "/etc/salt", "/etc/systemd"),
)
HIDDEN = ("/service", "/srv", "/usr/local/lib/systemd")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
QUEUE_LENGTH = "/proc/sys/net/unix/max_dgram_qlen"
WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")
DIRECTORIES = (
    *("/etc/init.d", "/etc/systemd/system", "/dev/pts"),
    *(f"/etc/rc{level}.d" for level in "0123456S"),
    *(f"/var/{name}" for name in ("cache", "lib", "log", "mail", "spool")),
    *WRITABLE,
)
LINKS = {
    "/etc/mtab": "/proc/self/mounts",
    "/var/run": "/run",
    "/var/lock": "/run/lock",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}


class Refused(Exception):
    """This machine lets nobody make another one; the text says why."""


class Machine:
    """
    A running one. ``pid`` is its init as this machine numbers it, ``root`` where its files are for us.

    init
        The command of its first process.

    files
        What is laid into it before that starts: the text of each, by its path.

    only
        Directories of which it has some files only, by their path: the names of these.

    copies
        Directories of this machine of which it has a copy.
    """

    def __init__(self, init, files=None, only=None, copies=()):
        why = mounts.denied()
        if why:
            raise Refused(why)
        spec = {"init": init, "files": files or {}, "only": only or {}, "copies": [str(path) for path in copies]}
        self.keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.machine", json.dumps(spec)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # what ends the session of the tests is for them: they close it
        )
        told = self.keeper.stdout.readline()
        if not told.strip().isdecimal():
            raise Refused(self.close() or "its keeper has ended")
        self.pid = int(told)
        self.root = pathlib.Path(f"/proc/{self.pid}/root")

    def at(self, path):
        return self.root / str(path).lstrip("/")

    def command(self, command):
        """Return what runs a command in there."""
        return ["nsenter", "--target", str(self.pid), "--all", "--root", "--wd", "--", *map(str, command)]

    def run(self, command, **more):
        """Run a command in there, and return what came of it."""
        options = {"capture_output": True, "text": True, "timeout": 60, "check": False, "stdin": subprocess.DEVNULL}
        return subprocess.run(self.command(command), **{**options, **more})

    def close(self):
        """End it, and return what its keeper had to say, if anything."""
        if self.keeper.stderr.closed:
            return ""
        _, told = self.keeper.communicate()
        return told.strip().rpartition("\n")[2]


def keep(spec):
    """Start a machine, and end it when whoever asked for it has gone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    mounts.call(mounts.LIBC.prctl, END_WITH_PARENT, signal.SIGTERM, 0, 0, 0)
    try:
        with contextlib.ExitStack() as after:
            place = pathlib.Path(tempfile.mkdtemp(prefix="qmail-machine-"))
            after.callback(place.rmdir)  # and never what may be mounted in it
            mounts.mount("cgroup2", place, "cgroup2")
            after.callback(mounts.unmount, place)
            group = ControlGroup(place)
            after.callback(group.close)
            mounts.call(mounts.LIBC.unshare, PROCESSES)
            pid, mishap = _started(spec, place, group)
            if mishap:
                sys.exit(mishap)
            _watch(pid)
    except OSError as err:
        sys.exit(str(err))


def _started(spec, place, group):
    """Start the init; return its process id, and what kept it from becoming one."""
    reading, writing = os.pipe()  # closed by the start of another program
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            mounts.call(mounts.LIBC.prctl, END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
            _become(spec, place, group)
        except BaseException as err:
            os.write(writing, f"{type(err).__name__}: {err}".encode()[:4096])
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as file:
        mishap = file.read()
    if mishap:
        os.waitpid(pid, 0)
    return pid, mishap


def _watch(pid):
    """Watch the init, and end it when our standard input ends; the kernel ends all that it has started."""
    poll = select.poll()
    handle = os.pidfd_open(pid)
    for one in (handle, sys.stdin.fileno()):
        poll.register(one, select.POLLIN | select.POLLHUP)
    try:
        print(pid, flush=True)
        while all(one != handle and os.read(one, 4096) for one, _ in poll.poll()):
            pass
    finally:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become(spec, root, group):
    """Be the first process of the machine."""
    group.join()
    mounts.call(mounts.LIBC.unshare, OF_ITS_OWN)
    mounts.part()
    lay_out(root, spec)
    socket.sethostname(NAME)
    mounts.pivot(root)
    os.setsid()
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container": "qmail-tests"}
    os.execve(spec["init"][0], spec["init"], environment)


def lay_out(root, spec):
    """Mount at a root what the machine shall see, and lay it out."""
    in_memory = [*IN_MEMORY, *spec["only"], *filter(os.path.isdir, HIDDEN)]
    for path in mounts.shown():
        if not any(path.is_relative_to(name) for name in (*in_memory, *OF_THE_KERNEL)):
            mounts.bind_read_only(path, _at(root, path))
    for name in in_memory:
        mounts.mount("tmpfs", _at(root, os.path.realpath(name)), "tmpfs", "mode=755")
    of_the_kernel(root)
    of_the_system(root)
    for name, names in spec["only"].items():
        _copy([path for path in (os.path.join(name, one) for one in names) if os.path.lexists(path)], _at(root, name))
    for name in spec["copies"]:
        _copy([name], _at(root, name).parent)
    for name, text in spec["files"].items():
        _at(root, name).parent.mkdir(parents=True, exist_ok=True)
        _at(root, name).write_text(text)
    for path in (REPOSITORY, sys.prefix, sys.base_prefix):
        if not _at(root, path).exists():  # it is below what is in memory here
            mounts.bind_read_only(path, _at(root, path))


def of_the_kernel(root):
    """Mount what the kernel shows; what would set something for all machines is read-only."""
    for name in DEVICES:
        _at(root, f"/dev/{name}").touch()
        mounts.bind(f"/dev/{name}", _at(root, f"/dev/{name}"))
    mounts.mount("devpts", _at(root, "/dev/pts"), "devpts", "newinstance,ptmxmode=0666,mode=620")
    mounts.mount("proc", _at(root, "/proc"), "proc")
    # Of its own network: a systemd sets this when it boots, and then /proc/sys is read-only.
    _at(root, QUEUE_LENGTH).write_text("512\n")
    for name in filter(os.path.exists, ("/proc/sys", "/proc/sysrq-trigger")):
        mounts.bind_read_only(_at(root, name), _at(root, name))
    mounts.mount("sysfs", _at(root, "/sys"), "sysfs", flags=mounts.READ_ONLY)
    mounts.mount("cgroup2", _at(root, "/sys/fs/cgroup"), "cgroup2")


def of_the_system(root):
    """Lay out what every system has."""
    for name in DIRECTORIES:
        _at(root, name).mkdir(parents=True, exist_ok=True)
    for name in WRITABLE:
        _at(root, name).chmod(0o1777)
    for name, target in LINKS.items():
        _at(root, name).symlink_to(target)
    left_out = {path for pattern in LEFT_OUT for path in glob.glob(pattern)}
    _copy([path for path in glob.glob("/etc/*") + glob.glob("/etc/.[!.]*") if path not in left_out], _at(root, "/etc"))


def _copy(paths, place):
    place.mkdir(parents=True, exist_ok=True)
    if paths:
        subprocess.run(["cp", "--archive", *paths, place], check=True)


def _at(root, path):
    return root / str(path).lstrip("/")


if __name__ == "__main__":
    keep(json.loads(sys.argv[1]))
