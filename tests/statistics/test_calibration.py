"""Scores of age distributions, against quadrature, SciPy, simulation and loops by hand."""

import numpy as np
import pytest
from test_statistics import drawn

from study.artifacts.predictions import Predictions
from study.statistics.calibration import (
    LEVELS,
    calibrate,
    central_interval,
    crps,
    negative_log_likelihood,
    pit_range,
    share_within,
)

integrate = pytest.importorskip("scipy.integrate")


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.dirichlet(np.full(12, 0.5), 20).astype(np.float32), rng.integers(0, 12, 20).astype(np.int16)


def test_crps_is_the_integral_it_says(rows):
    distribution, age = rows
    expected = []
    for p, y in zip(distribution.astype(float), age, strict=True):
        p = p / p.sum()

        def gap(x, p=p, y=y):
            return (p[: int(np.floor(x)) + 1].sum() - (x >= y)) ** 2

        expected.append(sum(integrate.quad(gap, k + 1e-9, k + 1 - 1e-9)[0] for k in range(12)))
    assert crps(distribution, age) == pytest.approx(expected, abs=1e-6)


def test_crps_is_the_energy_form(rows):
    distribution, age = rows
    k = np.arange(12)
    for p, y, found in zip(distribution.astype(float), age, crps(distribution, age), strict=True):
        p = p / p.sum()
        energy = p @ np.abs(k - y) - p @ np.abs(k[:, None] - k) @ p / 2  # E|X - y| - E|X - X'| / 2
        assert found == pytest.approx(energy, abs=1e-6)


def test_crps_of_a_certain_answer_is_its_absolute_error():
    certain = np.eye(12, dtype=np.float32)[[3, 3, 3]]
    assert crps(certain, np.array([3, 8, 15], np.int16)).tolist() == [0, 5, 12]  # 15: beyond the ages known


def test_nll_is_the_log_of_the_true_ages_probability_and_never_infinite(rows):
    distribution, age = rows
    by_hand = [-np.log(max(float(p[y]), 1e-6)) for p, y in zip(distribution, age, strict=True)]
    assert negative_log_likelihood(distribution, age) == pytest.approx(by_hand)
    beyond = negative_log_likelihood(distribution[:1], np.array([40], np.int16))
    assert beyond == pytest.approx([-np.log(1e-6)])


def test_pit_shares_are_the_average_of_random_draws(rows):
    distribution, age = rows
    low, high = pit_range(distribution, age)
    edges = np.linspace(0, 1, 6)
    exact = share_within(low[:, None], high[:, None], edges[:-1], edges[1:])
    draws = np.random.default_rng(0).uniform(low, np.maximum(high, low + 1e-9), (20_000, 20))
    simulated = np.stack([np.histogram(column, edges)[0] / 20_000 for column in draws.T])
    assert exact == pytest.approx(simulated, abs=0.015)
    assert exact.sum(axis=1) == pytest.approx(np.ones(20))


def test_central_intervals_are_the_quantiles():
    p = np.array([[0.02, 0.08, 0.4, 0.4, 0.08, 0.02]], np.float32)
    low, high = central_interval(p, level=0.9)
    assert (low.tolist(), high.tolist()) == ([1], [4])


def honest(*, width: float) -> Predictions:
    """Ages drawn from the distributions themselves, which then are made `width` times as wide."""
    table = drawn(people=150, noise=5.0)
    years = np.arange(101)
    centre = np.clip(table.predicted, 5, 80).astype(float)

    def density(sd):
        p = np.exp(-np.square((years - centre[:, None]) / sd) / 2)
        return p / p.sum(axis=1, keepdims=True)

    rng = np.random.default_rng(6)
    age = (np.cumsum(density(5.0), axis=1) < rng.random(len(table))[:, None]).sum(axis=1)
    return Predictions(
        **{
            **vars(table),
            "age": age.astype(np.int16),
            "predicted": centre.astype(np.float32),
            "distribution": density(5.0 * width).astype(np.float32),
        }
    )


def test_an_honest_model_is_found_calibrated():
    found = calibrate(honest(width=1.0))
    assert found.coverage.value == pytest.approx(np.array(LEVELS), abs=0.04)
    assert found.pit == pytest.approx(np.full(10, 0.1), abs=0.03)
    assert found.pit.sum() == pytest.approx(1)
    assert found.miscalibration < 0.03
    assert found.sentence.endswith("as they should.")
    assert found.width.value == pytest.approx(2 * 1.645 * 5 + 1, abs=1)


@pytest.mark.parametrize(("width", "word"), [(0.4, "too narrow"), (2.5, "too wide")])
def test_a_model_too_sure_or_too_unsure_is_told_so(width, word):
    found, right = calibrate(honest(width=width)), calibrate(honest(width=1.0))
    assert word in found.sentence
    assert found.nll.value > right.nll.value
    assert found.crps.value > right.crps.value
