"""
The real qmail of this machine, ours for one test: what the test changes is kept beside it, and put back, also by the
next run where this one is killed.
"""

import contextlib
import shutil
import subprocess

from salt.exceptions import CommandExecutionError

KEPT = ".before-the-tests"
DIRECTORIES = ("control", "users")  # or links to such: eQmail's control leads to etc
QUEUE = ("mess", "todo", "intd", "pid", "info", "local", "remote", "bounce")


def runs(qmail, modules):
    """Say that a qmail-send runs here, or that this is not known; ``None`` if none does."""
    try:
        pid = modules.qmail_base_process.find(str(qmail))
    except CommandExecutionError as err:
        return str(err)
    if pid is None:
        return None
    kept = f"; the files of before a run that was killed are in {qmail / KEPT}, and come back with the next"
    told = f"qmail-send {pid} runs here, and these tests change its control files: stop it first"
    return told + (kept if (qmail / KEPT).exists() else "")


def waits(qmail):
    """Say that mail waits in the queue; ``None`` where it is empty."""
    for part in QUEUE:
        found = next((path for path in sorted((qmail / "queue" / part).rglob("*")) if path.is_file()), None)
        if found:
            return f"there is mail in the queue here ({found}), and these tests would deliver it"
    return None


@contextlib.contextmanager
def lent(qmail):
    """Empty control, users and the dot-qmail files of ~alias, and put them back, with bin/qmail-queue, at the end."""
    keep(qmail)
    try:
        for path in (*(qmail / "control").iterdir(), *(qmail / "users").iterdir(), *dotqmails(qmail / "alias")):
            remove(path)
        yield qmail
    finally:
        put_back(qmail)


def keep(qmail):
    """Copy it all, and let it be there at once: half a copy is none."""
    new = qmail / f"{KEPT}.new"
    shutil.rmtree(new, ignore_errors=True)
    (new / "alias").mkdir(parents=True, mode=0o700)
    new.chmod(0o700)
    (qmail / "users").mkdir(exist_ok=True)
    for name in DIRECTORIES:
        copy_directory((qmail / name).resolve(), new / name)
    copy([qmail / "bin/qmail-queue"], new)
    copy(dotqmails(qmail / "alias"), new / "alias")
    shutil.copystat(qmail / "alias", new / "alias")
    new.rename(qmail / KEPT)


def put_back(qmail):
    """Put back what is kept; nothing where nothing is. Killed in the middle, it can be done again."""
    kept, over = qmail / KEPT, qmail / f"{KEPT}.over"
    shutil.rmtree(over, ignore_errors=True)
    if not kept.exists():
        return
    for name in DIRECTORIES:
        place = (qmail / name).resolve()
        shutil.rmtree(place, ignore_errors=True)
        copy_directory(kept / name, place)
    for path in dotqmails(qmail / "alias"):
        remove(path)
    copy(dotqmails(kept / "alias"), qmail / "alias")
    shutil.copystat(kept / "alias", qmail / "alias")
    copy([kept / "qmail-queue"], qmail / "bin")
    (qmail / "bin/qmail-queue.real").unlink(missing_ok=True)
    kept.rename(over)
    shutil.rmtree(over)


def dotqmails(alias):
    return list(alias.glob(".qmail*"))


def copy(paths, place):
    if paths:
        subprocess.run(["cp", "--archive", "--remove-destination", *paths, place], check=True)


def copy_directory(path, place):
    subprocess.run(["cp", "--archive", "--no-target-directory", path, place], check=True)


def remove(path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
