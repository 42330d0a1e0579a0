"""The pages say what is there."""

import pathlib

import yaml

from tests.support.functions import page

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def test_the_page_of_functions_is_that_of_the_docstrings():
    told = (REPOSITORY / "docs/functions.md").read_text()
    assert told == page(), "run: python -m tests.support.functions > docs/functions.md"


def test_the_formula_file_tells_the_version_of_the_package():
    formula = yaml.safe_load((REPOSITORY / "FORMULA").read_text())
    assert f"version = {formula['version']}\n" in (REPOSITORY / "setup.cfg").read_text()
    assert (REPOSITORY / formula["top_level_dir"] / "init.sls").exists()
