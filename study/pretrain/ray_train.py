"""How pretraining runs on Ray Train: what a training takes of the cluster, its epochs as they come, its snapshots."""

from __future__ import annotations

import os
import queue as queues
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.fs as fs
import ray
import ray.train
import ray.train.torch
from ray.util.queue import Empty, Queue
from torch import Tensor

from study.cluster.placing import Running, Unit, check_room, explaining, side_by_side
from study.cluster.start import explain, put_tensors
from study.pretrain.plan import Job
from study.process import ends
from trainables.config import TrialConfig
from trainables.faces.stream import Tables
from trainables.fitting import Diverged, Epoch, Snapshot
from trainables.memory import lacking_memory
from trainables.pretraining import Work, pretrain_worker, read_epoch, read_snapshot

CPUS_ELSEWHERE = 4
"""Cores of a worker on a cluster that was joined. It may still be growing, so its cores of now say nothing."""

SHARED = 3
"""Up to so many cores of a worker, its feeder has none of its own: the rest of that core would stand idle."""

_LISTING = "checkpoint_manager_snapshot.json"
"""Ray Train's own list of the snapshots that it keeps, next to them."""


@dataclass(frozen=True)
class Room:
    """What a training takes: workers, and the cores and GPUs of each. joined: on a cluster that others started."""

    workers: int
    cpus: int
    gpus: float
    joined: bool = False

    @property
    def at_once(self) -> int:
        """How many such trainings run side by side after the autoscaler has added all nodes; 1 where it is unknown."""
        return max(1, side_by_side(self.unit) // self.workers)

    def threads(self, feeders: int) -> int:
        """Threads that train in each worker: all of its cores where they are few, else those without its feeders'."""
        few = self.cpus <= SHARED and not self.gpus
        return self.cpus if few else max(1, self.cpus - feeders)

    @property
    def unit(self) -> Unit:
        """What one worker takes."""
        return Unit("worker", self.cpus, self.gpus, "--workers, --cpus-per-worker and --gpus-per-worker")


def find_room(workers: int, cpus: int | None, gpus: float, *, joined: bool, at_once: int = 1) -> Room:
    """The room of one of at_once trainings. Raises ValueError where Ray can never have it.

    cpus None: this machine's cores divided among the workers of all of them; CPUS_ELSEWHERE each on a cluster that was
    joined.
    """
    cores = int(ray.cluster_resources().get("CPU", 1))
    usual = CPUS_ELSEWHERE if joined else max(1, cores // (workers * at_once))
    room = Room(workers, cpus or usual, gpus, joined=joined)
    check_room(room.unit, together=workers, joined=joined)
    return room


def run_side_by_side(jobs: Sequence[Job], train: Callable[[Job], None], *, at_once: int) -> list[tuple[Job, Exception]]:
    """Train the jobs, so many at once, each in a thread; the jobs that failed, and why, as they failed."""
    waiting: queues.SimpleQueue[Job] = queues.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    failed: list[tuple[Job, Exception]] = []

    def work() -> None:
        while not ends.interrupted():
            try:
                job = waiting.get_nowait()
            except queues.Empty:
                return
            try:
                train(job)
            except Exception as error:
                failed.append((job, error))

    # Called in the main thread, Ray Train takes Ctrl-C for itself. Daemons, so that an interrupted command can leave
    threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def train_with_ray(
    config: TrialConfig,
    tables: Tables,
    *,
    key: str,
    storage: str,
    work: Work,
    room: Room,
    initial: Mapping[str, Tensor] | None = None,
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[int, bool], None] = lambda step, resumed: None,
) -> tuple[Snapshot, Epoch]:
    """The last snapshot and the last epoch of a training, which continues from the snapshot at storage/key if any.

    initial: tensors to start from; None for random ones. They travel to the workers, whose nodes lack the file and
    whose working directory is another. on_epoch and on_step (steps done; whether they are those of an earlier command)
    are called in this process. Raises Diverged, RuntimeError where workers failed again and again (OSError because of a
    full disk), or ChildProcessError where a process died that Ray Train does not start again.
    """
    _drop_leftovers(storage, key)
    if not room.joined:  # nobody takes this machine away: one process less to start
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    queue, running = Queue(actor_options={"num_cpus": 0}), Running()
    listener = threading.Thread(target=_listen, args=(queue, on_epoch, on_step), daemon=True)
    listener.start()
    data: dict[str, Any] = {"tables": ray.put(tables), "initial": put_tensors(initial)}
    trainer = ray.train.torch.TorchTrainer(
        running.counted(partial(pretrain_worker, work=work, tell=queue.put, **data)),
        train_loop_config={"trial": config.to_json()},
        scaling_config=ray.train.ScalingConfig(
            num_workers=room.workers,
            use_gpu=room.gpus > 0,
            resources_per_worker={"CPU": room.cpus, **({"GPU": room.gpus} if room.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=key,
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        with explaining(room.unit, running.count, joined=room.joined):
            result = trainer.fit()
    except ray.train.WorkerGroupError as error:
        raise _as_failure(error) from error
    except (ray.train.ControllerError, ray.exceptions.RayActorError) as error:
        # Ray Train tries again only once its workers are up
        raise ChildProcessError(
            "one of Ray's processes died while the training was set up; the same command continues where it stopped"
        ) from error
    finally:
        queue.put(None)
        listener.join(timeout=60)
    if result.checkpoint is None:
        raise RuntimeError(f"Ray Train ended without a checkpoint in {storage}/{key}")
    with result.checkpoint.as_directory() as place:
        epoch = read_epoch(Path(place))
        if "diverged" not in epoch:
            return read_snapshot(Path(place)), Epoch(**epoch)
    forget(storage, key)
    raise Diverged(epoch["diverged"])


def _as_failure(error: ray.train.WorkerGroupError) -> Exception:
    """The first failed worker's reason in one line. A full disk and too little memory keep their kind: no bugs."""
    worker, cause = next(iter(error.worker_failures.items()))
    own = getattr(cause, "_base_exc", cause)  # Ray wraps what a worker raised, and shows only its text
    why = lacking_memory(own) or explain(own)
    line = f"worker {worker} failed: {why or str(cause).strip().splitlines()[-1]}"
    if why:
        return MemoryError(line) if "memory" in why else OSError(line)
    return OSError(line) if isinstance(own, OSError) else RuntimeError(line)


def forget(storage: str, key: str) -> bool:
    """Delete Ray Train's state of a training; whether there was any."""
    filesystem, path = fs.FileSystem.from_uri(storage)
    there = filesystem.get_file_info(f"{path}/{key}").type == fs.FileType.Directory
    if there:
        filesystem.delete_dir(f"{path}/{key}")
    return bool(there)


def _drop_leftovers(storage: str, key: str) -> None:
    """Delete snapshots that Ray Train's own list lacks. A failure between writing one and listing it (a full disk, a
    kill) leaves it there, and Ray Train would never delete it."""
    filesystem, path = fs.FileSystem.from_uri(storage)
    folder, listed = f"{path}/{key}", b""
    if filesystem.get_file_info(f"{folder}/{_LISTING}").type == fs.FileType.File:
        with filesystem.open_input_stream(f"{folder}/{_LISTING}") as file:
            listed = file.read()
    for entry in filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        snapshot = entry.type == fs.FileType.Directory and entry.base_name.startswith("checkpoint_")
        if snapshot and entry.base_name.encode() not in listed:
            filesystem.delete_dir(entry.path)


def _listen(queue: Queue, on_epoch: Callable[[Epoch], None], on_step: Callable[[int, bool], None]) -> None:
    """Pass on what the worker tells, until None comes."""
    while True:
        try:
            told = queue.get(timeout=5)
        except Empty:
            continue
        except Exception:  # Ray is going down: nothing more will come
            return
        if told is None:
            return
        if "epoch" in told:
            on_epoch(Epoch(**told))
        elif "resumed" in told:
            on_step(told["resumed"], True)
        else:
            on_step(told["step"], False)
