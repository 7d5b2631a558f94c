"""Losses against loops over plain floats, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from trainables.losses import LOSSES, CrossEntropy, MeanVariance, age_moments, decode_age


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


@pytest.mark.parametrize("wrong", [{"mean_weight": -1.0}, {"variance_weight": -0.1}])
def test_negative_weights_are_refused(wrong):
    with pytest.raises(ValueError, match="must be >= 0"):
        MeanVariance(**wrong)
