"""A mutation run: each known way to break the study's promises is built in, and a test must notice.

python -m tests.mutants [NAME ...]       only mutants whose name contains one of these words

Every mutant is one replacement in a copy of the tree, against which the tests that are to notice it run. The run fails
where a mutant survives, where its text is gone from the code, or where these tests fail without any mutant.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("study", "trainables", "search_spaces", "tests", "pyproject.toml", "constraints.txt")
SECONDS = 600
"""What one test may take; a mutant that hangs is not caught by that."""

HEAVY = ("torch", "torchvision", "timm", "scipy.stats", "pandas", "optuna", "ray.tune", "ray.train.torch", "mlflow")
"""Imported once, before the fork that each mutant runs in: a test takes a second, these take ten. None is ours."""


class _Noting:
    """A pytest plugin that writes down what failed and how much ran."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.ran = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call" and report.outcome != "skipped"
        if report.failed:
            self.failed.append(report.nodeid)


def run_tests(tree: Path, tests: tuple[str, ...], log: Path, *, stop: bool) -> str:
    """Run tests of a tree in a process of their own: the failed ones, "" where all passed. Raises RuntimeError where
    they could not run: nothing was tested then."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            with log.open("w") as sink:
                os.dup2(sink.fileno(), 1)
                os.dup2(sink.fileno(), 2)
            status = _in_child(tree, tests, log.with_suffix(".failed"), stop=stop)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, 1):
        raise RuntimeError(f"the tests did not run: {_last_line(log)}")
    return log.with_suffix(".failed").read_text()


def _in_child(tree: Path, tests: tuple[str, ...], failed: Path, *, stop: bool) -> int:
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)  # for what the tests start: Ray's workers too
    # a mutant may have the size and the second of the file it replaces: a compiled file would pass for its own
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path = [str(tree), *(place for place in sys.path if place not in ("", str(ROOT)))]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    noting = _Noting()
    args = ["-q", "--tb=short", "-p", "no:cacheprovider", "-o", f"timeout={SECONDS}", *(["-x"] if stop else []), *tests]
    code = int(pytest.main(args, plugins=[noting]))
    import study

    if Path(study.__file__).parent != tree / "study":
        print(f"the tests imported {study.__file__}, not the copy")
        return 3
    failed.write_text(" ".join(noting.failed))
    return code if noting.ran or noting.failed else 3


def _last_line(log: Path) -> str:
    return next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "no output")[:200]


def mutate(tree: Path, mutant: Mutant) -> str:
    """Build a mutant into a tree; gives the file's text before. Raises ValueError where its text is not there once."""
    file = tree / mutant.file
    text = file.read_text() if file.is_file() else ""
    if text.count(mutant.text) != 1:
        raise ValueError(f"TEXT NOT FOUND: it is {text.count(mutant.text)} times in {mutant.file}")
    file.write_text(text.replace(mutant.text, mutant.instead))
    return text


def judge(tree: Path, mutant: Mutant, log: Path) -> tuple[bool, str]:
    """Whether the mutant was caught, and by what, or why not."""
    try:
        before = mutate(tree, mutant)
    except ValueError as error:
        return False, str(error)
    try:
        failed = run_tests(tree, mutant.tests, log, stop=True)
    except RuntimeError as error:
        return False, str(error)
    finally:
        (tree / mutant.file).write_text(before)
    return bool(failed), failed.split("::")[-1] or "SURVIVED"


def main(words: list[str]) -> int:
    """Print the table; returns the exit status."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    twice = [name for name, times in Counter(mutant.name for mutant in MUTANTS).items() if times > 1]
    if twice or not chosen:
        print(f"two mutants are named {twice}" if twice else f"no mutant's name contains {' or '.join(words)}")
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in HEAVY:
        importlib.import_module(name)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        tree, log = Path(place) / "tree", Path(place) / "log.txt"
        for name in COPIED:
            source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tree / name, ignore=ignored) if source.is_dir() else shutil.copy(source, tree)
        tests = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
        try:
            failed = run_tests(tree, tests, log, stop=False)
        except RuntimeError as error:
            failed = str(error)
        if failed:
            print(f"{log.read_text()}\nwithout any mutant these tests fail already: {failed}")
            return 1
        width = max(len(mutant.name) for mutant in chosen)
        print(f"{'mutant':<{width}}  seconds  caught by", flush=True)
        for mutant in chosen:
            began = time.monotonic()
            caught, told = judge(tree, mutant, log)
            missed += not caught
            print(f"{mutant.name:<{width}}  {time.monotonic() - began:7.1f}  {told}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutants caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
