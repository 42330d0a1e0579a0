"""
Whether two paths lead to one file: a home may be spelled otherwise today than when something was written there.
"""

import os

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module


def is_one(path, other):
    """
    Return whether two paths lead to one file, whether it exists or not: the names are the same, and so are the real
    paths of the directories.

    path, other
        Absolute paths.

    For all.
    """
    return path == other or _place(path) == _place(other)


def _place(path):
    directory, name = os.path.split(path)
    return os.path.realpath(directory), name
