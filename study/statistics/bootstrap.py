"""Confidence intervals over people: what a metric might have been with other people of the same kind.

Photos of one person share a face, so people are resampled, never photos.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.95
"""How often an interval should hold the true value."""

DRAWS = 4000
"""Bootstrap draws. With so many, the ends of a 95 % interval move by about 2 % of its width from seed to seed."""

FEW_PEOPLE = 5
"""Below this many people no interval is given: resampling three faces says nothing about a fourth."""


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval over people; low and high are nan where there are too few people."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """The value and its interval, each in the given format: f"{mae:.2f}" is "3.02 (2.80 to 3.25)"."""
        value, low, high = (_unsigned(format(each, spec)) for each in (self.value, self.low, self.high))
        return value if np.isnan(self.low) else f"{value} ({low} to {high})"


def _unsigned(text: str) -> str:
    """The text of a number, with "0.00" in place of "-0.00"."""
    return text.replace("-", "") if float(text) == 0 else text


@dataclass(frozen=True)
class Intervals:
    """Several metrics with their intervals over people, such as CS at each threshold."""

    value: Float64[np.ndarray, " metrics"]
    low: Float64[np.ndarray, " metrics"]
    high: Float64[np.ndarray, " metrics"]

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: int) -> Interval:
        return Interval(float(self.value[index]), float(self.low[index]), float(self.high[index]))


Statistic = Callable[[Float64[np.ndarray, "draws people"]], Float64[np.ndarray, "draws metrics"]]
"""Metrics from how often each person was drawn; they must not depend on the sum of a row's counts."""


def bootstrap(
    statistic: Statistic, *, people: int, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Intervals:
    """Expanded BCa intervals of metrics, from resampling people with replacement.

    BCa (Efron 1987) corrects the percentile interval for bias and skewness. Skewness is the rule here, since a few
    people have large errors. Resampling P people gives a spread that is too small by sqrt((P - 1) / P), and a normal
    quantile where Student's is due. The interval is expanded by both (Hesterberg 2015): 3 % at 60 people, 17 % at 12.
    Draws in which a metric is undefined (nobody of that decade was drawn) are left out.
    """
    value = statistic(np.ones((1, people)))[0]
    if people < FEW_PEOPLE:
        return Intervals(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    student = stdtrit(people - 1, (1 + level) / 2)  # standard errors to either side
    z = student * math.sqrt(people / (people - 1))
    drawn = statistic(_counts(people, draws, seed))
    jackknife = statistic(1 - np.eye(people))  # each person left out once
    ends = np.array([_bca(*columns, z=z) for columns in zip(drawn.T.copy(), value, jackknife.T, strict=True)])
    return Intervals(value, ends[:, 0], ends[:, 1])


@functools.lru_cache(maxsize=4)  # a report asks for the same draws thousands of times
def _counts(people: int, draws: int, seed: int) -> Float64[np.ndarray, "draws people"]:
    """How often each person is drawn, in each draw of as many people with replacement."""
    counts = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=draws)
    counts = counts.astype(np.float64)
    counts.flags.writeable = False
    return counts


def _bca(
    drawn: Float64[np.ndarray, " draws"],
    value: float,
    jackknife: Float64[np.ndarray, " people"],
    *,
    z: float,
) -> tuple[float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not np.isfinite(jackknife).all() or drawn.size == 0:
        return np.nan, np.nan  # without one of the people the metric is undefined
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    if np.ptp(drawn) == 0 or not 0 < below < 1:
        return float(drawn.min()), float(drawn.max())  # such as a CS of 100 % in every draw
    bias = ndtri(below)
    away = jackknife.mean() - jackknife
    scale = np.square(away).sum() ** 1.5
    skew = (away**3).sum() / (6 * scale) if scale > 0 else 0.0
    shifted = bias + np.array([-z, z])
    low, high = np.quantile(drawn, ndtr(bias + shifted / (1 - skew * shifted)))
    return float(low), float(high)


@dataclass(frozen=True)
class PersonMeans:
    """Each person's means over their photos (and seeds), and the number of rows behind each mean."""

    people: Shaped[np.ndarray, " people"]
    means: Float64[np.ndarray, "people metrics"]
    rows: Float64[np.ndarray, " people"]

    def over_people(self, weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws metrics"]:
        """Each person counts once: the paper's mean over folds."""
        return weights @ self.means / weights.sum(axis=1, keepdims=True)

    def pooled(self, weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws metrics"]:
        """Each photo counts once; nan in draws without any."""
        rows = weights @ self.rows
        with np.errstate(invalid="ignore"):
            return weights @ (self.means * self.rows[:, None]) / rows[:, None]


def person_means(
    values: Float64[np.ndarray, "rows metrics"],
    person: Shaped[np.ndarray, " rows"],
    *,
    where: Bool[np.ndarray, " rows"] | None = None,
) -> PersonMeans:
    """Each person's means of the columns of `values`, over the rows that `where` selects (default: all).

    People without a selected row stay, with 0 rows: they must be drawn too. Otherwise the interval of a decade would
    treat the number of its people as known.
    """
    people, of = np.unique(person, return_inverse=True)
    chosen = np.ones(len(values), bool) if where is None else where
    rows = np.bincount(of, weights=chosen, minlength=len(people))
    sums = np.zeros((len(people), values.shape[1]))
    np.add.at(sums, of[chosen], values[chosen])
    return PersonMeans(people, sums / np.maximum(rows, 1)[:, None], rows)
