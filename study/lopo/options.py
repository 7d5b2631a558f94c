"""The options of LOPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from study.cli.options import Allowed, Training
from study.cluster.start import Joining
from trainables.fields import Count


@dataclass(frozen=True)
class Lopo:
    """Options of study.lopo."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    best: bool = False
    """Run the winner of the newest finished sweep (see --sweep)."""
    sweep: str | None = None
    """With --best: the sweep with this name, or in this folder (several sweeps may have one name)."""
    backbone: str | None = None
    """Without --best: the network; timm/NAME: any classifier of timm."""
    weights: str | None = None
    """Without --best: random, imagenet, a weights file, or a checkpoint folder of study.pretrain."""
    faces: tuple[Path, ...] = ()
    """Faces tables with people. Default: the sweep's with --best, else the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    schedule: Literal["plain", "tree"] = "plain"
    """plain: one training per fold, for results to publish. tree: all folds for the cost of a few trainings, for
    screening (see docs/lopo.md)."""
    seeds: Count = 1
    """Trainings per person, with consecutive seeds from the config's on."""
    cpus_per_fold: int = 1
    gpus_per_fold: float | None = None
    """Share of a GPU: 0.1 runs ten folds on one. Default: 0.25 if there are GPUs, else none."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Path | None = None
    """Where each result gets a folder. Default: runs/lopo, or runs/synthetic/lopo for synthetic people."""
    force: bool = False
    """Discard the finished folds of this result and run them again."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)
