"""Command-line options that several commands share: the config of a training, and the default data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from study.cli.words import File, Folder, Word
from trainables.config import CONFIGS, NATIVE_PX, TrialConfig, read_trial
from trainables.fields import Batch, Count, Pixels, Positive, Seed, Share, Whole
from trainables.names import unknown
from trainables.networks import find_backbone
from trainables.rare import RareAges

SYNTHETIC = ("people", "strangers")
"""Datasets of synthetic people. Their results have a folder of their own, apart from those of real faces (see home)."""

REAL_HOME, SYNTHETIC_HOME = Path("runs"), Path("runs/synthetic")

USUAL_COMPANIONS = 1000
"""--companions where --beside is given alone: about as many as FG-NET has faces."""

PEOPLE, STRANGERS = SYNTHETIC_HOME / "people", SYNTHETIC_HOME / "strangers"
"""Folders to which `python -m study.align` without a dataset writes the synthetic people."""


@dataclass(frozen=True)
class Allowed:
    """What the tested networks may have been pretrained on

    By default none of it is allowed (study.starts).
    """

    allow_overlap: bool = False
    """Allow networks that were pretrained on tested people or photos. Every result is then marked with OVERLAP."""
    allow_synthetic: bool = False
    """Allow checkpoints that were pretrained on synthetic faces for tests on real faces."""
    allow_coverage: bool = False
    """Allow checkpoints that were pretrained on faces of another --coverage of study.align."""


@dataclass(frozen=True)
class Training:
    """The training: a named config or a file, in which the values given here replace its own

    Options are what one varies from run to run; a --trial FILE has every field of a config (trainables.config).
    """

    config: str | None = None
    """Named config to start from: default (laptop), or paper (batch 8, learning rate 0.001, 100 epochs, each network's
    native picture size)."""
    trial: File | None = None
    """A trial.json to start from instead: a sweep's winner, a checkpoint's, or one written by hand."""
    px: Pixels | None = None
    """Picture size in pixels. This and the following options: without them, the config's value."""
    epochs: Count | None = None
    """Epochs of a training: fixed beforehand, never chosen by an error."""
    batch: Batch | None = None
    """Faces per step, over all workers."""
    learning_rate: Positive | None = None
    """Peak learning rate, after the warm-up."""
    ema: Share | None = None
    """Decay per step of averaged weights, which are then the tested ones; 0 tests the last weights."""
    dropout: Share | None = None
    """Dropout before the head; 0: none. Default: the network's own, which is 0.5 in AlexNet and none in the others."""
    frozen: Whole | None = None
    """Number of early stages that stay as they were pretrained; their output is computed once for all trainings."""
    frozen_views: Count | None = None
    """With --frozen: number of augmented views of each face; each epoch uses the next one."""
    rare_ages: RareAges | None = None
    """How ages with few faces are helped, by the smoothed distribution of the training faces' ages: none, reweight
    (their loss counts more) or balance (they are drawn more often)."""
    companions: Whole | None = None
    """With --beside: so many faces of its tables train beside the others, each age equally likely. Default: 1000 with
    --beside, else none."""
    decoder: Literal["expectation", "median", "argmax"] | None = None
    """How a distribution over ages becomes one age."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    """auto: bfloat16 autocast on a GPU, float32 on a CPU."""
    seed: Seed | None = None
    """Seed of the initial weights, the order of faces, their augmentation, and the splits of people."""

    @property
    def given(self) -> dict[str, Any]:
        """The fields of a config that were given on the command line."""
        return {n: value for n, value in vars(self).items() if value is not None and n not in ("config", "trial")}

    @property
    def own(self) -> tuple[str, ...]:
        """The fields that take each network's own value, since neither an option nor a file gives one."""
        if self.trial is not None:
            return ()
        px = self.config in NATIVE_PX and self.px is None
        return (*(("px",) if px else ()), *(("dropout",) if self.dropout is None else ()))

    def trial_config(self, *, backbone: str | None = None, weights: str | None = None) -> TrialConfig:
        """The config of these options, with this backbone and these weights where they are not None."""
        if self.trial is not None and self.config is not None:
            raise ValueError("--trial and --config both name a config to start from: give one of them")
        if self.trial is not None:
            base, _ = read_trial(self.trial)
        else:
            name = self.config or "default"
            if name not in CONFIGS:
                raise unknown("config", name, CONFIGS)
            base = CONFIGS[name]
        changes: dict[str, Any] = {"backbone": backbone or base.backbone, "weights": weights or base.weights}
        changes |= {name: getattr(find_backbone(changes["backbone"]), name) for name in self.own}
        return base.replace(**changes | self.given)

    def config_beside(
        self, beside: Sequence[Path], *, backbone: str | None = None, weights: str | None = None
    ) -> TrialConfig:
        """trial_config(), with USUAL_COMPANIONS where there are tables beside and nothing says how many."""
        config = self.trial_config(backbone=backbone, weights=weights)
        silent = self.companions is None and not config.companions
        return config.replace(companions=USUAL_COMPANIONS) if beside and silent else config

    def change(self, config: TrialConfig) -> TrialConfig:
        """The config with the given options instead of its own values."""
        return config.replace(**self.given)


