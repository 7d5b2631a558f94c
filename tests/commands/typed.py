"""The commands as a user types them, but in this process and on the tests' one Ray: Python, torch, MLflow and Ray start
once for all tests. What a signal or a kill does needs a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def typed(cwd: Path, stage: str, *args: object) -> Done:
    """`python -m study.<stage> args` with cwd as the working directory. An unexpected exception passes through."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.setattr(sys, "argv", [f"study.{stage}", *map(str, args)])
        try:
            runpy.run_module(f"study.{stage}", run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(status, out.getvalue(), err.getvalue())


def run(cwd: Path, stage: str, *args: object) -> str:
    """What a command prints that must succeed."""
    done = typed(cwd, stage, *args)
    assert done.status == 0, done.stdout + done.stderr
    return done.stdout


def fails(cwd: Path, stage: str, *args: object) -> str:
    """The one line of a command that must fail."""
    done = typed(cwd, stage, *args)
    assert done.status != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def command(stage: str, *args: object) -> list[str]:
    """The words of a command that needs a process of its own."""
    return [sys.executable, "-m", f"study.{stage}", *map(str, args)]


def environment() -> dict[str, str]:
    """That process's environment."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
