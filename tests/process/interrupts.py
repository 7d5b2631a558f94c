"""Interrupts every command at random moments: python -m tests.process.interrupts [--rounds 5] [--stages sweep lopo].

Prints a row per signal: exit status, seconds until the command ended, and what is wrong: another status than 130, a
traceback, no line or several, a run that is still RUNNING in MLflow, something marked complete, a process that was
left. tests/process/test_ends.py is the short form.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from tests.conftest import write_table

TINY = ("--px", "32", "--epochs", "1", "--batch", "16")
STAGES: dict[str, tuple[str, ...]] = {
    "align": ("people",),
    "pretrain": ("--faces", "strangers", "--backbone", "resnet18", *TINY, "--epochs", "6"),
    "sweep": (
        "--faces", "people", "--space", "mean_variance", "--trial", "start.json", "--trials", "3", "--blocks", "2",
        "--folds", "2", *TINY,
    ),
    "lopo": ("--faces", "people", "--backbone", "resnet18", *TINY),
    "crosstest": ("--faces", "people", "--checkpoint", "checkpoint"),
    "refit": ("--faces", "people", "--backbone", "resnet18", *TINY, "--seeds", "2"),
    "predict": ("photos", "--model", "model", "--json"),
    "report": (),
    "faces": ("people", "--sheet", "sheet.png"),
    "tour": ("--size", "small"),
}  # fmt: skip
BEGUN = {
    "align": "runs/people/faces/*.parquet",
    "pretrain": "runs/pretrained/.train/*/checkpoint_*",
    "sweep": "runs/sweeps/mean_variance/block*/*.json",
    "lopo": "runs/lopo/*/folds/*.parquet",
    "refit": "runs/models/.training/*/*",
    "tour": "runs/people/faces/*.parquet",
}
"""Files that a command has written once its work has begun."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MARK = "STUDY_INTERRUPTS"


@dataclass(frozen=True)
class Options:
    """Which commands are interrupted, how often and when."""

    stages: tuple[str, ...] = tuple(STAGES)
    rounds: int = 3
    """In each round each of the three signals is sent once, to the process or to its whole group."""
    seed: int = 0
    seconds: float = 40.0
    """Signals are sent within so many seconds after the start."""
    working: bool = False
    """Count the seconds from the command's first file (BEGUN), so that its work is interrupted."""


@dataclass(frozen=True)
class Seen:
    """How an interrupted command ended."""

    status: int
    stderr: str
    seconds: float
    wrong: tuple[str, ...]


def interrupt(
    folder: Path,
    stage: str,
    number: int,
    *,
    after: float,
    group: bool,
    until: Callable[[int], bool] = lambda pid: False,
) -> Seen:
    """Start a command in `folder`, send it (or its whole group) a signal after so many seconds, and look.

    until: what sends the signal sooner, once it holds of the process.
    """
    mark = uuid.uuid4().hex
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": "", MARK: mark}
    words = [sys.executable, "-m", f"study.{stage}", *STAGES[stage]]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        )
        moment = time.monotonic() + after
        while process.poll() is None and time.monotonic() < moment and not until(process.pid):
            time.sleep(0.05)
        began = time.monotonic()
        over = process.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(process.pid, number)
        try:
            status = process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        seconds = time.monotonic() - began
        errors.seek(0)
        stderr = errors.read().decode(errors="replace")
    return Seen(status, stderr, seconds, tuple(wrong(folder, stage, status, stderr, mark, over=over)))


