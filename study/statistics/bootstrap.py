"""Intervals over people: what a figure might have been with other people of the same kind. Pure NumPy.

Photos of one person share a face, so people are resampled, never photos.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float64, Shaped

LEVEL = 0.95
"""How often an interval should hold the true figure."""

DRAWS = 4000
"""Bootstrap draws: the ends of a 95 % interval then move by about 2 % of its width from seed to seed."""

FEW_PEOPLE = 5
"""Below this many people no interval is given: resampling three faces says nothing about a fourth."""


@dataclass(frozen=True)
class Interval:
    """A figure, and the interval over people that holds it; low and high are nan where people are too few."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """The figure and its interval, each in the given format: f"{mae:.2f}" is "3.02 (2.80 to 3.25)"."""
        value, low, high = (_unsigned(format(each, spec)) for each in (self.value, self.low, self.high))
        return value if np.isnan(self.low) else f"{value} ({low} to {high})"


def _unsigned(text: str) -> str:
    """A number as text, without the minus of a zero that was rounded from below."""
    return text.replace("-", "") if float(text) == 0 else text


@dataclass(frozen=True)
class Intervals:
    """Several figures with their intervals over people, such as CS at each threshold."""

    value: Float64[np.ndarray, " figures"]
    low: Float64[np.ndarray, " figures"]
    high: Float64[np.ndarray, " figures"]

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, figure: int) -> Interval:
        return Interval(float(self.value[figure]), float(self.low[figure]), float(self.high[figure]))


Statistic = Callable[[Float64[np.ndarray, "draws people"]], Float64[np.ndarray, "draws figures"]]
"""Figures from how often each person was drawn; it must not depend on the sum of a row's counts."""


def bootstrap(
    statistic: Statistic, *, people: int, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Intervals:
    """Expanded BCa intervals of figures, from resampling people with replacement.

    BCa (Efron 1987) corrects the percentile interval for the bias and the skewness of the figure; skew is the
    rule here, since a few people are far off. Resampling P people gives a spread that is too small by
    sqrt((P - 1) / P), and uses a normal quantile where Student's is due: the interval is expanded by both
    (Hesterberg 2015), 3 % at 60 people, 17 % at 12. Draws in which a figure does not exist (no one of that decade
    was drawn) are left out.
    """
    value = statistic(np.ones((1, people)))[0]
    if people < FEW_PEOPLE:
        return Intervals(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    z = student_quantile(level, freedom=people - 1) * math.sqrt(people / (people - 1))
    counts = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=draws)
    drawn = statistic(counts.astype(np.float64))
    without = statistic(1 - np.eye(people))  # the jackknife: each person left out once
    ends = np.array([_bca(*columns, z=z) for columns in zip(drawn.T, value, without.T, strict=True)])
    return Intervals(value, ends[:, 0], ends[:, 1])


def student_quantile(level: float, *, freedom: int) -> float:
    """How many standard errors either way a two-sided Student interval reaches: 1.99 for 95 %, 81 degrees.

    Cornish and Fisher's expansion in the normal quantile, right to 1 % from 4 degrees of freedom up.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _bca(
    drawn: Float64[np.ndarray, " draws"],
    value: float,
    without: Float64[np.ndarray, " people"],
    *,
    z: float,
) -> tuple[float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not np.isfinite(without).all() or drawn.size == 0:
        return np.nan, np.nan  # hangs on a single person
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    if np.ptp(drawn) == 0 or not 0 < below < 1:
        return float(drawn.min()), float(drawn.max())  # such as a CS of 100 % in every draw
    normal = NormalDist()
    bias = normal.inv_cdf(below)
    away = without.mean() - without
    scale = np.square(away).sum() ** 1.5
    skew = (away**3).sum() / (6 * scale) if scale > 0 else 0.0
    corrected = []
    for end in (-z, z):
        shifted = bias + end
        corrected.append(normal.cdf(bias + shifted / (1 - skew * shifted)))
    low, high = np.quantile(drawn, corrected)
    return float(low), float(high)


@dataclass(frozen=True)
class PersonMeans:
    """Means of some values over each person's photos (and seeds), and how many rows each mean is of."""

    people: Shaped[np.ndarray, " people"]
    means: Float64[np.ndarray, "people figures"]
    rows: Float64[np.ndarray, " people"]

    def over_people(self, weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws figures"]:
        """Each person counts once: the paper's mean over folds."""
        return weights @ self.means / weights.sum(axis=1, keepdims=True)

    def pooled(self, weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws figures"]:
        """Each photo counts once; nan in draws that hold none."""
        rows = weights @ self.rows
        with np.errstate(invalid="ignore"):
            return weights @ (self.means * self.rows[:, None]) / rows[:, None]


def person_means(
    values: Float64[np.ndarray, "rows figures"],
    person: Shaped[np.ndarray, " rows"],
    *,
    where: Bool[np.ndarray, " rows"] | None = None,
) -> PersonMeans:
    """Means of the columns of `values` by person, over the rows chosen by `where` (all of them by default).

    People without such a row stay in, with 0 rows: they must be drawn too, or the intervals of a decade would
    treat the number of its people as known.
    """
    people, of = np.unique(person, return_inverse=True)
    chosen = np.ones(len(values), bool) if where is None else where
    rows = np.bincount(of, weights=chosen, minlength=len(people))
    sums = np.zeros((len(people), values.shape[1]))
    np.add.at(sums, of[chosen], values[chosen])
    return PersonMeans(people, sums / np.maximum(rows, 1)[:, None], rows)
