"""
Print docs/functions.md, from the docstrings of the modules and states:

    python -m tests.support.functions > docs/functions.md
"""

import ast

from tests.support.house import House

HEAD = """\
# Functions

Two words in the name of a module, such as `qmail_queue`: it is for people. Three, such as `qmail_queue_delete`: it is a
room, for the modules of its family alone.

An ACL such as `qmail_.*` gives away the rooms, too, and with them the machine: `qmail_service_tool.run` runs any
command as root. [Who may call what](operate.md#who-may-call) shows the ACL that gives no room.

Below is the first sentence of what each is documented with. On a server, `salt-call sys.doc qmail_route` prints all of
it, with arguments, what comes back, errors and an example; `salt-call sys.state_doc qmail_mailbox` does for states.
"""
PEOPLE = "## What people call\n"
ROOMS = """\
## Rooms

Internal: any of these may change or go in any version. What each is for is at the end of its documentation.
"""
TITLES = {"state": "States", "beacon": "Beacons", "module": "Functions", "runner": "Runners, on the master"}


def page():
    """Return the text of docs/functions.md."""
    modules = House().modules
    parts = [HEAD, PEOPLE]
    for kind, title in TITLES.items():
        shown = [module for module in modules if module.kind == kind and not module.is_room]
        if shown:
            parts += [f"### {title}\n", *(_table(module, "####") for module in shown)]
    return "\n".join([*parts, ROOMS, *(_table(module, "###") for module in modules if module.is_room)])


def _table(module, level):
    rows = [
        f"| `{module.name}.{name}({_arguments(node)})` | {_first(ast.get_docstring(node))} |"
        for name, node in module.functions.items()
        if name != "mod_watch"  # Salt's own, for requisites
    ]
    table = "\n".join(["| function | |", "|---|---|", *rows])
    title = f"{module.name}, on the master" if module.kind == "runner" and module.is_room else module.name
    return f"{level} {title}\n\n{_first(ast.get_docstring(module.tree))}\n\n{table}\n"


def _arguments(node):
    return ast.unparse(node.args).replace("|", "\\|")


def _first(docstring):
    """Return the first sentence (or paragraph) of a docstring in one line of Markdown."""
    paragraph = " ".join(docstring.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + dot.strip()


if __name__ == "__main__":
    print(page(), end="")
