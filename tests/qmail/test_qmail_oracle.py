"""
What is predicted of a dot-qmail file is what the real qmail-local does with it.

Each file lies in a home of its own in a temporary directory, and qmail-local itself is given a message for it: neither
qmail's queue nor anybody's mailbox is touched. What it would forward goes to a stand-in for qmail-queue.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = json.loads((pathlib.Path(__file__).parent.parent / "data/oracle/cases.json").read_text())
UID = GID = 54321
EXITS = {"swallowed": 0, "stored": 0, "forwarded": 0, "bounced": 100, "deferred": 111}
QUEUE = "#!/bin/sh\nexec 3<&1 >/dev/null\ncat\nexec cat <&3\n"  # message and envelope come by 0 and 1
MESSAGE = b"Subject: x\n\nhello\n"

# The rows of the table in docs/double-bounces.md and their neighbours.
LINES = ["|exit 0", "#", "./Maildir/", "./mbox", "&joe@example.org", "joe@example.org", "", " |exit 0", "|exit 0\r"]
LINES += ["|exit 99", "|exit 100", "|exit 111", "|true", "|false", "| true", "./Missing/", "|no-such-program", "+list"]


class Box:
    """A home with a Maildir, and the real qmail-local beside the prediction."""

    def __init__(self, qmail, modules, top):
        self.qmail, self.modules, self.top = qmail, modules, top
        self.queue = top / "queue"
        self.queue.write_text(QUEUE)
        self.queue.chmod(0o755)
        self.message = top / "message"
        self.message.write_bytes(MESSAGE)

    def make(self, contents, mode=0o600, home_mode=0o755, dash="", kind="file", owner=UID):
        self.home = self.top / "home"
        shutil.rmtree(self.home, ignore_errors=True)
        for path in (self.home, *(self.home / "Maildir" / part for part in ("", "tmp", "new", "cur"))):
            path.mkdir()
            os.chown(path, UID, GID)
        self.dash = dash
        self.dotqmail = self.home / (".qmail-sink" if dash else ".qmail")
        target = self.home / "target" if kind == "link" else self.dotqmail
        if kind == "directory":
            target.mkdir()
        elif kind in ("file", "link"):
            target.write_bytes(contents)
            os.chown(target, owner, owner and GID)
            target.chmod(mode)
        if kind in ("link", "dangling link"):
            self.dotqmail.symlink_to("target" if kind == "link" else "nowhere")
        self.home.chmod(home_mode)

    def predicted(self):
        return self.modules.qmail_mailbox_dotqmail.predict(str(self.dotqmail), str(self.home), UID, self.dash, gid=GID)

    def delivered(self):
        """Return the exit status of qmail-local, and how many files, forwards and programs it says that it did."""
        ext = "sink" if self.dash else ""
        words = ["--", "popuser", self.home, "x-sink", self.dash, ext, "localhost", "#@[]", "./Maildir/"]
        words += [""] if b"qqeh" in (self.qmail / "bin/qmail-local").read_bytes() else []  # indimail's: one more header
        with self.message.open("rb") as message:  # a file: qmail-local reads it again for each instruction
            done = subprocess.run(
                [self.qmail / "bin/qmail-local", *words],
                stdin=message,
                stdout=subprocess.PIPE,
                user=UID,
                group=GID,
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "QMAILQUEUE": str(self.queue)},
                timeout=20,
                check=False,
            )
        did = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("did ")]
        return done.returncode, [int(count) for count in did[0][4:].split("+")] if did else None

    def agree(self):
        told, (status, did) = self.predicted(), self.delivered()
        assert told["fate"] == "unknown" or EXITS[told["fate"]] == status, told
        assert did in (None, [len(told[kind]) for kind in ("files", "forwards", "programs")]), told
        return told


@pytest.fixture
def box(qmail, modules):
    if b"QMAILQUEUE" not in (qmail / "bin/qmail-local").read_bytes():
        pytest.skip("this qmail-local knows no other qmail-queue than the real one: forwards would be sent")
    top = pathlib.Path(tempfile.mkdtemp(prefix="qmail-local-"))
    top.chmod(0o755)
    yield Box(qmail, modules, top)
    shutil.rmtree(top)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_every_recorded_file_is_delivered_as_predicted(box, case):
    owner = {"popuser": UID, "alias": UID + 1, "root": 0, None: UID}[case["owner"]]
    contents = (case["contents"] or "").encode()
    box.make(contents, int(case["mode"] or "600", 8), int(case["home_mode"], 8), case["dash"], case["kind"], owner)
    box.agree()


@pytest.mark.parametrize("dash", ["", "-"])
@pytest.mark.parametrize("line", LINES)
def test_every_row_of_the_table_is_delivered_as_predicted(box, line, dash):
    for contents in (line, f"{line}\n", f"|exit 0\n{line}\n", f"{line}\n./Maildir/\n"):
        box.make(contents.encode(), dash=dash)
        box.agree()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o700, 0o640, 0o646, 0o000, 0o400])
@pytest.mark.parametrize("home_mode", [0o755, 0o700, 0o757, 0o1755])
@pytest.mark.parametrize("owner", [UID, 0])
def test_modes_and_owners_matter_as_predicted(box, mode, home_mode, owner):
    box.make(b"|exit 0\n", mode, home_mode, owner=owner)
    box.agree()


@settings(max_examples=200)
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=5), end=st.sampled_from(["", "\n"]), dash=st.sampled_from(["", "-"])
)
def test_any_file_of_such_lines_is_delivered_as_predicted(box, lines, end, dash):
    box.make(("\n".join(lines) + end).encode(), dash=dash)
    box.agree()


def test_the_sink_that_the_formula_writes_swallows(box):
    for contents in (b"|exit 0\n", b"#\n"):
        box.make(contents)
        assert box.agree()["fate"] == "swallowed"
        assert list((box.home / "Maildir/new").iterdir()) == []
