"""Two runs of the runner over the same minions take turns, and a claim lasts no longer than its process."""

import contextlib
import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.answers import NAMES, Minions, rows

HOLD = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); input()"
CLAIM = {"kind": "rollout", "user": "mail", "pid": 7, "since": "2026-11-24 02:11:15", "minions": ["mx03", "mx99"]}


@pytest.fixture
def place(tmp_path):
    place = tmp_path / "cache/qmail-doublebounce"
    place.mkdir(mode=0o700, parents=True)
    return place


@contextlib.contextmanager
def held(path, text):
    """Have a process hold a claim, which is killed in the end."""
    path.write_text(text)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=-1, stdout=-1) as holder:
        holder.stdout.readline()
        yield
        holder.kill()


def test_two_runs_over_the_same_minions_take_turns_and_a_dead_one_does_not_count(run, place):
    with held(place / "7-1.json", json.dumps(CLAIM)):
        minions = Minions(NAMES)
        (step,) = run(minions).values()
        assert step["comment"] == (
            "A rollout by mail, process 7, works on mx03 since 2026-11-24 02:11:15. Wait for its end."
        )
        assert not minions.asked
        assert rows(run(Minions(NAMES[:3]))) == dict.fromkeys(NAMES[:3], "changed")
    assert rows(run(Minions(NAMES))) == dict.fromkeys(NAMES, "changed")
    assert [path.name for path in place.iterdir()] == ["lock"]


def test_a_run_says_who_it_is_for_as_long_as_it_works(run, place):
    seen = []

    def returns(name, function, dry):
        if function == "saltutil.sync_all":
            (path,) = place.glob("*.json")
            seen.append(json.loads(path.read_text()))
            assert run(Minions(NAMES[1:2]))["the work could be done"]["comment"].startswith("A rollout by ")

    run(Minions(NAMES[:2], returns), test=True)
    assert all(one["minions"] == NAMES[:2] and one["pid"] == os.getpid() for one in seen)
    assert [path.name for path in place.iterdir()] == ["lock"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"minions": 5}', json.dumps({**CLAIM, "minions": [[]]})])
def test_what_is_held_and_is_no_claim_stops_it_in_words(run, place, text):
    with held(place / "7-1.json", text):
        minions = Minions(NAMES)
        (step,) = run(minions).values()
    assert re.search(r"7-1\.json is held by a process, .* fuser -v ", step["comment"])
    assert not minions.asked


def test_what_lies_there_and_nobody_holds_does_not_count(run, place):
    (place / "1-1.json").write_text(json.dumps(CLAIM))
    (place / "2-2.json").write_text("{")
    (place / "3-3.json").symlink_to("gone")  # its process ended after the directory was listed
    assert rows(run(Minions(NAMES))) == dict.fromkeys(NAMES, "changed")
    assert not (place / "1-1.json").exists()


def open_to_all(place):
    place.chmod(0o777)


def of_another(place):
    os.chown(place, 4242, -1)


def elsewhere(place):
    place.rename(place.with_name("other"))
    place.symlink_to("other")


def a_file(place):
    place.rmdir()
    place.write_text("")


@pytest.mark.parametrize("change", [open_to_all, of_another, elsewhere, a_file])
def test_a_place_that_others_can_write_to_is_refused(run, place, change):
    if change is of_another and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    change(place)
    minions = Minions(NAMES)
    (step,) = run(minions).values()
    assert step["result"] is False
    assert str(place) in step["comment"]
    assert not minions.asked
