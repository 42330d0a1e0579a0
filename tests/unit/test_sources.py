"""What travels to minions can run there, and tells what it does: sys.doc is the manual that people read."""

import ast
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
SOURCES = sorted(path for kind in ("_modules", "_states") for path in (REPOSITORY / kind).glob("*.py"))


def functions(path):
    tree = ast.parse(path.read_text())
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_minion_with_python_3_8_can_read_it(path):
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_needs_nothing_but_salt_and_the_standard_library(path):
    import sys

    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {*sys.stdlib_module_names, "salt"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_public_function_tells_its_arguments_and_an_example(path):
    for function in functions(path):
        told = ast.get_docstring(function) or ""
        assert told, f"{function.name} has no docstring"
        if path.parent.name == "_modules":
            assert "salt '*' qmail_" in told, f"{function.name}: no CLI example"
        lines = [line.strip() for line in told.splitlines()]
        named = {name.strip() for line in lines for name in line.split(",")}
        arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        assert arguments <= named, f"{path.name}: {function.name} does not tell {arguments - named}"


def test_there_are_sources():
    assert len(SOURCES) > 5
