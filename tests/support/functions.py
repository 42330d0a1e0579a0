"""
Print docs/functions.md, from the docstrings of the modules and states:

    python -m tests.support.functions > docs/functions.md
"""

import ast
import pathlib

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
HEAD = """\
# Functions

Each with the first sentence of its documentation; `salt-call sys.doc qmail_route` prints all of it, with arguments,
what comes back, errors and an example; `salt-call sys.state_doc qmail_mailbox` does for states.
"""
KINDS = {"_states": "States", "_modules": "Execution modules"}


def page():
    """Return the text of docs/functions.md."""
    parts = [HEAD]
    for kind, title in KINDS.items():
        parts.append(f"## {title}\n")
        for path in sorted((REPOSITORY / kind).glob("*.py")):
            tree = ast.parse(path.read_text())
            rows = [
                f"| `{path.stem}.{node.name}({arguments(node)})` | {first(ast.get_docstring(node))} |"
                for node in tree.body
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            ]
            table = ["| function | |", "|---|---|", *rows]
            parts.append(f"### {path.stem}\n\n{first(ast.get_docstring(tree))}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def arguments(node):
    return ast.unparse(node.args).replace("|", "\\|")


def first(docstring):
    """Return the first sentence (or paragraph) of a docstring in one line of Markdown."""
    paragraph = " ".join(docstring.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + dot.strip()


if __name__ == "__main__":
    print(page(), end="")
