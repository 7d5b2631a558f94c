"""The options of refitting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from study.cli.options import Allowed, Training
from study.cluster.start import Joining
from trainables.fields import Count


@dataclass(frozen=True)
class Refit:
    """Options of study.refit."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    best: bool = False
    """Train the winner of the newest finished sweep (see --sweep)."""
    sweep: str | None = None
    """With --best: the sweep with this name, or in this folder (several sweeps may have one name)."""
    backbone: str | None = None
    """Without --best: the network; timm/NAME: any classifier of timm."""
    weights: str | None = None
    """Without --best: random, imagenet, a weights file, or a checkpoint folder of study.pretrain."""
    faces: tuple[Path, ...] = ()
    """Faces tables to train on. Default: the sweep's with --best, else the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    seeds: Count = 1
    """Trainings, with consecutive seeds from the config's on; the model averages their distributions."""
    cpus_per_seed: Count = 1
    gpus_per_seed: float | None = None
    """Share of a GPU. Default: 0.25 if there are GPUs, else none."""
    register: bool = True
    """Register the model in MLflow as facial-age, with the alias champion."""
    name: str | None = None
    """Name in MLflow and in the model card; default: what was trained."""
    out: Path | None = None
    """Where each model gets a folder. Default: runs/models, or runs/synthetic/models for synthetic people."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)
