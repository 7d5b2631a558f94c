"""Which of three small networks, with which lambdas and learning rate? A question for a laptop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces.mean_variance import FIRST as LOSSES_FIRST
from search_spaces.mean_variance import ask_loss
from trainables.config import TrialConfig

BACKBONES = ("efficientnet_lite0", "efficientnet_b0", "resnet18")

# The paper's loss on each network first: the plain comparison is made even where the trials run out.
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "learning_rate": 1e-3, **LOSSES_FIRST[0]} for name in BACKBONES
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another backbone, loss and learning rate."""
    return ask_among(BACKBONES, trial, base)


def ask_among(backbones: tuple[str, ...], trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """One of the backbones, both lambdas, and the learning rate over a decade either side of usual."""
    return base.replace(
        backbone=trial.suggest_categorical("backbone", backbones),
        learning_rate=trial.suggest_float("learning_rate", 2e-4, 4e-3, log=True),
        loss=ask_loss(trial),
    )
