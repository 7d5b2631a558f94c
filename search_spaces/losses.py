"""Which loss? Six from the literature, each with ranges for its own weights, and the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces.mean_variance import FIRST as MEAN_VARIANCE_FIRST
from search_spaces.mean_variance import ask_loss as ask_mean_variance
from trainables.config import TrialConfig
from trainables.losses import CORAL, SORD, CrossEntropy, DLDLv2, Loss, MeanResidue

NAMES = ("mean_variance", "cross_entropy", "dldl_v2", "sord", "coral", "mean_residue")

# First each loss with its paper's weights, so that even few trials compare all of them.
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"learning_rate": 1e-3, "loss": name, **weights}
    for name, weights in (
        ("mean_variance", MEAN_VARIANCE_FIRST[0]),
        ("cross_entropy", {"label_smoothing": 0.0}),
        ("dldl_v2", {"sigma": 2.0, "expectation_weight": 1.0}),
        ("sord", {"distance": "squared", "squared_scale": 1.0}),
        ("coral", {}),
        ("mean_residue", {"residue_mean_weight": 0.2, "residue_weight": 0.25}),
    )
)


def ask_loss(trial: optuna.Trial) -> Loss:
    """One of NAMES. Weights are only suggested for the loss that was chosen."""
    name = trial.suggest_categorical("loss", NAMES)
    if name == "mean_variance":
        return ask_mean_variance(trial)
    if name == "cross_entropy":
        return CrossEntropy(label_smoothing=trial.suggest_float("label_smoothing", 0.0, 0.2))
    if name == "dldl_v2":
        return DLDLv2(
            sigma=trial.suggest_float("sigma", 0.5, 6.0, log=True),
            expectation_weight=trial.suggest_float("expectation_weight", 0.05, 5.0, log=True),
        )
    if name == "sord":
        # one scale is per year, the other per squared year: two parameters, since good values differ
        if trial.suggest_categorical("distance", ("squared", "absolute")) == "squared":
            return SORD("squared", trial.suggest_float("squared_scale", 0.01, 2.0, log=True))
        return SORD("absolute", trial.suggest_float("absolute_scale", 0.05, 2.0, log=True))
    if name == "mean_residue":
        return MeanResidue(
            mean_weight=trial.suggest_float("residue_mean_weight", 0.005, 5.0, log=True),
            residue_weight=trial.suggest_float("residue_weight", 0.01, 2.0, log=True),
        )
    return CORAL()


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another loss, and another learning rate, since losses differ in scale."""
    return base.replace(learning_rate=trial.suggest_float("learning_rate", 2e-4, 4e-3, log=True), loss=ask_loss(trial))
