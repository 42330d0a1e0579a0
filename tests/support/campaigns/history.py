"""
People and this project write the same files by turns, and some runs are killed: nothing of theirs is lost or overdone.

What is expected is worked out beside it, from what people wrote and what was asked for; the files, and what is kept of
them, have to be that.
"""

import contextlib
import itertools
import os
import shutil
import signal

from salt.exceptions import CommandExecutionError

from tests.support.campaigns.race import about
from tests.support.home import Home

STEPS = 60
CALLS = ("open", "rename", "unlink", "fsync", "fchmod", "stat", "fstat", "close")
DEEPEST = 40  # calls of one of these before a run is killed; a whole run makes fewer of most


class Wrong(AssertionError):
    """Something is not as it must be."""


class File:
    """One file, and what is known of it: whose it is now, and which states of people's this project has replaced."""

    def __init__(self, modules, path, apply, undo, texts):
        self.modules, self.path, self.apply, self.undo, self.texts = modules, path, apply, undo, texts
        self.ours = None  # what this project wrote last, and has not put back
        self.base = None  # what was there before that
        self.last = texts[0]  # what it wrote last, whatever has become of that
        self.replaced = []
        self.is_sure = True  # False: a killed run may not have recorded what it did

    def by_hand(self, dice, number):
        """Have somebody write the file, or remove it, or write just what this project would."""
        kind = dice.choice(("new", "new", "recipe", "recipe", "gone"))
        if kind == "recipe" and not self.is_sure:
            return
        if kind == "gone":
            self.path.unlink(missing_ok=True)
        else:
            text = f"# by hand {number}\n".encode() if kind == "new" else self.last
            new = self.path.with_name("saved")
            new.write_bytes(text)
            if os.geteuid() == 0:
                os.chown(new, 4242, 4243)
            new.chmod(dice.choice((0o600, 0o640, 0o644)))
            new.rename(self.path)  # the same words as this project's own are taken for its own

    def is_ours(self):
        found = about(self.path)
        return self.ours is not None and found is not None and found[0] == self.ours

    def applied(self, dice):
        text, before, was_ours = dice.choice(self.texts), about(self.path), self.is_ours()
        self._told_first(lambda test: self.apply(text, test))
        after = about(self.path)
        self._must(after is not None and after[0] == text, f"holds {after}, and not {text}")
        if after != before:
            if not was_ours:
                self.replaced.append(before)
                self.base = before
            self.ours, self.last, self.is_sure = text, text, True
        self._nothing_is_lost()

    def undone(self):
        before, was_ours = about(self.path), self.is_ours()
        self._told_first(self.undo)
        after = about(self.path)
        self._must(after == (self.base if was_ours else before), f"{before} has become {after}, not {self.base}")
        self.ours, self.is_sure = None, True
        self._nothing_is_lost()

    def killed(self, dice):
        """Have a run killed at some call: the file is as it was, or as it was to become."""
        text, before, was_ours = dice.choice(self.texts), about(self.path), self.is_ours()
        is_undo = dice.random() < 0.5
        run = (lambda: self.undo(False)) if is_undo else (lambda: self.apply(text, False))
        _killed(run, dice.choice(CALLS), dice.randrange(DEEPEST), dice.random() < 0.5)
        after = about(self.path)
        if is_undo:
            self._must(after in ((before, self.base) if was_ours else (before,)), f"{before} has become {after}")
        elif after != before:
            self._must(after is not None and after[0] == text, f"{before} has become {after}")
            if not was_ours:
                self.replaced.append(before)
                self.base = before
            self.ours = text
        self.is_sure = False

    def _told_first(self, run):
        """Run in test mode, which changes nothing, and then in earnest: both say the same."""
        before = about(self.path)
        dry = run(True)
        self._must(about(self.path) == before, "was changed in test mode")
        done = run(False)
        self._must(dry == done, f"in test mode {dry}, and then {done}")

    def _nothing_is_lost(self):
        file = self.modules.qmail_file
        kept = [file.version(str(self.path), one["version"]) for one in file.kept(str(self.path))]
        states = [one and (one["contents"], one["uid"], one["gid"], int(one["mode"], 8)) for one in kept]
        for state in self.replaced:
            self._must(state in states or state == about(self.path), f"{state} is lost")

    def _must(self, holds, what):
        if not holds:
            raise Wrong(f"{self.path.name}: {what}")


def _killed(run, call, at, before):
    """Run something in a child that is killed before or after some call of a function of the system's."""
    calls, real = iter(range(at)), getattr(os, call)

    def counted(*words, **named):
        is_due = next(calls, None) is None
        if is_due and before:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*words, **named)
        finally:
            if is_due:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            setattr(os, call, counted)
            run()
        os._exit(0)
    os.waitpid(child, 0)


def _files(home, modules):
    where = {"home": str(home.path)}

    def control(name, texts):
        def apply(text, test):
            return modules.qmail_control.put(name, text.decode().rstrip("\n"), **where, test=test)

        def undo(test):
            return modules.qmail_control.restore(name, **where, test=test)

        return File(modules, home.control / name, apply, undo, texts)

    def mailbox(name):
        address = f"{name}@{home.DOMAIN}"

        def apply(text, test):
            return modules.qmail_mailbox.write(address, text.decode().splitlines(), **where, test=test)

        def undo(test):
            return modules.qmail_mailbox.restore(address, **where, test=test)

        return File(modules, home.mailbox(name) / ".qmail", apply, undo, (b"|exit 0\n", b"#\n", b"# none\n|exit 0\n"))

    return [
        control("doublebounceto", (b"dummy\n", b"other\n")),
        control("doublebouncehost", (b"example.com\n",)),
        mailbox("dummy"),
        mailbox("other"),
    ]


def rounds(place, modules, dice):
    """Yield what was wrong in each round: a history of some dozens of steps, on files of its own."""
    for number in itertools.count():
        home = Home(place / f"history-{number}")
        home.add_mailbox("other", "./Maildir/\n")
        files, done = _files(home, modules), []
        try:
            for step in range(STEPS):
                file = dice.choice(files)
                what = dice.choice(("by_hand", "applied", "undone", "killed"))
                done.append(f"{file.path.parent.name}/{file.path.name} {what}")
                {
                    "by_hand": lambda file=file, step=step: file.by_hand(dice, step),
                    "applied": lambda file=file: file.applied(dice),
                    "undone": file.undone,
                    "killed": lambda file=file: file.killed(dice),
                }[what]()
            for file in files:
                done.append(f"{file.path.name} at last")
                file.undone()
            yield []
        except (Wrong, CommandExecutionError) as err:
            yield [str(err), *done]
        finally:
            shutil.rmtree(home.path)
