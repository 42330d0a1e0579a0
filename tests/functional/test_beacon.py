"""The alarm: it fires when something is wrong, names it, says when it is over, and never keeps its minion waiting."""

import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest
import salt.loader

from tests.support.watched import Watched, line

ONCE = {"readings": 1}
QUIET = dict.fromkeys(("double_bounces", "waiting", "oldest", "silent", "sink", "restart", "down", "blind"), False)


@pytest.fixture
def server(home, minion_opts, tmp_path):
    return Watched(home, minion_opts, tmp_path)


def only(name, value=True, **more):
    """Watch one thing alone, and believe the first reading."""
    return [{**QUIET, name: value, **ONCE, **more}]


def plain(value):
    return json.loads(json.dumps(value)) == value


def test_a_server_in_order_is_not_mentioned(server):
    for _ in range(3):
        server.bounce(1)
        assert server.read() == []


def test_a_flood_fires_names_the_domain_and_is_over(server):
    config = only("double_bounces", {"above": 40, "below": 5})
    assert server.read(*config) == []  # counted from now on
    server.bounce(40)
    server.bounce(9, domain=b"other.example", at=2000)
    (event,) = server.read(*config)
    assert 40 < event["value"] <= 49  # in 60 seconds, and what the test itself takes
    assert (
        event.items()
        >= {
            "tag": "double_bounces/alarm",
            "alarm": "double_bounces",
            "state": "alarm",
            "above": 40,
            "below": 5,
            "domain": "flood.example",
            "remedy": "salt-call qmail_doublebounce.causes since=1h",
        }.items()
    )
    assert event["message"].endswith("Most of the new ones are caused by flood.example.")
    assert plain(event)
    (event,) = server.read(*config)
    assert (event["tag"], event["state"], event["value"]) == ("double_bounces/clear", "clear", 0)
    assert "remedy" not in event
    assert server.read(*config) == []


def test_several_readings_must_agree(server):
    config = [{**QUIET, "waiting": {"above": 4, "below": 1}, "readings": 3}]
    for number in range(100, 105):
        server.queue.put(number)
    assert [server.tags(*config) for _ in range(5)] == [[], [], ["waiting/alarm"], [], []]
    for number in range(100, 105):
        server.queue.file("info", number).unlink()
    assert [server.tags(*config) for _ in range(2)] == [[], []]
    for number in range(100, 105):
        server.queue.put(number)
    assert [server.tags(*config) for _ in range(3)] == [[], [], []]  # the row begins again
    for number in range(100, 105):
        server.queue.file("info", number).unlink()
    assert [server.tags(*config) for _ in range(4)] == [[], [], ["waiting/clear"], []]


def test_the_oldest_double_bounce_counts_and_no_other_message(server):
    config = only("oldest", {"above": 3600, "below": 60})
    server.queue.put(100, sender=b"Fjoe@example.com\0", age=90000)
    server.queue.put(101, age=100)
    assert server.read(*config) == []
    server.queue.put(102, age=7200)
    (event,) = server.read(*config)
    assert event["tag"] == "oldest/alarm"
    assert 7320 <= event["value"] < 7400
    server.queue.file("info", 102).unlink()
    assert server.read(*config) == []  # 100 seconds and a bit are between the limits
    server.queue.file("info", 101).unlink()
    assert server.tags(*config) == ["oldest/clear"]


def test_a_queue_too_large_for_a_reading_is_gone_on_with_at_the_next(server, monkeypatch):
    monkeypatch.setitem(server.warm(), "FILES", 100)
    for number in range(1, 461):
        server.queue.put(number, sender=b"F#@[]\0" if number % 2 else b"Fjoe@example.com\0")
    config = only("waiting", {"above": 200, "below": 100})
    events = [server.read(*config) for _ in range(7)]
    (event,) = [event for found in events for event in found]
    assert event["value"] == 230
    assert events.index([event]) >= 4  # all of it takes five readings
    for number in range(1, 461, 2):
        server.queue.file("info", number).unlink()
    tags = [server.tags(*config) for _ in range(5)]
    assert tags.count(["waiting/clear"]) == 1
    assert tags[0] == []  # not all of it was looked at again


def test_what_a_short_look_has_seen_is_enough_to_fire(server, monkeypatch):
    monkeypatch.setitem(server.warm(), "FILES", 100)
    for number in range(1, 461):
        server.queue.put(number)
    (event,) = server.read(*only("waiting", {"above": 50, "below": 10}))
    assert event["message"].startswith("At least ")
    assert 50 < event["value"] <= 100


def test_a_sink_that_drifts_fires_with_its_remedy_and_is_over(server):
    config = only("sink")
    assert server.read(*config) == []
    server.sink.write_text("./Maildir/\n")
    (event,) = server.read(*config)
    assert event["tag"] == "sink/alarm"
    assert event["remedy"].startswith("state.apply qmail-doublebounce")
    assert "does not swallow mail" in event["message"]
    server.sink.write_text("|exit 0\n")
    assert server.tags(*config) == ["sink/clear"]


