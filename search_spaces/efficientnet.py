"""Which EfficientNet, at which resolution? B0 to B7, with picture sizes by compound scaling or all at the same size.

Compound scaling (the paper's equation 1) grows depth, width and resolution together. "compound" follows it: B0 gets
base.px, and the others base.px times the ratio of their native size to B0's, for B7 600 / 224 (at --px 224 the native
sizes). "same" gives every network base.px, to see whether a higher resolution is worth its cost. B0 has no such choice,
since both are the same for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from trainables.config import TrialConfig
from trainables.networks import find_backbone

BACKBONES = (
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7",
)  # fmt: skip

# The paper's three networks, with its scaling and learning rate.
FIRST: tuple[Mapping[str, Any], ...] = (
    {"backbone": "efficientnet_b7", "learning_rate": 1e-3, "resolution": "compound", "stochastic_depth": False},
    {"backbone": "efficientnet_b0", "learning_rate": 1e-3, "stochastic_depth": False},
    {"backbone": "efficientnet_b1", "learning_rate": 1e-3, "resolution": "compound", "stochastic_depth": False},
)


def compound_px(backbone: str, base: TrialConfig) -> int:
    """The picture size (pixels): base.px times the ratio of the backbone's native size to B0's."""
    return round(base.px * find_backbone(backbone).px / find_backbone("efficientnet_b0").px)


def px(base: TrialConfig, backbones: Sequence[str]) -> tuple[int, ...]:
    """Every picture size that ask() may return."""
    return tuple(sorted({base.px} | {compound_px(backbone, base) for backbone in backbones}))


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another learning rate, resolution and drop path."""
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 4e-3, log=True)
    size, drop_path = base.px, 0.0
    if (
        base.backbone != "efficientnet_b0"
        and trial.suggest_categorical("resolution", ("compound", "same")) == "compound"
    ):
        size = compound_px(base.backbone, base)
    if trial.suggest_categorical("stochastic_depth", (True, False)):
        drop_path = trial.suggest_float("drop_path", 0.02, 0.4)
    return base.replace(px=size, learning_rate=learning_rate, drop_path=drop_path)
