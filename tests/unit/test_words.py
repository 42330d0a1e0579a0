"""Texts are in plain English: none has a phrase that ``avoid`` in setup.cfg lists."""

import configparser
import pathlib
import re

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
PATTERNS = ("*.md", "Makefile", "pillar.example", "docs/*.md", "qmail-doublebounce/*", "benchmarks/*", "demo/*.py")
GAP = r"(?: |\n[ #]*)"  # a phrase may go on in the next line, after the mark of a comment
EXEMPT = (pathlib.Path(__file__).name,)
SOURCES = ("_beacons/*.py", "_modules/*.py", "_states/*.py", "_runners/*.py", "tests/**/*.py")
TEXTS = sorted({path for pattern in (*PATTERNS, *SOURCES) for path in REPOSITORY.glob(pattern) if path.is_file()})


def avoided():
    """Return the phrases as pairs: a pattern, and what to write instead."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg")
    lines = config["words"]["avoid"].strip().splitlines()
    pairs = (line.split(" -> ") for line in lines)
    return [(re.compile(rf"\b{phrase.replace(' ', GAP)}\b", re.IGNORECASE), instead) for phrase, instead in pairs]


AVOIDED = avoided()


def found(text):
    """List the phrases in a text: the line, the phrase, and what to write instead."""
    return [
        (text.count("\n", 0, match.start()) + 1, match[0], instead)
        for phrase, instead in AVOIDED
        for match in phrase.finditer(text)
    ]


def test_texts_are_in_plain_english():
    texts = {str(path.relative_to(REPOSITORY)): found(path.read_text()) for path in TEXTS if path.name not in EXEMPT}
    assert {name: phrases for name, phrases in texts.items() if phrases} == {}


@pytest.mark.parametrize(
    "text",
    [
        "a mailbox that stores is told of",
        "It is kept, and that is told.",
        "# a problem that is\n    # told. Other words.",
        "This is no file.",
        "where it\nis none",
    ],
)
def test_a_phrase_is_found_also_over_the_end_of_a_line(text):
    assert found(text)


@pytest.mark.parametrize("text", ["There is no file.", "qmail-send was told to end", "Cannot tell whether it runs."])
def test_what_is_plain_english_is_left_alone(text):
    assert found(text) == []


def test_there_are_texts():
    assert len(TEXTS) > 100