def wrong(folder: Path, stage: str, status: int, stderr: str, mark: str, *, over: bool) -> list[str]:
    """What is wrong after a command ended."""
    found = []
    if "Traceback" in stderr:
        found.append("traceback")
    if running := [f"{name} {state}" for name, state in states(folder) if state == "RUNNING"]:
        found.append(f"in MLflow: {', '.join(running)}")
    until = time.monotonic() + 5
    while (left := processes(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    if left:
        found.append(f"left: {', '.join(left)}")
    if status == 0:
        return found  # it was done
    if not over:
        if status != 130:
            found.append(f"status {status}")
        said = stderr.count("interrupted; the same command continues")
        if said != 1:
            found.append(f"said {said} times")
    finished = {"sweep": "runs/sweeps/*/best.json", "lopo": "runs/lopo/*/predictions.parquet"}
    finished |= {"pretrain": "runs/pretrained/resnet18/model.safetensors", "tour": "runs/synthetic/report/report.md"}
    if stage in finished and list(folder.glob(finished[stage])):
        found.append("complete")
    return found


def states(folder: Path) -> list[tuple[str, str]]:
    """Name and status of each run in the folder's MLflow database."""
    file = folder / "mlruns" / "mlflow.db"
    if not file.is_file():
        return []
    with contextlib.closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.OperationalError):
        return database.execute("select name, status from runs").fetchall()
    return []  # its tables are being created


def processes(mark: str) -> list[str]:
    """Names of the running processes with this mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:60])
    return found


def prepare(folder: Path, *, model: bool = False) -> None:
    """Make small faces tables, a config and a checkpoint; model: and a model folder with some photos."""
    write_table(folder / "people", people=8, photos=5)
    write_table(folder / "strangers", people=80, photos=1, named=False, dataset="strangers")
    (folder / "start.json").write_text('{"backbone": "resnet18"}')
    from trainables.checkpoints import Checkpoint, CheckpointRecord, save_checkpoint
    from trainables.config import TrialConfig
    from trainables.fitting import build_net

    config = TrialConfig(backbone="resnet18", px=32)
    save_checkpoint(
        folder / "checkpoint", Checkpoint(build_net(config).state_dict(), config, CheckpointRecord("nothing"))
    )
    if model:
        from study.refit.folder import write_model
        from tests.model.models import PHOTOS, plan_of, random_states
        from trainables.faces.table import load_faces

        plan = plan_of(load_faces([folder / "people"], px=32), seeds=1)
        write_model(folder / "model", plan, random_states(1), training="t", content="c", measured=None)
        (folder / "photos").mkdir()
        for photo in sorted(PHOTOS.iterdir())[:200]:
            (folder / "photos" / photo.name).write_bytes(photo.read_bytes())


def main(options: Options) -> int:
    """Interrupt all commands; status 1 where anything was wrong."""
    draw, bad = random.Random(options.seed), 0
    print("| stage | signal | to | after, s | status | ended after, s | wrong |\n|---|---|---|---|---|---|---|")
    for stage in options.stages:
        for number in SIGNALS * options.rounds:
            with tempfile.TemporaryDirectory() as place:
                folder, group, after = Path(place), draw.random() < 0.5, draw.uniform(0.1, options.seconds)
                prepare(folder, model=stage == "predict")
                if options.working:
                    until = partial(_late, folder, BEGUN[stage], after, [])
                    seen = interrupt(folder, stage, number, after=600, group=group, until=until)
                else:
                    seen = interrupt(folder, stage, number, after=after, group=group)
            bad += bool(seen.wrong)
            row = [stage, number.name, "group" if group else "process", f"{after:.1f}", seen.status]
            print("|", *(f"{each} |" for each in [*row, f"{seen.seconds:.1f}", "; ".join(seen.wrong)]), flush=True)
            if seen.wrong:
                print(seen.stderr[-2000:], file=sys.stderr, flush=True)
    return 1 if bad else 0


def _late(folder: Path, pattern: str, after: float, first: list[float], _: int) -> bool:
    """Whether a pattern's first file has existed for so many seconds. first: since when, kept for the next call."""
    if not first and next(folder.glob(pattern), None) is not None:
        first.append(time.monotonic())
    return bool(first) and time.monotonic() > first[0] + after


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m tests.process.interrupts", description=__doc__)))
