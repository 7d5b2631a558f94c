"""The paper's table 2: its eleven networks with lambda 0.2 and 0.05, each once, in the paper's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from trainables.config import TrialConfig
from trainables.losses import MeanVariance

BACKBONES = (
    "alexnet", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b7",
)  # fmt: skip

FIRST: tuple[Mapping[str, Any], ...] = tuple({"backbone": name} for name in BACKBONES)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with the paper's lambdas. --config paper gives its batch, learning rate and native sizes."""
    return base.replace(loss=MeanVariance(0.2, 0.05))
