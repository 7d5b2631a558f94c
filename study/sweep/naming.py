"""How a sweep's trials appear in MLflow: names, params, metrics, states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces import Space
from study.cli.describe import flat, params, run_name
from study.sweep.journal import Tried
from trainables.config import TrialConfig

CURVE = ("validation_mae", "train_loss", "learning_rate", "faces_per_second")
"""What each epoch logs, where it was measured, under its fold's prefix."""

STATUS = {"complete": "FINISHED", "finalist": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""A trial's state, as its tag study.state, and MLflow's word for it."""

_DRAWS = 32


def state_of(tried: Tried) -> str:
    """A key of STATUS. A diverged trial failed; a finalist is a complete trial that was run with another seed."""
    if tried.state == "diverged":
        return "failed"
    return "finalist" if tried.repeat and tried.state == "complete" else tried.state


def varying(space: Space, base: TrialConfig) -> frozenset[str]:
    """The fields of a config that the space varies, found by drawing from it."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [flat(space.config(study.ask(), base)) for _ in range(_DRAWS)]
    names = {name for values in drawn for name in values}
    return frozenset(name for name in names if len({str(values.get(name)) for values in drawn}) > 1)


def trial_params(config: TrialConfig, block: str, number: int, fields: frozenset[str]) -> dict[str, Any]:
    """A trial's params: what names it, and what its space varies."""
    named = params([config], fields | {"backbone", "learning_rate"})
    kept = {name: value for name, value in named.items() if name in fields or name in _NAMING}
    return {"block": block, "trial": number, "seed": config.seed, **kept}


_NAMING = ("backbone", "lambda1", "lambda2", "loss", "learning_rate")


def trial_name(config: TrialConfig, *, repeat: int, state: str = "", mae: float | None = None) -> str:
    """A trial's name: what it is, and what came out."""
    score = f"{mae:.2f}" if mae is not None and state in ("complete", "finalist") else ""
    word = state if state != "complete" else ""
    return run_name([config], f"seed {config.seed}" if repeat else "", word, score)


def epoch_metrics(fold: int, measured: Mapping[str, Any]) -> dict[str, float]:
    """An epoch's metrics under its fold's prefix; folds count from 1, and their steps are epochs."""
    return {f"fold{fold + 1}/{name}": measured[name] for name in CURVE if name in measured}


def final_metrics(tried: Tried) -> dict[str, float]:
    """What came out of a trial. Only a complete one has a MAE; a pruned one's is that of the moment it ended."""
    metrics: dict[str, float] = {"seconds": tried.seconds, "parameters": tried.parameters, "macs": tried.macs}
    metrics |= {"latency_ms": tried.latency_ms} if tried.latency_ms else {}
    if tried.mae is not None and tried.state in ("complete", "pruned"):
        metrics["mae" if tried.state == "complete" else "pruned/mae"] = tried.mae
    return metrics