def test_a_due_restart_fires_and_is_over_and_is_no_drift(server):
    config = [{**QUIET, "restart": True, "sink": True, **ONCE}]
    server.home.write_control("doublebounceto", "other\n")
    assert sorted(server.tags(*config)) == ["restart/alarm", "sink/alarm"]
    server.home.write_control("doublebounceto", "dummy\n")
    assert server.tags(*config) == ["sink/clear"]  # the restart is still due: it may have read the other one
    server.ctl("restart")
    assert server.tags(*config) == ["restart/clear"]


def test_a_qmail_send_that_is_down_fires_and_is_over(server):
    config = only("down")
    server.ctl("stop")
    (event,) = server.read(*config)
    assert (event["tag"], event["remedy"]) == ("down/alarm", f"salt-call qmail_service.start home={server.home.path}")
    server.ctl("start")
    assert server.tags(*config) == ["down/clear"]


def test_a_silent_log_fires_and_is_over(server):
    config = only("silent", {"above": 100, "below": 70})
    assert [server.tags(*config) for _ in range(3)] == [[], ["silent/alarm"], []]
    server.say(b"status: local 0/3 remote 0/20", when=server.clock.time())
    assert server.tags(*config) == ["silent/clear"]


def test_what_cannot_be_seen_fires_rather_than_looks_well(server):
    config = [{**ONCE, "silent": False}]
    assert server.read(*config) == []
    server.path.unlink()
    (event,) = server.read(*config)
    assert event["tag"] == "blind/alarm"
    assert str(server.path) in event["message"]
    server.path.write_bytes(line(b"end msg 5"))
    assert server.tags(*config) == ["blind/clear"]


def test_a_wrong_pillar_fires(server):
    server.opts["pillar"] = {"qmail_doublebounce": {"address": "dummy"}}
    server.start()
    (event,) = server.read({**QUIET, "blind": True, **ONCE})
    assert "qmail_doublebounce:address: 'dummy' is not an address" in event["message"]


def test_a_log_that_is_a_fifo_does_not_keep_the_minion_waiting(server):
    server.path.unlink()
    os.mkfifo(server.path)
    (event,) = server.read(*only("blind"))
    assert "not a regular file" in event["message"]


def test_a_journalctl_that_hangs_does_not_keep_the_minion_waiting(server, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/journalctl").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "bin/journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    where = {"path": "journald:qmail-send.service", "cursor": None, "since": 0}
    account = server.modules["qmail_log.tally"](path=str(server.path))
    with pytest.raises(salt.exceptions.CommandExecutionError, match="journalctl printed nothing within"):
        server.modules["qmail_log.tally"]({**account, "position": where}, seconds=0.2)


def test_an_alarm_outlives_the_minion_and_what_came_meanwhile_is_counted(server):
    config = [{**QUIET, "sink": True, "double_bounces": {"above": 100000, "below": 1}, **ONCE}]
    assert server.read(*config) == []
    server.sink.write_text("./Maildir/\n")
    assert server.tags(*config) == ["sink/alarm"]
    server.bounce(7)
    server.start()
    assert server.read(*config) == []  # it was said
    server.sink.write_text("|exit 0\n")
    server.start()
    assert server.tags(*config) == ["sink/clear"]
    assert 'qmail_double_bounces_total{outcome="queued"} 7\n' in server.modules["qmail_doublebounce.metrics"]()


def test_an_alarm_is_repeated_as_often_as_wanted(server):
    server.sink.write_text("./Maildir/\n")
    found = [server.read(*only("sink", remind=3600)) for _ in range(125)]
    said = [(number, event["tag"], event.get("again")) for number, events in enumerate(found) for event in events]
    assert said == [(0, "sink/alarm", None), (60, "sink/alarm", True), (120, "sink/alarm", True)]
    assert [server.read(*only("sink", remind=0)) for _ in range(70)] == [[]] * 70


def account_of(server):
    qmail = server.pillar["qmail_doublebounce"]["qmail"]
    return os.path.join(server.modules["qmail_service.directory"](qmail["home"]), "account")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 99}', '{"version": 1}', "totals"])
def test_a_damaged_account_is_set_aside_and_that_is_said(server, damage):
    config = only("blind")
    server.read(*config)
    path = account_of(server)
    if damage == "totals":
        with open(path) as file:
            record = json.load(file)
        record["log"]["totals"] = {"stored": -7}
        damage = json.dumps(record)
    with open(path, "w") as file:
        file.write(damage)
    with open(path) as file:
        record = file.read()
    time.sleep(1.1 - time.time() % 1)  # the new one begins in another second
    events = server.read(*config)
    (event,) = (event for event in events if event["alarm"] == "account")
    assert event["tag"] == "account/again"
    assert "Counting began again." in event["message"]
    assert server.read(*config) == []
    server.bounce(3)
    assert 'outcome="queued"} 3\n' in server.modules["qmail_doublebounce.metrics"]()


