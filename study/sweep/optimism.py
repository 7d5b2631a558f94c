"""How far a sweep's choice can be trusted: what choosing by an error claims, and would other people agree? Pure.

The optimism gap. The least of many errors is too low, since luck had a part in being the least. How much is computed
without any further training by bootstrap bias-corrected cross-validation (BBC-CV: Tsamardinos, Greasidou and
Borboudakis, Machine Learning 107, 2018), from the out-of-fold errors that the journal keeps: people are resampled, the
best trial on those drawn is taken, and its error on the people not drawn is averaged over the draws. The gap is that
corrected error less the least error. It lacks what the sampler and the pruner learned from the same people, and the
pruned trials, so it is a lower bound; choosing on the 63 % of people in a draw makes it a little too large again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import spearmanr

from study.artifacts.choice import BlockChoice, Choice, Optimism
from study.sweep.journal import Tried
from trainables.faces.table import Faces
from trainables.losses import MeanVariance

DRAWS, OUTER = 1000, 200
"""Draws of people behind a corrected error, and behind its interval (each with OUTER draws of its own)."""

DRAWN = 2_000_000
"""People in all draws that are in memory at once."""


@dataclass(frozen=True)
class Errors:
    """A block's complete trials with each decoder: MAE (years) by row and person, and each person's photos."""

    numbers: tuple[int, ...]
    people: tuple[str, ...]
    mae: Float64[np.ndarray, "trials people"]
    photos: Float64[np.ndarray, " people"]


@dataclass(frozen=True)
class Correction:
    """Least error (years, pooled over photos), the same corrected for being the least, and what each draw chose."""

    least: float
    corrected: float
    picks: Mapping[int, int]

    @property
    def gap(self) -> float:
        return self.corrected - self.least


def count_photos(faces: Faces) -> Counter[str]:
    """How many photos each person has; a face that names no person stands for itself, under its photo's name."""
    return Counter(str(who or photo) for who, photo in zip(faces.person, faces.photo, strict=True))


def errors_of(journal: Mapping[int, Tried], faces: Faces) -> Errors:
    """The complete trials' errors, one row for each decoder that the choice had; from the journal alone."""
    complete = [tried for _, tried in sorted(journal.items()) if tried.state == "complete"]
    count = count_photos(faces)
    people = tuple(sorted(complete[0].people))
    rows = [(tried.number, each) for tried in complete for each in (tried.decoded.values() or [tried.people])]
    mae = np.array([[each[who] for who in people] for _, each in rows], np.float64)
    return Errors(tuple(n for n, _ in rows), people, mae, np.array([count[p] for p in people], np.float64))


