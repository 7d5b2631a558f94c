"""Metrics with confidence intervals: what held-out predictions do and do not show about a config.

Everything here is computed from a predictions table (study.artifacts.predictions).

There are two kinds of mean. *Over people* is the paper's: a metric for each fold, then the mean of the folds (in LOPO a
fold is a person), so that each person counts once. *Pooled* counts each photo once. Intervals are always over people:
photos of one person share a face, so resampling photos would give intervals that are too narrow.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from study.artifacts.predictions import Predictions
from study.plain import plain
from study.statistics.bootstrap import (
    DRAWS,
    FEW_PEOPLE,
    LEVEL,
    Interval,
    Intervals,
    PersonMeans,
    bootstrap,
    person_means,
)
from trainables.metrics import errors

THRESHOLDS = tuple(range(16))
"""Thresholds of the cumulative score in years: CS(0) to CS(15)."""

PAIRS = 256
"""Pairs of configs that are resampled together. Memory grows with it, not with the number of pairs."""

# ---- MAE, RMSE, CS, bias --------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """The main metrics of one config, in years (cs: percent). With several seeds they are means over the seeds.

    mae, rmse and cs are means over people as in the paper; *_pooled count each photo once. seed_maes: the MAE over
    people of each seed; intervals over people do not contain their spread. committee: the MAE over people of the seeds'
    averaged predictions, a model that costs one training per seed; nan if there is one seed.
    cs counts the errors of the real-valued predictions, cs_rounded those of predictions rounded to whole years first
    (half up), as papers do that predict a class: it counts an error of up to 5.5 years in CS(5).
    """

    people: int
    photos: int
    mae: Interval
    mae_pooled: Interval
    rmse: Interval
    rmse_pooled: Interval
    bias: Interval
    cs: Intervals
    cs_pooled: Intervals
    cs_rounded: Intervals
    seed_maes: tuple[float, ...]
    committee: Interval


def summarise(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Summary:
    """MAE, RMSE, CS and bias of one config over people and pooled, with intervals over people."""
    error = errors(predictions.predicted, predictions.age)
    rounded = errors(np.floor(predictions.predicted.astype(np.float64) + 0.5), predictions.age)
    within, whole = (np.abs(each)[:, None] <= np.array(THRESHOLDS, np.float64) for each in (error, rounded))
    linear = person_means(np.column_stack([np.abs(error), error, 100.0 * within, 100.0 * whole]), predictions.person)
    # A root is not linear: it is taken for each seed (and fold) before any mean, as for a single training.
    of_seed = [
        person_means(np.square(error[rows])[:, None], predictions.person[rows])
        for rows in (predictions.seed == s for s in predictions.seeds)
    ]
    roots = PersonMeans(linear.people, np.mean([np.sqrt(m.means) for m in of_seed], axis=0), linear.rows)

    def over_people(weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws metrics"]:
        return np.hstack([linear.over_people(weights), roots.over_people(weights)])

    def pooled(weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws metrics"]:
        root = np.mean([np.sqrt(m.pooled(weights)) for m in of_seed], axis=0)
        return np.hstack([linear.pooled(weights), root])

    people = len(linear.people)
    by_person = bootstrap(over_people, people=people, draws=draws, seed=seed, level=level)
    by_photo = bootstrap(pooled, people=people, draws=draws, seed=seed, level=level)
    seed_maes = tuple(mae_over_people(predictions, seed=int(s)) for s in predictions.seeds)
    committee = Interval(np.nan, np.nan, np.nan)
    if len(seed_maes) > 1:
        averaged = predictions.average_seeds()
        apart = np.abs(errors(averaged.predicted, averaged.age))[:, None]
        means = person_means(apart, averaged.person)
        committee = bootstrap(means.over_people, people=people, draws=draws, seed=seed, level=level)[0]
    return Summary(
        people=people,
        photos=predictions.photos,
        mae=by_person[0],
        mae_pooled=by_photo[0],
        rmse=by_person[len(by_person) - 1],
        rmse_pooled=by_photo[len(by_photo) - 1],
        bias=by_person[1],
        cs=_columns(by_person, 2),
        cs_pooled=_columns(by_photo, 2),
        cs_rounded=_columns(by_person, 2 + len(THRESHOLDS)),
        seed_maes=seed_maes,
        committee=committee,
    )


def _columns(metrics: Intervals, first: int) -> Intervals:
    """The metrics of all THRESHOLDS, of which the first stands in this column."""
    some = slice(first, first + len(THRESHOLDS))
    return Intervals(metrics.value[some], metrics.low[some], metrics.high[some])


def mae_over_people(predictions: Predictions, *, seed: int) -> float:
    """MAE of one seed in years: the mean over people of each person's mean absolute error."""
    rows = predictions.seed == seed
    error = np.abs(errors(predictions.predicted[rows], predictions.age[rows]))
    return float(person_means(error[:, None], predictions.person[rows]).means.mean())


