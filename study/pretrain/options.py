"""What pretraining is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from study.cli.options import Allowed, Training
from study.cluster.start import Joining
from trainables.fields import Amount, Count, Part, Positive


@dataclass(frozen=True)
class Pretrain:
    """Options of study.pretrain."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    backbone: tuple[str, ...] = ()
    """Networks to pretrain; `all`: every one of the study; timm/NAME: any classifier of timm. One that fails does not
    stop the others. Default: the config's (efficientnet_b0), or that of --trial."""
    faces: tuple[str, ...] = ()
    """Faces tables (OUT of study.align) to train on together: folders or URIs (s3://...) that every node reaches.
    Default: the synthetic strangers."""
    weights: str | None = None
    """What to start from: random, imagenet, a weights file, or a checkpoint folder. Default: random, or as --trial
    says."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    out: Path | None = None
    """Folder for the checkpoints: one folder for each backbone. Default: runs/pretrained, or runs/synthetic/pretrained
    for synthetic faces."""
    dev_share: Part = 0.1
    """Share of the people (of the photos where people are unknown) in the dev set, which is never trained on."""
    window: Count = 4096
    """Faces that are shuffled together (docs/pretraining.md). Another number gives another result."""
    workers: Count = 1
    """Data-parallel processes; the global batch is divided among them."""
    cpus_per_worker: Count | None = None
    """Cores of a worker, with its feeders' cores. Default: this machine's cores divided among the workers; 4 on a
    cluster that was joined (--address, RAY_ADDRESS), since it may still be growing."""
    feeders: Count = 1
    """How many of a worker's cores decode and augment; the others train. A worker with one core does both on it."""
    gpus_per_worker: Amount = 0.0
    batch_norm: Literal["worker", "global"] = "worker"
    """Over which faces batch norm takes its statistics: each worker's share of the batch, or the whole batch
    (SyncBatchNorm, on GPUs only). Networks without batch norm (ViT, Swin, ConvNeXt) learn the same with two workers as
    with one."""
    at_once: Count | None = None
    """Backbones trained side by side. Default: as many as there is room for after the autoscaler has added all
    nodes."""
    checkpoint_minutes: Positive = 5.0
    """Minutes between two snapshots; one is also written after each epoch. A kill costs at most this long."""
    storage: str | None = None
    """Where Ray Train keeps the snapshots: a folder or URI (s3://...) that all nodes reach. Default: OUT/.train, right
    for one machine."""
    force: bool = False
    """Replace finished checkpoints, and discard snapshots of interrupted trainings."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)
