"""
The site of the documentation: ``make docs``.

    python -m tests.support.site lay .docs/source
    python -m tests.support.site check .docs/html

``lay`` makes the sources for Sphinx: the pages as they are in the repository, where forges show them, and a page for
each face, its states, beacons and runners, from the docstrings that sys.doc shows. These are read, not imported: up to
four files have the same name, which is the one that people call. ``check`` finds the links of the built pages that lead
nowhere.
"""

import ast
import functools
import html.parser
import pathlib
import re
import shutil
import sys
import textwrap
import urllib.parse

from tests.support.house import REPOSITORY, House

# The pages in the order in which they are read. Others come after them.
GUIDE = (
    *("double-bounces", "install", "operate", "report", "watch", "cause", "restart", "fleet", "how-it-works"),
    *("compatibility", "compared"),
)
PROJECT = ("SECURITY", "CONTRIBUTING", "docs/checks", "benchmarks/README", "CHANGELOG")
# By the kinds of house.py: the directory, the title, and what is called how.
KINDS = {
    "state": ("states", "States", "In an SLS: see the example of each."),
    "module": ("modules", "Execution modules", "On a minion: ``salt '*' NAME``, or ``salt-call NAME``."),
    "runner": ("runners", "Runners", "On the master: ``salt-run NAME``."),
    "beacon": ("beacons", "Beacons", "In the minion's configuration."),
}
ANCHOR = re.compile(r'^<a name="([\w-]+)"></a>$', re.MULTILINE)
FRONT = re.compile(r"\]\(((?:\.\./)*)README\.md")
NAMED = re.compile(r"``(qmail_[a-z]+\.[a-z_]+)``")
UNCALLED = ("mod_watch",)  # Salt's own, for requisites


@functools.lru_cache(maxsize=None)
def faces():
    """Return the modules that people call, with their states, beacons and runners, in the order of ``KINDS``."""
    modules = [module for module in House().modules if not module.is_room]
    return sorted(modules, key=lambda module: (list(KINDS).index(module.kind), module.name))


@functools.lru_cache(maxsize=None)
def documented():
    """Return which module documents a function: a dict by names such as qmail_queue.summary."""
    found = {}
    # What is called on a minion is meant where a name is in two of them.
    for module in sorted(faces(), key=lambda module: module.kind != "module"):
        for name in module.functions:
            if name not in UNCALLED:
                found.setdefault(f"{module.name}.{name}", module)
    return found


def pages():
    """Return the pages of the site that lie in the repository, as paths relative to it."""
    found = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "benchmarks/README.md"]
    return sorted(path.relative_to(REPOSITORY) for path in found)


def linked():
    """Return what else the pages show and link: pictures, and files to be taken over."""
    found = [path.relative_to(REPOSITORY) for path in REPOSITORY.glob("docs/**/*") if path.is_file()]
    return sorted(path for path in found if path.suffix in (".json", ".png", ".yml"))


def page(text):
    """Return a page as Sphinx needs it: with anchors of its own kind, and with the front page under its name there."""
    return FRONT.sub(r"](\1index.md", ANCHOR.sub(r"(\1)=", text))


def lay(to):
    """Make the sources for Sphinx in a directory."""
    to = pathlib.Path(to)
    shutil.rmtree(to, ignore_errors=True)
    for path in pages():
        front = path == pathlib.Path("README.md")
        place = to / ("index.md" if front else path)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = page((REPOSITORY / path).read_text())
        place.write_text(text + contents() if front else text)
    for path in linked():
        place = to / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, place)
    for module in faces():
        place = to / where(module)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(reference(module))
    for kind in kinds():
        (to / "reference" / KINDS[kind][0] / "index.rst").write_text(overview(kind))


def kinds():
    return [kind for kind in KINDS if any(module.kind == kind for module in faces())]


def where(module):
    """Return the place of a module's page."""
    return pathlib.Path("reference", KINDS[module.kind][0], f"{module.name}.rst")


def contents():
    """Return the table of contents, as the front page has it at its end."""
    ours = [str(path.with_suffix("")) for path in pages() if str(path) != "README.md"]
    guide = [f"docs/{name}" for name in GUIDE if f"docs/{name}" in ours]
    rest = sorted(set(ours) - {*guide, *PROJECT, "docs/functions"})
    parts = {
        "Guide": [*guide, *rest],
        "Reference": ["docs/functions", *(f"reference/{KINDS[kind][0]}/index" for kind in kinds())],
        "Project": [name for name in PROJECT if name in ours],
    }
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{chr(10).join(names)}\n```\n"
        for caption, names in parts.items()
    )


def overview(kind):
    """Return the page that lists the modules of one kind."""
    _, title, how = KINDS[kind]
    names = [module.name for module in faces() if module.kind == kind]
    return "\n".join([title, "=" * len(title), "", how, "", ".. toctree::", "", *(f"   {name}" for name in names), ""])


def reference(module):
    """Return the page of one module, in reStructuredText: that is what its docstrings are written in."""
    # :mod: finds each by Salt's own name for it, and by its bare name the one of them that is called on a minion.
    directive = "module" if module.kind == "module" or module.name not in House().called else "currentmodule"
    named = [f".. py:module:: salt.{KINDS[module.kind][0]}.{module.name}", f".. py:{directive}:: {module.name}"]
    parts = [module.name, "=" * len(module.name), "", *named, "", told(module.tree)]
    for name, node in module.functions.items():
        if name not in UNCALLED:
            parts += ["", *function(module, name, node)]
    return "\n".join([*parts, ""])


def function(module, name, node):
    yield f".. py:function:: {name}({ast.unparse(node.args)})"
    if documented()[f"{module.name}.{name}"] is not module:
        yield "   :no-index:"
    yield ""
    yield textwrap.indent(told(node), "   ")


def told(node):
    """Return a docstring, with links to the functions that it names."""
    return NAMED.sub(
        lambda found: f":py:func:`{found[1]}`" if found[1] in documented() else found[0], ast.get_docstring(node)
    )


class Page(html.parser.HTMLParser):
    """What a built page links to, and what of it can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag in ("a", "link", "script", "img"):
            self.links += [given[name] for name in ("href", "src") if given.get(name)]


def dangling(root):
    """List the links of the pages below a directory that lead nowhere; those to elsewhere need only be whole."""
    root = pathlib.Path(root)
    built = {path.resolve(): Page(path) for path in root.rglob("*.html")}
    return [
        f"{path.relative_to(root.resolve())}: {link}"
        for path, page in built.items()
        for link in page.links
        if not leads(link, path, built)
    ]


def leads(link, path, built):
    target = urllib.parse.urlsplit(link)
    if target.scheme in ("http", "https"):
        return "." in (target.hostname or "") and " " not in link
    if target.scheme or target.netloc:
        return target.scheme in ("data", "mailto")
    place = (path.parent / urllib.parse.unquote(target.path)).resolve() if target.path else path
    if place in built:
        return not target.fragment or urllib.parse.unquote(target.fragment) in built[place].anchors
    return place.is_file()


if __name__ == "__main__":
    if sys.argv[1] == "lay":
        lay(sys.argv[2])
    else:
        wrong = dangling(sys.argv[2])
        sys.exit("\n".join(["These links lead nowhere:", *wrong]) if wrong else 0)
