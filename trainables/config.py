"""TrialConfig, everything that decides a training: a frozen dataclass with a JSON form and a fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from trainables.fields import (
    Amount,
    Batch,
    Chance,
    Count,
    Pixels,
    Positive,
    Range,
    Seed,
    Share,
    Whole,
    check_fields,
    describe,
    read_fields,
)  # fmt: skip
from trainables.json_files import read_json
from trainables.losses import LOSSES, PAPER_NAMES, Decoder, Loss, MeanVariance, loss_name
from trainables.names import unknown
from trainables.networks import AGES, check_backbone, find_backbone
from trainables.rare import RareAges

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training face, such as photos of real people differ in. None depends on the age.

    An amount is the largest change; the change is drawn uniformly up to it. A chance is a probability.
    """

    flip: Chance = 0.5  # chance of a mirror image
    rotate: Annotated[float, Range(0, 180)] = 10.0  # degrees either way
    scale: Amount = 0.1  # share of the size either way
    shift: Chance = 0.06  # share of the picture either way
    brightness: Chance = 0.25  # share either way
    contrast: Chance = 0.25  # share either way
    grey: Chance = 0.25  # chance: a sixth of FG-NET is greyscale, hardly any of UTKFace
    blur: Chance = 0.25  # chance: scans of old prints are soft

    def __post_init__(self) -> None:
        check_fields(self, of="augmentation.")


NO_AUGMENTATION = Augmentation(**{f.name: 0.0 for f in dataclasses.fields(Augmentation)})


