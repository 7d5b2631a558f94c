"""How far LOPO's scheduling goes: folds that only sleep, on many simulated nodes of Ray's own test cluster.

    python -m benchmarks.scale --nodes 4 16 --slots 4 --seconds 4

Every node is a raylet of its own with `slots` CPUs that are not there; a fold takes one and sleeps. All else is the
study's: study.lopo.ray_tasks submits, writes each fold's file and logs it to MLflow. efficiency is slept time over
wall time times slots, from the first submission to the last fold logged, in a round that follows one that starts the
workers.
driver, writer, control and raylets are processor time a fold: of the command, of the process that writes its MLflow
runs (study.tracking.writer, its start included), of Ray's head (GCS), of all raylets together. On a machine with few
cores nodes take minutes to start: --start says how many.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import ray
import tyro
from ray.cluster_utils import Cluster

from benchmarks.fanout import drawn_faces, waited_for
from study.lopo import ray_tasks as folding
from study.lopo.jobs import Schedule, make_jobs
from study.lopo.plan import Plan
from study.lopo.ray_tasks import run_jobs
from study.starts import read_start
from study.tracking import runs as tracking
from trainables.config import TrialConfig
from trainables.faces.table import Faces

STARTS = {("resnet18", "random"): read_start("resnet18", "random")}


@dataclass(frozen=True)
class Options:
    """Which clusters are simulated, and what runs on them."""

    nodes: tuple[int, ...] = (4, 16)
    slots: int = 4
    """Folds at once on a node."""
    seconds: tuple[float, ...] = (4.0,)
    """What a fold sleeps."""
    rounds: int = 4
    """Folds a slot, in the round that is measured."""
    people: int = 82
    start: float = 30.0
    """Minutes that all nodes may take to start."""
    together: int = 4
    """Nodes that are started at a time: each starts four processes, which at once would starve each other."""


def sleep_fold(
    record: Mapping[str, Any], faces: Faces, initial: object, train: np.ndarray, test: np.ndarray, *_: object
) -> Any:
    """A fold's answer after a rest: its length is the config's learning rate, for which it has no other use."""
    time.sleep(record["learning_rate"])
    history = [{"epoch": epoch + 1, "train_loss": 1.0} for epoch in range(record["epochs"])]
    distribution = np.full((len(test), record["ages"]), 1 / record["ages"], np.float32)
    # not a FoldResult: its module would make every worker import torch
    return SimpleNamespace(
        distribution=distribution,
        predicted=np.full(len(test), 50, np.float32),
        history=history,
        seconds=0.0,
        environment={},
    )


def spent(cluster: Cluster) -> dict[str, float]:
    """Processor seconds so far of the command, of its writer, of Ray's control, and of all raylets."""
    processes = [*psutil.Process().children(recursive=True)]
    total = {"driver": sum(psutil.Process().cpu_times()[:2]), "writer": waited_for(), "control": 0.0, "raylets": 0.0}
    for process in processes:
        try:
            name, seconds = process.name(), sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
        if name.startswith("gcs_server"):
            total["control"] += seconds
        elif name.startswith("raylet"):
            total["raylets"] += seconds
    return total


def grow(cluster: Cluster, nodes: int, node: Mapping[str, Any], *, together: int, minutes: float) -> None:
    """Add the nodes, some at a time. Raises TimeoutError where they do not come."""
    until = time.monotonic() + 60 * minutes
    for first in range(0, nodes, together):
        for _ in range(min(together, nodes - first)):
            cluster.add_node(wait=False, **node)
        cluster.wait_for_nodes(timeout=max(1.0, until - time.monotonic()))


def measure(
    faces: Faces, store: tracking.Tracking, place: Path, cluster: Cluster, *, slots: int, folds: int, seconds: float
) -> tuple[float, dict[str, float]]:
    """Run so many folds; wall seconds, and processor seconds per process."""
    schedule = Schedule("plain", -(-folds // len(faces.people)), 1, 0.0)
    config = TrialConfig(backbone="resnet18", px=32, learning_rate=seconds, epochs=6)
    plan = Plan(f"{slots} slots", {None: config}, "scale", True, (), None)
    jobs, key = make_jobs(plan, faces, STARTS, schedule, place)
    parent = tracking.find_or_start(store, key=f"scale-{key}-{slots}-{folds}", name=plan.name, stage="lopo")
    before, began = spent(cluster), time.perf_counter()
    failed = run_jobs(jobs[:folds], {config.px: faces}, STARTS, store, parent, schedule)
    wall, after = time.perf_counter() - began, spent(cluster)
    assert not failed, failed[0]
    assert len(tracking.children(store, parent)) == folds
    return wall, {who: after[who] - before[who] for who in after}


def main(options: Options) -> None:
    """A row a cluster and length of sleep."""
    folding.run_fold = sleep_fold  # the path is study.lopo's, the training is not
    faces = drawn_faces(options.people, 12)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    print(f"{'nodes':>5} {'slots':>5} {'sleep':>5} {'folds':>5} {'wall':>7} {'efficiency':>10} {'folds/s':>8} "
          f"{'driver':>7} {'writer':>7} {'control':>8} {'raylets':>8} {'memory':>8}")  # fmt: skip
    for nodes in options.nodes:
        before = psutil.virtual_memory().available
        # 75 MiB is the least that Ray takes; without a log monitor on each node
        node = {"num_cpus": options.slots, "object_store_memory": 80 << 20, "include_log_monitor": False}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False})
        try:
            grow(cluster, nodes, node, together=options.together, minutes=options.start)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
            row(options, nodes, faces, cluster, before)
        finally:
            ray.shutdown()
            cluster.shutdown()


def row(options: Options, nodes: int, faces: Faces, cluster: Cluster, memory: int) -> None:
    """Warm the cluster's workers up, then measure on it."""
    slots = nodes * options.slots
    with tempfile.TemporaryDirectory() as place:
        store = tracking.connect(home=Path(place) / "mlruns")
        warm = 2.0 + slots / 8  # long enough that every slot has to start a worker
        measure(faces, store, Path(place) / "warm", cluster, slots=slots, folds=slots, seconds=warm)
        for seconds in options.seconds:
            folds = slots * options.rounds
            home = Path(place) / str(seconds)
            wall, used = measure(faces, store, home, cluster, slots=slots, folds=folds, seconds=seconds)
            taken = (memory - psutil.virtual_memory().available) / 2**30
            print(
                f"{nodes:5} {slots:5} {seconds:5.1f} {folds:5} {wall:6.1f}s {folds * seconds / wall / slots:10.2f} "
                f"{folds / wall:8.1f} {1000 * used['driver'] / folds:5.1f}ms "
                f"{1000 * used['writer'] / folds:5.1f}ms {1000 * used['control'] / folds:6.1f}ms "
                f"{1000 * used['raylets'] / folds:6.1f}ms {taken:5.1f}GiB",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
