"""The Ray Train worker: runs train() on streamed faces, data-parallel, and resumes from the last snapshot."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray.train
import ray.train.torch
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from trainables.backbones import AgeNet
from trainables.config import TrialConfig
from trainables.faces.batches import as_tensors
from trainables.faces.stream import FaceStream
from trainables.fitting import Diverged, Epoch, Saving, Snapshot, decode, predict_batch, rare_weights, train
from trainables.metrics import mae

SNAPSHOT, EPOCH, DIGEST = "snapshot.pt", "epoch.json", "snapshot.sha256"
PULSE = 2.0
"""Seconds between two messages of how far a training is."""
AGREE_EVERY = 10
"""Several workers agree only every so many steps whether a snapshot is due, since agreeing takes time."""


@dataclass(frozen=True)
class Work:
    """How each worker runs, besides the config: threads that train, threads that decode and augment, seconds between
    snapshots, and whether batch norm takes its statistics over a worker's faces or the global batch."""

    threads: int
    feeders: int
    snapshot_seconds: float
    batch_norm: Literal["worker", "global"]


def pretrain_worker(
    options: Mapping[str, Any], *, work: Work, tables: Any, initial: Any, tell: Callable[[Mapping[str, Any]], None]
) -> None:
    """One worker of a TorchTrainer. options: {"trial": TrialConfig as JSON}; tables: Ray reference to a
    trainables.faces.stream.Tables; initial: Ray reference to the tensors that the network starts from, or None.

    Worker 0 reports snapshots to Ray Train, which gives the last one back after a failure, and tells how far it is:
    {"resumed": steps} at the beginning, {"step": steps done} every PULSE seconds, and each epoch's metrics.
    A diverged training reports {"diverged": why} instead of an epoch and does not fail: Ray Train would restart it, and
    it would diverge again.
    """
    config = TrialConfig.from_json(options["trial"])
    torch.set_num_threads(work.threads)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    read, start = ray.get(tables), as_tensors(None if initial is None else ray.get(initial))
    source = FaceStream(read, config, device, rank, world, work.feeders)
    clock = _Clock(work.snapshot_seconds, device, world)
    resume, told = _last_snapshot(), time.monotonic()
    if rank == 0:
        tell({"resumed": resume.step if resume else 0})

    def due(step: int) -> bool:
        nonlocal told
        if rank == 0 and time.monotonic() - told >= PULSE:
            told = time.monotonic()
            tell({"step": step})
        return clock.due(step)

    def save(snapshot: Callable[[], Snapshot]) -> None:
        _report({}, snapshot, rank)
        clock.restart()

    def report(epoch: Epoch, snapshot: Callable[[], Snapshot]) -> None:
        metrics = asdict(epoch)
        if rank == 0:
            tell(metrics)
        _report(metrics, snapshot, rank)
        clock.restart()

    try:
        train(
            config, source, weights=rare_weights(config, read.age),
            measure=(lambda net: streamed_mae(config, net, source)) if rank == 0 else None,
            device=device, initial=start, report=report, saving=Saving(due, save), resume=resume,
            wrap=(lambda net: _in_parallel(net, work.batch_norm)) if world > 1 else lambda net: net,
        )  # fmt: skip
    except Diverged as error:
        _report({"diverged": str(error)}, None, rank)


def streamed_mae(config: TrialConfig, net: AgeNet, source: FaceStream) -> float:
    """MAE (years) on the source's validation faces, computed batch by batch."""
    predicted, age = [], []
    for pixels, years in source.validation():
        predicted.append(predict_batch(config, net, pixels).cpu().numpy())
        age.append(years.cpu().numpy())
    return float(mae(decode(np.concatenate(predicted), config), np.concatenate(age)))


def read_snapshot(folder: Path) -> Snapshot:
    """The snapshot in a Ray Train checkpoint's folder. Only tensors and numbers are loaded.

    Raises OSError where its digest does not match (torch.load checks no checksum). Earlier versions wrote no digest.
    """
    if (folder / DIGEST).is_file() and (folder / DIGEST).read_text() != _sha256(folder / SNAPSHOT):
        raise OSError(f"{folder / SNAPSHOT} is damaged: its digest does not match; --force trains from the start")
    return Snapshot.from_dict(torch.load(folder / SNAPSHOT, map_location="cpu", weights_only=True))


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot and its digest into a Ray Train checkpoint's folder."""
    torch.save(snapshot.as_dict(), folder / SNAPSHOT)
    (folder / DIGEST).write_text(_sha256(folder / SNAPSHOT))


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def read_epoch(folder: Path) -> Mapping[str, Any]:
    """Metrics of the epoch whose end a Ray Train checkpoint holds; {} where it was saved within an epoch;
    {"diverged": why} where the training diverged and there is no snapshot."""
    return json.loads((folder / EPOCH).read_text())


@dataclass
class _Clock:
    """Decides when a snapshot within an epoch is due, by worker 0's clock."""

    seconds: float
    device: torch.device
    world: int
    began: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        self.began = time.monotonic()

    def due(self, step: int) -> bool:
        late = time.monotonic() - self.began >= self.seconds
        if self.world == 1:
            return late
        if step % AGREE_EVERY:
            return False
        answer = torch.tensor([float(late)], device=self.device)
        torch.distributed.broadcast(answer, src=0)
        return bool(answer.item())


def _in_parallel(net: nn.Module, batch_norm: str) -> nn.Module:
    if batch_norm == "global":
        net = convert_sync_batchnorm(net)
    return ray.train.torch.prepare_model(net)


def _report(metrics: Mapping[str, Any], snapshot: Callable[[], Snapshot] | None, rank: int) -> None:
    """Report metrics to Ray Train; worker 0 adds a checkpoint, which Ray Train keeps whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if rank == 0:
            if snapshot is not None:
                write_snapshot(Path(folder), snapshot())
            (Path(folder) / EPOCH).write_text(json.dumps(metrics))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(dict(metrics), checkpoint=checkpoint)


def _last_snapshot() -> Snapshot | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return read_snapshot(Path(folder)) if (Path(folder) / SNAPSHOT).is_file() else None
