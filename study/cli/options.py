"""Command-line options that several commands share: the training's config, and the default data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainables.backbones import find_backbone
from trainables.checkpoints import read_trial
from trainables.config import CONFIGS, NATIVE_PX, TrialConfig
from trainables.fields import Amount, Batch, Count, Pixels, Positive, Seed, Share, Whole
from trainables.losses import CrossEntropy, MeanResidue, MeanVariance, loss_name
from trainables.names import unknown

SYNTHETIC = ("people", "strangers")
"""Datasets of synthetic people. What is made from them lies apart from what is made from real faces (home)."""

REAL_HOME, SYNTHETIC_HOME = Path("runs"), Path("runs/synthetic")

PEOPLE, STRANGERS = SYNTHETIC_HOME / "people", SYNTHETIC_HOME / "strangers"
"""Where `python -m study.align` without a dataset writes the synthetic people."""


@dataclass(frozen=True)
class Allowed:
    """What a network may have learned from before it is tested (study.starts); by default nothing of this."""

    allow_overlap: bool = False
    """Test networks that were pretrained on the tested people or photos all the same: OVERLAP then stands with every
    result."""
    allow_synthetic: bool = False
    """Start from checkpoints that were pretrained on synthetic faces, for real ones."""


@dataclass(frozen=True)
class Training:
    """The config of a training: a named one or a file, with the values given here in their place."""

    config: str | None = None
    """Named config to start from: default (laptop), or paper (batch 8, learning rate 0.001, 100 epochs, each network's
    native picture size)."""
    trial: Path | None = None
    """A trial.json to start from instead: a sweep's winner, a checkpoint's, or one written by hand."""
    px: Pixels | None = None
    """Picture size in pixels. This and the following: without them the config's own value."""
    epochs: Count | None = None
    """Epochs of a training: fixed beforehand, never chosen by an error."""
    batch: Batch | None = None
    """Faces a step, over all workers."""
    learning_rate: Positive | None = None
    """The rate at its peak, after the warm-up."""
    weight_decay: Amount | None = None
    """AdamW's, for kernels and matrices."""
    ema: Share | None = None
    """Decay a step of the averaged weights that are tested; 0 tests the last weights."""
    dropout: Share | None = None
    """Before the head; 0: none. Without it the network's own: 0.5 in AlexNet, none in the others."""
    frozen: Whole | None = None
    """Stages of the pretrained network that stay as they are; their output is computed once for all trainings."""
    frozen_views: Count | None = None
    """Augmented views of each face that take turns where stages are frozen."""
    drop_path: Share | None = None
    """Chance that a residual branch is left out."""
    rate_schedule: Literal["cosine", "constant"] | None = None
    """How the learning rate goes after the warm-up: down to zero, or on."""
    warmup: Share | None = None
    """Share of all steps in which the learning rate rises."""
    label_smoothing: Share | None = None
    """Share of a label's mass that is spread over all ages, in losses with a cross-entropy to one age."""
    decoder: Literal["expectation", "median", "argmax"] | None = None
    """From a distribution over ages to one age."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    """auto: bfloat16 autocast on a GPU, float32 on a processor."""
    seed: Seed | None = None
    """Of the weights drawn, the order of faces, their augmentation, and the splits of people."""

    @property
    def given(self) -> dict[str, Any]:
        """The values given on the command line to be put in a config's place, by the option's name."""
        return {n: value for n, value in vars(self).items() if value is not None and n not in ("config", "trial")}

    @property
    def own(self) -> tuple[str, ...]:
        """The fields that each network has of its own, since neither an option nor a file says otherwise."""
        if self.trial is not None:
            return ()
        px = self.config in NATIVE_PX and self.px is None
        return (*(("px",) if px else ()), *(("dropout",) if self.dropout is None else ()))

    def trial_config(self, *, backbone: str | None = None, weights: str | None = None) -> TrialConfig:
        """The config these options stand for, with this backbone and these weights where they are not None."""
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
        return self.change(base, **changes)

    def change(self, config: TrialConfig, **changes: Any) -> TrialConfig:
        """The config with the given options' values in place of its own, and with further changes.

        Raises ValueError where its loss has no label to smooth.
        """
        values = changes | self.given
        smoothing = values.pop("label_smoothing", None)
        if "rate_schedule" in values:  # --schedule is study.lopo's own
            values["schedule"] = values.pop("rate_schedule")
        config = config.replace(**values)
        if smoothing is None:
            return config
        if not isinstance(config.loss, CrossEntropy | MeanVariance | MeanResidue):
            raise ValueError(f"the loss {loss_name(config.loss)} has no label to smooth; leave out --label-smoothing")
        return config.replace(loss=dataclasses.replace(config.loss, label_smoothing=smoothing))


def faces_or_synthetic(faces: Sequence[Path], default: Path) -> list[Path]:
    """The tables named on the command line, or the synthetic one, with a line that says so."""
    if faces:
        return list(faces)
    print(f"No --faces given: synthetic people ({default}). Their results mean nothing about real faces.")
    if not any((default / "faces").glob("*.parquet")):
        raise FileNotFoundError(
            f"no faces table at {default}: make it from the photos that come with the study: python -m study.align"
        )
    return [default]


def is_synthetic(datasets: Iterable[str]) -> bool:
    """Whether a result on these datasets says nothing about real faces."""
    return any(name in SYNTHETIC for name in datasets)


def home(datasets: Iterable[str]) -> Path:
    """The folder under which what is made from these datasets lies, where no other is asked for."""
    return SYNTHETIC_HOME if is_synthetic(datasets) else REAL_HOME
