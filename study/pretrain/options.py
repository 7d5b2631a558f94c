"""What pretraining is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from study.cli.about import About
from study.cli.options import Allowed, Joining, Training
from study.cli.words import Folder, Place
from trainables.config import TrialConfig
from trainables.fields import Amount, Count, Part, Positive
from trainables.networks import BACKBONES, find_backbone

ABOUT = About(
    "train networks on the faces of many people; a sweep and LOPO start from them",
    (
        ("On the synthetic strangers", "python -m study.pretrain --backbone resnet18"),
        (
            "On your own faces",
            "python -m study.pretrain --backbone efficientnet_lite0 resnet18 --faces runs/utkface --epochs 16",
        ),
    ),
    ("backbone", "faces", "weights", "epochs", "px"),
    """Each backbone becomes one checkpoint folder OUT/BACKBONE/ (model.safetensors, trial.json). A finished one is not
    trained again. An interrupted one continues from its last snapshot, with the same result as without the
    interruption: type the same command again. Faces are streamed from the tables (Ray Data) and never all in memory.

    Several workers train as one with the same --batch would; but batch norm takes its statistics from each worker's own
    share (see --batch-norm).""",
    "docs/pretraining.md",
)


@dataclass(frozen=True)
class Pretrain:
    """Options of study.pretrain."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    backbone: tuple[str, ...] = ()
    """Networks to pretrain; `all`: every one of the study; timm/NAME: any classifier of timm. One that fails does not
    stop the others. Default: the config's (efficientnet_b0), or that of --trial."""
    faces: tuple[Place, ...] = ()
    """Faces tables (OUT of study.align) to train on together: folders or URIs (s3://...) that every node reaches.
    Default: the synthetic strangers."""
    weights: str | None = None
    """What to start from: random, imagenet, a weights file, or a checkpoint folder. Default: random, or as --trial
    says."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    out: Folder | None = None
    """Folder for the checkpoints: one folder for each backbone. Default: runs/pretrained, or runs/synthetic/pretrained
    for synthetic faces."""
    dev_share: Part = 0.1
    """Share of the people (of the photos where people are unknown) in the dev set, which is never trained on."""
    window: Count | None = None
    """Faces that are shuffled together (docs/pretraining.md). Another number gives another result. Default: 4096, or
    more where neighbours in the tables are alike in age."""
    workers: Count = 1
    """Data-parallel processes; the global batch is divided among them."""
    cpus_per_worker: Count | None = None
    """Cores of a worker, with its feeders' cores. Default: this machine's cores divided among the workers of
    --at-once backbones; 4 on a cluster that was joined (--address, RAY_ADDRESS), since it may still be growing."""
    feeders: Count = 1
    """How many threads of a worker decode and augment. With four cores and more each has a core, and the others train;
    a worker with fewer cores trains on all of them, too."""
    gpus_per_worker: Amount = 0.0
    """GPUs of a worker; 0: it trains on the processor."""
    batch_norm: Literal["worker", "global"] = "worker"
    """Over which faces batch norm takes its statistics: each worker's share of the batch, or the whole batch
    (SyncBatchNorm, on GPUs only). Networks without batch norm (ViT, Swin, ConvNeXt) learn the same with two workers as
    with one."""
    at_once: Count | None = None
    """Backbones trained side by side. Default: as many as there is room for after the autoscaler has added all
    nodes."""
    checkpoint_minutes: Positive = 5.0
    """Minutes between two snapshots; one is also written after each epoch. A kill costs at most this long."""
    storage: Place | None = None
    """Where Ray Train keeps the snapshots: a folder or URI (s3://...) that all nodes reach. Default: OUT/.train, right
    for one machine."""
    force: bool = False
    """Replace finished checkpoints, and discard snapshots of interrupted trainings."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


def read_networks(options: Pretrain) -> tuple[TrialConfig, list[str]]:
    """The config that all networks share, and their names. Raises ValueError, before any face is read, where the
    options ask for what cannot be."""
    common = options.training.trial_config(weights=options.weights)
    asked = options.backbone or (options.training.trial_config().backbone,)
    names = list(BACKBONES) if "all" in asked else list(dict.fromkeys(asked))
    for name in names:
        find_backbone(name)
    if options.batch_norm == "global" and not options.gpus_per_worker:
        raise ValueError("--batch-norm global needs GPUs (--gpus-per-worker): there is no SyncBatchNorm on processors")
    if common.frozen:
        raise ValueError(
            "pretraining trains the whole network: give --frozen to study.lopo or a sweep, and here --frozen 0 where "
            "the trial file freezes stages"
        )
    if common.companions:
        raise ValueError(
            "pretraining has no companions: give all tables to --faces, and --companions 0 with a trial file"
        )
    if common.rare_ages == "balance":
        raise ValueError(
            "pretraining streams every face once an epoch: it takes --rare-ages none or reweight, and balance is for "
            "study.lopo and a sweep"
        )
    if common.batch % options.workers:
        raise ValueError(
            f"--batch {common.batch} does not divide among --workers {options.workers}: expected a multiple"
        )
    return common, names
