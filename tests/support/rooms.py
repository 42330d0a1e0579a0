"""
Write at the end of what each function of a room is documented with whom it is for, from the calls in the code:

    python -m tests.support.rooms
"""

import re
import textwrap

from tests.support.house import GROUND, House, told

WIDTH = 120
# What stands there already; and what stands there in a function that was a face's.
NAME = r"(?:the \w+ )?``qmail_\w+``"
WHOM = re.compile(rf"For (?:all|nobody|(?:{NAME}, )*(?:{NAME} and )?{NAME})\.")
EXAMPLE = re.compile(r"\s*\n *CLI Examples?:\n.*", re.DOTALL)


def whom(house, module, name):
    """Say whom a function of a room is for."""
    return "For all." if module.family == GROUND else told(house.callers(module, name))


def write(house):
    """Write it into each room of a house."""
    for module in house.called.values():
        if module.is_room:
            module.path.write_text(_written(house, module))


def _written(house, module):
    lines = module.path.read_text().split("\n")
    for name, node in reversed(module.functions.items()):
        documentation = node.body[0]
        first, last = documentation.lineno - 1, documentation.end_lineno
        said = "\n".join(lines[first:last]).strip().removeprefix('"""').removesuffix('"""').strip()
        lines[first:last] = ['    """', *f"    {_ended(said, whom(house, module, name))}".split("\n"), '    """']
    return "\n".join(lines)


def _ended(said, whom):
    said = EXAMPLE.sub("", said)
    before, _, end = said.rpartition("\n\n")
    kept = before if before and WHOM.fullmatch(" ".join(end.split())) else said
    return "\n".join([kept.rstrip(), "", *textwrap.wrap(whom, WIDTH, initial_indent="    ", subsequent_indent="    ")])


if __name__ == "__main__":
    write(House())
