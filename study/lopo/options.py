"""What LOPO is asked."""

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
    """With --best: the sweep of this name, or in this folder (several may have the name)."""
    backbone: str | None = None
    """Without --best: the network."""
    weights: str | None = None
    """Without --best: random, imagenet, a weights file, or a checkpoint folder of study.pretrain."""
    faces: tuple[Path, ...] = ()
    """Faces tables with people. Default: the sweep's with --best, else the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    schedule: Literal["plain", "tree"] = "plain"
    """plain: a training a fold, for the figure to publish; tree: all folds for the cost of a few trainings, for
    screening (see docs/lopo.md)."""
    seeds: Count = 1
    """Trainings a person, with seeds counted up from the config's."""
    cpus_per_fold: int = 1
    gpus_per_fold: float | None = None
    """Share of a GPU: 0.1 puts ten folds on one. Default: 0.25 where there are GPUs, else none."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Path | None = None
    """Folder for a folder a result. Default: runs/lopo, or runs/synthetic/lopo of synthetic people."""
    force: bool = False
    """Discard finished folds of this very config and run them again."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)
