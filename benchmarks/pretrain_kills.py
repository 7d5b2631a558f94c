"""Kill a pretraining at random moments, type the same command again, and compare its end with an undisturbed run's.

    python -m benchmarks.pretrain_kills.py --kills 8

Drawn faces in a temporary folder. Who is killed (SIGKILL) is drawn each time: the driver, the training worker, or the
task that feeds it. A command that outlives a kill is waited for; one that fails is typed again. Prints what was killed
and when, both digests of model.safetensors, and whether MLflow holds one finished run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro
from mlflow import MlflowClient

from benchmarks.kills import draw_faces

ROOT = Path(__file__).resolve().parents[1]
VICTIMS = {"worker": "RayTrainWorker", "feeder": "MapBatches"}


@dataclass(frozen=True)
class Options:
    """What is killed and how often."""

    kills: int = 8
    seed: int = 0
    backbone: str = "efficientnet_lite0"
    px: int = 32
    epochs: int = 12
    checkpoint_seconds: float = 2.0


def start(cwd: Path, options: Options) -> subprocess.Popen:
    """The command, as a user types it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    args = {
        "--backbone": options.backbone,
        "--px": options.px,
        "--epochs": options.epochs,
        "--batch": 16,
        "--ema": 0.9,
        "--dropout": 0.2,
        "--window": 48,
        "--cpus-per-worker": 1,
        "--checkpoint-minutes": options.checkpoint_seconds / 60,
        "--faces": "people",
    }
    words = [str(word) for pair in args.items() for word in pair]
    with (cwd / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "study.pretrain", *words], cwd=cwd, env=environment, stdout=log, stderr=log
        )


def kill_someone(driver: psutil.Process, draw: random.Random) -> str:
    """SIGKILL the driver, the worker or a feeding task; who it was. Before there is a worker, the driver."""
    found: dict[str, list[psutil.Process]] = {"driver": [driver]}
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            name = " ".join(process.cmdline())
            for kind, mark in VICTIMS.items():
                if mark in name:
                    found.setdefault(kind, []).append(process)
    who = draw.choice(["driver", "worker", "feeder"])
    who = who if who in found else "driver"
    with contextlib.suppress(psutil.Error):
        draw.choice(found[who]).kill()
    return who


def outcome(cwd: Path, options: Options) -> tuple[str, list[str]]:
    """The digest of the weights, and the state of each MLflow run."""
    data = (cwd / "runs" / "pretrained" / options.backbone / "model.safetensors").read_bytes()
    client = MlflowClient(f"sqlite:///{cwd / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("age-study")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return hashlib.sha256(data).hexdigest(), [run.info.status for run in runs]


def main(options: Options) -> int:
    """Both runs, and the comparison; status 1 where they differ."""
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in ("undisturbed", "killed")}
        for place in places.values():
            draw_faces(place / "people")
        began = time.monotonic()
        assert start(places["undisturbed"], options).wait() == 0, (places["undisturbed"] / "log").read_text()
        took = time.monotonic() - began
        print(f"undisturbed {took:.0f} s; seed {options.seed}", flush=True)
        kills: Counter = Counter()
        status, began, rounds = 1, time.monotonic(), 0
        while status != 0:
            process = start(places["killed"], options)
            rounds += 1
            driver = psutil.Process(process.pid)
            while process.poll() is None and kills.total() < options.kills:
                wait = draw.uniform(took / 8, took / 1.5)  # a third of the undisturbed time is start-up
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(wait)
                if process.poll() is None:
                    who = kill_someone(driver, draw)
                    kills[who] += 1
                    print(f"  kill {kills.total()}: {who} after {wait:.1f} s", flush=True)
            status = process.wait()
            if rounds > 2 * options.kills + 10:
                print((places["killed"] / "log").read_text()[-3000:])
                return 1
        spent = time.monotonic() - began
        expected, found = (outcome(places[name], options) for name in ("undisturbed", "killed"))
    print(
        f"{kills.total()} kills ({dict(kills)}), {rounds} commands, {spent:.0f} s where undisturbed took {took:.0f} s"
    )
    print(f"undisturbed {expected[0][:16]}, killed {found[0][:16]}; MLflow's runs: {found[1]}")
    return 0 if expected[0] == found[0] and found[1] == ["FINISHED"] else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