@dataclass(frozen=True)
class Joining:
    """Ray: the cluster to join, or what a Ray started here may use"""

    address: Annotated[str, Word("HOST:PORT")] | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else Ray is started here."""
    cpus: int | None = None
    """Cores that a Ray started here uses. Default: all that taskset, SLURM or the container leave to this process."""

    @property
    def joins(self) -> bool:
        """Whether the command joins a cluster that others started."""
        from study.cluster.joining import joined_address  # here: Ray takes seconds to import

        return joined_address(self.address) is not None

    def start(self, *, quiet_core: bool = False) -> None:
        """study.cluster.start.start_ray with these options."""
        from study.cluster.start import start_ray

        start_ray(address=self.address, num_cpus=self.cpus, quiet_core=quiet_core)


@dataclass(frozen=True)
class Chosen:
    """Which config: a sweep's winner, or one that is given by hand. What study.lopo and study.refit share."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    best: bool = False
    """The winner of the newest finished sweep (see --sweep)."""
    sweep: str | None = None
    """With --best: the sweep with this name, or in this folder (several sweeps may have one name)."""
    backbone: str | None = None
    """Without --best: the network; timm/NAME: any classifier of timm."""
    weights: str | None = None
    """Without --best: random, imagenet, a weights file, or a checkpoint folder of study.pretrain."""
    beside: tuple[Folder, ...] = ()
    """Faces tables of which --companions faces train beside the others in every training; nobody of them is tested.
    Such as those of the pretraining, against forgetting them. Default: the sweep's with --best."""

    def refuse_conflicts(self) -> None:
        """Raise ValueError for options that contradict each other, and for a config by hand that cannot be."""
        if self.best and (self.backbone or self.weights or self.training.trial):
            raise ValueError("--best takes the sweep's config: give it without --backbone, --weights and --trial")
        if self.best and self.training.config:
            raise ValueError("--best takes the sweep's config: give it without --config")
        if not self.best:
            refuse_ignored(self, ["sweep"], why="without --best")
            self.training.trial_config(backbone=self.backbone, weights=self.weights)


def refuse_ignored(options: Any, names: Iterable[str], *, why: str) -> None:
    """Raise ValueError where an option without effect differs from its default. why: such as "without --best"."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise ValueError(f"--{name.replace('_', '-')} has no effect {why}: leave it out")


def faces_or_synthetic(faces: Sequence[Path], default: Path) -> list[Path]:
    """The tables given on the command line; without any, the synthetic one, with a printed line."""
    if faces:
        return list(faces)
    print(f"No --faces given: using synthetic people ({default}). Results on them mean nothing about real faces.")
    if not any((default / "faces").glob("*.parquet")):
        raise FileNotFoundError(
            f"no faces table at {default}: make it from the photos that come with the study: python -m study.align"
        )
    return [default]


def is_synthetic(datasets: Iterable[str]) -> bool:
    """Whether one of these datasets is of synthetic people."""
    return any(name in SYNTHETIC for name in datasets)


def home(datasets: Iterable[str]) -> Path:
    """The default folder for everything that is made from these datasets."""
    return SYNTHETIC_HOME if is_synthetic(datasets) else REAL_HOME
