"""An sshd of the tests' own: on a free port of 127.0.0.1, with keys of its own, for root; and salt-ssh's way to it."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import typing

from tests.support import minion, mounts
from tests.support.supervisors import end, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
CONFIGURATION = """\
AuthorizedKeysFile {directory}/client_key.pub
HostKey {directory}/host_key
ListenAddress 127.0.0.1
PasswordAuthentication no
PermitRootLogin yes
PermitUserRC no
PidFile none
Port {port}
# Where no .bashrc is, which bash reads for sshd.
SetEnv HOME={directory}
# Everybody may write to /tmp, above the keys.
StrictModes no
Subsystem sftp internal-sftp
UsePAM no
"""


class Sshd(typing.NamedTuple):
    port: int
    client_key: pathlib.Path
    known_hosts: pathlib.Path


def missing():
    """Return why there can be none, or ``None`` where there can: sshd lets root in only if root runs it."""
    return mounts.denied() or (None if SSHD else "no sshd")


@contextlib.contextmanager
def started(directory):
    """Have one run meanwhile, with all that is its own in a directory that it makes."""
    directory.mkdir(mode=0o700)
    for name in ("client_key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (directory / "sshd_config").write_text(CONFIGURATION.format(directory=directory, port=port))
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {(directory / 'host_key.pub').read_text()}")
    with mounts.covered("/run"), (directory / "log").open("wb") as log:
        # sshd insists on this directory, wherever its configuration lies.
        pathlib.Path("/run/sshd").mkdir(mode=0o755)
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", directory / "sshd_config"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), why=f"sshd does not listen on {port}")
            assert process.poll() is None, (directory / "log").read_text()
            yield Sshd(port, directory / "client_key", directory / "known_hosts")
        finally:
            end([process.pid])
            process.wait()


def _listens(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def roster(sshd, path, thin, options):
    """Write a roster of servers, by name with their thin directories and options of their minions; return its path."""
    entries = {
        name: {
            "host": "127.0.0.1",
            "port": sshd.port,
            "user": "root",
            "priv": str(sshd.client_key),
            "thin_dir": str(directory),
            # The Python that this environment is made of is sure to be one that its Salt runs on.
            "set_path": f"{sys.base_prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "minion_opts": {**minion.roots(path.parent / name), **options[name]},
        }
        for name, directory in thin.items()
    }
    return minion.write(path, entries)
