"""Which weights should mean-variance loss have? Both lambdas over three decades, or zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna

from trainables.config import TrialConfig
from trainables.losses import MeanVariance

FIRST: tuple[Mapping[str, Any], ...] = (
    # Pan et al.'s weights, and plain cross-entropy
    {"mean_term": True, "mean_weight": 0.2, "variance_term": True, "variance_weight": 0.05},
    {"mean_term": False, "variance_term": False},
)


def ask_loss(trial: optuna.Trial) -> MeanVariance:
    """Mean-variance loss with each term on or off; if on, with a weight on a log scale (which does not reach zero)."""
    loss = MeanVariance(mean_weight=0.0, variance_weight=0.0)
    if trial.suggest_categorical("mean_term", (True, False)):
        loss = replace(loss, mean_weight=trial.suggest_float("mean_weight", 0.005, 5.0, log=True))
    if trial.suggest_categorical("variance_term", (True, False)):
        loss = replace(loss, variance_weight=trial.suggest_float("variance_weight", 0.001, 1.0, log=True))
    return loss


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with other weights of mean-variance loss."""
    return base.replace(loss=ask_loss(trial))
