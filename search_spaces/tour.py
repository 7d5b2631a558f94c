"""Two small networks, both lambdas, the learning rate: a search of minutes on two cores."""

from __future__ import annotations

import optuna

from search_spaces import small
from trainables.config import TrialConfig

BACKBONES = ("efficientnet_lite0", "resnet18")
FIRST = tuple(point for point in small.FIRST if point["backbone"] in BACKBONES)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another backbone, loss and learning rate."""
    return small.ask_among(BACKBONES, trial, base)
