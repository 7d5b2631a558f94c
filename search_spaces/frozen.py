"""Which network, and how many of its pretrained stages are frozen? With both lambdas and the learning rate.

With frozen stages training is faster (their output is computed once for all folds), and they cannot overfit a few
hundred faces. Every network needs a checkpoint of study.pretrain or ImageNet weights: freezing random stages makes no
sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces import small
from search_spaces.mean_variance import FIRST as LOSSES_FIRST
from trainables.config import TrialConfig

MOST: Mapping[str, int] = {"efficientnet_lite0": 4, "efficientnet_b0": 4, "efficientnetv2_b0": 4, "resnet18": 3}
"""Networks, with the largest number of frozen stages: the rest must still be able to learn."""

BACKBONES = tuple(MOST)

# First each network with the paper's loss and half of that number frozen
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "learning_rate": 1e-3, f"frozen_{name}": most // 2, **LOSSES_FIRST[0]}
    for name, most in MOST.items()
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another loss, learning rate and number of frozen stages."""
    config = small.ask(trial, base)
    return config.replace(frozen=trial.suggest_int(f"frozen_{base.backbone}", 0, MOST[base.backbone]))
