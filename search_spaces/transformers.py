"""Are transformers better? The paper's future work: ViT and Swin compared with convolutional networks of their time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from trainables.config import TrialConfig

ATTENTION = ("vit_tiny", "vit_small", "vit_base", "swin_tiny", "swin_small")
BACKBONES = (
    "efficientnet_b0", "efficientnet_b7", "vit_tiny", "vit_small", "vit_base", "swin_tiny", "swin_small",
    "convnext_tiny", "convnext_small", "efficientnetv2_b0", "efficientnetv2_s", "efficientnetv2_m",
)  # fmt: skip

# The paper's own networks first, then each other once.
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "drop_path": 0.1}
    | ({"attention_rate": 2e-4, "warmup": 0.1} if name in ATTENTION else {"learning_rate": 1e-3})
    for name in BACKBONES
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another drop path and learning rate. Attention gets lower rates, and a warm-up."""
    drop_path = trial.suggest_float("drop_path", 0.0, 0.3)
    if base.backbone in ATTENTION:
        return base.replace(
            drop_path=drop_path,
            learning_rate=trial.suggest_float("attention_rate", 2e-5, 1e-3, log=True),
            warmup=trial.suggest_float("warmup", 0.05, 0.3),
        )
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 4e-3, log=True)
    return base.replace(drop_path=drop_path, learning_rate=learning_rate)
