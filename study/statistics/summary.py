"""Figures with their uncertainty: what predictions of the people left out say about a config, and what not.

Everything here is computed from a predictions table (study.artifacts.predictions) and is pure NumPy.

Two means run through this module. *Over people* is the paper's: a figure for each fold, then the mean of the
folds (in LOPO a fold is a person), so that each person counts once. *Pooled* counts each photo once.
Intervals are always over people: photos of one person share a face, so resampling photos would promise too
much.
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
"""Years at which the cumulative score is given: CS(0) to CS(15)."""

# ---- MAE, RMSE, CS, bias --------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """The main figures of one config. Years, but for cs (percent); with seeds, means over the seeds.

    mae, rmse and cs are means over people as in the paper; *_pooled count each photo once. seed_maes has the
    MAE over people of each seed, whose spread no interval over people shows. committee is the MAE over people
    of the seeds' averaged answers, a model that costs one training a seed; nan where there is one seed.
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
    seed_maes: tuple[float, ...]
    committee: Interval


def summarise(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Summary:
    """MAE, RMSE, CS and bias of one config over people and pooled, with intervals over people."""
    error = errors(predictions.predicted, predictions.age)
    within = np.abs(error)[:, None] <= np.array(THRESHOLDS, np.float64)
    linear = person_means(np.column_stack([np.abs(error), error, 100.0 * within]), predictions.person)
    # A root is not linear: it is taken by seed (and fold) before any mean, as one training would be judged.
    of_seed = [
        person_means(np.square(error[rows])[:, None], predictions.person[rows])
        for rows in (predictions.seed == s for s in predictions.seeds)
    ]
    roots = PersonMeans(linear.people, np.mean([np.sqrt(m.means) for m in of_seed], axis=0), linear.rows)

    def over_people(weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws figures"]:
        return np.hstack([linear.over_people(weights), roots.over_people(weights)])

    def pooled(weights: Float64[np.ndarray, "draws people"]) -> Float64[np.ndarray, "draws figures"]:
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
        cs=Intervals(by_person.value[2:-1], by_person.low[2:-1], by_person.high[2:-1]),
        cs_pooled=Intervals(by_photo.value[2:-1], by_photo.low[2:-1], by_photo.high[2:-1]),
        seed_maes=seed_maes,
        committee=committee,
    )


def mae_over_people(predictions: Predictions, *, seed: int) -> float:
    """MAE of one seed in years: the mean over people of each person's mean absolute error."""
    rows = predictions.seed == seed
    error = np.abs(errors(predictions.predicted[rows], predictions.age[rows]))
    return float(person_means(error[:, None], predictions.person[rows]).means.mean())


@dataclass(frozen=True)
class Decade:
    """Errors on photos of people who were low to high years old, pooled, in years."""

    low: int
    high: int
    photos: int
    people: int
    mae: Interval
    bias: Interval


def by_decade(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> list[Decade]:
    """MAE and bias by decade of true age (0 to 9, 10 to 19, ...), decades without a photo left out.

    Figures are pooled within the decade; intervals are over people, and nan where a decade has fewer than
    FEW_PEOPLE of them.
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
    """MAE and bias of one person's photos, in years."""

    person: str
    photos: int
    mae: float
    bias: float


def by_person(predictions: Predictions) -> list[PersonError]:
    """Errors of each person, the worst first."""
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

    difference is the MAE over people of `worse` less that of `better`, in years, so never below 0; p is of a
    sign-flip test over people, and holm the same after Holm's correction over all comparisons made together.
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
        """Whether the data tell the two apart: the corrected test and the interval must both say so."""
        return self.holm <= 1 - self.level and self.difference.low > 0

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
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

    The test flips the sign of each person's difference at random (the null: either config would have served
    this person as well as the other), two-sided. Raises ValueError where configs were not tested on the same
    photos.
    """
    if len({tuple(_key(table)) for table in configs.values()}) > 1:
        raise ValueError(f"{', '.join(configs)} were not tested on the same photos: only like is compared with like")
    means = {name: _absolute(table) for name, table in configs.items()}
    pairs = [sorted(pair, key=lambda name: means[name].means.mean()) for pair in itertools.combinations(configs, 2)]
    if not pairs:
        return []
    first = next(iter(means.values()))
    gaps = np.hstack([means[worse].means - means[better].means for better, worse in pairs])
    gap = PersonMeans(first.people, gaps, first.rows)
    difference = bootstrap(gap.over_people, people=len(gaps), draws=draws, seed=seed, level=level)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, len(gaps)))
    as_far = np.abs(signs @ gaps) >= np.abs(gaps.sum(axis=0)) * (1 - 1e-9)
    p = [float(each) for each in (1 + as_far.sum(axis=0)) / (1 + flips)]  # the data count as one of the flips
    comparisons = [
        Comparison(better, worse, difference[i], p[i], corrected, len(pairs), level)
        for i, ((better, worse), corrected) in enumerate(zip(pairs, holm(p), strict=True))
    ]
    return sorted(comparisons, key=lambda each: -each.difference.value)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down corrected p-values, in the order given: the chance of any false claim stays
    below p."""
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


# ---- the least that a model must beat -------------------------------------------------------------


def constant_guess(predictions: Predictions) -> Predictions:
    """The answer of a model that never looks: for each person, the median age on the other people's photos.

    Its distribution is how often each age occurs on the other people's photos, so NLL and CRPS have their
    least too. On FG-NET its MAE is 9.71 pooled and 9.72 over people.
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
"""All predictions spread less than this share of the ages' spread: the model answers nearly one age for
all."""

FOLD_SPREAD_ALARM = 0.1
"""The same within a fold, where the left-out person's own ages spread by at least two years."""


def alarms(predictions: Predictions, *, draws: int = DRAWS, seed: int = 0) -> list[str]:
    """What looks like a model that collapsed to a constant, one sentence each; empty where nothing does.

    The rule. (1) The standard deviation of all predictions of a seed is below 20 % of that of the true ages.
    (2) The MAE is not below the constant guess's, with an interval over people that leaves 0 out. (3) Within
    a fold, the predictions' standard deviation is below 10 % of the ages', for a person with at least 3
    photos whose ages have a standard deviation of at least 2 years: one fold's training collapsed though the
    others did not.
    """
    found = []
    for s in predictions.seeds:
        rows = predictions.seed == s
        share = predictions.predicted[rows].std() / max(predictions.age[rows].std(), 1e-9)
        if share < SPREAD_ALARM:
            found.append(
                f"Seed {s} answers nearly the same age for everyone: its predictions spread "
                f"{share:.0%} as far as the true ages.".replace("%", " %")
            )
    if len(predictions.people) > 1:
        guess, ours = _absolute(constant_guess(predictions)), _absolute(predictions)
        gain = PersonMeans(ours.people, guess.means - ours.means, ours.rows)
        better = bootstrap(gain.over_people, people=len(ours.people), draws=draws, seed=seed)[0]
        if better.value <= 0 or better.low <= 0:
            found.append(
                f"No better than a constant guess: MAE {ours.means.mean():.2f} years, the guess scores "
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
        found.append(f"Nearly one age for all photos of the person in {len(collapsed)} of {folds} folds: {named}.")
    return found
