"""For whom does a model err? Errors by group, and whether a group's differs from the others' at the same ages.

Intervals and tests are over people: a group's mean is a ratio of sums over people, whose error is linearised (each
person's influence on it), with Student's t. For thousands of people this needs no resampling. Groups differ in age, and
so does the error: a difference is taken within decades of true age, and averaged over the decades of all photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from scipy.stats import t as student

from study.artifacts.predictions import Predictions
from study.plain import plain
from study.statistics.bootstrap import FEW_PEOPLE, LEVEL, Interval
from study.statistics.summary import holm
from trainables.metrics import errors

Rows = Bool[np.ndarray, " rows"]


@dataclass(frozen=True)
class GroupError:
    """Errors (years) on a group's photos, pooled, with intervals over people; nan ends with fewer than FEW_PEOPLE.

    attribute and name: such as "sex", "female". more: the group's MAE minus the others', at the same ages. p: that it
    is 0, after Holm's correction over all groups that were compared; nan where nothing could be compared. share: of the
    group's photos, those in decades in which both had people enough.
    """

    attribute: str
    name: str
    photos: int
    people: int
    mae: Interval
    bias: Interval
    more: Interval
    p: float
    share: float

    @property
    def decided(self) -> bool:
        """Whether the data show a difference from the others."""
        return bool(self.p <= 1 - LEVEL)

    @property
    def sentence(self) -> str:
        """The difference in one sentence."""
        which = "larger" if self.more.value > 0 else "smaller"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        low, high = sorted((abs(self.more.low), abs(self.more.high)))
        return (
            f"At the same ages the error for {self.attribute} {plain(self.name)} is {which} than for the others by "
            f"{abs(self.more.value):.2f} years (95 % {low:.2f} to {high:.2f}, {p} after Holm's correction)."
        )


def by_group(predictions: Predictions, attributes: Mapping[str, Shaped[np.ndarray, " rows"]]) -> list[GroupError]:
    """The errors of each value of each attribute, in their order; rows with "" (not known) are in no group.

    An attribute of which all photos have one value is left out. Of two groups that are each other's rest, both are
    tested as one comparison.
    """
    error = errors(predictions.predicted, predictions.age)
    seeds = len(predictions.seeds)
    found: list[GroupError] = []
    tests: list[tuple[str, bool]] = []  # the attribute, and whether its groups are tested together
    for attribute, values in attributes.items():
        known = values != ""
        names = [str(name) for name in dict.fromkeys(np.sort(values[known]).tolist())]
        if len(names) < 2:
            continue
        for name in names:
            inside, others = values == name, known & (values != name)
            people = len(np.unique(predictions.person[inside]))
            more, p, share = _more(np.abs(error), predictions, inside, others)
            mae, bias = (_mean(each, predictions.person, inside, people) for each in (np.abs(error), error))
            photos = int(inside.sum()) // seeds
            found.append(GroupError(attribute, name, photos, people, mae, bias, more, p, share))
            tests.append((attribute, len(names) == 2))
    return _corrected(found, tests)


def _corrected(found: list[GroupError], tests: list[tuple[str, bool]]) -> list[GroupError]:
    """With p after Holm's correction."""
    one: dict[object, float] = {}
    keys: list[object] = []
    for number, (each, (attribute, together)) in enumerate(zip(found, tests, strict=True)):
        keys.append(attribute if together else number)
        if not np.isnan(each.p):
            one[keys[-1]] = each.p
    corrected = dict(zip(one, holm(list(one.values())), strict=True)) if one else {}
    return [
        GroupError(**{**vars(each), "p": corrected.get(key, np.nan)}) for each, key in zip(found, keys, strict=True)
    ]


@dataclass(frozen=True)
class Rate:
    """The share (0 to 1) of a group's photos to which something happens, with an interval over people."""

    name: str
    photos: int
    share: Interval


YOUNG = (14, 17)
"""Ages of those who are nearly, but not yet, 18."""

CHALLENGE = 25
"""Who looks younger is asked for a document."""


