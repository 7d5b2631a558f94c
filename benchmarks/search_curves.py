"""What searches found by compute and by time: the curves of benchmarks.sweep_search, compared and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


@dataclass
class Curve:
    """One search: the compute (photos) and time (rounds) at which it found each better MAE (years)."""

    photos: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    trials: int = 0


def least_at(curve: Curve, at: np.ndarray, by: str = "photos") -> np.ndarray:
    """The least MAE found by each amount of compute (or by rounds); NaN before the first complete trial."""
    index = np.searchsorted(getattr(curve, by), at, side="right") - 1
    return np.where(index >= 0, np.array(curve.least)[np.maximum(index, 0)], np.nan)


def first_under(curves: Sequence[Curve], goal: float, most: float, by: str = "photos") -> tuple[float, float, float]:
    """Where the curves' mean is first at the goal or lower (infinity: never), and a 95 % interval by bootstrap."""
    at = np.linspace(0, most, 1001)
    values = np.array([least_at(curve, at, by) for curve in curves])

    def where(rows: np.ndarray) -> float:
        under = np.flatnonzero(rows.mean(axis=0) <= goal)
        return float(at[under[0]]) if len(under) else float("inf")

    rng = np.random.default_rng(0)
    drawn = sorted(where(values[rng.integers(len(values), size=len(values))]) for _ in range(200))
    return where(values), drawn[4], drawn[195]


Curves = Mapping[int, Mapping[str, Sequence[Curve]]]
"""By width and kind of search."""

COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#D55E00")


def draw(curves: Curves, chance: Sequence[Curve], budget: float, file: Path, *, title: str) -> None:
    """For each width, the mean of the least MAE found by compute, with a 95 % interval over searches.

    The axis shows what is between random search at a fifth of the compute and the best end.
    """
    figure = Figure(figsize=(3.4 * len(curves), 3.8), dpi=110, layout="constrained")
    every = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    at = np.linspace(0.1 * budget, budget, 200)
    high = float(np.nanmean([least_at(curve, np.array([budget / 5])) for curve in chance]))
    low = min(ends_at(each, budget) for kinds in curves.values() for each in kinds.values())
    for axes, (width, kinds) in zip(every, curves.items(), strict=True):
        lines = {**kinds, "random search": chance}
        for (name, each), colour in zip(lines.items(), COLOURS, strict=False):
            values = np.array([least_at(curve, at) for curve in each])
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))  # NaN: not all yet
            axes.plot(at / budget, mean, color=colour, label=name)
            axes.fill_between(at / budget, mean - 1.96 * spread, mean + 1.96 * spread, color=colour, alpha=0.15, lw=0)
        axes.set(xlabel="share of random search's compute", xlim=(0, 1), ylim=(low - 0.04 * (high - low), high))
        axes.set_title(f"{width} folds side by side", loc="left", fontsize=10)
        axes.grid(alpha=0.3)
    every[0].set_ylabel("least MAE so far (years)")
    every[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(file)


def ends_at(curves: Sequence[Curve], budget: float) -> float:
    """The mean of the least MAE that they found within so much compute (photos)."""
    return float(np.mean([least_at(curve, np.array([budget]))[0] for curve in curves]))
