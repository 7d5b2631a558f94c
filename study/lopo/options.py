"""The options of LOPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from study.cli.about import About
from study.cli.options import Allowed, Chosen, Joining, refuse_ignored
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
        ("The mean of two results", "python -m study.lopo --average runs/lopo/4f1a runs/lopo/77c2"),
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
    average: tuple[Folder, ...] = ()
    """Instead of training: the mean of finished results, given by their folders, as a result of its own."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Folder | None = None
    """Where each result gets a folder. Default: runs/lopo, or runs/synthetic/lopo for synthetic people."""
    force: bool = False
    """Discard the finished folds of this result and run them again."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)

    def refuse_conflicts(self) -> None:
        """Also for --average, which trains nothing."""
        super().refuse_conflicts()
        if self.average:
            trained = [
                "best",
                "backbone",
                "weights",
                "beside",
                "faces",
                "schedule",
                "seeds",
                "cpus_per_fold",
                "gpus_per_fold",
            ]
            refuse_ignored(self, [*trained, "force"], why="with --average, which trains nothing")
            if self.training.given or self.training.trial or self.training.config:
                raise ValueError("options of the training have no effect with --average, which trains nothing")
            if len(self.average) < 2:
                raise ValueError("--average needs two results or more: the folders that study.lopo named")
