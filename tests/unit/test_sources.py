"""What travels to minions can run there, and documents itself: sys.doc is the manual that people read."""

import ast
import pathlib
import re

import pytest
import yaml

from tests.support.house import Module, parsed

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
SOURCES = sorted(
    path for kind in ("_beacons", "_modules", "_states", "_runners") for path in (REPOSITORY / kind).glob("*.py")
)
INSTALLED = sorted((REPOSITORY / "qmail_doublebounce_formula").glob("*.py"))
STATES = [path for path in SOURCES if path.parent.name == "_states"]
LOADED = [path for path in SOURCES if path.parent.name in ("_modules", "_runners")]
UNSHOWN = "For modules of your own: a command line cannot show it."
FACES = [path for path in SOURCES if path.parent.name in ("_modules", "_runners") and path.stem.count("_") == 1]


def functions(path):
    return Module(path).functions.values()


@pytest.mark.parametrize("path", [*SOURCES, *INSTALLED], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_minion_with_python_3_8_can_read_it(path):
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_needs_nothing_but_salt_and_the_standard_library(path):
    import sys

    imported = {
        name.split(".")[0]
        for node in ast.walk(parsed(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {*sys.stdlib_module_names, "salt", "jinja2", "markupsafe"}  # Salt needs these two itself


@pytest.mark.parametrize("path", LOADED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_takes_the_options_of_salts_loader(path):
    """Otherwise Salt 3008 makes a copy of all options when it loads the module, and changes it at each call."""
    imported = [node for node in parsed(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert "__opts__" in [name.name for node in imported if node.module == "salt.loader.dunder" for name in node.names]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_public_function_documents_its_arguments(path):
    for function in functions(path):
        told = ast.get_docstring(function) or ""
        assert told, f"{function.name} has no docstring"
        lines = [line.strip() for line in told.splitlines()]
        named = {name.strip() for line in lines for name in line.split(",")}
        arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        assert arguments <= named, f"{path.name}: {function.name} does not tell {arguments - named}"


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.name)
def test_every_function_of_a_face_shows_how_it_is_called(path):
    """Those of rooms tell whom they are for: see test_house.py."""
    command = "salt-run" if path.parent.name == "_runners" else "salt '*'"
    for function in functions(path):
        told = ast.get_docstring(function)
        assert f"\n    {command} {path.stem}.{function.name}" in told or told.endswith(f"\n\n{UNSHOWN}"), function.name


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.name)
def test_every_file_of_states_shows_one_in_an_sls(path):
    shown = re.search(r"\.\. code-block:: yaml\n\n((?:    .*\n?|\n)+)", ast.get_docstring(parsed(path.read_text())))
    (state,) = yaml.safe_load(shown[1]).values()
    (called,) = state
    assert called in [f"{path.stem}.{function.name}" for function in functions(path)]


def test_there_are_sources():
    assert len(SOURCES) > 5
