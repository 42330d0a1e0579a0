"""
Break the modules one line at a time, and report which breaks no test notices.

    python3 -m tests.support.mutants [--sample N] [--seed N] [--jobs N] [MODULE ...]

As root: a broken module deletes, kills and locks what it should not. So each run of the tests has a copy of this
repository, sees this machine through a layer that takes all it writes (``beside_a_server``), and ends with all that it
has started. setup.cfg says under ``mutants`` which tests a module has. Most breaks are those of cosmic-ray; of a module
with more than the sample, a seeded choice is tried that touches as many places as it can.
"""

import argparse
import ast
import compileall
import configparser
import contextlib
import importlib.util
import json
import pathlib
import py_compile
import queue
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import cosmic_ray.plugins
import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

from tests.support import mounts
from tests.support.beside_a_server import REPOSITORY, Machine

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build")
MOST = 0.1  # of the mutants of each module may go unnoticed
# Equal to what they replace: ``is None`` and ``== None``; and what DropFlag does better.
EQUAL = ("Is_Eq", "IsNot_NotEq", "Eq_Is", "NotEq_IsNot", "BinaryOperator_BitOr_")
# Python opens all files so, with the one or without (PEP 446); the other is 0.
NEEDLESS_FLAGS = ("O_CLOEXEC", "O_RDONLY")


class DropStatement(Operator):
    """Leave a call out whose result nobody takes, or a ``raise``."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and node.children[0].type in ("atom_expr", "raise_stmt"):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.children[0] = parso.python.tree.Name("pass", node.start_pos, node.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls):
        return ()


class DropFlag(Operator):
    """Leave one operand of ``a | b | c`` out."""

    def mutation_positions(self, node):
        if node.type == "expr" and all(sign.value == "|" for sign in node.children[1::2]):
            for operand in node.children[::2]:
                if not operand.get_code().endswith(NEEDLESS_FLAGS):
                    yield operand.start_pos, operand.end_pos

    def mutate(self, node, index):
        kept = [operand for operand in node.children[::2] if not operand.get_code().endswith(NEEDLESS_FLAGS)]
        place = node.children.index(kept[index])
        node.children[place : place + 2] = []
        if place == len(node.children):
            del node.children[-1]
        return node

    @classmethod
    def examples(cls):
        return ()


def operators():
    names = [name for name in cosmic_ray.plugins.operator_names() if not any(part in name for part in EQUAL)]
    made = [cosmic_ray.plugins.get_operator(name) for name in names]
    return [*(one for one in made if not one.arguments()), DropStatement, DropFlag]


def mutants(source, function=None):
    """List the ways to break a source, or one function of it: the place, and the broken source."""
    first, last = _lines_of(source, function)
    for made in operators():
        places = (place for node in ast_nodes(get_ast(source)) for place in made().mutation_positions(node))
        for occurrence, place in enumerate(places):
            if first <= place[0][0] <= last:
                broken = mutate_code(source, made(), occurrence)
                if broken and broken != source and _is_python(broken):
                    yield place, broken


def _is_python(source):
    """Of ``{**some}``, for example, ``{<<some}`` is made: that no test has to notice."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _lines_of(source, function):
    if function is None:
        return 1, source.count("\n") + 1
    found = next(node for node in ast.parse(source).body if getattr(node, "name", None) == function)
    return found.lineno, found.end_lineno


def sample(found, size, seed):
    """Choose so many, each place once before one comes again."""
    shuffled = random.Random(seed).sample(found, len(found))
    seen, ranked = {}, []
    for place, broken in shuffled:
        seen[place] = seen.get(place, 0) + 1
        ranked.append((seen[place], len(ranked), broken))
    return [broken for _, _, broken in sorted(ranked)[:size]]


