"""The four stages as the fault tests run them: one short command each, on generated faces, and how to read its results.

Each runs as a user types it, in a folder of its own, with its own Ray and its own MLflow store.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from PIL import Image

from study.artifacts.predictions import read_predictions
from study.files.seals import DIGEST
from trainables.faces.table import SCHEMA

ROOT = Path(__file__).resolve().parents[2]
CLOCKS = ("seconds", "latency_ms", "faces_per_second", "waited", "trial_seconds")
"""Fields of records and metrics that differ between two equal runs."""

_TRAINING = ("--px", "32", "--batch", "16")
_EVERYWHERE = {"driver": "", "worker": "ray::", "raylet": "raylet/raylet", "head": "gcs_server"}


@dataclass(frozen=True)
class Stage:
    """One stage's command and how to compare what it leaves.

    words: its options. result: its results, without CLOCKS. units: the pieces that are finished one by one (shards,
    epochs, trials, folds), each with a value that changes when it is done again. own: victims that only this stage has,
    with a text in their command lines.
    """

    words: tuple[str, ...]
    result: Callable[[Path], object]
    units: Callable[[Path], dict[str, object]]
    own: Mapping[str, str] = field(default_factory=dict)

    @property
    def victims(self) -> dict[str, str]:
        """Victims of SIGKILL, with a text in their command lines: the command itself, one of its Ray workers, Ray's
        raylet (with the object store) and head."""
        return {**_EVERYWHERE, **self.own}


def _files(pattern: str) -> Callable[[Path], dict[str, object]]:
    """Units that are files: each is renamed into place, so another inode or time means that it was written again."""

    def found(place: Path) -> dict[str, object]:
        stats = {str(file.relative_to(place)): file.stat() for file in sorted(place.glob(pattern))}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

    return found


def _epochs(place: Path) -> dict[str, object]:
    """How often study.pretrain printed each epoch: more than once if it was trained again."""
    epochs = (line.split(":")[0].strip() for line in read_log(place).splitlines() if " epoch " in line)
    return dict(Counter(epochs))


def _table(place: Path) -> object:
    """SHA-256 of each file of the faces table."""
    table = place / "runs" / "aligned"
    files = [file for file in sorted(table.rglob("*")) if file.is_file()]
    return {str(file.relative_to(table)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _checkpoint(place: Path) -> object:
    """SHA-256 of the weights, and their record."""
    (folder,) = (place / "runs" / "pretrained").glob("[!.]*")
    about = json.loads((folder / "trial.json").read_text())
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), about


def _trials(place: Path) -> object:
    """Each trial's record, and best.json."""
    files = sorted((place / "runs" / "sweeps").glob("*/block*/**/*.json"))
    records = [json.loads(file.read_text()) for file in files]
    left_out = (*CLOCKS, DIGEST)  # a digest covers the clocks too
    timeless = [{key: value for key, value in record.items() if key not in left_out} for record in records]
    (best,) = (place / "runs" / "sweeps").glob("*/best.json")
    return timeless, json.loads(best.read_text())


def _predictions(place: Path) -> object:
    """Each photo and its predicted distribution over ages."""
    (file,) = (place / "runs" / "lopo").glob("*/predictions.parquet")
    predictions, _ = read_predictions(file)
    return [predictions.photo.tolist(), predictions.distribution.tolist()]


