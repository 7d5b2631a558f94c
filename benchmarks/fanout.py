"""What fanning folds out costs: empty folds through study.lopo's own path, with their files and MLflow runs.

    python benchmarks/fanout.py --configs 20 --seeds 3

82 people x configs x seeds: Ray tasks that train nothing, their Parquet files, and one MLflow run each under a parent a
config, in an SQLite store. Prints tasks a second and processor time a fold (of the command, all its threads, and of the
process that writes its runs), and counts at the end that every run is there, finished, once.
"""

from __future__ import annotations

import cProfile
import pstats
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from study.cluster.start import start_ray
from study.lopo import ray_tasks as folding
from study.lopo.jobs import Schedule, make_jobs
from study.lopo.plan import Plan
from study.lopo.ray_tasks import run_jobs
from study.starts import read_start
from study.tracking import runs as tracking
from trainables.config import TrialConfig
from trainables.faces.table import Faces
from trainables.fold import FoldResult
from trainables.provenance import environment

STARTS = {("resnet18", "random"): read_start("resnet18", "random")}


@dataclass(frozen=True)
class Options:
    """How much is fanned out."""

    people: int = 82
    photos: int = 12
    configs: int = 20
    seeds: int = 3
    epochs: int = 6
    profile: bool = False
    """Print where the driver's time goes."""


def empty_fold(
    record: Mapping[str, Any], faces: Faces, initial: object, train: np.ndarray, test: np.ndarray, *_: object
) -> FoldResult:
    """A fold's answer without its training: the same distribution for every face."""
    distribution = np.full((len(test), record["ages"]), 1 / record["ages"], np.float32)
    history = [
        {"epoch": e + 1, "train_loss": 1.0, "validation_mae": float("nan"), "learning_rate": 1e-3, "seconds": 1.0,
         "faces_per_second": 1.0} for e in range(record["epochs"])
    ]  # fmt: skip
    return FoldResult(distribution, np.full(len(test), 50, np.float32), history, 0.0, environment("cpu"))


def drawn_faces(people: int, photos: int) -> Faces:
    """Black faces of made-up people with ages."""
    person = np.repeat([f"drawn/{number:03d}" for number in range(people)], photos)
    photo = np.array([f"drawn/{number:05d}.png" for number in range(len(person))])
    age = np.random.default_rng(0).integers(0, 70, len(person)).astype(np.int16)
    return Faces(np.zeros((len(person), 32, 32, 3), np.uint8), age, person, photo, photo, "drawn")


def waited_for() -> float:
    """Processor seconds of the child processes that have ended: not Ray's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(options: Options) -> None:
    """Run the folds, and count what MLflow holds."""
    folding.run_fold = empty_fold  # the path is study.lopo's, the training is not
    faces = drawn_faces(options.people, options.photos)
    with tempfile.TemporaryDirectory() as place:
        store = tracking.connect(home=Path(place) / "mlruns")
        start_ray(num_cpus=2)
        schedule = Schedule("plain", options.seeds, 1, 0.0)
        parents, profile = [], cProfile.Profile()
        took, total, driver, writer = [], 0, [], []
        for number in range(options.configs):
            config = TrialConfig(backbone="resnet18", px=32, epochs=options.epochs, learning_rate=1e-3 * (number + 1))
            plan = Plan(f"config {number}", {None: config}, "fan-out", True, (), None)
            jobs, key = make_jobs(plan, faces, STARTS, schedule, Path(place) / "lopo")
            parent = tracking.find_or_start(store, key=f"lopo-{key}", name=plan.name, stage="lopo")
            began, used, children = time.perf_counter(), time.process_time(), waited_for()
            if options.profile:
                profile.enable()
            failed = run_jobs(jobs, {config.px: faces}, STARTS, store, parent, schedule)
            if options.profile:
                profile.disable()
            took.append(time.perf_counter() - began)
            driver.append(1000 * (time.process_time() - used) / len(jobs))
            writer.append(1000 * (waited_for() - children) / len(jobs))
            total += len(jobs)
            parents.append((parent, jobs))
            if failed:
                raise RuntimeError(f"{len(failed)} folds failed, first {failed[0]}")
        wrong = 0
        for parent, jobs in parents:
            runs = tracking.children(store, parent)
            states = Counter(status for _, status in runs.values())
            wrong += len(jobs) - states["FINISHED"] + abs(len(runs) - len(jobs))
            wrong += sum(not job.file.is_file() for job in jobs)
        found = store.client.search_runs([store.experiment], "tags.`study.stage` = 'fold'", max_results=50_000)
        print(
            f"{total} folds in {sum(took):.1f} s: {total / sum(took):.1f} a second, the first config's start included"
        )
        rates = sorted(len(jobs) / seconds for seconds in took)
        print(f"a config's folds: median {rates[len(rates) // 2]:.1f} a second, {rates[0]:.1f} to {rates[-1]:.1f}")
        for who, spent in (("command", driver), ("writer, its start included", writer)):
            middle, low, high = sorted(spent)[len(spent) // 2], min(spent), max(spent)
            print(f"processor time a fold, {who}: median {middle:.1f} ms, {low:.1f} to {high:.1f} by config")
        print(f"MLflow holds {len(found)} fold runs; missing, doubled or unfinished: {wrong}")
        one = found[0].data
        print(f"a run holds {len(one.params)} params, {len(one.metrics)} metrics, {len(one.tags)} tags")
        if options.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
