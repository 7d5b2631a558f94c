"""Calibration of predicted age distributions: NLL, CRPS, coverage of central intervals, PIT.

The variance term of the mean-variance loss shapes the distribution, so the distribution is evaluated, not only its
mean. NLL and CRPS are proper scores; coverage and PIT are exact for ages in whole years. None needs random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int16

from study.artifacts.predictions import Predictions
from study.statistics.bootstrap import DRAWS, LEVEL, Interval, Intervals, bootstrap, person_means
from study.statistics.intervals import central

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Levels of the central intervals whose coverage is measured: 5 % to 95 %."""

PIT_BINS = 10

LEAST_PROBABILITY = 1e-6
"""Lowest probability in the NLL: an age with probability 0 costs 13.8 nats, and does not make the mean infinite."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of a config's distributions, pooled over photos (and seeds), with intervals over people.

    nll: nats. crps: years; without any spread it is the absolute error, so it can be compared with the MAE.
    coverage[i]: the share of true ages inside the central interval of probability LEVELS[i]. width: mean number of
    whole years in a central 90 % interval. pit: share of photos in each bin; 1 / PIT_BINS everywhere if the
    distributions are right. High ends mean that they are too narrow, a high middle that they are too wide.
    """

    nll: Interval
    crps: Interval
    coverage: Intervals
    width: Interval
    pit: Float64[np.ndarray, " bins"]

    def covered(self, level: float) -> Interval:
        """The share of true ages inside the central interval of one of the LEVELS."""
        return self.coverage[LEVELS.index(level)]

    @property
    def miscalibration(self) -> float:
        """Mean absolute difference of coverage and level, from 0 (right) to 0.5."""
        return float(np.abs(self.coverage.value - np.array(LEVELS)).mean())

    @property
    def sentence(self) -> str:
        """The result in one sentence, from the central 80 % interval."""
        seen = self.covered(0.8)
        if np.isnan(seen.low) or seen.low <= 0.8 <= seen.high:
            verdict = "as they should"
        elif seen.value < 0.8:
            verdict = "so the distributions are too narrow: the model is overconfident"
        else:
            verdict = "so the distributions are too wide: the model is underconfident"
        span = "" if np.isnan(seen.low) else f" ({100 * seen.low:.0f} to {100 * seen.high:.0f})"
        return f"The central 80 % intervals contain {100 * seen.value:.0f} %{span} of the true ages, {verdict}."


def calibrate(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Calibration:
    """NLL, CRPS, coverage and PIT of a config's age distributions, with intervals over people."""
    distribution, age = predictions.distribution, predictions.age
    low, high = pit_range(distribution, age)
    levels = np.array(LEVELS)
    coverage = share_within(low[:, None], high[:, None], (1 - levels) / 2, (1 + levels) / 2)
    edges = np.linspace(0, 1, PIT_BINS + 1)
    pit = share_within(low[:, None], high[:, None], edges[:-1], edges[1:]).mean(axis=0)
    lowest, highest = central_interval(distribution, level=0.9)
    rows = np.column_stack(
        [negative_log_likelihood(distribution, age), crps(distribution, age), highest - lowest + 1, coverage]
    )
    means = person_means(rows.astype(np.float64), predictions.person)
    found = bootstrap(means.pooled, people=len(means.people), draws=draws, seed=seed, level=level)
    return Calibration(
        nll=found[0],
        crps=found[1],
        width=found[2],
        coverage=Intervals(found.value[3:], found.low[3:], found.high[3:]),
        pit=pit,
    )


def negative_log_likelihood(
    distribution: Float[np.ndarray, "rows ages"], age: Int16[np.ndarray, " rows"]
) -> Float64[np.ndarray, " rows"]:
    """-log of the predicted probability of the true age, in nats, as LEAST_PROBABILITY beyond the last age."""
    known = np.minimum(age, distribution.shape[1] - 1)
    probability = np.where(age == known, distribution[np.arange(len(age)), known].astype(np.float64), 0.0)
    return -np.log(np.maximum(probability, LEAST_PROBABILITY))


def crps(distribution: Float[np.ndarray, "rows ages"], age: Int16[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """Continuous ranked probability score in years: the integral of (F(x) - [age <= x])^2 over x.

    F is a step function with steps at whole years, so the integral is exactly a sum over years.
    """
    top = max(distribution.shape[1], int(age.max()) + 1)
    above = _cumulative(distribution, top) - (age[:, None] <= np.arange(top))
    return np.square(above).sum(axis=1)


def pit_range(
    distribution: Float[np.ndarray, "rows ages"], age: Int16[np.ndarray, " rows"]
) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """(F(age - 1), F(age)): if the model is right, a uniform number between the two is uniform on 0 to 1.

    This is the probability integral transform of a count (Czado, Gneiting and Held, Biometrics 2009).
    """
    cumulative = _cumulative(distribution, max(distribution.shape[1], int(age.max()) + 1))
    row = np.arange(len(age))
    return np.where(age > 0, cumulative[row, np.maximum(age - 1, 0)], 0.0), cumulative[row, age]


def share_within(
    low: Float64[np.ndarray, "rows 1"],
    high: Float64[np.ndarray, "rows 1"],
    start: Float64[np.ndarray, " bands"],
    end: Float64[np.ndarray, " bands"],
) -> Float64[np.ndarray, "rows bands"]:
    """The share of the PIT range low to high inside each band: the average of what random numbers would give.

    Intervals of whole years cover more than their level even if the model is right; this share does not.
    """
    low = np.minimum(low, 1 - 1e-9)
    high = np.maximum(high, low + 1e-9)  # an age of probability 0 is a point
    return np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None) / (high - low)


def central_interval(distribution: Float[np.ndarray, "rows ages"], *, level: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last whole year of the central interval: the quantiles (1 - level) / 2 and (1 + level) / 2."""
    low, high = central(distribution, level=level)
    return low.astype(np.int64), high.astype(np.int64)


def _cumulative(distribution: Float[np.ndarray, "rows ages"], top: int) -> Float64[np.ndarray, "rows top"]:
    """F(0) to F(top - 1), ending in exactly 1."""
    total = np.cumsum(distribution.astype(np.float64), axis=1)
    total /= total[:, -1:]
    return np.pad(total, ((0, 0), (0, top - total.shape[1])), constant_values=1.0)
