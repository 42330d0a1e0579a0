"""
Logs beside files that logrotate does not make any more, since its options were changed: it leaves them where they are.
"""

import gzip
import lzma
import os
import shutil
import subprocess
import time

import pytest

NOW = int(time.time())
DAY = 86400
# The files of a log, oldest first, with the days since they were written to last. "%" stands for the date of that day.
LEFTOVERS = {
    "dates instead of numbers": {".3.gz": 420, ".2.gz": 410, ".1": 400, "-%.gz": 3, "-%": 2},
    "dates with days between": {".3": 420, ".1": 400, ".processed.7.gz": 90, "-%.gz": 3, "-%": 2},
    "numbers instead of dates": {"-%.gz": 420, "-%": 400, ".2.gz": 3, ".1": 2},
    "dates, numbers for a while, dates": {"-%.gz": 420, "-%": 400, ".2.gz": 90, ".1": 80, "-%.xz": 3, ".%": 2},
    "packed": {".4": 420, ".3": 410, ".2": 400, ".3.gz": 4, ".2.gz": 3, ".1.gz": 2},
    "packed one rotation later": {".4": 420, ".3": 410, ".2": 400, ".3.gz": 4, ".2.gz": 3, ".1": 2},
    "packed no more": {".3.gz": 420, ".2.gz": 410, ".1.gz": 400, ".2": 3, ".1": 2},
    "packed otherwise": {".3.gz": 420, ".2.gz": 410, ".2.xz": 3, ".1": 2},
    "with an ending": {".2": 410, ".1": 400, ".2.log": 3, ".1.log": 2},
    "moved by Plesk no more": {".processed.1.gz": 420, ".processed": 400, ".2.gz": 3, ".1": 2},
    "dates instead of numbers, and Plesk": {
        ".processed.2.gz": 410,
        ".processed.1": 400,
        ".processed-%": 3,
        ".processed": 2,
    },
}
LIVE = 5  # days: what is older is left over


def line(when, number=1):
    words = b"%d.500000 info msg %d: bytes 2 from <#@[]> qp %d uid 4" % (when, number, number)
    return time.strftime("%b %e %H:%M:%S", time.localtime(when)).encode() + b" vm qmail: " + words + b"\n"


def put(path, data, when):
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))
    os.utime(path, (when, when))
    return str(path)


class Log:
    """A log of two double bounces a day."""

    def __init__(self, modules, directory, names):
        self.modules, self.path, self.names = modules, directory / "maillog", names

    def named(self, ending):
        date = time.strftime("%Y%m%d", time.localtime(NOW - self.names[ending] * DAY))
        return self.path.with_name(f"maillog{ending.replace('%', date)}")

    def rotated(self, endings):
        """Make rotated files, and return their paths."""
        ends = {ending: NOW - self.names[ending] * DAY for ending in endings}
        return [put(self.named(name), line(end - 60) + line(end), end) for name, end in ends.items()]

    def made(self):
        return [*self.rotated(self.names), put(self.path, line(NOW - 60) + line(NOW), NOW)]

    def __getattr__(self, name):
        return lambda **more: self.modules[f"qmail_log.{name}"](path=str(self.path), **more)


@pytest.fixture(params=LEFTOVERS)
def log(request, modules, tmp_path):
    return Log(modules, tmp_path, LEFTOVERS[request.param])


def test_files_are_in_the_order_they_were_written_in(log):
    files = log.made()
    about = log.about()
    assert (about["files"], about["newest"]) == (files, NOW)


def test_just_after_a_rotation_the_newest_line_is_in_the_file_before(log):
    log.made()
    log.path.write_bytes(b"")
    newest = NOW - min(log.names.values()) * DAY
    assert log.about()["newest"] == newest
    account = log.tally()
    assert account["newest"] == newest


def test_a_name_of_many_digits_takes_no_time(modules, tmp_path):
    (tmp_path / "maillog").write_bytes(line(NOW))
    for sign in "!.":
        (tmp_path / f"maillog.20260101{'1' * 100}{sign}").touch()
    assert modules.qmail_log.counts(path=str(tmp_path / "maillog"))["double_bounces"] == 1


def test_a_window_has_everything_in_it(log, monkeypatch):
    assert log.made() == log.about()["files"]
    # Whoever follows messages begins that many bytes earlier; what is left over may have more.
    monkeypatch.setitem(log.modules["qmail_log.summary"].__globals__, "CONTEXT", 100)
    expected = 2 + 2 * sum(days < LIVE for days in log.names.values())
    assert log.count(since="7d")["double_bounces"] == expected
    assert log.counts(since="7d")["double_bounces"] == expected
    assert log.summary(since="7d")["double_bounces"] == expected
    assert log.harm(since="7d")["total"]["double_bounces"] == expected
    assert log.causes(since="7d")["double_bounces"] == expected
    assert log.count()["double_bounces"] == 2 + 2 * len(log.names)


