"""The pages say what is there."""

import ast
import pathlib
import re

import pytest
import salt.utils.minions
import yaml

import qmail_doublebounce_formula
from _modules.qmail_doublebounce_settings import DEFAULTS
from tests.support.functions import page
from tests.support.house import House, parsed

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
CHANGELOG = REPOSITORY / "CHANGELOG.md"
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "benchmarks/README.md"])
SOURCES = sorted(
    path for kind in ("_beacons", "_modules", "_states", "_runners") for path in (REPOSITORY / kind).glob("*.py")
)
FUNCTION = re.compile(r"\b(qmail_[a-z_]+)\.(?!(?:py|sls)\b)([a-z_]+)\b")
NOT_FUNCTIONS = {"qmail_file.kept_directory"}  # an option of the minion
LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`(.+?)`")


@pytest.fixture(scope="module")
def known():
    """Return a pattern for each sentence that the code can say."""
    texts = {sentence for source in SOURCES for text in texts_of(source) for sentence in sentences(text)}
    texts |= {text[2:] for text in texts if text.startswith("… ")}  # the value may be a sentence of its own
    return [re.compile(".+".join(map(re.escape, text.split("…")))) for text in texts if len(text.strip("… ")) > 6]


def name_of(path):
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_leads_somewhere(path):
    for link in LINK.findall(prose(path)):
        if link.startswith(("https://", "http://")):
            assert re.fullmatch(r"https?://[\w-]+(\.[\w-]+)+(/[^\s<>\"]*)?", link), f"{link} is not whole"
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors(target), f"{link}: {target} has only {sorted(anchors(target))}"


def test_links_are_found():
    assert len(LINK.findall(prose(REPOSITORY / "README.md"))) > 5


# The changelog also names what was there once.
@pytest.mark.parametrize("path", [path for path in PAGES if path != CHANGELOG], ids=name_of)
def test_every_function_that_is_named_exists(path):
    known = {f"{module.name}.{name}" for module in HOUSE.modules for name in module.functions}
    named = {".".join(match) for match in FUNCTION.findall(path.read_text())} - NOT_FUNCTIONS
    assert named <= known, named - known


def test_the_front_page_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) < 150


def test_the_front_page_has_every_setting_with_its_default():
    rows = re.findall(r"^\| `([a-z_:]+)` \| `(.+?)` \|", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    shown = {place: yaml.safe_load(value.replace("\\|", "|")) for place, value in rows}
    wanted = {}
    for key, value in DEFAULTS.items():
        wanted.update(
            {f"{key}:{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
        )
    assert shown == wanted


def test_the_messages_that_are_explained_are_those_of_the_code():
    texts = [text for source in SOURCES for text in texts_of(source)]
    explained = messages()
    assert len(explained) > 10
    for message in explained:
        # A message may end in what another function says: then its own part comes first.
        pattern = re.compile(".*".join(map(re.escape, message.rstrip("… ").split("…"))))
        assert any(pattern.search(text) for text in texts), f"nothing says: {message}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_what_a_state_says_on_a_page_is_what_it_says_today(path, known):
    for comment in comments(path):
        for sentence in sentences(comment):
            assert any(pattern.fullmatch(sentence) for pattern in known), f"nothing says: {sentence}"


def test_there_are_pages_with_what_states_say():
    assert sum(len(comments(path)) for path in PAGES) > 5


def test_the_page_of_functions_is_that_of_the_docstrings():
    told = (REPOSITORY / "docs/functions.md").read_text()
    assert told == page(), "run: make map"


def test_the_files_that_are_installed_have_the_version_of_the_package():
    text = (REPOSITORY / "docs/install.md").read_text()
    named = re.findall(r"(?:formula-|doublebounce[-_])(\d+\.\d+\.\d+)", text)
    assert len(named) >= 3
    assert set(named) == {qmail_doublebounce_formula.version()}


def test_the_formula_file_has_the_version_of_the_package():
    formula = yaml.safe_load((REPOSITORY / "FORMULA").read_text())
    assert formula["version"] == qmail_doublebounce_formula.version()
    assert (REPOSITORY / formula["top_level_dir"] / "init.sls").exists()


HOUSE = House()
FUNCTIONS = [f"{module.name}.{name}" for module in HOUSE.called.values() for name in module.functions]
FACES = [name for name in FUNCTIONS if name.partition(".")[0] in HOUSE.faces]
SALTS = ["cmd.run", "state.apply", "sys.doc"]


@pytest.fixture
def allowed(minion_opts):
    """Ask Salt itself which functions an ACL gives."""
    matcher = salt.utils.minions.CkMinions(minion_opts)

    def allowed(acl):
        return [name for name in (*FUNCTIONS, *SALTS) if matcher.auth_check(acl, name, [], "*")]

    return allowed


@pytest.fixture
def example():
    """The ACL that docs/operate.md shows."""
    blocks = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/operate.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if "publisher_acl" in block)
    return yaml.safe_load(found)


def test_the_acl_of_the_pages_gives_every_face_and_no_room(allowed, example):
    assert allowed(example["publisher_acl"]["postmaster"]) == FACES


def test_the_acl_of_the_pages_for_those_who_look_gives_what_it_names(allowed, example):
    looks = {"about", "count", "harm", "report", "status", "summary"}
    found = allowed(example["publisher_acl"]["monitor"])
    assert {name.partition(".")[2] for name in found} == looks
    assert set(found) <= set(FACES)
    (peer,) = example["peer"].values()
    assert allowed(peer) == ["qmail_doublebounce.status"]


@pytest.mark.parametrize("pattern", ["qmail_.*", "qmail_service.*", "qmail_service"])
def test_the_acl_that_the_pages_warn_of_gives_away_what_runs_commands(allowed, pattern):
    assert "qmail_service_tool.run" in allowed([pattern])


def test_every_target_of_make_is_explained():
    targets = re.search(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)[1].split()
    rows = re.findall(r"^\| `(\w[\w-]*)` \| \S", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(targets)


def prose(path):
    """Return a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """Return what a link to a page can name: its headings, as the forges make anchors of them, and its own anchors."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    found = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return found | set(re.findall(r'<a name="([^"]+)"></a>', path.read_text()))


def messages():
    """Return the messages that docs/restart.md explains: code in the headings and first column of that part."""
    part = (REPOSITORY / "docs/restart.md").read_text().split("\n## ")[1]
    headings = re.findall(r"^### (`.+`)$", part, re.MULTILINE)
    rows = re.findall(r"^\| (`.+?`) \|", part, re.MULTILINE)
    return [SPAN.fullmatch(text)[1] for text in (*headings, *rows)]


def comments(path):
    """Return what states say in the output that a page shows, each without its line breaks."""
    found = re.findall(r"^ *Comment: (.+(?:\n {10,}\S.*)*)", path.read_text(), re.MULTILINE)
    return [" ".join(text.split()) for text in found]


def sentences(text):
    return re.split(r"(?<=\.)(?: |(?=…))", text.strip())


def texts_of(path):
    """Return the texts in a source, with an ellipsis for each value that is put into them."""
    found = []
    for node in ast.walk(parsed(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found
