"""Memory of a pretraining as its faces table grows: it must stay about flat.

    python -m benchmarks.pretrain_memory --faces runs/utkface --rows 5000 50000

For each size a table is written by repeating the rows of --faces under new names, study.pretrain is started on it, and
the memory of all its processes (Ray's included) is looked at for so many seconds of training. Prints, at the worst
moment: the sum over processes of the proportional set size (shared memory counted once), the part of it that is the
object store's, and the largest process; and what the same faces take when they lie decoded in memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from trainables.faces.table import SCHEMA, table_files

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """What is measured."""

    faces: Path = Path("runs/utkface")
    rows: tuple[int, ...] = (5000, 50000)
    backbone: str = "resnet18"
    px: int = 64
    batch: int = 32
    seconds: float = 60.0
    """Of training, after the first snapshot could have been taken."""


def repeat(source: Path, folder: Path, rows: int) -> int:
    """Write a table of so many rows, 256 a file; the bytes of its faces."""
    (folder / "faces").mkdir(parents=True)
    written, size, round_ = 0, 0, 0
    while written < rows:
        for file in table_files(source):
            table = pq.read_table(file, columns=[name for name in SCHEMA.names if name != "landmarks"])
            table = table.slice(0, rows - written)
            for name in ("photo", "photo_sha256"):
                values = pa.array([f"{round_}-{value}" for value in table[name].to_pylist()])
                table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), values)
            pq.write_table(table, folder / "faces" / f"{written:07d}.parquet")
            written += len(table)
            size += table["face"].nbytes
            if written >= rows:
                break
        round_ += 1
    return size


def watch(process: psutil.Process) -> tuple[float, float, float]:
    """Proportional set size of all processes, the object store's part of it, and the largest process's own, in MB."""
    whole, shared, largest = 0.0, 0.0, 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            info = each.memory_full_info()
            whole += info.pss / 1e6
            largest = max(largest, info.uss / 1e6)
            for place in each.memory_maps():
                if "plasma" in place.path or "/dev/shm" in place.path:
                    shared += place.pss / 1e6
    return whole, shared, largest


def measure(options: Options, table: Path, cwd: Path) -> tuple[float, float, float]:
    """The worst moments of a training's first seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    words = f"--backbone {options.backbone} --px {options.px} --batch {options.batch} --cpus-per-worker 1 --epochs 100"
    words += " --checkpoint-minutes 0.1"
    with (cwd / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "study.pretrain", "--faces", str(table), "--out", "runs/pretrained", *words.split()],
            cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    until, worst = float("inf"), (0.0, 0.0, 0.0)
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError((cwd / "log").read_text()[-2000:])
        worst = max(worst, watch(psutil.Process(process.pid)))
        if until == float("inf") and list(cwd.glob("runs/pretrained/.train/*/checkpoint_*/snapshot.pt")):
            until = time.monotonic() + options.seconds
        time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return worst


def main(options: Options) -> None:
    """Measure each size and print the table."""
    print(f"{'faces':>8} {'encoded':>10} {'decoded':>10} {'all':>10} {'store':>8} {'largest':>9}   MB", flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            encoded = repeat(options.faces, Path(folder) / "table", rows) / 1e6
            whole, shared, largest = measure(options, Path(folder) / "table", Path(folder))
        decoded = rows * options.px**2 * 3 / 1e6
        print(f"{rows:>8} {encoded:>10.0f} {decoded:>10.0f} {whole:>10.0f} {shared:>8.0f} {largest:>9.0f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
