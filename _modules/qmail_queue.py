"""
Double bounces that wait in qmail's queue: count them, list them, expire them, remove them.

Only the envelope sender identifies a double bounce, never the text of the message: the record in its file in ``info/``
is exactly ``F#@[]``. That of a single bounce is ``F``. If no queue is given, it is ``HOME/queue``.
"""

import contextlib
import itertools
import math
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def summary(queue=None, home="/var/qmail"):
    """
    Return what is in the queue: a dict with

    - ``messages``: how many there are, as qmail-qstat counts them, and ``bytes``, the size of all;
    - ``double_bounces`` and ``single_bounces`` among them;
    - ``unprocessed``: those that qmail-send has not looked at yet, bounces or not;
    - ``oldest``: when the oldest one came, in seconds since the epoch; ``None`` if there are none.

    Messages that come and go meanwhile are not an error. Raises CommandExecutionError if there is no queue.

    queue
        The queue directory, or a list of them; ``*`` is a pattern. Otherwise ``HOME/queue``, and if that is not a queue
        itself (indimail), all queues in it or beside it.

    home
        The qmail home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.summary
    """
    with _plain_errors():
        parts = _parts(queue, home)
        count = __salt__["qmail_queue_envelope.count"]
        opened = __salt__["qmail_queue_envelope.opened"]

        def work(half, tell):
            counts = []
            for part in parts[half::2]:
                with opened(part) as fds:
                    counts.append(count(part, fds))
                tell(sum(row[0] for row in counts), sum(row[3] for row in counts))
            return counts

        rows = [
            (0, 0, 0, 0, math.inf),
            *itertools.chain(*__salt__["qmail_base_bulk.halves"](work, "qmail_queue.summary")),
        ]
    waiting = {part.queue: part.waiting for part in parts}.values()
    messages, double, single, size, births = zip(*rows)
    oldest = min(itertools.chain(births, *(came.values() for came in waiting)))
    return {
        "messages": sum(messages),
        "double_bounces": sum(double),
        "single_bounces": sum(single),
        "unprocessed": sum(map(len, waiting)),
        "oldest": None if oldest == math.inf else int(oldest),
        "bytes": sum(size),
    }


def glance(known=None, queue=None, home="/var/qmail", limit=20000, seconds=1):
    """
    Look quickly for double bounces in the queue, however large it is. Returns a dict with

    - ``double_bounces``: how many were seen, in this look and in the earlier ones that ``known`` is from;
    - ``oldest``: when the oldest of them came, in seconds since the epoch; ``None`` if there are none;
    - ``exact``: whether all of the queue was looked at; if not, there may be more, and older ones;
    - ``files``: how many messages this look has looked at;
    - ``known``: for the next look, which goes on behind this one, directory by directory, and then begins again.

    Raises CommandExecutionError if there is no queue.

    known
        What an earlier call returned under that name; ``None`` to begin.

    queue, home
        As for :py:func:`summary`.

    limit, seconds
        Look at this many messages at most, and for about this long.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.glance
    """
    __salt__["qmail_base_check.arguments"](home=home, limit=limit, seconds=seconds)
    if limit is None:
        raise SaltInvocationError("limit=None is not a number of messages")
    with _plain_errors():
        return __salt__["qmail_queue_glance.look"](known, queue, home, limit, seconds)


def double_bounces(queue=None, home="/var/qmail", older_than=None, limit=None):
    """
    Return the double bounces that wait in the queue: a list of dicts with

    - ``id``: the message number, and ``queue``: the directory of the queue;
    - ``recipient``: where it goes, as qmail-send rewrote it; ``None`` if that is no longer known;
    - ``age`` in seconds, and ``bytes``: the size of the message.

    A quarter of a million of them make a long list: :py:func:`each_double_bounce` is for other modules. Raises
    CommandExecutionError if there is no queue.

    queue, home
        As for :py:func:`summary`.

    older_than
        Only those older than this many seconds.

    limit
        At most this many.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.double_bounces older_than=86400 limit=10
    """
    __salt__["qmail_base_check.arguments"](limit=limit)
    return list(itertools.islice(each_double_bounce(queue, home, older_than), limit))


def each_double_bounce(queue=None, home="/var/qmail", older_than=None):
    """
    Like :py:func:`double_bounces`, but one at a time: an iterator.

    queue, home, older_than
        As for :py:func:`double_bounces`.

    For modules of your own: a command line cannot show it.
    """
    bounces = _bounces(queue, home, _before(home, older_than=older_than))
    recipient = __salt__["qmail_queue_envelope.recipient"]
    now = time.time()
    return (
        {
            "id": int(bounce.name),
            "recipient": recipient(part, fds, bounce.name),
            "age": max(0, int(now - bounce.came)),
            "bytes": bounce.size,
            "queue": part.queue,
        }
        for part, fds, bounce in bounces
    )


