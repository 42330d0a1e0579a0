"""The benchmarks run, and find what they should; how long they take is not a matter for a test."""

import pathlib
import re
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    (
        ("bench_log", ["--size", "4M"], 6),
        ("bench_maildir", ["--messages", "50"], 2),
        ("bench_queue", ["--messages", "50"], 3),
    ),
)
def test_each_prints_a_ratio_for_each_row(name, options, rows):
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--rounds", "1", *options]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    assert len(re.findall(r"ratio by the wall \d", told)) == rows, told


def test_every_one_is_run_by_make_bench_and_described():
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    readme = (BENCHMARKS / "README.md").read_text()
    for path in BENCHMARKS.glob("bench_*.py"):
        assert f"benchmarks/{path.name}" in makefile
        assert path.name in readme
