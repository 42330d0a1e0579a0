"""How Sphinx makes the site, from what tests/support/site.py has laid out: see ``make docs``."""

import configparser
import pathlib
import re
import sys

from docutils import nodes
from sphinx import addnodes

REPOSITORY = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from qmail_doublebounce_formula import version as current  # noqa: E402 - found by the line above
from tests.support import site  # noqa: E402

metadata = configparser.ConfigParser(interpolation=None)
metadata.read(REPOSITORY / "setup.cfg")

project = metadata["metadata"]["name"]
release = version = current()
author = project
root_doc = "index"
extensions = ["myst_parser", "sphinx_copybutton", "sphinxcontrib.mermaid"]
myst_heading_anchors = 4  # as the forges make them
myst_fence_as_directive = ["mermaid"]
highlight_language = "none"
nitpicky = True
copybutton_prompt_text = "# "
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = [str(REPOSITORY / "docs/static")]
html_css_files = ["site.css"]

FUNCTION = re.compile(r"(qmail_[a-z]+\.[a-z_]+)(?:\(.*\))?", re.DOTALL)


def setup(app):
    app.connect("doctree-read", on_read)


def on_read(app, doctree):
    known_anchors(app.env, doctree)
    linked_functions(app.env, doctree)


def known_anchors(env, doctree):
    """Let links name the anchors that a page has besides its headings."""
    slugs = env.metadata[env.docname].setdefault("myst_slugs", {})
    for name, is_explicit in doctree.nametypes.items():
        if is_explicit and doctree.nameids.get(name):
            slugs.setdefault(name, (0, doctree.nameids[name], name))


def linked_functions(env, doctree):
    """Link the name of a function, wherever a page has it as code, to what it is documented with."""
    for literal in list(doctree.findall(nodes.literal)):
        found = FUNCTION.fullmatch(literal.astext())
        is_linked = isinstance(literal.parent, (nodes.reference, addnodes.pending_xref))
        if not found or found[1] not in site.documented() or is_linked:
            continue
        link = addnodes.pending_xref(
            "", refdomain="py", reftype="func", reftarget=found[1], refdoc=env.docname, refexplicit=True
        )
        literal.replace_self(link)
        link += literal