def expire(queue=None, home="/var/qmail", older_than=None, single=False, timeout=300, test=False):
    """
    Have the running qmail-send try each double bounce one last time and then drop it.

    This makes their files in ``info/`` older than any ``queuelifetime``, sends qmail-send a SIGALRM, and watches them
    go. Those that cannot be delivered end as triple bounces, which qmail discards; nothing else is lost. But SIGALRM
    makes qmail-send try **everything** in the queue now.

    Returns a dict with ``expired``: how many are gone; ``left``: how many are still there after the timeout, and
    qmail-send goes on with them; ``bytes``: the size of those gone; and ``seconds``. It can be interrupted and run
    again. Raises CommandExecutionError if qmail-send does not run: then use ``remove``.

    queue, home
        As for ``summary``.

    older_than
        Only those older than this many seconds.

    single
        Expire single bounces, too. **Each one that cannot be delivered becomes a new double bounce**, and is sent where
        those go; its sender will not hear of it again.

    timeout
        How many seconds to watch.

    test
        Touch nothing; ``expired`` and ``bytes`` say what there is to expire.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.expire older_than=3600 test=True
    """
    began = time.monotonic()
    before = _before(home, older_than=older_than, single=single, timeout=timeout, test=test)
    with _plain_errors():
        queues = _queues(queue, home)
        if not test:
            for path in queues:
                _qmail_send(home, path)
        aged, age = [], __salt__["qmail_queue_envelope.age"]
        for part, _, bounce in _bounces(queue, home, before, single):
            if not test:
                age(bounce.fd)
            aged.append((part, bounce.name, bounce.size))
        left = [] if test else _last_try(aged, home, queues, began + timeout)
    return {
        "expired": len(aged) - len(left),
        "left": len(left),
        "bytes": sum(size for _, _, size in aged) - sum(size for _, _, size in left),
        "seconds": round(max(0.0, time.monotonic() - began), 3),
    }


def remove(
    queue=None,
    home="/var/qmail",
    older_than=None,
    single=False,
    provider="auto",
    name="auto",
    timeout=60,
    settle=1,
    test=False,
    control=None,
):
    """
    Delete the double bounces from the queue while qmail-send is stopped.

    This stops qmail-send as ``qmail_service.stop`` does, holds its lock so that nobody starts it, deletes, and starts
    it again: also after an error, an interrupt, or when this process is killed. If it did not run, it is not started,
    and if there is nothing to delete, it is not stopped. New messages may come in meanwhile.

    Returns a dict with ``deleted`` and ``kept``: how many messages; ``bytes``: the size of those deleted; and
    ``seconds``. It can be interrupted and run again. Raises CommandExecutionError if there is no queue, if qmail-send
    cannot be stopped or started, or if another one holds the lock.

    queue, home
        As for ``summary``.

    older_than
        Only those that are older than this many seconds at the time of the call: waiting for qmail-send's end does not
        count.

    single
        Delete single bounces, too. **Each one is the notice to a sender that a message was not delivered**, and nobody
        will get it then.

    provider, name
        What runs qmail-send: see ``qmail_service_supervisor.find``.

    timeout
        Seconds to wait for its end, and then for its start.

    settle
        Seconds that it must stay down, and then up.

    test
        Stop and touch nothing; ``deleted``, ``kept`` and ``bytes`` say what would be done.

    control
        The directory of the control files, which qmail-send has to be able to read when it starts again; ``None`` for
        ``control`` in the home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.remove test=True
    """
    began = time.monotonic()
    service = {"provider": provider, "name": name, "timeout": timeout, "settle": settle, "control": control}
    before = _before(home, older_than=older_than, single=single, test=test, **service)
    chosen = {"before": before, "single": single}
    with _plain_errors():
        removed = [_remove(path, home, chosen, service, test) for path in _queues(queue, home)]
    sums = {key: sum(one[key] for one in removed) for key in ("deleted", "kept", "bytes")}
    return {**sums, "seconds": round(max(0.0, time.monotonic() - began), 3)}


def unprocessed(queue=None, home="/var/qmail"):
    """
    Return how many messages qmail-send has not looked at yet: they are ahead of one that is queued now.

    Raises CommandExecutionError if there is no queue, or it cannot be read.

    queue, home
        As for ``summary``.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.unprocessed
    """
    with _plain_errors():
        first = (__salt__["qmail_queue_envelope.parts"](path)[0] for path in _queues(queue, home))
        return sum(len(part.waiting) for part in first)


