"""Prediction intervals for the age of one face, calibrated on the predictions of people who were left out.

The score of a photo is |age - predicted| / spread. The factor of a level is a quantile of the scores in which every
person has the same weight, however many photos they have, and a new person has one share more, at infinity. With it an
interval contains the true age on a photo of a new person, exchangeable with these, with at least that probability
(hierarchical conformal prediction: Lee, Barber and Willett, 2023; Dunn, Wasserman and Ramdas, JASA 2022). Nothing is
promised for one decade of ages, nor for people of another kind than these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from study.artifacts.predictions import Predictions
from study.statistics.bootstrap import Interval, bootstrap, person_means
from study.statistics.intervals import interval, spread

LEVELS = (0.8, 0.95)
"""The levels of the intervals that a model gives."""


@dataclass(frozen=True)
class Scaling:
    """The intervals of one level.

    factor: of the spread; None where there are too few people for this level. covered: the share of photos, each person
    counting once, whose true age lay in an interval made without that person's photos; its own interval is over people.
    width: mean width of these intervals, years.
    """

    level: float
    factor: float | None
    covered: Interval
    width: float


def calibrate_intervals(predictions: Predictions, *, draws: int = 4000) -> list[Scaling]:
    """A Scaling for each of LEVELS, from held-out predictions; several seeds count as further photos of a person."""
    ages = predictions.distribution.shape[1]
    width = spread(predictions.distribution)
    predicted = predictions.predicted.astype(np.float64)
    score = np.abs(predictions.age - predicted) / width
    found = []
    for level in LEVELS:
        inside, widths = np.zeros(len(score)), np.zeros(len(score))
        for person in predictions.people:
            mine = predictions.person == person
            factor = quantile(score[~mine], predictions.person[~mine], level=level)
            low, high = interval(predicted[mine], width[mine], factor, ages=ages)
            inside[mine] = (low <= predictions.age[mine]) & (predictions.age[mine] <= high)
            widths[mine] = high - low
        means = person_means(np.column_stack([inside, widths]), predictions.person)
        covered = bootstrap(means.over_people, people=len(means.people), draws=draws)
        factor = quantile(score, predictions.person, level=level)
        found.append(Scaling(level, factor, covered[0], float(covered.value[1])))
    return found


def quantile(score: Float64[np.ndarray, " rows"], person: Shaped[np.ndarray, " rows"], *, level: float) -> float | None:
    """The least score s such that rows with scores up to s have the share `level` of the weight; None: there is none.

    A row of a person with n rows weighs 1 / ((K + 1) n) among K people; the rest, 1 / (K + 1), lies at infinity.
    """
    people, of, rows = np.unique(person, return_inverse=True, return_counts=True)
    order = np.argsort(score, kind="stable")
    weight = (1 / ((len(people) + 1) * rows[of]))[order]
    reached = np.flatnonzero(np.cumsum(weight) >= level - 1e-9)
    return float(score[order][reached[0]]) if len(reached) else None
