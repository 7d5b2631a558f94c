"""Losses over age classes, and the one decoder from logits to years.

Each loss is a frozen dataclass that is its own config: LOSSES names them, a call gives the batch's mean loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Decoder = Literal["expectation", "median", "argmax"]


def age_moments(
    logits: Float[Tensor, "batch ages"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Mean (years) and variance (years^2) of the softmax over ages 0 .. K-1."""
    probability = logits.softmax(dim=1)
    years = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    mean = probability @ years
    variance = (probability * (years - mean[:, None]).square()).sum(dim=1)
    return mean, variance


def decode_age(distribution: Float[Tensor, "faces ages"], decoder: Decoder = "expectation") -> Float[Tensor, " faces"]:
    """The age (years) that a distribution over ages 0 .. K-1 stands for.

    expectation is the field's choice since DEX (Rothe, Timofte and Van Gool, 2015); median is the first age at which
    the cumulated probability reaches one half, the best answer under absolute error; argmax the likeliest age.
    """
    if decoder == "expectation":
        years = torch.arange(distribution.shape[1], device=distribution.device, dtype=distribution.dtype)
        return distribution @ years
    if decoder == "median":
        return (distribution.cumsum(dim=1) < 0.5).sum(dim=1).to(distribution.dtype)
    if decoder == "argmax":
        return distribution.argmax(dim=1).to(distribution.dtype)
    raise ValueError(f"unknown decoder {decoder!r}: expected expectation, median or argmax")


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy over age classes, with label smoothing in [0, 1)."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self}")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, age, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class MeanVariance:
    """Mean-variance loss of Pan, Han, Shan and Chen, CVPR 2018.

        L = CE + mean_weight * E[(m - y)^2] / 2 + variance_weight * E[v]

    m (years) and v (years^2) are the moments of the softmax over ages; y is the true age. mean_weight is the paper's
    lambda 1, variance_weight its lambda 2. The one half belongs to the formula: copies that drop it double lambda 1.
    """

    mean_weight: float = 0.2
    variance_weight: float = 0.05

    def __post_init__(self) -> None:
        if self.mean_weight < 0 or self.variance_weight < 0:
            raise ValueError(f"loss weights must be >= 0, got {self}")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        mean, variance = age_moments(logits)
        squared = (mean - age).square().mean()
        return F.cross_entropy(logits, age) + self.mean_weight * squared / 2 + self.variance_weight * variance.mean()


Loss = CrossEntropy | MeanVariance

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "mean_variance": MeanVariance,
}
"""Every loss by its name in a config."""


def loss_name(loss: Loss) -> str:
    """The loss's name in LOSSES."""
    return next(name for name, kind in LOSSES.items() if kind is type(loss))
