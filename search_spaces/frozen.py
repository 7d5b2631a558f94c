"""Which network, and how many of its pretrained stages should stay as they are? With both lambdas and the rate.

Frozen stages train faster (their features are computed once for all folds) and cannot be fitted to a few hundred faces.
Every network must have a checkpoint of study.pretrain, or start from ImageNet: random stages are not worth keeping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces.mean_variance import FIRST as LOSSES_FIRST
from search_spaces.small import ask_among
from trainables.config import TrialConfig

MOST: Mapping[str, int] = {"efficientnet_lite0": 4, "efficientnet_b0": 4, "efficientnetv2_b0": 4, "resnet18": 3}
"""Networks, and how many stages of each may stay: what is left must still be able to learn."""

BACKBONES = tuple(MOST)

# The paper's loss on each network first, half of it frozen
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "learning_rate": 1e-3, f"frozen_{name}": most // 2, **LOSSES_FIRST[0]}
    for name, most in MOST.items()
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another backbone, its number of frozen stages, loss and learning rate."""
    config = ask_among(BACKBONES, trial, base)
    return config.replace(frozen=trial.suggest_int(f"frozen_{config.backbone}", 0, MOST[config.backbone]))
