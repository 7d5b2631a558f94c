"""Kill a stage at random moments, type the same command again, and compare its end with an undisturbed run's.

    python -m benchmarks.kills --stage lopo --kills 20
    python -m benchmarks.kills --stage sweep --kills 20

Drawn faces in a temporary folder. Who is killed (SIGKILL) is drawn each time: the driver, one of Ray's workers, or the
raylet. A command that outlives the kill of a worker is waited for; one that fails is typed again; one whose raylet was
killed must end by itself, with a status that is not 0, within a minute. Prints what was
killed and when, what was lost, and whether predictions (or trials) and MLflow's runs are the same.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from mlflow import MlflowClient
from PIL import Image

from benchmarks.victims import strike
from study.predictions import read_predictions
from trainables.faces import SCHEMA

PATIENCE = 60.0
"""Seconds in which a command must end whose driver or raylet was killed."""

ROOT = Path(__file__).resolve().parents[1]
TRAINING = ["--px", "32", "--batch", "16", "--epochs", "2"]
STAGES = {
    "lopo": ["--faces", "people", "--backbone", "resnet18", *TRAINING],
    "sweep": [
        "--faces",
        "people",
        "--trial",
        "start.json",
        "--space",
        "mean_variance",
        "--trials",
        "8",
        "--blocks",
        "2",
        "--folds",
        "2",
        *TRAINING,
    ],
}


@dataclass(frozen=True)
class Options:
    """What is killed and how often."""

    stage: Literal["lopo", "sweep"] = "lopo"
    kills: int = 20
    kinds: tuple[Literal["driver", "worker", "raylet", "head"], ...] = ("driver", "worker", "raylet")
    seed: int = 0


def draw_faces(folder: Path) -> None:
    """A faces table of 20 people whose age is their brightness."""
    draw = np.random.default_rng(0)
    rows = []
    for person in range(20):
        for shot in range(6):
            age = int(draw.integers(0, 70))
            picture = np.clip(draw.normal(30 + 2.5 * age, 12, (48, 48, 3)), 0, 255).astype(np.uint8)
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "JPEG")
            name = f"{person:03d}A{age:02d}_{shot}.JPG"
            values = ("drawn", name, f"{person:03d}", age, data.getvalue(), None, "none", "as is", name)
            rows.append(dict(zip(SCHEMA.names, values, strict=True)))
    (folder / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "faces" / "00000.parquet")


def start(cwd: Path, stage: str) -> subprocess.Popen:
    """The command, as a user types it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    with (cwd / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"study.{stage}", *STAGES[stage]], cwd=cwd, env=environment, stdout=log, stderr=log
        )


def ended(process: subprocess.Popen, seconds: float) -> int | None:
    """The command's status, waited for so long; None where it still runs."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def outcome(cwd: Path, stage: str) -> tuple[object, Counter]:
    """What a finished stage left behind, without clocks; how often each MLflow key is there."""
    if stage == "lopo":
        (file,) = (cwd / "runs" / "lopo").glob("*/predictions.parquet")
        predictions, _ = read_predictions(file)
        result: object = [predictions.photo.tolist(), predictions.distribution.tolist()]
    else:
        files = sorted((cwd / "runs" / "sweeps").glob("*/block*/**/*.json"))
        records = [json.loads(file.read_text()) for file in files]
        clocks = ("seconds", "latency_ms")
        result = [{key: value for key, value in record.items() if key not in clocks} for record in records]
    client = MlflowClient(f"sqlite:///{cwd / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("age-study")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    kind = {"lopo": "fold", "sweep": "trial"}[stage]
    ours = [run for run in runs if run.data.tags.get("study.stage") == kind]
    assert all(run.info.status == "FINISHED" for run in ours), Counter(run.info.status for run in ours)
    # a fold's key names its parent run, which differs between the two places; a trial's names its block and number
    parts = {"lopo": 2, "sweep": 3}[stage]  # fold-PARENT-KEY, or sweep-NAME-SETTINGS-BLOCK-NUMBER-SEED
    return result, Counter(run.data.tags["study.key"].split("-", parts)[-1] for run in ours)


def main(options: Options) -> int:
    """Both runs, and the comparison; status 1 where they differ."""
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in ("undisturbed", "killed")}
        for place in places.values():
            draw_faces(place / "people")
            (place / "start.json").write_text('{"backbone": "resnet18"}')
        began = time.monotonic()
        assert start(places["undisturbed"], options.stage).wait() == 0, (places["undisturbed"] / "log").read_text()
        took = time.monotonic() - began
        print(f"{options.stage}: undisturbed {took:.0f} s; seed {options.seed}", flush=True)
        kills: Counter = Counter()
        status, began, rounds, hung = 1, time.monotonic(), 0, 0
        while status != 0:
            process = start(places["killed"], options.stage)
            rounds += 1
            while process.poll() is None and kills.total() < options.kills:
                wait = draw.uniform(3, max(6, took / 3))
                who = draw.choice(options.kinds)
                if ended(process, wait) is None and strike(process, who):
                    kills[who] += 1
                    at = time.monotonic()
                    if who != "worker" and ended(process, PATIENCE) is None:
                        print(f"  kill {kills.total()}: {who}, and the command did not end in {PATIENCE} s", flush=True)
                        process.kill()
                        hung += 1
                    after = f", the command ended with {process.poll()} {time.monotonic() - at:.1f} s later"
                    told = after if process.poll() is not None else ""
                    print(f"  kill {kills.total()}: {who} after {wait:.1f} s{told}", flush=True)
            status = process.wait()
            if rounds > 4 * options.kills + 10:
                print((places["killed"] / "log").read_text()[-3000:])
                return 1
        spent = time.monotonic() - began
        expected, found = (outcome(places[name], options.stage) for name in ("undisturbed", "killed"))
    same, runs = expected[0] == found[0], set(found[1].values()) == {1} and len(found[1]) == len(expected[1])
    print(
        f"{kills.total()} kills ({dict(kills)}), {rounds} commands, {spent:.0f} s where undisturbed took {took:.0f} s"
    )
    print(f"commands that hung after a kill: {hung}")
    print(f"same result: {same}; one MLflow run each ({len(found[1])} of {len(expected[1])}): {runs}")
    return 0 if same and runs and not hung else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
