"""Which loss? Six from the literature, each with ranges for its own weights; whether rare ages are helped; and the
learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces.mean_variance import FIRST as MEAN_VARIANCE_FIRST
from search_spaces.mean_variance import ask_loss as ask_mean_variance
from trainables.config import TrialConfig
from trainables.losses import CORAL, SORD, CrossEntropy, DLDLv2, Loss, MeanResidue

RARE_AGES = ("none", "reweight", "balance")

NAMES = ("mean_variance", "cross_entropy", "dldl_v2", "sord", "coral", "mean_residue")

# First each loss with its paper's weights, so that even few trials compare all of them; then rare ages are helped.
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"learning_rate": 1e-3, "loss": name, "rare_ages": rare, **weights}
    for name, rare, weights in (
        ("mean_variance", "none", MEAN_VARIANCE_FIRST[0]),
        ("cross_entropy", "none", {"label_smoothing": 0.0}),
        ("dldl_v2", "none", {"sigma": 2.0, "expectation_weight": 1.0}),
        ("sord", "none", {"distance": "squared", "squared_scale": 1.0}),
        ("coral", "none", {}),
        ("mean_residue", "none", {"residue_mean_weight": 0.2, "residue_weight": 0.25}),
        ("mean_variance", "reweight", {**MEAN_VARIANCE_FIRST[0], "rare_power": 0.5}),
        ("mean_variance", "balance", {**MEAN_VARIANCE_FIRST[0], "rare_power": 0.5}),
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
    """The base config with another loss, another learning rate, since losses differ in scale, and help for rare ages or
    none (trainables.rare). Judge that by the errors by age: a mean over photos hides what it is for."""
    rate = trial.suggest_float("learning_rate", 2e-4, 4e-3, log=True)
    changed = base.replace(learning_rate=rate, loss=ask_loss(trial))
    rare = trial.suggest_categorical("rare_ages", RARE_AGES)
    if rare == "none":
        return changed.replace(rare_ages=rare)
    return changed.replace(rare_ages=rare, rare_power=trial.suggest_float("rare_power", 0.25, 1.0))
