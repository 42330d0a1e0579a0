"""Say which qmail the tests run on, by what is on disk: its programs know their name, their lock and their features."""

import re

# What qmail-smtpd answers to HELP, and what a program that shows the configuration begins with.
NAME = re.compile(rb"214 ([\x20-\x7e]{1,40}) home page|\b([A-Za-z/]*mail) home directory:")
SIGNAL = re.compile(r" got [A-Z]+[0-9]?: | ordered to quit ")
PLAIN = ("qmail", "netqmail")
CHANNELS = ("suppl0", "suppl1")


def told(home):
    """Return a line for pytest's header."""
    if not (home / "bin/qmail-send").exists():
        return f"qmail: none at {home}"
    return f"qmail: {name(home)} at {home}: {', '.join(features(home))}"


def name(home):
    """Return the fork's name, with the version where its programs hold one."""
    programs = [path.read_bytes() for path in sorted((home / "bin").iterdir()) if path.is_file()]
    found = [match[1] or match[2] for program in programs for match in NAME.finditer(program)]
    names = [each.decode() for each in dict.fromkeys(found)]
    if (home / "bin/todo-proc").exists():  # its qmail-smtpd goes by the names of those that it was made from
        names.insert(0, "indimail-mta")
    called = next((each for each in names if each not in PLAIN), names[0] if names else "a qmail without a name")
    pattern = re.compile(rb"\b" + re.escape(called.encode()) + rb"[- ]v?([0-9]+(?:\.[0-9]+)+[a-z0-9]*)", re.I)
    versions = [match[1].decode() for program in programs for match in pattern.finditer(program)]
    return f"{called} {versions[0]}" if versions else f"{called} (no program tells its version)"


def features(home):
    """Return, in words, what sets a qmail apart from another one for those who look at it from the outside."""
    send, queue = (home / "bin/qmail-send").read_bytes(), home / "queue"
    split = len(list((queue / "mess").glob("[0-9]*")))
    return [
        "discards double bounces" if b"double bounce: discarding " in send else "no discard feature",
        f"locks by {' or '.join(calls(send)) or 'an unknown call'}",
        f"split {split}",
        "big-todo" if (queue / "todo/0").is_dir() else "flat todo",
        *(each for each in ("qmail-todo", "todo-proc") if (home / "bin" / each).exists()),
        *(each for each in CHANNELS if (queue / each).exists()),
        *(f"{each} leads to {(home / each).resolve()}" for each in ("control", "queue") if (home / each).is_symlink()),
    ]


def alerts(log):
    """Return the lines of a log in which qmail-send alerts: indimail's also says so of each signal that it gets."""
    return [line for line in log.splitlines() if "alert: " in line and not SIGNAL.search(line)]


def waits(home):
    """Return whether qmail-send waits, on TERM, for its deliveries in flight: indimail's leaves them at once."""
    return b" got TERM" not in (home / "bin/qmail-send").read_bytes()


def calls(program):
    """Return which calls a program that is linked dynamically names in its table of symbols."""
    return [call for call in ("flock", "lockf") if b"\0" + call.encode() + b"\0" in program]
