"""Short forms of a config, for people and for MLflow's columns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trainables.config import TrialConfig
from trainables.losses import MeanVariance, loss_name


def flat(config: TrialConfig) -> dict[str, Any]:
    """A trial's params for MLflow. The weights of mean-variance loss are also there as lambda1 and lambda2."""
    values: dict[str, Any] = dict(config.flat())
    if isinstance(config.loss, MeanVariance):
        values |= {"lambda1": config.loss.mean_weight, "lambda2": config.loss.variance_weight}
    return values


def describe(config: TrialConfig) -> str:
    """One line with what usually differs between trials."""
    frozen = f" {config.frozen} frozen" if config.frozen else ""
    return f"{config.backbone}{frozen} {config.px} px {describe_loss(config)} lr {config.learning_rate:.2g}"


def describe_loss(config: TrialConfig) -> str:
    """The loss and its weights: "λ1 0.2 λ2 0.05", or "dldl_v2 (sigma 2, expectation_weight 1)"."""
    if isinstance(config.loss, MeanVariance):
        return f"λ1 {config.loss.mean_weight:.3g} λ2 {config.loss.variance_weight:.3g}"
    weights = [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in asdict(config.loss).items()]
    return loss_name(config.loss) + (f" ({', '.join(weights)})" if weights else "")