def test_another_reader_is_not_waited_for_and_nothing_is_lost(server):
    config = only("double_bounces", {"above": 5, "below": 1})
    server.read(*config)
    server.bounce(30)
    with open(f"{account_of(server)}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert server.read(*config) == []  # it has the account of before
    assert server.tags(*config) == ["double_bounces/alarm"]


READER = """
import sys, time, salt.loader, json
opts = json.load(open(sys.argv[1]))
modules = salt.loader.minion_mods(opts)
while not __import__("os").path.exists(sys.argv[2]):
    qmail = {**opts["pillar"]["qmail_doublebounce"]["qmail"], "queue": None}
    modules["qmail_doublebounce_account.read"](qmail, patience=5)
"""


def test_alarm_and_metrics_count_in_one_account_and_nothing_twice(server, tmp_path):
    server.read()
    opts = {key: value for key, value in server.opts.items() if plain_enough(value)}
    (tmp_path / "opts").write_text(json.dumps(opts))
    command = [sys.executable, "-c", READER, str(tmp_path / "opts"), str(tmp_path / "stop")]
    readers = [subprocess.Popen(command) for _ in range(2)]
    try:
        for turn in range(20):
            server.bounce(25, at=500 + turn * 100)
            server.read()
    finally:
        (tmp_path / "stop").touch()
        assert [reader.wait(60) for reader in readers] == [0, 0]
    text = server.modules["qmail_doublebounce.metrics"]()
    assert 'qmail_double_bounces_total{outcome="queued"} 500\n' in text
    assert 'qmail_double_bounces_total{outcome="swallowed"} 500\n' in text


def plain_enough(value):
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def test_the_account_is_for_root_alone(server):
    server.read()
    path = account_of(server)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


def test_a_reading_in_a_large_server_is_short_and_runs_nothing(server, monkeypatch):
    """By what it does, not by how long it takes: no program, no fork, no more than so many bytes."""
    server.read()
    server.bounce(300)
    for number in range(1, 500):
        server.queue.put(number)

    def refuse(*arguments, **named):
        raise AssertionError("a program is run")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(multiprocessing, "Process", refuse)
    assert [event["tag"] for event in server.read(ONCE)] == ["double_bounces/alarm", "waiting/alarm"]


def test_validate_says_all_that_is_wrong_in_one_message(server):
    validate = server.beacons["qmail_doublebounce.validate"]
    config = [
        {"wait": 5},
        {"waiting": "many"},
        {"oldest": {"above": 5}},
        {"silent": {"above": 5, "below": 10}},
        {"sink": "yes"},
        {"readings": 0},
        {"remind": "daily"},
        {"double_bounces": -1},
        {"interval": 60},
    ]
    valid, said = validate(config)
    assert valid is False
    for words in (
        "wait is not a setting",
        "waiting is 'many'",
        "oldest is {'above': 5}",
        "it could never clear",
        "sink is 'yes'",
        "readings is 0",
        "remind is 'daily'",
        "double_bounces is -1",
    ):
        assert words in said


@pytest.mark.parametrize("config", [{}, {"interval": 60}, None, "60", ["interval"]])
def test_what_is_no_list_of_settings_is_refused(server, config):
    valid, said = server.beacons["qmail_doublebounce.validate"](config)
    assert valid is False
    assert "list" in said


@pytest.mark.parametrize(
    "config",
    [
        [],
        [{"interval": 60}, {"disable_during_state_run": True}, {"enabled": True}],
        [{"beacon_module": "qmail_doublebounce"}, {"run_once": False}],
        [{"double_bounces": 5}, {"waiting": False}, {"oldest": True}, {"silent": {"above": 1.5, "below": 0}}],
    ],
)
def test_what_is_right_is_accepted(server, config):
    assert server.beacons["qmail_doublebounce.validate"](config) == (True, "The configuration is right.")


def test_a_minion_that_has_the_beacon_and_not_the_modules_says_the_remedy(minion_opts):
    beacons = salt.loader.beacons(minion_opts, {}, loaded_base_name="salt.bare")
    valid, said = beacons["qmail_doublebounce.validate"]([])
    assert valid is False
    assert "saltutil.sync_all" in said


def test_salts_own_engine_fires_it(server):
    """The engine that the minion has: it validates, keeps intervals, and makes the tag."""
    import salt.beacons

    config = {"qmail_doublebounce": [{**QUIET, "sink": True, **ONCE}, {"interval": 2}]}
    engine = salt.beacons.Beacon({**server.opts, "beacons": config, "loop_interval": 1, "id": "mx1"}, server.modules)
    server.sink.write_text("./Maildir/\n")
    events = []
    for _ in range(4):
        events += engine.process(json.loads(json.dumps(config)), {})
    (event,) = events
    assert event["tag"] == "salt/beacon/mx1/qmail_doublebounce/sink/alarm"
    assert event["data"]["id"] == "mx1"
    assert event["data"]["message"].startswith("Double bounces do not end as pillar asks.")
    engine.close_beacons()