def give_up(token, since, age, known=(), home="/var/qmail", queue=None, grace=0, timeout=10):
    """
    Wait until the messages that hold a token have left the queue, and have qmail-send give up those that do not leave.

    Only what holds the token is given up, but for that qmail-send tries **everything in the queue** (ALRM), and twice
    if a message comes back as a double bounce that waits as well.

    Returns a dict: ``given_up``, the numbers of the messages that qmail-send was told to give up, and ``waits``, the
    numbers of those that are still there. Raises CommandExecutionError if the queue cannot be read.

    token
        What the messages must hold: a random text that nobody else can have written.

    since, age
        When the first of them was queued, in seconds since the epoch by the clock of that time, and how many seconds
        ago that was.

    known
        Numbers of messages to look at, whatever their time.

    home, queue
        The qmail home directory, and the queue; ``None`` for ``queue`` in the home directory.

    grace
        Seconds that a message gets to leave by itself.

    timeout
        Seconds to watch.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.give_up doublebounce-probe-0123456789abcdef 1795486275 30
    """
    return __salt__["qmail_queue_leftover.clear"](token, since, age, known, home, queue, grace, timeout)


@contextlib.contextmanager
def _plain_errors():
    try:
        yield
    except OSError as err:
        raise CommandExecutionError(f"Cannot work on the queue: {err}.") from err


def _parts(queue, home):
    """Return the split directories of all queues."""
    return list(itertools.chain.from_iterable(map(__salt__["qmail_queue_envelope.parts"], _queues(queue, home))))


def _queues(queue, home):
    return __salt__["qmail_queue_envelope.queues"](queue, home)


def _before(home, older_than=None, **given):
    """Check all arguments, and return the time before which a message must have come, as it is at the call."""
    __salt__["qmail_base_check.arguments"](home=home, older_than=older_than, **given)
    return __salt__["qmail_base_bulk.cutoff"](older_than)


def _bounces(queue, home, before, single=False):
    """Return an iterator over the double bounces: the split directory, its descriptors, the bounce."""
    parts = _parts(queue, home)
    opened, bounces = __salt__["qmail_queue_envelope.opened"], __salt__["qmail_queue_envelope.bounces"]

    # No __salt__ from here on: the caller may iterate outside of the loader.
    def through():
        with _plain_errors():
            for part in parts:
                with opened(part) as fds:
                    for bounce in bounces(part, fds, single=single, before=before):
                        yield part, fds, bounce

    return through()


def _remove(queue, home, chosen, service, test):
    """Delete from one queue, and return the counts."""
    delete = __salt__["qmail_queue_delete.bounces"]
    if not test and any(True for _ in _bounces(queue, home, **chosen)):
        return __salt__["qmail_queue_pause.during"](
            lambda lock: delete(queue, **chosen, lock=lock), home, queue, service
        )
    if not test:
        __salt__["qmail_queue_pause.recover"](home, queue, service)
    counts = delete(queue, **chosen, test=True)
    if counts["deleted"]:
        __salt__["qmail_queue_pause.check"](home, queue, service)  # so that what would fail then fails now
    return counts


def _qmail_send(home, queue):
    """Return the process id of the qmail-send that runs a queue."""
    pid = __salt__["qmail_base_process.find"](home, queue)
    if not pid:
        raise CommandExecutionError(
            f"No qmail-send works on {queue}, so nothing expires there. Start it, or use qmail_queue.remove."
        )
    return pid


def _last_try(aged, home, queues, deadline):
    """Have qmail-send try everything now; return the aged messages that are still there at the deadline."""
    tell = __salt__["qmail_base_bulk.progress"]("qmail_queue.expire")
    for queue in queues if aged else ():
        __salt__["qmail_queue_retry.alarm"](home, queue)
    left, pause = aged, 0.1
    while left:
        left = [item for part, items in itertools.groupby(left, lambda item: item[0]) for item in _still(part, items)]
        tell(len(aged) - len(left), sum(size for _, _, size in aged) - sum(size for _, _, size in left))
        rest = deadline - time.monotonic()
        if rest <= 0:
            break
        time.sleep(min(pause, rest))
        pause = min(2, pause * 1.5)
    return left


def _still(part, items):
    """Return the aged messages of one split directory that are still there, and are not others of the same number."""
    is_aged = __salt__["qmail_queue_envelope.is_aged"]
    with __salt__["qmail_queue_envelope.opened"](part) as fds:
        return [item for item in items if is_aged(item[1], fds["info"])]
