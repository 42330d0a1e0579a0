"""The benchmarks run, and find what they should; how long they take is not a matter for a test."""

import os
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


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="minions are root's")
def test_that_of_a_fleet_gives_the_share_of_each_job():
    command = [sys.executable, BENCHMARKS / "bench_fleet.py", "--rounds", "1", "--minions", "1"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    shares = dict(re.findall(r"1 minions: (\w+): our share (-?\d+\.\d+) s", told))
    assert shares.keys() == {"rollout", "sync", "apply", "status"}, told
    assert float(shares["rollout"]) > 0


def test_every_one_is_run_by_make_bench_and_described():
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    readme = (BENCHMARKS / "README.md").read_text()
    for path in BENCHMARKS.glob("bench_*.py"):
        assert f"benchmarks/{path.name}" in makefile
        assert path.name in readme
