"""What a training is: frozen dataclasses that travel as JSON and have a fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainables.backbones import AGES, find_backbone
from trainables.losses import LOSSES, Decoder, Loss, MeanVariance, loss_name

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training face. None tells its age; all look like what photos of people differ in.

    Amounts are the most that is drawn, uniformly; chances lie in [0, 1].
    """

    flip: float = 0.5  # chance of a mirror image
    rotate: float = 10.0  # degrees either way
    scale: float = 0.1  # share of the size either way
    shift: float = 0.06  # share of the picture either way
    brightness: float = 0.25  # share either way
    contrast: float = 0.25  # share either way
    grey: float = 0.25  # chance: a sixth of FG-NET is greyscale, UTKFace hardly any
    blur: float = 0.25  # chance: scans of old prints are soft
    erase: float = 0.0  # chance of a grey rectangle

    def __post_init__(self) -> None:
        for name in ("flip", "grey", "blur", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"a chance lies in [0, 1], got {name}={getattr(self, name)}")


NO_AUGMENTATION = Augmentation(**{f.name: 0.0 for f in dataclasses.fields(Augmentation)})


@dataclass(frozen=True)
class TrialConfig:
    """One training, whole: what `fit` needs beside the faces.

    learning_rate is AdamW's (or SGD's) at its peak, after `warmup` (a share of all steps), then falling by a cosine
    to zero or staying constant. ema is the decay a step of the averaged weights that are tested (0: the last weights).
    precision "auto" is bfloat16 autocast on a GPU and float32 on a processor, where bfloat16 is slower.
    frozen: the stem and the first so many stages stay as they were pretrained, batch norm's statistics too, and each
    face's features there are computed once for all trainings, in frozen_views augmented views that take turns.
    views: what a test averages over, the face alone or the face and its mirror image.
    """

    backbone: str = "efficientnet_b0"
    weights: str = "random"
    loss: Loss = field(default_factory=MeanVariance)
    px: int = 64
    epochs: int = 4
    batch: int = 32
    learning_rate: float = 1e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    head_rate: float = 1.0  # the head's learning rate as a multiple of the others'
    clip: float = 5.0  # largest gradient norm; 0: none
    ema: float = 0.0
    drop_path: float = 0.0
    dropout: float = 0.0
    frozen: int = 0
    frozen_views: int = 12
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "auto"
    decoder: Decoder = "expectation"
    views: Literal["face", "face+mirror"] = "face+mirror"
    ages: int = AGES
    seed: int = 0

    def __post_init__(self) -> None:
        find_backbone(self.backbone)
        for name in ("px", "epochs", "batch", "learning_rate", "ages", "head_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.frozen < 0 or self.frozen_views < 1:
            raise ValueError(f"frozen must be >= 0 and frozen_views >= 1, got {self.frozen} and {self.frozen_views}")
        if not 0 <= self.ema < 1 or not 0 <= self.warmup < 1:
            raise ValueError(f"ema and warmup lie in [0, 1), got ema={self.ema}, warmup={self.warmup}")

    def replace(self, **changes: Any) -> TrialConfig:
        """The same config with some values changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; from_json gives the same config back."""
        record = dataclasses.asdict(self)
        record["loss"] = {"name": loss_name(self.loss), **dataclasses.asdict(self.loss)}
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrialConfig:
        """The config that to_json wrote. Raises ValueError on an unknown field or loss."""
        values = dict(record)
        unknown = sorted(values.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(
                f"a trial has no field {unknown[0]!r}; known: {', '.join(f.name for f in dataclasses.fields(cls))}"
            )
        if "loss" in values:
            loss = dict(values["loss"])
            name = loss.pop("name", None)
            if name not in LOSSES:
                raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
            values["loss"] = LOSSES[name](**loss)
        if "augmentation" in values:
            values["augmentation"] = Augmentation(**values["augmentation"])
        return cls(**values)

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


def fingerprint(record: object) -> str:
    """12 hex digits of a record's canonical JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


PAPER = TrialConfig(
    backbone="efficientnet_b7", px=600, epochs=100, batch=8, schedule="constant", warmup=0.0, weight_decay=0.0,
    loss=MeanVariance(0.2, 0.05), views="face",
)  # fmt: skip
"""The paper's own settings: batch 8, 100 epochs, learning rate 0.001. It names neither optimiser, schedule, picture
size nor augmentation: AdamW without decay (that is Adam), a constant rate, B7's native size and ours stand in."""

CONFIGS: dict[str, TrialConfig] = {"default": TrialConfig(), "paper": PAPER}
"""Named configs."""
