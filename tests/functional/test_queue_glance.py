"""A quick look at the queue sees a part of it, the next look goes on behind that, and together they see all of it."""

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support.queue_on_disk import Queue

SPLIT = 5


@pytest.fixture
def queue(tmp_path):
    """A queue with 20 double bounces, and 20 other messages that are older."""
    queue = Queue(tmp_path / "queue", split=SPLIT)
    for number in range(1, 21):
        queue.put(number, age=1000 + number)
        queue.put(100 + number, sender=b"Fsomebody@example.com\0", age=5000)
    return queue


@pytest.fixture
def glance(modules, queue):
    def glance(known=None, **named):
        return modules.qmail_queue.glance(known, str(queue.path), **{"limit": 20000, "seconds": 60, **named})

    return glance


def test_a_look_that_has_time_sees_all_of_it(modules, queue, glance):
    found, summary = glance(), modules.qmail_queue.summary(str(queue.path))
    assert {name: found[name] for name in ("double_bounces", "oldest", "exact", "files")} == {
        "double_bounces": summary["double_bounces"],
        "oldest": int(queue.file("info", 20).stat().st_mtime),
        "exact": True,
        "files": summary["messages"],
    }


@pytest.mark.parametrize("limit", [1, 7, 8, 9, 16, 39])
def test_looks_at_a_part_go_on_behind_each_other(glance, limit):
    looks = [glance(limit=limit)]
    while not looks[-1]["exact"] and len(looks) < SPLIT:
        looks.append(glance(looks[-1]["known"], limit=limit))
    assert all(look["files"] <= limit for look in looks)
    assert looks[0]["exact"] is False
    numbers = [look["double_bounces"] for look in looks]
    assert numbers == sorted(numbers) and numbers[-1] <= 20
    if limit >= 8:  # what is in one directory
        assert looks[-1]["exact"] is True
        assert numbers[-1] == 20


def test_what_has_gone_meanwhile_is_not_counted_by_the_next_look(queue, glance):
    found = glance()
    for kind in ("info", "mess", "local"):
        queue.file(kind, 20).unlink()
    found = glance(found["known"])
    assert (found["double_bounces"], found["oldest"]) == (19, int(queue.file("info", 19).stat().st_mtime))


@pytest.mark.parametrize(
    "known",
    [
        "all",
        {},
        {"next": 0, "parts": []},
        {"next": SPLIT, "parts": [None] * SPLIT},
        {"next": -1, "parts": [None] * SPLIT},
        {"next": "0", "parts": [None] * SPLIT},
        {"next": 0, "parts": [[9, 9, True]] * (SPLIT + 1)},
        {"next": 0, "parts": [[9, 9]] * SPLIT},
        {"next": 0, "parts": [[9, "9", True]] * SPLIT},
        {"next": 0, "parts": [["9", 9, True]] * SPLIT},
        {"next": 0, "parts": [[9, 9, 1]] * SPLIT},
    ],
)
def test_what_no_look_has_returned_is_begun_again(glance, known):
    assert glance(known, limit=8)["double_bounces"] == 4


def test_an_empty_queue_holds_none(modules, tmp_path):
    found = modules.qmail_queue.glance(queue=str(Queue(tmp_path / "queue").path))
    assert (found["double_bounces"], found["oldest"], found["exact"], found["files"]) == (0, None, True, 0)


def test_no_limit_and_no_queue_are_errors(modules, queue, glance, tmp_path):
    with pytest.raises(SaltInvocationError, match="limit=None"):
        glance(limit=None)
    with pytest.raises(CommandExecutionError):
        modules.qmail_queue.glance(queue=str(tmp_path / "none"))


@pytest.mark.parametrize("named", [{"limit": "many"}, {"seconds": "many"}, {"home": ["/var/qmail"]}])
def test_what_is_no_number_or_path_is_named(glance, named):
    with pytest.raises(SaltInvocationError, match="|".join(named)):
        glance(**named)