def correct(
    errors: Errors, *, draws: int = DRAWS, seed: int = 0, weights: Float64[np.ndarray, " people"] | None = None
) -> Correction:
    """BBC-CV of the least error; with weights, of people who are there that many times. NaN where it is one alone, or
    nobody."""
    times = np.ones(len(errors.people)) if weights is None else weights
    if not times.any():
        return Correction(float("nan"), float("nan"), Counter())
    rng = np.random.default_rng(seed)
    picked, apart = [], []
    some = max(1, DRAWN // len(errors.people))  # draws at a time: the same numbers in less memory
    for first in range(0, draws, some):
        drawn = rng.multinomial(int(times.sum()), times / times.sum(), size=min(some, draws - first)) * errors.photos
        left = np.where(drawn == 0, times, 0.0) * errors.photos
        best = (drawn @ errors.mae.T).argmin(axis=1)
        weight = left.sum(axis=1)
        apart += ((left * errors.mae[best]).sum(axis=1)[weight > 0] / weight[weight > 0]).tolist()
        picked += best.tolist()
    least = float((errors.mae @ (times * errors.photos)).min() / (times * errors.photos).sum())
    return Correction(
        least, float(np.mean(apart)) if apart else float("nan"), Counter(errors.numbers[index] for index in picked)
    )


def optimism(blocks: Sequence[Errors], *, draws: int = DRAWS, outer: int = OUTER, seed: int = 0) -> Optimism:
    """Least and corrected error, mean over blocks, and their gap with a 95 % interval over people.

    A person who is in several blocks' studies is drawn for all of them at once.
    """
    whole = [correct(each, draws=draws, seed=seed) for each in blocks]
    everyone = sorted({who for each in blocks for who in each.people})
    place = {who: index for index, who in enumerate(everyone)}
    at = [np.array([place[who] for who in each.people]) for each in blocks]
    rng, gaps = np.random.default_rng(seed), []
    for draw in range(outer):
        times = rng.multinomial(len(everyone), np.full(len(everyone), 1 / len(everyone))).astype(np.float64)
        gaps.append(
            [
                correct(each, draws=outer, seed=draw, weights=times[where]).gap
                for each, where in zip(blocks, at, strict=True)
            ]
        )
    low, high = np.nanquantile(np.mean(gaps, axis=1), [0.025, 0.975])
    return Optimism(
        claimed=float(np.mean([each.least for each in whole])),
        corrected=float(np.mean([each.corrected for each in whole])),
        gap=float(np.mean([each.gap for each in whole])),
        gap_low=float(low),
        gap_high=float(high),
    )


def common_trials(journals: Sequence[Mapping[int, Tried]]) -> tuple[int, float | None]:
    """How many trials two blocks have in common (same config, both complete), and how alike the blocks rank them.

    Of all pairs of blocks the mean count and the mean of Spearman's rho; None where no pair has four in common.
    """
    counts, rhos = [], []
    for one, other in itertools.combinations(journals, 2):
        first, second = (
            {t.config.fingerprint(): t.mae for t in j.values() if t.state == "complete"} for j in (one, other)
        )
        both = sorted(first.keys() & second.keys())
        counts.append(len(both))
        if len(both) >= 4:
            rhos.append(float(spearmanr([first[key] for key in both], [second[key] for key in both]).statistic))
    return int(np.mean(counts)) if counts else 0, float(np.mean(rhos)) if rhos else None


def spread(chosen: Sequence[Tried]) -> dict[str, tuple[float, float]]:
    """Least and largest value that the blocks chose of the learning rate and, where all have it, both lambdas."""
    values = {"learning rate": [tried.config.learning_rate for tried in chosen]}
    losses = [tried.config.loss for tried in chosen]
    if all(isinstance(loss, MeanVariance) for loss in losses):
        values["λ1"] = [loss.mean_weight for loss in losses if isinstance(loss, MeanVariance)]
        values["λ2"] = [loss.variance_weight for loss in losses if isinstance(loss, MeanVariance)]
    return {name: (min(each), max(each)) for name, each in values.items()}


def describe_choice(
    names: Sequence[str], journals: Sequence[Mapping[int, Tried]], chosen: Sequence[Tried], faces: Faces
) -> Choice:
    """For best.json and the report: the stability of the choice, and its optimism (years)."""
    errors = [errors_of(journal, faces) for journal in journals]
    rows = []
    for name, each, journal, winner in zip(names, errors, journals, chosen, strict=True):
        found = correct(each)
        draws = sum(found.picks.values())
        like = [n for n, tried in journal.items() if tried.config.backbone == winner.config.backbone]
        rows.append(
            BlockChoice(
                block=name,
                trial=winner.number,
                config=dict(winner.trial),
                complete=len(set(each.numbers)),
                people=len(each.people),
                claimed=found.least,
                corrected=found.corrected,
                again=found.picks.get(winner.number, 0) / draws,
                same_backbone=sum(found.picks.get(n, 0) for n in like) / draws,
            )
        )
    shared, rho = common_trials(journals)
    return Choice(
        blocks=tuple(rows),
        optimism=optimism(errors),
        backbones=tuple(tried.config.backbone for tried in chosen),
        spread=spread(chosen),
        common_trials=shared,
        rank_correlation=rho,
    )