@dataclass(frozen=True)
class TrialConfig:
    """Everything that `fit` needs, except the faces.

    learning_rate is the peak rate of AdamW (or SGD), reached after `warmup` (a share of all steps); then it falls by a
    cosine to zero or stays constant. ema is the decay per step of the averaged weights, which are then the tested ones
    (0: the last weights are tested). precision "auto" is bfloat16 autocast on a GPU and float32 on a CPU: bfloat16 had
    0.65 of float32's speed there for EfficientNets, whose depthwise convolutions have no fast backward pass in it, and
    1.7 times its speed for ResNet-34 (96 px, a processor with AMX). frozen: the stem and so many stages (see
    trainables.frozen.cut) stay as they were pretrained, batch norm's statistics included; their output is computed once
    per face for all trainings, in frozen_views augmented views, one per epoch in turn. views: whether a prediction
    averages the face and its mirror image, or uses the face alone.
    rare_ages: how ages of which there are few training faces are helped (trainables.rare), with weights that grow with
    rare_power, over a neighbourhood of rare_sigma years.
    companions: so many faces of other tables train beside those of each training (trainables.faces.companions).
    dropout is the rate before the head; 0 is none, in every network. The command line and from_json fill in the
    network's own rate (Backbone.dropout) where no rate is given.
    Raises ValueError, in one line that names the field, for an invalid value.
    """

    backbone: str = "efficientnet_b0"
    weights: Annotated[str, Range(1, 4096)] = "random"
    loss: Loss = field(default_factory=MeanVariance)
    px: Pixels = 64
    epochs: Annotated[int, Range(1, 1_000_000)] = 4
    batch: Batch = 32
    learning_rate: Positive = 1e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Amount = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Share = 0.1
    clip: Amount = 5.0  # largest gradient norm; 0: none
    ema: Share = 0.0
    drop_path: Share = 0.0
    dropout: Share = 0.0
    frozen: Whole = 0
    frozen_views: Count = 12
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "auto"
    decoder: Decoder = "expectation"
    views: Literal["face", "face+mirror"] = "face+mirror"
    rare_ages: RareAges = "none"
    rare_power: Annotated[float, Range(0, 1)] = 0.5
    rare_sigma: Positive = 2.0
    companions: Whole = 0
    ages: Annotated[int, Range(2, 1000)] = AGES
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_backbone(self.backbone, px=self.px, drop_path=self.drop_path)

    def replace(self, **changes: Any) -> TrialConfig:
        """The same config with some values changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; from_json gives the same config back."""
        record = dataclasses.asdict(self)
        record["loss"] = {"name": loss_name(self.loss), **dataclasses.asdict(self.loss)}
        return record

    @classmethod
    def from_json(cls, record: Any) -> TrialConfig:
        """The config of a record that to_json or a person wrote: a loss may be given by its name alone, the weights of
        mean-variance loss may have the paper's names, and a missing field has its default (dropout: the network's own).

        Raises ValueError, in one line that names the field, for anything else.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f'a trial is {describe(record)}, expected an object such as {{"backbone": "resnet18"}}')
        values = _without_gone(record)
        if "loss" in values:
            values["loss"] = _read_loss(values["loss"])
        if "augmentation" in values:
            augmentation = values["augmentation"]
            if not isinstance(augmentation, Mapping):
                raise ValueError(
                    f'augmentation is {describe(augmentation)}, expected an object such as {{"flip": 0.5}}'
                )
            augmentation = _without_gone(augmentation)
            values["augmentation"] = read_fields(
                Augmentation, augmentation, what="augmentation", of="augmentation.", elsewhere={}
            )
        backbone = values.get("backbone")
        if "dropout" not in values and isinstance(backbone, str):
            values["dropout"] = find_backbone(backbone).dropout
        return read_fields(cls, values, what="a trial", elsewhere=_ELSEWHERE)

    def flat(self) -> dict[str, str | int | float]:
        """One level of names and values, for people to read and sort by (MLflow's params)."""
        flat: dict[str, str | int | float] = {}
        for name, value in self.to_json().items():
            if isinstance(value, dict):
                flat.update({name if key == "name" else f"{name}.{key}": inner for key, inner in value.items()})
            else:
                flat[name] = value
        return flat

    def fingerprint(self) -> str:
        """12 hex digits that change with any value of the config."""
        return fingerprint(self.to_json())


_GONE = {"head_rate": 1.0, "erase": 0.0}
"""Fields that earlier versions had, with the value at which they have no effect. Any other value is refused."""


def _without_gone(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _GONE or value != _GONE[name]}


def _read_loss(record: Any) -> Loss:
    """The loss of a record: its name alone, or an object with its name and weights."""
    values = {"name": record} if isinstance(record, str) else record
    if not isinstance(values, Mapping):
        raise ValueError(
            f'loss is {describe(record)}, expected a name or an object such as {{"name": "mean_variance"}}'
        )
    values = dict(values)
    if "name" not in values:
        raise ValueError(f'loss has no "name", expected one of {", ".join(LOSSES)}')
    name = values.pop("name")
    if not isinstance(name, str):
        raise ValueError(f"loss.name is {describe(name)}, expected one of {', '.join(LOSSES)}")
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    for theirs, ours in PAPER_NAMES.get(name, {}).items():
        if theirs in values:
            if ours in values:
                raise ValueError(f"loss has {theirs!r} and {ours!r}, which are the same weight: expected one of them")
            values[ours] = values.pop(theirs)
    return read_fields(LOSSES[name], values, what=f"loss {name!r}", of="loss.", elsewhere={})


_ELSEWHERE = (
    {field.name: '"augmentation"' for field in dataclasses.fields(Augmentation)}
    | {field.name: '"loss"' for kind in LOSSES.values() for field in dataclasses.fields(kind)}
    | {name: '"loss"' for names in PAPER_NAMES.values() for name in names}
)
"""Fields that belong one level deeper, for the message where somebody writes them at the top."""


def fingerprint(record: object) -> str:
    """12 hex digits of a record's canonical JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def read_trial(file: Path) -> tuple[TrialConfig, dict[str, Any]]:
    """The config in a trial.json and its "about". The file is {"trial": ..., "about": ...}, or the config alone.

    Raises FileNotFoundError, or ValueError in one line that names the file and the field.
    """
    if not file.exists():
        raise FileNotFoundError(f'no trial at {file}: expected a JSON file such as {{"backbone": "efficientnet_b0"}}')
    record = read_json(file)
    try:
        if not isinstance(record, dict) or "trial" not in record:
            return TrialConfig.from_json(record), {}
        config, about = TrialConfig.from_json(record["trial"]), record.get("about", {})
        if not isinstance(about, dict):
            raise ValueError(f"about is {describe(about)}, expected an object")
        for stray in sorted(record.keys() & {field.name for field in dataclasses.fields(TrialConfig)}):
            raise ValueError(f'{stray!r} is next to "trial", where nothing reads it: expected inside "trial"')
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return config, about


PAPER = TrialConfig(
    backbone="efficientnet_b7", px=600, epochs=100, batch=8, schedule="constant", warmup=0.0, weight_decay=0.0,
    loss=MeanVariance(0.2, 0.05), views="face",
)  # fmt: skip
"""The paper's settings: batch 8, 100 epochs, learning rate 0.001. The paper does not give optimiser, schedule, picture
size or augmentation. Chosen here: AdamW without weight decay (which is Adam), a constant rate, each network's native
size (in this value B7's), and the default augmentation."""

CONFIGS: dict[str, TrialConfig] = {"default": TrialConfig(), "paper": PAPER}
"""Named configs."""

NATIVE_PX = frozenset({"paper"})
"""Named configs in which every network gets pictures of its native size, unless --px is given."""
