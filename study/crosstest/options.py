"""The options of a cross test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from study.cli.about import About
from study.cli.options import Allowed
from study.cli.words import Folder

ABOUT = About(
    "test a pretrained network on every face of a table, without fine-tuning",
    (
        (
            "What its pretraining left out",
            "python -m study.crosstest --checkpoint runs/pretrained/resnet18 --faces runs/utkface --unseen",
        ),
    ),
    ("checkpoint", "faces", "unseen"),
    """This second protocol, next to LOPO, is comparable with recent cross-dataset benchmarks. What the checkpoint
    learned from is compared with the tested people and photos, and an overlap is refused; --unseen leaves out what it
    learned from. The result says for whom the network errs: by age, sex, group and quality of the picture, where the
    faces table knows them.""",
)


@dataclass(frozen=True)
class CrossTest:
    """Options of study.crosstest."""

    checkpoint: Folder | None = None
    """Checkpoint folder of study.pretrain. Default: efficientnet_b0 in runs/pretrained, or in runs/synthetic/pretrained
    for synthetic people."""
    faces: tuple[Folder, ...] = ()
    """Faces tables to test on. Default: the synthetic people."""
    unseen: bool = False
    """Test only on the faces that the checkpoint did not learn from, such as the dev part of its own pretraining."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    out: Folder | None = None
    """Where each result gets a folder. Default: runs/crosstest, or runs/synthetic/crosstest for synthetic people."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
