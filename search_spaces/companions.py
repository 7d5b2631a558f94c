"""How many companions: faces of the pretraining that train beside the tested people's others? With what `frozen` asks.

Give their tables to --beside, and the largest number to --companions: none, a half or all of them are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces import frozen
from trainables.config import TrialConfig

BACKBONES = frozen.BACKBONES

SHARES = (0.0, 0.5, 1.0)
"""Shares of --companions."""

# First each network with all companions, and then without
FIRST: tuple[Mapping[str, Any], ...] = tuple({**point, "companions": share} for share in (1.0, 0.0) for point in
                                             frozen.FIRST)  # fmt: skip


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The config of `frozen` with a share of the base's companions."""
    share = trial.suggest_categorical("companions", SHARES)
    return frozen.ask(trial, base).replace(companions=round(share * base.companions))
