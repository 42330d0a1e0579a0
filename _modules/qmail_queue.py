"""
Double bounces that wait in qmail's queue: count them, list them.

Only the envelope sender tells a double bounce, never the text of the message: the record in its file in ``info/``
is ``F#@[]`` and nothing else. A single bounce has ``F`` alone. Where no queue is given, it is ``HOME/queue``.
"""

import contextlib
import itertools
import math
import time

from salt.exceptions import CommandExecutionError


def summary(queue=None, home="/var/qmail"):
    """
    Return what is in the queue: a dict with

    - ``messages``: how many there are, as qmail-qstat counts them, and ``bytes``, the size of all;
    - ``double_bounces`` and ``single_bounces`` among them;
    - ``unprocessed``: those that qmail-send has not looked at yet, whether bounces or not;
    - ``oldest``: when the oldest one came, in seconds since the epoch; ``None`` where there are none.

    Messages that come and go meanwhile are no error. Raises CommandExecutionError where there is no queue.

    queue
        The queue directory, or a list of them; ``*`` is a pattern. Otherwise ``HOME/queue``, and where that is no
        queue itself (indimail), all that are in it or beside it.

    home
        The qmail home directory.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.summary
    """
    with _plain_errors():
        parts = _parts(queue, home)
        count = __salt__["qmail_envelope.count"]
        opened = __salt__["qmail_envelope.opened"]

        def work(half, tell):
            counts = []
            for part in parts[half::2]:
                with opened(part) as fds:
                    counts.append(count(part, fds))
                tell(sum(row[0] for row in counts), sum(row[3] for row in counts))
            return counts

        rows = [(0, 0, 0, 0, math.inf), *itertools.chain(*__salt__["qmail_bulk.halves"](work, "qmail_queue.summary"))]
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


def double_bounces(queue=None, home="/var/qmail", older_than=None, limit=None):
    """
    Return the double bounces that wait in the queue: a list of dicts with

    - ``id``: the message number, and ``queue``: the directory of the queue;
    - ``recipient``: where it goes, as qmail-send rewrote it; ``None`` where that is not known any more;
    - ``age`` in seconds, and ``bytes``: the size of the message.

    A quarter of a million of them are a long list: :py:func:`each_double_bounce` is for other modules. Raises
    CommandExecutionError where there is no queue.

    queue, home
        As for :py:func:`summary`.

    older_than
        Only those older than so many seconds.

    limit
        Only so many.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.double_bounces older_than=86400 limit=10
    """
    return list(itertools.islice(each_double_bounce(queue, home, older_than), limit))


def each_double_bounce(queue=None, home="/var/qmail", older_than=None):
    """
    Like :py:func:`double_bounces`, one at a time and without a list: an iterator, which the command line can't show.

    queue, home, older_than
        As for :py:func:`double_bounces`.

    CLI Example:

    .. code-block:: bash

        salt '*' qmail_queue.double_bounces
    """
    bounces = _bounces(queue, home, older_than)
    recipient = __salt__["qmail_envelope.recipient"]
    now = time.time()
    return (
        {
            "id": int(bounce.name),
            "recipient": recipient(part, fds, bounce.name),
            "age": max(0, int(now - bounce.mtime)),
            "bytes": bounce.size,
            "queue": part.queue,
        }
        for part, fds, bounce in bounces
    )


@contextlib.contextmanager
def _plain_errors():
    try:
        yield
    except OSError as err:
        raise CommandExecutionError(f"can't work on the queue: {err}") from err


def _parts(queue, home):
    """Return the split directories of all queues."""
    paths = __salt__["qmail_envelope.queues"](queue, home)
    return list(itertools.chain.from_iterable(map(__salt__["qmail_envelope.parts"], paths)))


def _bounces(queue, home, older_than, single=False):
    """Return an iterator over the double bounces: the split directory, its descriptors, the bounce."""
    before = __salt__["qmail_bulk.cutoff"](older_than)
    parts = _parts(queue, home)
    opened, bounces = __salt__["qmail_envelope.opened"], __salt__["qmail_envelope.bounces"]

    # From here on without __salt__: whoever goes through this may be outside of the loader by then.
    def through():
        with _plain_errors():
            for part in parts:
                with opened(part) as fds:
                    for bounce in bounces(part, fds, single=single, before=before):
                        yield part, fds, bounce

    return through()
