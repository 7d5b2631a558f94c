"""The options of refitting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from study.cli.about import About
from study.cli.options import Allowed, Chosen, Joining, Training, refuse_ignored
from study.cli.words import Folder
from trainables.fields import Count

ABOUT = About(
    "train a config on everyone, and write a model that tells ages",
    (
        ("The winner of the newest sweep", "python -m study.refit --best"),
        (
            "A pretrained network as it is",
            "python -m study.refit --checkpoint runs/pretrained/resnet18 --faces runs/utkface",
        ),
    ),
    ("best", "sweep", "checkpoint", "faces", "seeds", "register"),
    """Of the winners of several blocks one is chosen by what the sweep itself recorded. The error to expect, and the
    intervals, come from the LOPO result of the same sweep. study.predict and MLflow use the model. After an
    interruption the same command trains only the missing seeds; with nothing to do it says so.""",
    "docs/model.md",
)


@dataclass(frozen=True)
class Refit(Chosen):
    """Options of study.refit."""

    checkpoint: Folder | None = None
    """A network of study.pretrain that becomes the model as it is, for people of all ages rather than those of one
    small data set. Nothing is trained; --faces are the tables of its pretraining, and the error to expect is that on
    their faces which it did not learn from."""
    faces: tuple[Folder, ...] = ()
    """Faces tables to train on (see --checkpoint). Default: the sweep's with --best, else the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    seeds: Count = 1
    """Trainings, with consecutive seeds from the config's on; the model averages their distributions."""
    cpus_per_seed: Count = 1
    """Cores of each training."""
    gpus_per_seed: float | None = None
    """Share of a GPU. Default: 0.25 if there are GPUs, else none."""
    register: bool = True
    """Leave the model out of MLflow's registry, where it would be facial-age with the alias champion."""
    name: str | None = None
    """Name in MLflow and in the model card; default: what was trained."""
    out: Folder | None = None
    """Where each model gets a folder. Default: runs/models, or runs/synthetic/models for synthetic people."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)

    def refuse_conflicts(self) -> None:
        """Raise ValueError for options that contradict each other, and for a config by hand that cannot be."""
        if self.checkpoint is None:
            return super().refuse_conflicts()
        none = ("best", "sweep", "backbone", "weights", "beside", "seeds", "cpus_per_seed", "gpus_per_seed")
        refuse_ignored(self, none, why="with --checkpoint, which trains nothing")
        if self.training != Training():
            raise ValueError("--checkpoint takes a network as it is: give it without options of a training")
        if not self.faces:
            raise ValueError(
                "--checkpoint needs --faces, the tables of its pretraining: the faces that it left out tell its error"
            )