def test_over_a_rotation_only_what_is_new_counts(log):
    """The newest of the rotated files is the one that is made while somebody follows the log."""
    *before, last = log.names
    log.rotated(before)
    log.path.write_bytes(line(NOW - 2 * DAY - 60))
    account, where = log.tally(), log.position()
    for turn in range(3):
        with open(log.path, "ab") as file:
            file.write(line(NOW - 2 * DAY + turn))
    put(log.named(last), log.path.read_bytes(), NOW - 2 * DAY + 2)
    log.path.unlink()
    put(log.path, line(NOW), NOW)
    account = log.tally(account=account)
    assert (account["totals"]["double_bounces"], account["gaps"]) == (4, 0)
    told = log.modules["qmail_log.lines_since"](where)
    assert [len(told["lines"]), told["lost"]] == [4, False]


def test_of_what_is_left_over_only_the_newest_file_s_time_matters(modules, tmp_path):
    log = Log(modules, tmp_path, {".3.gz": 420, ".2": 410, ".1": 400, "-%.gz": 3, "-%": 2})
    files = log.made()
    for name in files[:2]:
        os.utime(name)
    assert log.about()["files"] == files


@pytest.mark.parametrize(
    "names", [[".2", ".1", "-%", ""], [".processed.1", "-%", ".processed", ""], ["-20240102", ".2", ".1", ""]]
)
def test_copies_of_one_time_are_told_apart_by_the_date(modules, tmp_path, names):
    today = time.strftime("%Y%m%d", time.localtime(NOW))
    files = [put(tmp_path / f"maillog{name.replace('%', today)}", line(NOW), NOW) for name in names]
    assert modules["qmail_log.about"](files[-1])["files"] == files


def test_files_that_vanish_meanwhile_are_no_error(log, monkeypatch):
    files, really = log.made(), os.stat
    *gone, _ = files[1:-1]

    def vanishing(path, *arguments, **named):
        if path in gone:
            raise FileNotFoundError(2, "No such file or directory", path)
        return really(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", vanishing)
    assert sorted(log.about()["files"]) == sorted(files)


def test_thousands_of_files_of_one_kind_are_not_asked_for_their_time(modules, tmp_path, monkeypatch):
    for number in range(1, 2000):
        (tmp_path / f"maillog.{number}").touch()
    put(tmp_path / "maillog", line(NOW), NOW)
    asked, really = [], os.stat

    def counting(*arguments, **named):
        asked.append(arguments[0])
        return really(*arguments, **named)

    monkeypatch.setattr(os, "stat", counting)
    assert len(modules["qmail_log_part.named"](str(tmp_path / "maillog"))["files"]) == 2000
    assert len(asked) < 10


def test_a_file_that_is_being_packed_is_none_that_was_left_over(modules, tmp_path):
    text = b"".join(line(NOW - 100 + number, number) for number in range(90))
    whole = gzip.compress(text)
    files = [put(tmp_path / name, text, NOW) for name in ("maillog.1", "maillog")]
    for size in (0, 1, 15, 100, len(whole) - 1, len(whole)):
        (tmp_path / "maillog.1.gz").write_bytes(whole[:size])
        assert modules["qmail_log.about"](files[-1])["files"] == files


@pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed")
def test_a_real_logrotate_may_be_told_anything(modules, tmp_path):
    path, conf = tmp_path / "maillog", tmp_path / "logrotate.conf"
    log = Log(modules, tmp_path, {})
    put(path, line(NOW), NOW)
    account, where, total = log.tally(), log.position(), 0
    dated = ["dateext\ndateformat -%Y%m%d-{turn}"]
    options = [[], [], [], dated, dated, ["compress"], ["compress"], [*dated, "compress"], [*dated, "compress"]]
    options += [["compress", "delaycompress"]] * 3 + [[]] * 3 + [["compress", "compresscmd xz", "compressext .xz"]] * 3
    for turn, chosen in enumerate(options):
        with open(path, "ab") as file:
            file.write(line(NOW + turn, 100 + turn))
        told = "\n".join(["rotate 99", "create", *chosen]).replace("{turn}", str(turn))
        conf.write_text(f"{path} {{\n{told}\n}}\n")
        conf.chmod(0o644)
        subprocess.run(["logrotate", "-f", "-s", tmp_path / "state", conf], check=True)
        with open(path, "ab") as file:
            file.write(line(NOW + turn, 200 + turn))
        total += 2
        account = log.tally(account=account)
        assert (account["totals"]["double_bounces"], account["gaps"]) == (total, 0)
        seen = modules["qmail_log.lines_since"](where)
        assert (len(seen["lines"]), seen["lost"]) == (2, False)
        where = seen["position"]
    # logrotate itself has written over some of what it had left behind.
    files = [tmp_path / name for name in os.listdir(tmp_path) if name.startswith("maillog")]
    assert sorted(log.about()["files"]) == sorted(map(str, files))
    times = [number for name in log.about()["files"] for number in stamps(name)]
    assert times == sorted(times)
    assert log.count()["double_bounces"] == len(times) > 2 * len(options) - 10


def stamps(name):
    unpack = {"gz": gzip.open, "xz": lzma.open}.get(name.rpartition(".")[2], open)
    with unpack(name, "rb") as file:
        return [line.split()[5] for line in file]
