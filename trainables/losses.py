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

from trainables.fields import Amount, Positive, Share, check_fields

Decoder = Literal["expectation", "median", "argmax"]
Distance = Literal["squared", "absolute"]


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
    """Softmax cross-entropy over age classes.

    label_smoothing (Szegedy et al., CVPR 2016, section 7), in [0, 1): of the label's mass, so much is spread evenly
    over all classes. The other losses that have it smooth their cross-entropy alone.
    """

    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, age, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class MeanVariance:
    """Mean-variance loss of Pan, Han, Shan and Chen, CVPR 2018.

        L = CE + mean_weight * E[(m - y)^2] / 2 + variance_weight * E[v]

    m (years) and v (years^2) are the moments of the softmax over ages; y is the true age. mean_weight is the paper's
    lambda 1, variance_weight its lambda 2. The one half belongs to the formula: copies that drop it double lambda 1.
    """

    mean_weight: Amount = 0.2
    variance_weight: Amount = 0.05
    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        mean, variance = age_moments(logits)
        squared = (mean - age).square().mean()
        cross_entropy = F.cross_entropy(logits, age, label_smoothing=self.label_smoothing)
        return cross_entropy + self.mean_weight * squared / 2 + self.variance_weight * variance.mean()


@dataclass(frozen=True)
class DLDLv2:
    """DLDL-v2 of Gao, Zhou, Wu and Geng, IJCAI 2018: learn a label distribution and its expectation together.

        L = KL(q || p) + expectation_weight * |m - y|,    q_j ~ exp(-(j - y)^2 / (2 sigma^2)), sum q = 1

    p is the softmax over ages, m (years) its mean, y the true age. sigma (years) is how vague an age label is: the
    paper takes 2 where a dataset does not say. expectation_weight is its lambda, 1 there.
    """

    sigma: Positive = 2.0
    expectation_weight: Amount = 1.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        penalty = years_off(logits, age).square() / (2 * self.sigma**2)
        log_label = (-penalty).log_softmax(dim=1)
        divergence = F.kl_div(logits.log_softmax(dim=1), log_label, reduction="batchmean", log_target=True)
        mean, _ = age_moments(logits)
        return divergence + self.expectation_weight * (mean - age).abs().mean()


@dataclass(frozen=True)
class SORD:
    """Soft ordinal labels of Diaz and Marathe, CVPR 2019: cross-entropy to labels softened by a distance of ages.

        L = -sum_j q_j log p_j,    q_j = exp(-phi_j) / sum_k exp(-phi_k),    phi_j = scale * d(j, y)

    p is the softmax over ages; d is (j - y)^2 (years^2) or |j - y| (years), as `distance` says. A large scale is plain
    cross-entropy, a small one hardly tells ages apart.
    """

    distance: Distance = "squared"
    scale: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        years = years_off(logits, age)
        penalty = self.scale * (years.square() if self.distance == "squared" else years.abs())
        return F.cross_entropy(logits, (-penalty).softmax(dim=1))


@dataclass(frozen=True)
class CORAL:
    """CORAL of Cao, Mirjalili and Raschka, Pattern Recognition Letters 140, 2020: is this face older than k, each k?

        L = -sum_{k=0}^{K-2} [ log s(l_k) if y > k, else log(1 - s(l_k)) ],    s the logistic function
        l_k = log sum_{j>k} exp z_j - log sum_{j<=k} exp z_j

    The K - 1 yes-or-no questions are the paper's, with equal importance. Its rank consistency (P(older than k) never
    grows with k) comes from one weight vector and K - 1 biases in a head of its own. Here the questions' logits l are
    read from the K logits z of the head that all losses share, and fall with k for any z. Since s(l_k) is the softmax's
    mass above k, the distribution over ages remains the softmax of z: a checkpoint trained with another loss starts
    right, and nothing else in the code knows of CORAL. The paper's rank (how many answers are yes) is the decoder
    "median", up to a tie.
    """

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        below = logits.logcumsumexp(dim=1)[:, :-1]
        above = logits.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:]
        older = (years_off(logits, age)[:, :-1] < 0).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(above - below, older, reduction="sum") / len(logits)


@dataclass(frozen=True)
class MeanResidue:
    """Adaptive mean-residue loss of Zhao, Qian, Hou and Zeng, ICME 2022 (arXiv 2203.17156).

        L = CE + mean_weight * E[(m - y)^2] / 2 + residue_weight * E[r],    r = -sum_{j: p_j < p_y} p_j log p_j

    m (years) is the mean of the softmax p over ages, y the true age. r (nats) is the entropy of the residue: of the
    ages less likely than the true one, that is outside the top K, whose K adapts to each face. The weights are those of
    the authors' FG-NET training (0.2 and 0.25). Their code adds 0.001 to each p within r, against log 0; the logarithm
    of the softmax needs none.
    """

    mean_weight: Amount = 0.2
    residue_weight: Amount = 0.25
    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(self, logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        mean, _ = age_moments(logits)
        log_p = logits.log_softmax(dim=1)
        outside = log_p < log_p.gather(1, age[:, None])
        residue = -(log_p.exp() * log_p * outside).sum(dim=1)
        squared = (mean - age).square().mean()
        cross_entropy = F.cross_entropy(logits, age, label_smoothing=self.label_smoothing)
        return cross_entropy + self.mean_weight * squared / 2 + self.residue_weight * residue.mean()


def years_off(logits: Float[Tensor, "batch ages"], age: Int[Tensor, " batch"]) -> Float[Tensor, "batch ages"]:
    """j - y (years) for each age class j and each face's true age y."""
    return torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype) - age[:, None]


Loss = CrossEntropy | MeanVariance | DLDLv2 | SORD | CORAL | MeanResidue

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "mean_variance": MeanVariance,
    "dldl_v2": DLDLv2,
    "sord": SORD,
    "coral": CORAL,
    "mean_residue": MeanResidue,
}
"""Every loss by its name in a config."""

PAPER_NAMES = {
    "mean_variance": {
        "lambda1": "mean_weight", "lambda_1": "mean_weight",
        "lambda2": "variance_weight", "lambda_2": "variance_weight",
    },
}  # fmt: skip
"""Weights under the names that their paper gives them, which people write too."""


def loss_name(loss: Loss) -> str:
    """The loss's name in LOSSES."""
    return next(name for name, kind in LOSSES.items() if kind is type(loss))