_SPACE = ("--space", "mean_variance", "--trials", "8", "--blocks", "2", "--folds", "2", "--trial", "start.json")
_SNAPSHOTS = ("--checkpoint-minutes", str(2 / 60), "--window", "48", "--cpus-per-worker", "1")
STAGES = {
    "align": Stage(
        ("people", "--out", "runs/aligned", "--landmarker", "dlib", "--shard", "32", "--workers", "1"),
        _table,
        _files("runs/aligned/faces/*.parquet"),
        {"actor": "MapWorker"},
    ),
    "pretrain": Stage(
        ("--faces", "people", "--backbone", "efficientnet_lite0", *_TRAINING, "--epochs", "12", "--ema", "0.9",
         "--dropout", "0.2", *_SNAPSHOTS),
        _checkpoint,
        _epochs,
        {"actor": "RayTrainWorker", "feeder": "MapBatches"},
    ),
    "sweep": Stage(
        ("--faces", "people", *_SPACE, *_TRAINING, "--epochs", "2"),
        _trials,
        _files("runs/sweeps/*/block*/**/*.json"),
        {"actor": "ImplicitFunc"},
    ),
    "lopo": Stage(
        ("--faces", "people", "--backbone", "resnet18", *_TRAINING, "--epochs", "2"),
        _predictions,
        _files("runs/lopo/*/folds/*.parquet"),
    ),
}  # fmt: skip


def prepare(place: Path, *, people: int = 20) -> Path:
    """A working folder with a start config and a faces table: noise whose brightness is the person's age."""
    draw = np.random.default_rng(0)
    rows = []
    for person in range(people):
        for shot in range(6):
            age = int(draw.integers(0, 70))
            picture = np.clip(draw.normal(30 + 2.5 * age, 12, (48, 48, 3)), 0, 255).astype(np.uint8)
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "JPEG")
            name = f"{person:03d}A{age:02d}_{shot}.JPG"
            values = ("drawn", name, f"{person:03d}", age, data.getvalue(), None, "none", "as is", name)
            rows.append(dict(zip(SCHEMA.names, values, strict=False)))  # the columns after these may be null
    (place / "people" / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), place / "people" / "faces" / "00000.parquet")
    (place / "start.json").write_text('{"backbone": "resnet18"}')
    return place


def start(
    place: Path, name: str, words: tuple[str, ...] = (), *, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the stage's command in that folder; its output is appended to a log next to the folder.

    words: its options, instead of the usual ones. environment: variables to change.
    """
    ours = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-m", f"study.{name}", *(words or STAGES[name].words)]
    with _log(place).open("a") as log:
        return subprocess.Popen(command, cwd=place, env={**ours, **(environment or {})}, stdout=log, stderr=log)


def read_log(place: Path) -> str:
    """All output of the commands in a folder."""
    return _log(place).read_text(errors="replace") if _log(place).exists() else ""


def _log(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")  # the folder itself may be a disk that is full


@dataclass(frozen=True)
class Runs:
    """MLflow's runs in one store. keys: how many runs each key has. unfinished: runs that are not FINISHED, with their
    status. metrics: by key, without CLOCKS."""

    keys: Counter[str]
    unfinished: Counter[str]
    metrics: dict[str, dict[str, float]]


def read_runs(client: MlflowClient) -> Runs:
    """All runs of the study's experiments."""
    experiments = client.search_experiments(filter_string="name LIKE 'age-study%'")
    assert experiments, "nothing was logged"
    runs = client.search_runs([each.experiment_id for each in experiments], max_results=5000)
    named = [(_everywhere(run.data.tags), run) for run in runs]
    return Runs(
        Counter(key for key, _ in named),
        Counter(f"{key} {run.info.status}" for key, run in named if run.info.status != "FINISHED"),
        {
            key: {name: value for name, value in run.data.metrics.items() if name.split("/")[-1] not in CLOCKS}
            for key, run in named
        },
    )


def store_of(place: Path) -> MlflowClient:
    """The folder's own MLflow store."""
    return MlflowClient(f"sqlite:///{place / 'mlruns' / 'mlflow.db'}")


def _everywhere(tags: Mapping[str, Any]) -> str:
    """A run's key, made independent of the folder: a fold's contains its parent's id, a table's depends on its path."""
    stage, key = tags["study.stage"], tags["study.key"]
    if stage == "fold":
        return f"fold-{key.split('-', 2)[2]}"
    return stage if stage == "align" else key
