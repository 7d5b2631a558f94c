"""The options of LOPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from study.cli.about import About
from study.cli.options import Allowed, Chosen, Joining
from study.cli.words import Folder
from trainables.fields import Count

ABOUT = About(
    "test on each person what was trained on all others (leave one person out)",
    (
        ("The winner of the newest sweep", "python -m study.lopo --best"),
        (
            "A config by hand",
            "python -m study.lopo --backbone resnet18 --weights runs/pretrained/resnet18 --faces runs/fgnet",
        ),
    ),
    ("best", "backbone", "weights", "faces", "gpus_per_fold"),
    """One training per person, on everyone else's faces, tested on that person's. Folds run on all of Ray's resources,
    and each is a run in MLflow. After an interruption the same command runs only the missing folds.""",
    "docs/lopo.md",
)


@dataclass(frozen=True)
class Lopo(Chosen):
    """Options of study.lopo."""

    faces: tuple[Folder, ...] = ()
    """Faces tables with people. Default: the sweep's with --best, else the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    schedule: Literal["plain", "tree"] = "plain"
    """plain: one training per fold, for results to publish. tree: all folds for the cost of a few trainings, for
    screening (see docs/lopo.md). Default: plain."""
    seeds: Count = 1
    """Trainings per person, with consecutive seeds from the config's on."""
    cpus_per_fold: int = 1
    """Cores of each training."""
    gpus_per_fold: float | None = None
    """Share of a GPU: 0.1 runs ten folds on one. Default: 0.25 if there are GPUs, else none."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Folder | None = None
    """Where each result gets a folder. Default: runs/lopo, or runs/synthetic/lopo for synthetic people."""
    force: bool = False
    """Discard the finished folds of this result and run them again."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)