@dataclass(frozen=True)
class Decade:
    """Pooled errors (years) on the photos with true ages from low to high."""

    low: int
    high: int
    photos: int
    people: int
    mae: Interval
    bias: Interval


def by_decade(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> list[Decade]:
    """MAE and bias by decade of true age (0 to 9, 10 to 19, ...), for the decades that have photos.

    Metrics are pooled within the decade. Intervals are over people, and nan if a decade has fewer than FEW_PEOPLE.
    """
    error = errors(predictions.predicted, predictions.age)
    decade = predictions.age // 10
    found = []
    for ten in np.unique(decade):
        where = decade == ten
        means = person_means(np.column_stack([np.abs(error), error]), predictions.person, where=where)
        people = int((means.rows > 0).sum())
        both = bootstrap(means.pooled, people=len(means.people), draws=draws, seed=seed, level=level)
        mae, bias = (both[i] if people >= FEW_PEOPLE else Interval(both[i].value, np.nan, np.nan) for i in (0, 1))
        photos = int(where.sum()) // len(predictions.seeds)
        found.append(Decade(10 * int(ten), 10 * int(ten) + 9, photos, people, mae, bias))
    return found


@dataclass(frozen=True)
class PersonError:
    """MAE and bias on one person's photos, in years."""

    person: str
    photos: int
    mae: float
    bias: float


def by_person(predictions: Predictions) -> list[PersonError]:
    """Errors of each person, the largest MAE first."""
    error = errors(predictions.predicted, predictions.age)
    means = person_means(np.column_stack([np.abs(error), error]), predictions.person)
    seeds = len(predictions.seeds)
    found = [
        PersonError(str(person), int(rows) // seeds, float(mae), float(bias))
        for person, (mae, bias), rows in zip(means.people, means.means, means.rows, strict=True)
    ]
    return sorted(found, key=lambda each: (-each.mae, each.person))


# ---- two configs on the same people ---------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """How much better one config is than another, paired over people.

    difference: MAE over people of `worse` minus that of `better`, in years, so never below 0. p: of a sign-flip test
    over people. holm: p after Holm's correction over all comparisons that were made together.
    """

    better: str
    worse: str
    difference: Interval
    p: float
    holm: float
    comparisons: int
    level: float = LEVEL

    @property
    def decided(self) -> bool:
        """Whether the data show a difference: both the corrected test and the interval must."""
        return self.holm <= 1 - self.level and self.difference.low > 0

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        gap = f"{self.difference.value:.2f} years"
        if not np.isnan(self.difference.low):
            low_to_high = f"{self.difference:.2f}".split("(")[1].rstrip(")")
            gap += f", {100 * self.level:.0f} % interval {low_to_high}"
        p = "p < 0.001" if self.holm < 0.001 else f"p = {self.holm:.3f}"
        if self.comparisons > 1:
            p += f" after Holm's correction over {self.comparisons} comparisons"
        if self.decided:
            return f"{self.better} is better than {self.worse} by {gap} ({p})."
        return (
            f"This data cannot tell {self.better} and {self.worse} apart: "
            f"the MAE of {self.better} is lower by {gap} ({p})."
        )


def compare(
    configs: Mapping[str, Predictions],
    *,
    draws: int = DRAWS,
    flips: int = 20_000,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Comparison]:
    """Every pair of configs compared by MAE over people, the largest difference first.

    The test flips the sign of each person's difference at random (null hypothesis: for each person, either config could
    have had either error), two-sided. Memory does not grow with the number of pairs, except for the results. Raises
    ValueError if the configs were not tested on the same photos.
    """
    if len({tuple(_key(table)) for table in configs.values()}) > 1:
        raise ValueError(f"{', '.join(configs)} were not tested on the same photos: they cannot be compared")
    means = {name: _absolute(table) for name, table in configs.items()}
    pairs = [sorted(pair, key=lambda name: means[name].means.mean()) for pair in itertools.combinations(configs, 2)]
    if not pairs:
        return []
    first = next(iter(means.values()))
    people = len(first.people)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, people))
    differences: list[Interval] = []
    p: list[float] = []
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        gaps = np.hstack([means[worse].means - means[better].means for better, worse in some])
        gap = PersonMeans(first.people, gaps, first.rows)
        found = bootstrap(gap.over_people, people=people, draws=draws, seed=seed, level=level)
        differences += [found[i] for i in range(len(some))]
        flipped = signs @ gaps
        as_far = np.abs(flipped, out=flipped) >= np.abs(gaps.sum(axis=0)) * (1 - 1e-9)
        p += ((1 + as_far.sum(axis=0)) / (1 + flips)).tolist()  # the data themselves count as one of the flips
    comparisons = [
        Comparison(better, worse, difference, uncorrected, corrected, len(pairs), level)
        for (better, worse), difference, uncorrected, corrected in zip(pairs, differences, p, holm(p), strict=True)
    ]
    return sorted(comparisons, key=lambda each: -each.difference.value)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down corrected p-values, in the order given. They bound the chance of any false claim."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(each) for each in corrected]


def _absolute(predictions: Predictions) -> PersonMeans:
    error = np.abs(errors(predictions.predicted, predictions.age))
    return person_means(error[:, None], predictions.person)


def _key(predictions: Predictions) -> list[tuple[str, str, int]]:
    rows = slice(0, predictions.photos)  # sorted by seed, then photo: the first seed holds every photo
    return list(
        zip(
            predictions.photo[rows].tolist(),
            predictions.person[rows].tolist(),
            predictions.age[rows].tolist(),
            strict=True,
        )
    )


# ---- the baseline, and failed models -------------------------------------------------------------


def constant_guess(predictions: Predictions) -> Predictions:
    """The baseline that ignores the photo: for each person, the median age on the other people's photos.

    Its distribution is how often each age occurs on the other people's photos, as a baseline for NLL and CRPS. On
    FG-NET its MAE is 9.71 pooled and 9.72 over people.
    """
    first = slice(0, predictions.photos)
    age, person = predictions.age[first], predictions.person[first]
    if len(np.unique(person)) < 2:
        raise ValueError("a constant guess for a person needs the photos of at least one other")
    top = max(predictions.distribution.shape[1], int(age.max()) + 1)
    predicted = np.empty(len(age), np.float32)
    distribution = np.empty((len(age), top), np.float32)
    for one in np.unique(person):
        theirs = person == one
        predicted[theirs] = np.median(age[~theirs])
        counts = np.bincount(age[~theirs], minlength=top)
        distribution[theirs] = counts / counts.sum()
    return Predictions(
        photo=predictions.photo[first],
        person=person,
        age=age,
        predicted=predicted,
        distribution=distribution,
        fold=person,
        seed=np.zeros(len(age), np.int32),
        fingerprint=np.full(len(age), "constant guess"),
    )


SPREAD_ALARM = 0.2
"""Alarm if the standard deviation of all predictions is below this share of the true ages'."""

FOLD_SPREAD_ALARM = 0.1
"""The same within a fold, if the standard deviation of the person's true ages is at least two years."""


def alarms(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0) -> list[str]:
    """One sentence for each sign of a model that predicts nearly one age for every photo; empty if there is none.

    (1) The standard deviation of all predictions of a seed is below 20 % of that of the true ages. (2) The MAE is not
    lower than the constant guess's, with an interval over people that excludes 0. (3) Within a fold, the predictions'
    standard deviation is below 10 % of the ages', for a person with at least 3 photos whose ages have a standard
    deviation of at least 2 years: the training of this one fold collapsed.
    """
    found = []
    for s in predictions.seeds:
        rows = predictions.seed == s
        share = predictions.predicted[rows].std() / max(predictions.age[rows].std(), 1e-9)
        if share < SPREAD_ALARM:
            found.append(
                f"Seed {s} predicts nearly the same age for everyone: the standard deviation of its predictions is "
                f"{share:.0%} of the true ages'.".replace("%", " %")
            )
    if len(predictions.people) > 1:
        guess, ours = _absolute(constant_guess(predictions)), _absolute(predictions)
        gain = PersonMeans(ours.people, guess.means - ours.means, ours.rows)
        better = bootstrap(gain.over_people, people=len(ours.people), draws=draws, seed=seed)[0]
        if better.value <= 0 or better.low <= 0:
            found.append(
                f"Not better than a constant guess: MAE {ours.means.mean():.2f} years, constant guess "
                f"{guess.means.mean():.2f}."
            )
    collapsed = []
    for s, person in itertools.product(predictions.seeds, predictions.people):
        rows = (predictions.seed == s) & (predictions.person == person)
        ages = predictions.age[rows].std()
        if rows.sum() >= 3 and ages >= 2 and predictions.predicted[rows].std() < FOLD_SPREAD_ALARM * ages:
            collapsed.append(f"{plain(person, most=200)} (seed {s})")
    if collapsed:
        folds = len(predictions.seeds) * len(predictions.people)
        named = ", ".join(collapsed[:5]) + (f" and {len(collapsed) - 5} more" if len(collapsed) > 5 else "")
        found.append(f"Nearly one age for all photos of a person in {len(collapsed)} of {folds} folds: {named}.")
    return found
