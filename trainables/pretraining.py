"""The Ray Train worker: the same fit, wrapped for data-parallel training, resumable after every epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch

from trainables.backbones import AgeNet
from trainables.batches import Batches
from trainables.config import TrialConfig
from trainables.faces import Faces
from trainables.fitting import Epoch, Snapshot, decode, predict
from trainables.fitting import train as train_net
from trainables.metrics import mae

SNAPSHOT = "snapshot.pt"


def pretrain_worker(
    options: Mapping[str, Any],
    *,
    faces: Any,
    train: Any,
    dev: Any,
    on_epoch: Callable[[Mapping[str, Any]], None],
) -> None:
    """One worker of a TorchTrainer: options hold "trial" (TrialConfig as JSON) and "threads" (a worker's).

    faces (Faces), train and dev (rows) are object references: every worker of a node reads the same memory.
    Worker 0 reports each epoch's snapshot to Ray Train, which hands it back after a failure, and calls on_epoch.
    """
    config = TrialConfig.from_json(options["trial"])
    torch.set_num_threads(options["threads"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    table: Faces = ray.get(faces)
    train_rows: np.ndarray = ray.get(train)
    dev_rows: np.ndarray = ray.get(dev)
    device = ray.train.torch.get_device()

    def report(epoch: Epoch, snapshot: Callable[[], Snapshot]) -> None:
        metrics = asdict(epoch)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if rank == 0:
                on_epoch(metrics)
                torch.save(snapshot().as_dict(), Path(folder) / SNAPSHOT)
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)

    batches = Batches(
        table, train_rows, min(config.batch, len(train_rows)), config.seed, config.augmentation, device,
        rank=rank, world=world,
    )  # fmt: skip

    def error(net: AgeNet) -> float:
        return float(mae(decode(predict(config, net, table, dev_rows), config), table.age[dev_rows]))

    train_net(
        config, batches,
        measure=error if rank == 0 else None,
        device=device, report=report, resume=_last_snapshot(),
        wrap=ray.train.torch.prepare_model if world > 1 else lambda net: net,
    )  # fmt: skip


def read_snapshot(folder: Path) -> Snapshot:
    """The snapshot in a Ray Train checkpoint's folder; tensors and numbers only are unpacked."""
    return Snapshot.from_dict(torch.load(folder / SNAPSHOT, map_location="cpu", weights_only=True))


def _last_snapshot() -> Snapshot | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return read_snapshot(Path(folder))
