"""A sweep's memory on a large faces table: study.sweep --select dev, its trainings replaced by draws.

    python -m benchmarks.sweep_memory --faces 523051 --trials 12

Makes a table of so many small faces (half a million are the faces of IMDB-WIKI that the paper pretrained on), none with
a person, so that each face of the dev part counts as a person of its own: the worst case. Then the real command runs:
blocks, journal, MLflow, Optuna's mirror, choice. Only a trial's training is replaced, by random errors around the true
ages; it reads some faces as a training would. Prints the largest memory of the command's own process: all of it
(resident), and what is not a file's pages (anonymous).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import tyro
from PIL import Image
from ray import tune

from study.cli.options import Training
from study.sweep import command, ray_tune
from study.sweep.options import Sweep
from trainables.faces.table import SCHEMA
from trainables.trial import people_mae

ROWS = 8192
"""Faces in a file of the table."""

_MIB = 2**20


@dataclass(frozen=True)
class Options:
    """How large the table is, and how many trials there are."""

    faces: int = 523_051
    px: int = 32
    """Side of the faces in the table, and of those that trials get."""
    trials: int = 12
    place: Path | None = None
    """Folder for all that is made, kept; default: a temporary one."""


def make_table(folder: Path, *, faces: int, px: int, dataset: str, people: int = 0) -> Path:
    """A faces table of noise: 256 different pictures, so that encoding them takes no time."""
    if (folder / "faces").is_dir():
        return folder
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(256):
        data = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (px, px, 3), dtype=np.uint8)).save(data, "JPEG", quality=75)
        pictures.append(data.getvalue())
    ages = random.integers(0, 90, faces)
    half = folder / ".half"
    half.mkdir(parents=True)
    for start in range(0, faces, ROWS):
        rows = [
            {
                "dataset": dataset,
                "photo": f"{row // 1000:03d}/nm{row:07d}_rm{row * 7919 % 10**9:09d}_1990-1-1_2010.jpg",
                "person": f"{row % people:03d}" if people else None,
                "age": int(ages[row]),
                "face": pictures[row % 256],
                "landmarks": None,
                "landmarker": "none",
                "found_by": "as is",
                "photo_sha256": hashlib.sha256(f"{dataset}{row}".encode()).hexdigest(),
            }
            for row in range(start, min(start + ROWS, faces))
        ]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, half / f"{start:07d}.parquet", row_group_size=1024)
    half.rename(folder / "faces")
    return folder


def drawn_trial(point: Mapping[str, Any], *, faces: Mapping[int, Any], folds: Mapping[str, Any], **_: object) -> None:
    """What trainables.trial.tune_trial reports, without a training: errors whose spread is drawn for the config."""
    began, trial = time.monotonic(), point["trial"]
    table = ray.get(faces[trial["px"]])
    train, test = folds[point["block"]][point["fold"]]
    random = np.random.default_rng(int(1e6 * trial["learning_rate"]) + trial["seed"])
    read = float(table.pixels[random.choice(train, 4096)].mean())
    wide = random.uniform(4, 12)
    predicted = table.age[test] + random.normal(0, wide, len(test))
    by_row = dict(zip(test.tolist(), predicted.tolist(), strict=True))
    people = people_mae(table, by_row)
    mae = float(np.mean(np.abs(predicted - table.age[test].astype(float))))
    row = {"epoch": trial["epochs"], "train_loss": read, "validation_mae": mae, "learning_rate": 0.0, "seconds": 0.0,
           "faces_per_second": 0.0, "fold": point["fold"], "fold_seconds": time.monotonic() - began}  # fmt: skip
    decoded = dict.fromkeys(("expectation", "median", "argmax"), people)
    tune.report(
        {**row, "state": "complete", "mae": mae, "people": people, "decoded": decoded, "halfway": people,
         "predicted": by_row}
    )  # fmt: skip


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """The largest resident and anonymous memory of this process (MiB) while the block lasts, ten times a second."""
    most, over = {"resident": 0.0, "anonymous": 0.0}, threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for name, key in (("resident", "VmRSS"), ("anonymous", "RssAnon")):
                most[name] = max(most[name], int(lines[key].split()[0]) / 1024)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def main(options: Options) -> None:
    """Make the tables, run the sweep, and print what it took."""
    with tempfile.TemporaryDirectory() as temporary:
        place = (options.place or Path(temporary)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        os.chdir(place)
        many = make_table(place / "many", faces=options.faces, px=options.px, dataset="many")
        few = make_table(place / "few", faces=1002, px=options.px, dataset="few", people=82)
        ray_tune.tune_trial = drawn_trial  # all else is study.sweep's
        asked = Sweep(
            training=Training(px=options.px, epochs=2), space="small", trials=options.trials, select="dev",
            faces=(few,), pretrain_faces=(many,), out=place / "sweeps", name=f"memory-{options.trials}",
        )  # fmt: skip
        began, used = time.perf_counter(), time.process_time()
        with watched() as most:
            command.sweep(asked)
        wall, used = time.perf_counter() - began, time.process_time() - used
        pixels = options.faces * options.px**2 * 3 / _MIB
        journal = sum(file.stat().st_size for file in place.glob("sweeps/memory-*/**/*.json")) / _MIB
    print(
        f"{options.faces:,} faces of {options.px} px ({pixels:,.0f} MiB of pixels), {options.trials} trials, journal "
        f"{journal:,.0f} MiB: the command's memory {most['resident']:,.0f} MiB resident, {most['anonymous']:,.0f} MiB "
        f"anonymous; {used:.0f} s of processor time, {wall:.0f} s"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