class Bench:
    """A copy of this repository on a machine that can be broken."""

    def __init__(self, place):
        self.place = place
        self.copy = place / "copy"
        shutil.copytree(REPOSITORY, self.copy, ignore=LEFT_OUT)
        # Once for all runs. By their hash: a mutant may be as long, and as old, as what it replaces.
        self.compiled = pathlib.Path(importlib.util.cache_from_source(self.copy / "any.py")).parent
        by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.copy, quiet=1, invalidation_mode=by_hash)
        (place / "machine").mkdir()
        self.runner = None
        self.machine = Machine(place / "machine", self.copy)
        self.machine.lay_out()

    def passes(self, tests, seconds):
        """Run tests, and return whether they pass in time. They see no process but their own, and none is left."""
        if self.runner is None:
            command = [sys.executable, "-B", "-m", "tests.support.runner"]
            self.runner = self.machine.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.runner.stdin.write(json.dumps(tests).encode() + b"\n")
        self.runner.stdin.flush()
        told = select.select([self.runner.stdout], [], [], seconds)[0] and self.runner.stdout.readline()
        if not told:
            self.end()
        return told == b"passed\n"

    def end(self):
        runner, self.runner = self.runner, None
        if runner:
            runner.kill()
            runner.wait()
            runner.stdin.close()
            runner.stdout.close()

    def survives(self, module, broken, tests, seconds):
        path = self.copy / module
        whole = path.read_text()
        path.write_text(broken)
        try:
            return self.passes(tests, seconds)
        finally:
            path.write_text(whole)

    def close(self):
        self.end()
        self.machine.close()
        shutil.rmtree(self.compiled, ignore_errors=True)  # it may be in .venv


def work(bench, todo, noticed):
    """Take what is to be done until nothing is left, and note how much of each was noticed."""
    with contextlib.suppress(queue.Empty):
        while True:
            name, *more = todo.get_nowait()
            noticed[name] = tried(bench, name, *more)


def tried(bench, name, module, tests, chosen):
    """Try what was chosen of one module, say what was not noticed, and return how much was, ``None`` if unknown."""
    began = time.monotonic()
    if not bench.passes(tests, None):
        return _said(f"{name}: its tests fail without any mutant")
    limit = 60 + 4 * (time.monotonic() - began)
    whole = (bench.copy / module).read_text()
    survivors = 0
    for broken in chosen:
        if bench.survives(module, broken, tests, limit):
            survivors += 1
            _said(f"{name}, {_difference(whole, broken)}")
    # Had one of them left something behind that fails the tests, the later ones would only seem to be noticed.
    if not bench.passes(tests, None):
        return _said(f"{name}: its tests fail behind the mutants, so nothing is known")
    _said(f"{name}: {len(chosen) - survivors} of {len(chosen)} noticed")
    return len(chosen) - survivors


def _said(line):
    print(line, flush=True)


def table(chosen, noticed):
    """Say how much of each module was noticed, and return whether that is enough of each."""
    is_enough = True
    for name, size in chosen.items():
        known = noticed.get(name)  # a run that broke has noted nothing
        told = "nothing is known" if known is None else f"{known:5} of {size:5} {known / max(size, 1):5.0%}"
        is_low = known is None or size - known > size * MOST
        _said(f"{name:22} {told}{' too few' if is_low else ''}")
        is_enough = is_enough and not is_low
    return is_enough


def _difference(whole, broken):
    lines = enumerate(zip(whole.splitlines(), broken.splitlines()), 1)
    return next(f"line {at}:\n  - {old.strip()}\n  + {new.strip()}" for at, (old, new) in lines if old != new)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=40, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="only these of setup.cfg")
    given = parser.parse_args()
    why = mounts.denied()
    if why:
        sys.exit(why)
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever ends this, nothing stays that it has started
        signal.signal(number, lambda *_: sys.exit("interrupted"))
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    todo, chosen, noticed = queue.Queue(), {}, {}
    for name in given.modules or config["mutants"]:
        file, _, function = name.partition(".")
        module = pathlib.Path("_modules", f"{file}.py")
        found = list(mutants((REPOSITORY / module).read_text(), function or None))
        picked = sample(found, given.sample, given.seed)
        chosen[name] = len(picked)
        todo.put((name, module, shlex.split(config["mutants"][name]), picked))
    with contextlib.ExitStack() as stack:
        benches = []
        for _ in range(given.jobs):
            place = tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True)
            benches.append(Bench(pathlib.Path(stack.enter_context(place))))
            stack.callback(benches[-1].close)
        threads = [threading.Thread(target=work, args=(bench, todo, noticed), daemon=True) for bench in benches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.exit(not table(chosen, noticed))


if __name__ == "__main__":
    main()