def passed_as_adult(predictions: Predictions, groups: Mapping[str, Rows]) -> list[Rate]:
    """The false positive rate of "over 18": the share of YOUNG photos that are predicted as CHALLENGE or older.

    groups: rows by name. Groups without such a photo are left out.
    """
    young = (predictions.age >= YOUNG[0]) & (predictions.age <= YOUNG[1])
    passed = (predictions.predicted >= CHALLENGE).astype(np.float64)
    found = []
    for name, rows in groups.items():
        inside = rows & young
        if inside.any():
            people = len(np.unique(predictions.person[inside]))
            mean = _mean(passed, predictions.person, inside, people)
            share = Interval(mean.value, max(0.0, mean.low), min(1.0, mean.high))
            found.append(Rate(name, int(inside.sum()) // len(predictions.seeds), share))
    return found


def mae_between(predictions: Predictions, low: int, high: int) -> Interval:
    """MAE (years) on the photos of these true ages, with an interval over people; nan without any."""
    inside = (predictions.age >= low) & (predictions.age <= high)
    if not inside.any():
        return Interval(np.nan, np.nan, np.nan)
    people = len(np.unique(predictions.person[inside]))
    return _mean(np.abs(errors(predictions.predicted, predictions.age)), predictions.person, inside, people)


def _mean(
    values: Float64[np.ndarray, " rows"], person: Shaped[np.ndarray, " rows"], rows: Rows, people: int
) -> Interval:
    """The mean of the values of these rows."""
    mean = float(values[rows].mean())
    if people < FEW_PEOPLE:
        return Interval(mean, np.nan, np.nan)
    influence = _sum_by(person[rows], (values[rows] - mean) / rows.sum())
    return _interval(mean, influence)


def _more(
    values: Float64[np.ndarray, " rows"], predictions: Predictions, inside: Rows, others: Rows
) -> tuple[Interval, float, float]:
    """The mean of `inside` minus that of `others` within decades of age, p, and the share of `inside` compared."""
    person, decade = predictions.person, predictions.age // 10
    compared = []
    for ten in np.unique(decade):
        mine, theirs = inside & (decade == ten), others & (decade == ten)
        if min(len(np.unique(person[mine])), len(np.unique(person[theirs]))) >= FEW_PEOPLE:
            compared.append((mine, theirs))
    if not compared:
        return Interval(np.nan, np.nan, np.nan), np.nan, 0.0
    photos = np.array([float((mine | theirs).sum()) for mine, theirs in compared])
    weights = photos / photos.sum()
    difference, influence = 0.0, np.zeros(len(values))
    for weight, (mine, theirs) in zip(weights, compared, strict=True):
        for sign, rows in ((weight, mine), (-weight, theirs)):
            mean = values[rows].mean()
            difference += float(sign * mean)
            influence[rows] += sign * (values[rows] - mean) / rows.sum()
    by_person = _sum_by(person, influence)
    by_person = by_person[by_person != 0] if (by_person != 0).any() else by_person
    interval = _interval(difference, by_person)
    error = _standard_error(by_person)
    p = float(2 * student.sf(abs(difference) / error, len(by_person) - 1)) if error > 0 else float("nan")
    share = sum(float(mine.sum()) for mine, _ in compared) / float(inside.sum())
    return interval, p, share


def _sum_by(
    person: Shaped[np.ndarray, " rows"], values: Float64[np.ndarray, " rows"]
) -> Float64[np.ndarray, " people"]:
    _, of = np.unique(person, return_inverse=True)
    return np.bincount(of, weights=values)


def _standard_error(influence: Float64[np.ndarray, " people"]) -> float:
    people = len(influence)
    return float(np.sqrt(np.square(influence).sum() * people / (people - 1))) if people > 1 else float("nan")


def _interval(value: float, influence: Float64[np.ndarray, " people"]) -> Interval:
    away = float(student.ppf((1 + LEVEL) / 2, max(len(influence) - 1, 1))) * _standard_error(influence)
    return Interval(value, value - away, value + away)
