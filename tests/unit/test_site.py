"""The site has every page and every function that people call, under the names that Salt knows them by."""

import pathlib

import pytest

from tests.support import site
from tests.support.house import REPOSITORY, House


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    site.lay(place)
    return place


def test_every_page_is_in_the_table_of_contents(laid):
    listed = (laid / "index.md").read_text().partition("```{toctree}")[2].split()
    pages = [path for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")) if path.name != "README.md"]
    assert len(pages) > 8
    for path in pages:
        assert str(path.relative_to(REPOSITORY).with_suffix("")) in listed


def test_the_readme_is_the_front_page(laid):
    assert (laid / "index.md").read_text().startswith((REPOSITORY / "README.md").read_text()[:200])
    assert not (laid / "README.md").exists()


def test_every_face_and_its_states_and_runners_have_a_page_with_every_function(laid):
    kinds = {"module": "modules", "state": "states", "runner": "runners", "beacon": "beacons"}
    for module in House().modules:
        if module.is_room:
            continue
        text = (laid / "reference" / kinds[module.kind] / f"{module.name}.rst").read_text()
        assert f"module:: {module.name}\n" in text
        assert f".. py:module:: salt.{kinds[module.kind]}.{module.name}\n" in text
        assert "_modules" not in text and "_states" not in text
        for name in module.functions:
            assert (f".. py:function:: {name}(" in text) == (name != "mod_watch")


def test_a_docstring_is_there_in_full(laid):
    text = (laid / "reference/modules/qmail_queue.rst").read_text()
    assert "   CLI Example:\n\n   .. code-block:: bash\n\n       salt '*' qmail_queue.summary\n" in text


def test_a_function_that_a_docstring_names_is_linked():
    (state,) = (module for module in site.faces() if (module.kind, module.name) == ("state", "qmail_mailbox"))
    assert ":py:func:`qmail_mailbox.write`" in site.reference(state)


def test_anchors_and_the_way_to_the_front_page_are_as_sphinx_has_them():
    text = 'See [it](../README.md#try-it), [how](../benchmarks/README.md).\n\n<a name="clear"></a>\n\n## Clear\n'
    expected = "See [it](../index.md#try-it), [how](../benchmarks/README.md).\n\n(clear)=\n\n## Clear\n"
    assert site.page(text) == expected


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("b.html", True),
        ("b.html#there", True),
        ("#here", True),
        ("style.css", True),
        ("https://example.com/a", True),
        ("c.html", False),
        ("b.html#nowhere", False),
        ("#nowhere", False),
        ("https://example/", False),
        ("javascript:alert(1)", False),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, link, leads):
    (tmp_path / "a.html").write_text(f'<p id="here"><a href="{link}">a link</a></p>')
    (tmp_path / "b.html").write_text('<p><a name="there"></a></p>')
    (tmp_path / "style.css").touch()
    assert site.dangling(tmp_path) == ([] if leads else [f"a.html: {link}"])


def test_everything_of_the_site_is_made_below_a_directory_that_git_ignores():
    rules = (REPOSITORY / "Makefile").read_text().partition("\ndocs:")[2].partition("\n\n")[0]
    outputs = [word for word in rules.split() if pathlib.PurePath(word).parts[:1] == (".docs",)]
    assert outputs and ".docs/\n" in (REPOSITORY / ".gitignore").read_text()
