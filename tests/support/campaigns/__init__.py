"""
The same again and again by chance, and each time everything is as it must be: many rounds, each by a seed.

- ``race``: several processes apply and undo the same files at the same time, and one last undoing puts everything back;
- ``history``: people and this project write the same files by turns, some of the runs are killed, and nothing of what
  people wrote is lost;
- ``kill``: whatever moment ``qmail_queue.remove`` is killed at, the queue is sound, qmail-send comes back, no delivery
  is cut, and nothing but double bounces goes.

Each has a function ``rounds(place, modules, dice)``, which works below a directory, and yields for each round what was
wrong in it: a list, empty if nothing was.
"""
