"""Losses over age classes, and decode_age(), from distributions to years.

Each loss is a frozen dataclass of its weights; calling it gives the mean loss of a batch, each() that of each face.
LOSSES names them. Example:

    loss = MeanVariance(mean_weight=0.2, variance_weight=0.05)(logits, age)  # shapes (batch, ages) and (batch,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float, Int

from trainables.fields import Amount, Positive, Share, check_fields
from trainables.later import Later

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:  # a config's loss is a record: torch is imported where one is called
    torch, F = Later("torch"), Later("torch.nn.functional")

Decoder = Literal["expectation", "median", "argmax"]
Distance = Literal["squared", "absolute"]


def age_moments(
    logits: Float[torch.Tensor, "batch ages"],
) -> tuple[Float[torch.Tensor, " batch"], Float[torch.Tensor, " batch"]]:
    """Mean (years) and variance (years^2) of the softmax over ages 0 .. K-1."""
    probability = logits.softmax(dim=1)
    years = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    mean = probability @ years
    variance = (probability * (years - mean[:, None]).square()).sum(dim=1)
    return mean, variance


def decode_age(
    distribution: Float[torch.Tensor, "faces ages"], decoder: Decoder = "expectation"
) -> Float[torch.Tensor, " faces"]:
    """The age (years) that a distribution over ages 0 .. K-1 stands for.

    expectation is the usual decoder since DEX (Rothe, Timofte and Van Gool, 2015). median is the first age at which the
    cumulative probability reaches one half; it minimises the expected absolute error. argmax is the most likely age.
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

    label_smoothing (Szegedy et al., CVPR 2016, section 7), in [0, 1), is the share of the label's mass that is spread
    evenly over all classes. In the other losses that have it, it changes only their cross-entropy.
    """

    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, ""]:
        return self.each(logits, age).mean()

    def each(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, " batch"]:
        return F.cross_entropy(logits, age, label_smoothing=self.label_smoothing, reduction="none")


@dataclass(frozen=True)
class MeanVariance:
    """Mean-variance loss of Pan, Han, Shan and Chen, CVPR 2018.

        L = CE + mean_weight * E[(m - y)^2] / 2 + variance_weight * E[v]

    m (years) and v (years^2) are the moments of the softmax over ages; y is the true age. mean_weight is the paper's
    lambda 1, variance_weight its lambda 2. The factor 1/2 is part of the formula: implementations that drop it double
    lambda 1.
    """

    mean_weight: Amount = 0.2
    variance_weight: Amount = 0.05
    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, ""]:
        return self.each(logits, age).mean()

    def each(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, " batch"]:
        mean, variance = age_moments(logits)
        squared = (mean - age).square()
        cross_entropy = F.cross_entropy(logits, age, label_smoothing=self.label_smoothing, reduction="none")
        return cross_entropy + self.mean_weight * squared / 2 + self.variance_weight * variance


@dataclass(frozen=True)
class DLDLv2:
    """DLDL-v2 of Gao, Zhou, Wu and Geng, IJCAI 2018: learn a label distribution and its expectation together.

        L = KL(q || p) + expectation_weight * |m - y|,    q_j ~ exp(-(j - y)^2 / (2 sigma^2)), sum q = 1

    p is the softmax over ages, m (years) its mean, y the true age. sigma (years) is the uncertainty of an age
    label: the paper uses 2 where a dataset does not give it. expectation_weight is its lambda; the paper uses 1.
    """

    sigma: Positive = 2.0
    expectation_weight: Amount = 1.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, ""]:
        return self.each(logits, age).mean()

    def each(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, " batch"]:
        penalty = years_off(logits, age).square() / (2 * self.sigma**2)
        log_label = (-penalty).log_softmax(dim=1)
        divergence = F.kl_div(logits.log_softmax(dim=1), log_label, reduction="none", log_target=True).sum(dim=1)
        mean, _ = age_moments(logits)
        return divergence + self.expectation_weight * (mean - age).abs()


@dataclass(frozen=True)
class SORD:
    """Soft ordinal labels of Diaz and Marathe, CVPR 2019: cross-entropy to labels softened by a distance of ages.

        L = -sum_j q_j log p_j,    q_j = exp(-phi_j) / sum_k exp(-phi_k),    phi_j = scale * d(j, y)

    p is the softmax over ages; d is (j - y)^2 (years^2) or |j - y| (years), depending on `distance`. With a large scale
    it is plain cross-entropy; with a small scale the labels are almost uniform.
    """

    distance: Distance = "squared"
    scale: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, ""]:
        return self.each(logits, age).mean()

    def each(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, " batch"]:
        years = years_off(logits, age)
        penalty = self.scale * (years.square() if self.distance == "squared" else years.abs())
        return F.cross_entropy(logits, (-penalty).softmax(dim=1), reduction="none")


@dataclass(frozen=True)
class CORAL:
    """CORAL of Cao, Mirjalili and Raschka, Pattern Recognition Letters 140, 2020: "older than k?" for each age k.

        L = -sum_{k=0}^{K-2} [ log s(l_k) if y > k, else log(1 - s(l_k)) ],    s the logistic function
        l_k = log sum_{j>k} exp z_j - log sum_{j<=k} exp z_j

    The K - 1 binary questions are the paper's, with equal importance. In the paper, P(older than k) never grows with k
    because a special head has one weight vector and K - 1 biases. Here the logits l of the questions are computed from
    the K logits z of the head that all losses share; they fall with k for any z. s(l_k) is the softmax's mass above k,
    so the distribution over ages is still the softmax of z: a checkpoint that was trained with another loss can be used
    as it is, and no other code depends on CORAL. The paper's rank (the number of questions answered yes) is the decoder
    "median", up to ties.
    """

    def __call__(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, ""]:
        return self.each(logits, age).mean()

    def each(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, " batch"]:
        below = logits.logcumsumexp(dim=1)[:, :-1]
        above = logits.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:]
        older = (years_off(logits, age)[:, :-1] < 0).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(above - below, older, reduction="none").sum(dim=1)


@dataclass(frozen=True)
class MeanResidue:
    """Adaptive mean-residue loss of Zhao, Qian, Hou and Zeng, ICME 2022 (arXiv 2203.17156).

        L = CE + mean_weight * E[(m - y)^2] / 2 + residue_weight * E[r],    r = -sum_{j: p_j < p_y} p_j log p_j

    m (years) is the mean of the softmax p over ages, y the true age. r (nats) is the entropy over the ages that are
    less likely than the true one; the paper calls them the residue. The default weights are those of the authors'
    FG-NET training. Their code adds 0.001 to each p in r to avoid log 0; log_softmax does not need that.
    """

    mean_weight: Amount = 0.2
    residue_weight: Amount = 0.25
    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, of="loss.")

    def __call__(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, ""]:
        return self.each(logits, age).mean()

    def each(
        self, logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
    ) -> Float[torch.Tensor, " batch"]:
        mean, _ = age_moments(logits)
        log_p = logits.log_softmax(dim=1)
        outside = log_p < log_p.gather(1, age[:, None])
        residue = -(log_p.exp() * log_p * outside).sum(dim=1)
        squared = (mean - age).square()
        cross_entropy = F.cross_entropy(logits, age, label_smoothing=self.label_smoothing, reduction="none")
        return cross_entropy + self.mean_weight * squared / 2 + self.residue_weight * residue


def years_off(
    logits: Float[torch.Tensor, "batch ages"], age: Int[torch.Tensor, " batch"]
) -> Float[torch.Tensor, "batch ages"]:
    """j - y (years), for each age class j and the true age y of each face."""
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
"""The names that the papers give to weights; a trial.json may use them too."""


def loss_name(loss: Loss) -> str:
    """The loss's name in LOSSES."""
    return next(name for name, kind in LOSSES.items() if kind is type(loss))
