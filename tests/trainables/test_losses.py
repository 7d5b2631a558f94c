"""Losses against loops over plain floats, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from trainables.losses import (
    CORAL,
    LOSSES,
    SORD,
    CrossEntropy,
    DLDLv2,
    MeanResidue,
    MeanVariance,
    age_moments,
    decode_age,
)


def softmax_by_hand(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(z - top) for z in row]
    return [w / sum(weights) for w in weights]


def moments_by_hand(row: list[float]) -> tuple[float, float]:
    p = softmax_by_hand(row)
    mean = sum(j * q for j, q in enumerate(p))
    return mean, sum(q * (j - mean) ** 2 for j, q in enumerate(p))


def loss_by_hand(row: list[float], age: int, *, mean_weight: float, variance_weight: float) -> float:
    mean, variance = moments_by_hand(row)
    return -math.log(softmax_by_hand(row)[age]) + mean_weight * (mean - age) ** 2 / 2 + variance_weight * variance


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(4, 101, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return logits, torch.tensor([0, 18, 67, 100])


@pytest.mark.parametrize(("mean_weight", "variance_weight"), [(0.2, 0.05), (0.0, 0.0), (1.7, 0.0), (0.0, 0.3)], ids=str)
def test_mean_variance_matches_the_formula_written_as_loops(batch, mean_weight, variance_weight):
    logits, age = batch
    by_hand = [
        loss_by_hand(row, y, mean_weight=mean_weight, variance_weight=variance_weight)
        for row, y in zip(logits.tolist(), age.tolist(), strict=True)
    ]
    loss = MeanVariance(mean_weight, variance_weight)(logits, age)
    assert loss.item() == pytest.approx(sum(by_hand) / 4, rel=1e-12)


def test_moments_match_loops(batch):
    mean, variance = age_moments(batch[0])
    for row, m, v in zip(batch[0].tolist(), mean.tolist(), variance.tolist(), strict=True):
        assert (m, v) == pytest.approx(moments_by_hand(row), rel=1e-12)


def test_cross_entropy_smoothing_matches_loops(batch):
    logits, age = batch
    expected = 0.0
    for row, y in zip(logits.tolist(), age.tolist(), strict=True):
        p = softmax_by_hand(row)
        target = [0.1 / 101 + (0.9 if j == y else 0.0) for j in range(101)]
        expected -= sum(t * math.log(q) for t, q in zip(target, p, strict=True)) / 4
    assert CrossEntropy(label_smoothing=0.1)(logits, age).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [MeanVariance, MeanResidue])
def test_smoothing_changes_the_cross_entropy_alone(batch, loss):
    logits, age = batch
    plain, smooth = loss()(logits, age), loss(label_smoothing=0.1)(logits, age)
    by_torch = [F.cross_entropy(logits, age, label_smoothing=amount) for amount in (0.0, 0.1)]
    assert (smooth - plain).item() == pytest.approx((by_torch[1] - by_torch[0]).item(), rel=1e-10)
    assert smooth != plain
    with pytest.raises(ValueError, match=r"label_smoothing is 1.0, expected a number in \[0, 1\)"):
        loss(label_smoothing=1.0)


def mean_by_hand(one_loss, batch) -> float:
    logits, age = batch
    return sum(one_loss(row, y) for row, y in zip(logits.tolist(), age.tolist(), strict=True)) / len(age)


@pytest.mark.parametrize(("sigma", "weight"), [(2.0, 1.0), (0.7, 0.0), (5.0, 0.3)], ids=str)
def test_dldl_v2_matches_the_formula_written_as_loops(batch, sigma, weight):
    def by_hand(row, y):
        p, mean = softmax_by_hand(row), moments_by_hand(row)[0]
        bell = [math.exp(-((j - y) ** 2) / (2 * sigma**2)) for j in range(len(row))]
        label = [b / sum(bell) for b in bell]
        divergence = sum(q * math.log(q / p[j]) for j, q in enumerate(label) if q > 0)
        return divergence + weight * abs(mean - y)

    assert DLDLv2(sigma, weight)(*batch).item() == pytest.approx(mean_by_hand(by_hand, batch), rel=1e-10)


@pytest.mark.parametrize(("distance", "scale"), [("squared", 1.0), ("squared", 0.05), ("absolute", 0.5)], ids=str)
def test_sord_matches_the_formula_written_as_loops(batch, distance, scale):
    def by_hand(row, y):
        p = softmax_by_hand(row)
        soft = [math.exp(-scale * (abs(j - y) ** 2 if distance == "squared" else abs(j - y))) for j in range(len(row))]
        return -sum(s / sum(soft) * math.log(p[j]) for j, s in enumerate(soft))

    assert SORD(distance, scale)(*batch).item() == pytest.approx(mean_by_hand(by_hand, batch), rel=1e-10)


def test_coral_matches_its_questions_asked_one_by_one(batch):
    """Binary cross-entropy of "older than k?" for each k, with P(older than k) summed from the softmax."""

    def by_hand(row, y):
        p = softmax_by_hand(row)
        older = [sum(p[k + 1 :]) for k in range(len(row) - 1)]
        return -sum(math.log(q) if y > k else math.log(1 - q) for k, q in enumerate(older))

    assert CORAL()(*batch).item() == pytest.approx(mean_by_hand(by_hand, batch), rel=1e-8)


def test_coral_stays_finite_and_sloped_for_a_confident_wrong_answer():
    logits = torch.full((1, 101), -80.0, requires_grad=True)
    with torch.no_grad():
        logits[0, 90] = 80.0
    loss = CORAL()(logits, torch.tensor([5]))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 90] > 0


@pytest.mark.parametrize(("mean_weight", "residue_weight"), [(0.2, 0.25), (0.0, 1.0), (1.3, 0.0)], ids=str)
def test_mean_residue_matches_the_formula_written_as_loops(batch, mean_weight, residue_weight):
    def by_hand(row, y):
        p, mean = softmax_by_hand(row), moments_by_hand(row)[0]
        residue = -sum(q * math.log(q) for q in p if q < p[y])
        return -math.log(p[y]) + mean_weight * (mean - y) ** 2 / 2 + residue_weight * residue

    loss = MeanResidue(mean_weight, residue_weight)(*batch)
    assert loss.item() == pytest.approx(mean_by_hand(by_hand, batch), rel=1e-10)


def test_losses_that_the_papers_connect_agree(batch):
    """SORD with squared distance is DLDL-v2's divergence plus the label's own entropy; hard labels are both's limit."""
    logits, age = batch
    sigma = 1.7
    bell = (-((torch.arange(101.0, dtype=torch.float64) - age[:, None]) ** 2) / (2 * sigma**2)).softmax(dim=1)
    entropy = torch.distributions.Categorical(probs=bell).entropy().mean().item()
    divergence = DLDLv2(sigma, 0.0)(logits, age).item()
    assert SORD("squared", 1 / (2 * sigma**2))(logits, age).item() == pytest.approx(divergence + entropy, rel=1e-9)
    hard = CrossEntropy()(logits, age).item()
    assert SORD("absolute", 60.0)(logits, age).item() == pytest.approx(hard, rel=1e-9)
    assert DLDLv2(0.05, 0.0)(logits, age).item() == pytest.approx(hard, rel=1e-9)
    assert MeanResidue(0.0, 0.0)(logits, age).item() == pytest.approx(hard, rel=1e-12)


