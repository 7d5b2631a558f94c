"""Short forms of a config, for people and for MLflow's names and columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from trainables.config import TrialConfig
from trainables.losses import MeanVariance, loss_name

NAMES: dict[str, str] = {
    "alexnet": "AlexNet",
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnet152": "ResNet-152",
    **{f"efficientnet_b{i}": f"EfficientNet-B{i}" for i in range(8)},
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
}
"""Names of backbones in tables and pictures; others keep their name in the config."""

ALWAYS = ("backbone", "px", "learning_rate", "epochs")
"""Of a config's fields, those that name it; with the loss and its weights."""

_UNNAMED = ("seed", "weights", "loss.label_smoothing")
"""Never among those that name a config: seed and start have a param of their own."""


def backbone_name(backbone: str) -> str:
    """The name of a backbone as people write it."""
    return NAMES.get(backbone, backbone)


def flat(config: TrialConfig) -> dict[str, Any]:
    """A config's values on one level; the weights of mean-variance loss are lambda1 and lambda2."""
    values: dict[str, Any] = dict(config.flat())
    if isinstance(config.loss, MeanVariance):
        values |= {"lambda1": values.pop("loss.mean_weight"), "lambda2": values.pop("loss.variance_weight")}
    return values


def params(configs: Sequence[TrialConfig], fields: Collection[str] = ALWAYS) -> dict[str, Any]:
    """What names a run in MLflow's columns: these fields, the loss and its weights, and what is unlike the default.

    Several configs in one run (of a sealed sweep, one for each block of people) have their values joined by "or". The
    whole config is in the run's trial.json.
    """
    usual = flat(TrialConfig())
    values: dict[str, list[Any]] = {}
    for config in configs:
        for name, value in flat(config).items():
            of_loss = name.startswith(("loss", "lambda"))
            if name not in _UNNAMED and (name in fields or of_loss or value != usual.get(name)):
                values.setdefault(name, []).append(value)
    different = {name: list(dict.fromkeys(each)) for name, each in values.items()}
    return {name: each[0] if len(each) == 1 else " or ".join(map(short, each)) for name, each in different.items()}


def run_name(configs: Sequence[TrialConfig], *came_out: str, first: str = "") -> str:
    """What a run is and what came out: "ResNet-18 · λ 0.2 / 0.05 · 4.12"."""
    names = " or ".join(dict.fromkeys(backbone_name(config.backbone) for config in configs))
    losses = " or ".join(dict.fromkeys(_short_loss(config) for config in configs))
    return " · ".join(part for part in (first, names, losses, *came_out) if part)


def _short_loss(config: TrialConfig) -> str:
    if isinstance(config.loss, MeanVariance):
        return f"λ {config.loss.mean_weight:.2g} / {config.loss.variance_weight:.2g}"
    return loss_name(config.loss)


def describe(config: TrialConfig) -> str:
    """One line with what usually differs between trials."""
    frozen = f" {config.frozen} frozen" if config.frozen else ""
    return f"{config.backbone}{frozen} {config.px} px {describe_loss(config)} lr {config.learning_rate:.2g}"


def describe_loss(config: TrialConfig) -> str:
    """The loss and its weights: "λ1 0.2 λ2 0.05", or "dldl_v2 (sigma 2, expectation_weight 1)"."""
    if isinstance(config.loss, MeanVariance):
        return f"λ1 {config.loss.mean_weight:.3g} λ2 {config.loss.variance_weight:.3g}"
    weights = [f"{k} {short(v)}" for k, v in asdict(config.loss).items()]
    return loss_name(config.loss) + (f" ({', '.join(weights)})" if weights else "")


def short(value: object) -> str:
    """A value of a config for people to read: three digits are enough to tell what a sampler drew."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
