"""Two small networks, both lambdas, the learning rate: a question that two cores answer in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces.mean_variance import FIRST as LOSSES_FIRST
from search_spaces.mean_variance import ask_loss
from trainables.config import TrialConfig

BACKBONES = ("efficientnet_lite0", "resnet18")

FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "learning_rate": 1e-3, **LOSSES_FIRST[0]} for name in BACKBONES
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another backbone, loss and learning rate."""
    return base.replace(
        backbone=trial.suggest_categorical("backbone", BACKBONES),
        learning_rate=trial.suggest_float("learning_rate", 3e-4, 3e-3, log=True),
        loss=ask_loss(trial),
    )
