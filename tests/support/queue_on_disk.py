"""A qmail queue on disk, for the tests."""

import os
import pathlib
import time


class Queue:
    """A queue directory that messages can be put into."""

    def __init__(self, path, split=23, bigtodo=False, channels=("local", "remote")):
        self.path, self.split, self.bigtodo, self.channels = pathlib.Path(path), split, bigtodo, channels
        parts = ["mess", "info", *channels] + (["todo", "intd"] if bigtodo else [])
        for kind in ("mess", "info", *channels, "bounce", "todo", "intd", "pid", "lock"):
            for number in map(str, range(split)) if kind in parts else ("",):
                (self.path / kind / number).mkdir(parents=True, exist_ok=True)
        (self.path / "lock" / "sendmutex").touch()

    def file(self, kind, number):
        flat = kind == "bounce" or (kind in ("todo", "intd") and not self.bigtodo)
        return self.path / kind / ("" if flat else str(number % self.split)) / str(number)

    def put(
        self, number, sender=b"F#@[]\0", age=0, message=b"x" * 100, channel="local", recipient=b"Tsink@example.com\0"
    ):
        """Put a preprocessed message into the queue."""
        self.file("mess", number).write_bytes(message)
        self.file(channel, number).write_bytes(recipient)
        self.file("info", number).write_bytes(sender)
        came = time.time() - age
        for kind in ("mess", "info"):
            os.utime(self.file(kind, number), (came, came))

    def arrive(self, number, sender=b"F#@[]\0"):
        """Queue a message as qmail-queue does; qmail-send has not seen it."""
        self.file("mess", number).write_bytes(b"y" * 50)
        self.file("intd", number).write_bytes(b"u0\0p1\0" + sender + b"Tsomebody@example.com\0")
        os.link(self.file("intd", number), self.file("todo", number))

    def files(self):
        """Return all files below the queue, with what is in them."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file() and path.parent.name != "lock"
        }

    def numbers(self, kind):
        return sorted(int(path.name) for path in (self.path / kind).rglob("*") if path.is_file())


def until(met, seconds=60):
    """Wait until something is so, and fail after a while."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "this takes too long"
        time.sleep(0.01)
