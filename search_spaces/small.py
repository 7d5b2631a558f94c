"""Which of three small networks, with which lambdas and learning rate? A search for a laptop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces.mean_variance import FIRST as LOSSES_FIRST
from search_spaces.mean_variance import ask_loss
from trainables.config import TrialConfig

BACKBONES = ("efficientnet_lite0", "efficientnet_b0", "resnet18")

# First each network with the paper's loss, so that even few trials compare all of them.
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "learning_rate": 1e-3, **LOSSES_FIRST[0]} for name in BACKBONES
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with both lambdas and a learning rate from 0.0002 to 0.004."""
    return base.replace(
        learning_rate=trial.suggest_float("learning_rate", 2e-4, 4e-3, log=True),
        loss=ask_loss(trial),
    )
