"""
Text from what others have written: names and lines may hold any bytes, but Salt can send only UTF-8.

For the other modules of this formula. A byte that is not UTF-8 is shown by an escape, such as ``\\xfc``. That is good
for reading only: a path that holds one is not the path that it was.
"""

import re

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPE = re.compile(r"\\x[89a-f][0-9a-f]")


def shown(said):
    """
    Return what can be sent: the text itself, with an escape for each byte that is not UTF-8.

    said
        Bytes, or text in which Python stands for such bytes by surrogates, as in the names of files.

    For all.
    """
    raw = said.encode("utf-8", "surrogateescape") if isinstance(said, str) else said
    return raw.decode("utf-8", "backslashreplace")


def is_sendable(text):
    """
    Return whether a text can be sent as it is. salt-call can be given what cannot: no answer could repeat that.

    text
        The text.

    For all.
    """
    return SURROGATE.search(text) is None


def is_altered(text):
    """
    Return whether a text may hold such an escape. If so, nothing must be opened, or looked up, by it.

    text
        What ``shown`` returned, or a longer text that holds it.

    For all.
    """
    return ESCAPE.search(text) is not None
