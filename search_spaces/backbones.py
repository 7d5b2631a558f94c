"""Which network? Every backbone of the study, with the learning rate, and drop path where the network has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from trainables.config import TrialConfig
from trainables.networks import find_backbone

BACKBONES = (
    "alexnet", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_lite0",
)  # fmt: skip

FIRST: tuple[Mapping[str, Any], ...] = tuple({"backbone": name, "learning_rate": 1e-3} for name in BACKBONES)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another learning rate and drop path."""
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 4e-3, log=True)
    drop_path = trial.suggest_float("drop_path", 0.0, 0.3) if find_backbone(base.backbone).drop_path else 0.0
    return base.replace(learning_rate=learning_rate, drop_path=drop_path)
