"""What minions return goes well into a returner: a database takes no keys with dots, and only what JSON has."""

import json
import shutil

import pytest

from tests.support.house import REPOSITORY
from tests.support.watched import Watched

PLAIN = (str, int, float, bool, type(None))


@pytest.fixture
def server(home, minion_opts, tmp_path):
    server = Watched(home, minion_opts, tmp_path)
    shutil.copy(REPOSITORY / "tests/data/logs/maillog", server.path)
    server.bounce(5)
    server.queue.put(100)
    return server


def wrong(value, place=""):
    """Yield what a returner could not keep, with its place."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str) or "." in key or key.startswith("$") or "\0" in key:
                yield f"{place}: the key {key!r}"
            yield from wrong(one, f"{place}/{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from wrong(one, f"{place}/{number}")
    elif type(value) not in PLAIN or value != value or value in (float("inf"), -float("inf")):
        yield f"{place}: {value!r}"


@pytest.mark.parametrize("name", ["status", "report", "causes", "holds", "metrics"])
@pytest.mark.parametrize("trouble", [None, "down", "drift", "no queue"])
def test_what_is_returned_can_be_kept_by_a_returner(server, name, trouble):
    if trouble == "down":
        server.ctl("stop")
    if trouble == "drift":
        server.sink.write_text("./Maildir/\n")
        server.home.write_control("doublebounceto", "a.b@c.example\n")
    if trouble == "no queue":
        shutil.rmtree(server.queue.path / "info")
    found = server.modules[f"qmail_doublebounce.{name}"]()
    assert list(wrong(found)) == []
    assert json.loads(json.dumps(found)) == found


def test_what_could_not_be_kept_is_seen():
    found = {"a.b": 1, "c": [{"d": b"x"}, (1, 2), float("nan")], 5: {"$e": None}}
    assert len(list(wrong(found))) == 6