@pytest.mark.parametrize("kind", LOSSES.values(), ids=LOSSES)
def test_going_down_the_gradient_finds_the_true_age(kind):
    logits = torch.zeros(3, 101, dtype=torch.float64, requires_grad=True)
    age = torch.tensor([2, 40, 97])
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        kind()(logits, age).backward()
        optimizer.step()
    assert decode_age(logits.detach().softmax(dim=1)).tolist() == pytest.approx([2, 40, 97], abs=0.75)


@pytest.mark.parametrize("kind", LOSSES.values(), ids=LOSSES)
def test_gradients_match_finite_differences(kind):
    logits = torch.randn(3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    age = torch.tensor([0, 4, 10])
    assert torch.autograd.gradcheck(lambda z: kind()(z, age), (logits,))


def test_a_certain_right_answer_costs_nothing():
    logits = torch.full((1, 101), -50.0)
    logits[0, 30] = 50.0
    assert MeanVariance()(logits, torch.tensor([30])).item() == pytest.approx(0, abs=1e-5)


def test_decoders():
    distribution = torch.zeros(1, 101)
    distribution[0, 10], distribution[0, 20], distribution[0, 60] = 0.4, 0.3, 0.3
    assert decode_age(distribution, "expectation").item() == pytest.approx(28.0)
    assert decode_age(distribution, "median").item() == 20
    assert decode_age(distribution, "argmax").item() == 10
    half = torch.zeros(1, 101)
    half[0, 10], half[0, 60] = 0.5, 0.5
    assert decode_age(half, "median").item() == 10, "the first age at which one half is reached"


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (MeanVariance, {"mean_weight": -1.0}, "expected a number >= 0"),
        (MeanVariance, {"variance_weight": -0.1}, "expected a number >= 0"),
        (CrossEntropy, {"label_smoothing": 1.0}, "expected a number in"),
        (DLDLv2, {"sigma": 0.0}, "sigma is 0.0, expected a number > 0"),
        (DLDLv2, {"expectation_weight": -1.0}, "expectation_weight is -1.0, expected a number >= 0"),
        (SORD, {"scale": 0.0}, "scale is 0.0, expected a number > 0"),
        (MeanResidue, {"mean_weight": -1.0}, "expected a number >= 0"),
        (MeanResidue, {"residue_weight": -0.1}, "expected a number >= 0"),
    ],
    ids=str,
)
def test_wrong_weights_are_refused(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(**wrong)
