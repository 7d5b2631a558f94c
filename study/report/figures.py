"""The report's pictures as matplotlib Figures. Each function draws values that were computed elsewhere.

Colours are Okabe and Ito's, which can be told apart with every kind of colour vision; line styles and marker shapes
repeat the difference. No pyplot: a Figure made here belongs to its caller and needs no display.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from study.artifacts.predictions import Predictions
from study.cli.describe import backbone_name
from study.plain import plain
from study.report.hover import hover
from study.report.paper import PAPER_MAE
from study.report.sections import Section, name_of
from study.statistics.bootstrap import Interval, Intervals
from study.statistics.calibration import LEVELS, PIT_BINS, Calibration
from study.statistics.summary import THRESHOLDS, Decade, by_decade

INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
LEADER = "#0072B2"
OTHERS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d31", "#5e4fa2")
STYLES = ("--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "sD^vPX<>"
RING: dict[str, Any] = {"markersize": 8, "markerfacecolor": "white", "markeredgecolor": OTHERS[0]}
OURS = "this study, 95 % over people"


@dataclass(frozen=True)
class Caption:
    """A picture's title, and below it the data, people and pretraining that it shows."""

    title: str
    data: str


PICTURES = {
    "mae": "Mean absolute error by backbone, with intervals over people, and the paper's",
    "cs": "Curves of the cumulative score from 0 to 15 years",
    "error-by-age": "Mean absolute error by decade of true age",
    "predicted-against-true": "Predicted against true age, one dot per photo",
    "calibration": "Coverage of central intervals, and the PIT histogram",
}
"""The pictures of a section by kind, each with its alternative text."""

SHOWN = 20
"""Configs in one picture, those with the lowest MAE: more lines cannot be told apart. The tables have all."""


def draw(section: Section) -> dict[str, Figure]:
    """The pictures of a section by kind."""
    leader, summaries = section.leader, section.summaries
    best = sorted(section.results, key=lambda label: summaries[label].mae.value)[:SHOWN]
    data = section.data + (f" The {SHOWN} best of {len(summaries)} configs." if len(summaries) > SHOWN else "")
    guess_by_decade = by_decade(section.guess, draws=section.draws)
    # The paper's values are of FG-NET: in a picture of other people they would mislead.
    on_fgnet = section.about.dataset == "fgnet"
    paper = {backbone_name(backbone): mae for backbone, mae in PAPER_MAE.items() if on_fgnet}
    names = {label: name_of(section.results[label].about) for label in best}
    rows = [MaeRow(label, summaries[label].mae, paper.get(name)) for label, name in names.items()]
    rows += [MaeRow(name, None, mae) for name, mae in paper.items() if name not in names.values()]
    rows.sort(key=lambda row: (row.ours is None, row.ours.value if row.ours else row.paper))
    return {
        "mae": mae_rows(
            rows,
            guess=section.guess_summary.mae.value,
            caption=Caption("Mean absolute error by backbone", data),
            paper="the paper" if paper else None,
        ),
        "cs": cs_curves(
            {label: summaries[label].cs for label in best},
            leader=leader,
            whole=summaries[leader].cs_rounded,
            guess=section.guess_summary.cs,
            caption=Caption("Cumulative score: share of photos by largest error", data),
        ),
        "error-by-age": error_by_age(
            {label: section.decades[label] for label in best},
            leader=leader,
            guess=guess_by_decade,
            caption=Caption("Error by age", data),
        ),
        "predicted-against-true": predicted_against_true(
            section.results[leader].predictions.average_seeds(),
            name=leader,
            guess=float(section.guess.predicted.mean()),
            caption=Caption("Predicted against true age", data),
        ),
        "calibration": calibration(
            {label: section.calibrations[label] for label in best},
            leader=leader,
            caption=Caption("Calibration: are the predicted probabilities right?", data),
        ),
    }


def cs_curves(
    curves: Mapping[str, Intervals], *, leader: str, whole: Intervals, guess: Intervals, caption: Caption
) -> Figure:
    """Figure 4 of the paper: the share of photos with an error up to each threshold, mean over people.

    The leader's curve has its 95 % interval over people; whole is the leader's with predictions rounded to whole years;
    the constant guess is grey.
    """
    figure, (axes,) = _figure(caption, width=8.0, height=5.6)
    years = np.array(THRESHOLDS)
    axes.plot(years, guess.value, color=GREY, linestyle=":", linewidth=1.5, label="constant guess", zorder=1)
    for i, (name, curve) in enumerate(_sorted_others(curves, leader)):
        (line,) = axes.plot(years, curve.value, label=name, zorder=2, **_line(i))
        hover(line, name)
    curve = curves[leader]
    axes.plot(years, whole.value, color=LEADER, linewidth=1.2, label=f"{leader}, rounded to whole years", zorder=3)
    if np.isfinite(curve.low).all():
        axes.fill_between(years, curve.low, curve.high, color=LEADER, alpha=0.18, linewidth=0, zorder=3)
    (line,) = axes.plot(
        years, curve.value, color=LEADER, linewidth=2.6, marker="o", markersize=5, label=leader, zorder=4
    )
    hover(line, [f"CS({th}) = {share:.1f} %" for th, share in zip(THRESHOLDS, curve.value, strict=True)])
    at = THRESHOLDS.index(5)
    axes.annotate(
        f"CS(5) = {curve.value[at]:.1f} %", (5, curve.value[at]), xytext=(10, -16), textcoords="offset points",
        color=LEADER, fontweight="bold", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
    )  # fmt: skip
    axes.set(xlim=(0, 15), ylim=(0, 101), xlabel="error up to (years)", ylabel="share of a person's photos (%)")
    axes.xaxis.set_major_locator(MultipleLocator(1))
    axes.yaxis.set_major_locator(MultipleLocator(10))
    handles, names = axes.get_legend_handles_labels()
    order = [-1, *range(1, len(handles) - 1), 0]  # as the curves lie
    _legend(axes, [handles[i] for i in order], [names[i] for i in order], loc="lower right")
    return figure


def error_by_age(
    decades: Mapping[str, Sequence[Decade]], *, leader: str, guess: Sequence[Decade], caption: Caption
) -> Figure:
    """MAE by decade of true age with 95 % intervals over people, and below it the number of photos in each decade."""
    figure, (axes, below) = _figure(caption, width=8.0, height=6.2, rows=2, ratios=(4.0, 1.0))
    place = {each.low: i for i, each in enumerate(guess)}
    bars = decades[leader]
    where = [place[d.low] for d in bars]
    drawn = axes.bar(where, [d.mae.value for d in bars], width=0.84, color=LEADER, alpha=0.75, label=leader)
    for bar, each in zip(drawn, bars, strict=True):
        hover(bar, f"{leader}, {_decade(each)}")
    _whiskers(axes, where, [d.mae for d in bars], colour=INK)
    others = [(name, theirs) for name, theirs in decades.items() if name != leader]
    for i, (name, theirs) in enumerate(others):
        (line,) = axes.plot(
            [place[d.low] + _aside(i, len(others)) for d in theirs],
            [d.mae.value for d in theirs],
            linestyle="none",
            marker=MARKERS[i % len(MARKERS)],
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.8,
            color=OTHERS[i % len(OTHERS)],
            label=name,
            zorder=4,
        )
        hover(line, [f"{name}, {_decade(each)}" for each in theirs])
    # In the last decades the guess is off by 50 years. There it is written, not drawn, to keep the bars readable.
    ends = [d.mae.high if np.isfinite(d.mae.high) else d.mae.value for d in bars]
    top = 1.2 * max([*ends, *(d.mae.value for _, theirs in others for d in theirs)])
    for i, each in enumerate(guess):
        if each.mae.value < top:
            axes.plot([i - 0.42, i + 0.42], [each.mae.value] * 2, color=GREY, linestyle=":", linewidth=1.8)
        else:
            axes.annotate(
                f"{each.mae.value:.0f} \N{UPWARDS ARROW}", (i, top), xytext=(0, -11),
                textcoords="offset points", ha="center", fontsize=9, color=GREY,
            )  # fmt: skip
    axes.plot([], [], color=GREY, linestyle=":", linewidth=1.8, label="constant guess")
    axes.set(ylabel="mean absolute error (years)", ylim=(0, top))
    axes.tick_params(axis="x", labelbottom=False, length=0)
    axes.grid(visible=False, axis="x")
    _legend_above(axes, first=leader)
    most = max(each.photos for each in guess)
    below.bar(range(len(guess)), [each.photos for each in guess], width=0.84, color=PALE)
    for i, each in enumerate(guess):
        below.annotate(
            f"{each.photos}\n{each.people} people", (i, each.photos), xytext=(0, 2),
            textcoords="offset points", ha="center", fontsize=8, color=INK,
        )  # fmt: skip
    below.set(ylim=(0, 1.8 * most), xlabel="true age (years)", ylabel="photos", yticks=[])
    below.set_xticks(range(len(guess)), [f"{each.low} to {each.high}" for each in guess])
    below.grid(visible=False)
    for panel in (axes, below):
        panel.set_xlim(-0.6, len(guess) - 0.4)
    return figure


def predicted_against_true(predictions: Predictions, *, name: str, guess: float, caption: Caption) -> Figure:
    """Predicted against true age, one dot per photo, with the diagonal and the running median of the predictions.

    predictions: one row per photo (Predictions.average_seeds). guess: the constant guess in years.
    """
    figure, (axes,) = _figure(caption, width=7.2, height=7.2)
    age, predicted = predictions.age.astype(float), predictions.predicted.astype(float)
    top = 5 * np.ceil((max(age.max(), predicted.max()) + 2) / 5)
    ends = np.array([0, top])
    axes.fill_between(ends, ends - 5, ends + 5, color=PALE, alpha=0.6, linewidth=0, label="within 5 years")
    axes.plot(ends, ends, color=INK, linewidth=1, label="exact")
    axes.axhline(guess, color=GREY, linestyle=":", linewidth=1.5, label="constant guess")
    # Ages are whole years: dots of one age are spread over a third of a year, so that they do not hide each other.
    shift = (np.arange(len(age)) * 0.618 % 1 - 0.5) * 0.7
    dots = axes.scatter(
        age + shift, predicted, s=16, color=LEADER, alpha=0.45, linewidth=0, label=f"a photo, by {name}"
    )
    each = zip(predictions.photo.tolist(), predictions.age.tolist(), predicted.tolist(), strict=True)
    hover(dots, [f"{plain(photo, most=80)}: {true} years, predicted {years:.1f}" for photo, true, years in each])
    centres, medians = _running_median(age, predicted)
    axes.plot(centres, medians, color=OTHERS[0], linewidth=2.4, label="median of the predictions")
    axes.set(xlim=(-1, top), ylim=(-1, top), xlabel="true age (years)", ylabel="predicted age (years)")
    axes.set_aspect("equal")
    _legend(axes, loc="upper left")
    return figure


def calibration(found: Mapping[str, Calibration], *, leader: str, caption: Caption) -> Figure:
    """Left: the coverage of central intervals against their level. Right: the PIT histogram."""
    figure, (left, right) = _figure(caption, width=9.6, height=5.4, columns=2)
    levels, ours = 100 * np.array(LEVELS), found[leader]
    if np.isfinite(ours.coverage.low).all():
        band = (100 * ours.coverage.low, 100 * ours.coverage.high)
        left.fill_between(levels, *band, color=LEADER, alpha=0.18, linewidth=0)
    (line,) = left.plot(levels, 100 * ours.coverage.value, color=LEADER, linewidth=2.6, label=leader, zorder=4)
    hover(line, leader)
    for i, name in enumerate(n for n in found if n != leader):
        (line,) = left.plot(levels, 100 * found[name].coverage.value, label=name, **_line(i))
        hover(line, name)
    left.text(96, 6, "below the line:\noverconfident", ha="right", va="bottom", color=GREY, fontsize=9)
    left.plot([0, 100], [0, 100], color=INK, linewidth=1, label="ideal")
    left.set(xlim=(0, 100), ylim=(0, 100))
    left.set(xlabel="central interval of the prediction (%)", ylabel="true ages inside (%)")
    _legend(left, loc="upper left")
    edges = np.linspace(0, 1, PIT_BINS + 1)
    right.bar(
        edges[:-1],
        100 * ours.pit,
        width=1 / PIT_BINS,
        align="edge",
        color=LEADER,
        alpha=0.85,
        edgecolor="white",
    )
    right.axhline(100 / PIT_BINS, color=INK, linewidth=1)
    right.set(xlim=(0, 1), ylim=(0, max(2 * 100 / PIT_BINS, 115 * ours.pit.max())))
    right.set(xlabel="predicted probability of being younger than the true age", ylabel=f"photos (%), {leader}")
    right.text(
        0.5,
        0.97,
        "flat: right · high ends: too narrow\nhigh middle: too wide · slope: biased",
        transform=right.transAxes,
        ha="center",
        va="top",
        color=GREY,
        fontsize=9,
    )
    right.grid(visible=False, axis="x")
    return figure


@dataclass(frozen=True)
class MaeRow:
    """A line of the MAE picture: ours, the paper's, or both; None: there is none."""

    name: str
    ours: Interval | None
    paper: float | None


def mae_rows(rows: Sequence[MaeRow], *, guess: float, caption: Caption, paper: str | None) -> Figure:
    """Our MAE with 95 % intervals over people, best first, and the paper's, which has no intervals, as rings."""
    figure, (axes,) = _figure(caption, width=8.0, height=1.9 + 0.36 * len(rows))
    for i, row in enumerate(rows):
        if row.paper is not None:
            (mark,) = axes.plot(row.paper, i, "o", zorder=3, **RING)
            hover(mark, f"{row.name}, the paper: {row.paper:.2f}")
        if row.ours is not None:
            if np.isfinite(row.ours.low):
                axes.plot([row.ours.low, row.ours.high], [i, i], color=LEADER, linewidth=3, solid_capstyle="butt")
            (mark,) = axes.plot(row.ours.value, i, "o", markersize=9, color=LEADER, zorder=4)
            hover(mark, f"{row.name}: {row.ours:.2f}")
            axes.annotate(
                f"{row.ours.value:.2f}", (row.ours.value, i), xytext=(0, 6), textcoords="offset points",
                ha="center", fontsize=9, color=LEADER, fontweight="bold",
            )  # fmt: skip
    seen = [row.paper for row in rows if row.paper is not None]
    for row in rows:
        if row.ours is not None:
            seen += [x for x in (row.ours.low, row.ours.value, row.ours.high) if np.isfinite(x)]
    low, high = min(*seen, guess), max(seen)  # a guess that is better than all of them must be visible
    margin = 0.08 * (high - low) + 0.05
    right = high + margin
    axes.set_xlim(max(0, low - margin), right)
    if guess < right:
        axes.axvline(guess, color=GREY, linestyle=":", linewidth=1.5)
    axes.plot([], [], "o-", color=LEADER, markersize=9, linewidth=3, label=OURS)
    if paper is not None:
        axes.plot([], [], "o", linestyle="none", label=paper, **RING)
    name = f"constant guess {guess:.2f}" + ("" if guess < right else ", off the axis")
    axes.plot([], [], color=GREY, linestyle=":", linewidth=1.5, label=name)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set(xlabel="mean absolute error over people (years)", ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    _legend_above(axes, first=OURS)
    return figure


# ---- shared by all of them -------------------------------------------------------------------------


def _figure(
    caption: Caption,
    *,
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure (sizes in inches) with the caption at its top, and its empty axes."""
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    # At 9 points about 14 letters fit into an inch.
    data = textwrap.fill(caption.data, int(14 * width))
    lines = 1 + data.count("\n")
    inches = 0.42 + 0.17 * lines
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.01, 0.01, 0.98, 0.99 - inches / height))  # type: ignore[call-arg]
    figure.text(0.02, 1 - 0.12 / height, caption.title, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.02, 1 - 0.4 / height, data, fontsize=9, color=GREY, va="top", linespacing=1.25)
    grid = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    panels = [panel for line in grid for panel in line]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(GREY)
        panel.tick_params(colors=INK, labelsize=9)
        panel.grid(visible=True, color=PALE, linewidth=0.6)
        panel.set_axisbelow(True)
    return figure, panels


def _decade(each: Decade) -> str:
    return f"ages {each.low} to {each.high}: {each.mae:.2f} years, {each.photos} photos of {each.people} people"


def _line(i: int) -> dict[str, Any]:
    return {"color": OTHERS[i % len(OTHERS)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.6}


def _legend(axes: Axes, *handles: Any, loc: Any = "best") -> None:
    axes.legend(*handles, loc=loc, fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def _legend_above(axes: Axes, *, first: str) -> None:
    """A legend between the caption and the axes, so that it hides nothing."""
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i] != first)
    axes.legend(
        [handles[i] for i in order], [names[i] for i in order], loc="lower left", bbox_to_anchor=(0, 1.0),
        ncols=3, fontsize=9, frameon=False, borderaxespad=0.2, columnspacing=1.4, handlelength=1.8,
    )  # fmt: skip


def _sorted_others(curves: Mapping[str, Intervals], leader: str) -> list[tuple[str, Intervals]]:
    others = [(name, curve) for name, curve in curves.items() if name != leader]
    return sorted(others, key=lambda pair: -float(pair[1].value.sum()))


def _whiskers(axes: Axes, where: Sequence[int], metrics: Sequence[Interval], *, colour: str) -> None:
    for x, metric in zip(where, metrics, strict=True):
        if np.isfinite(metric.low):
            axes.plot([x, x], [metric.low, metric.high], color=colour, linewidth=1.4, zorder=5)


def _aside(i: int, others: int) -> float:
    """The offset of the i-th of several markers from the middle of a bar, where the whisker is."""
    places = np.linspace(-0.36, 0.36, others + 1 + others % 2)
    return float(np.delete(places, len(places) // 2)[i] if others % 2 == 0 else places[places != 0][i])


def _running_median(age: np.ndarray, predicted: np.ndarray) -> tuple[list[float], list[float]]:
    """Medians over windows of nine years with at least eight photos."""
    centres, medians = [], []
    for centre in range(int(age.min()), int(age.max()) + 1):
        inside = np.abs(age - centre) <= 4
        if inside.sum() >= 8:
            centres.append(float(centre))
            medians.append(float(np.median(predicted[inside])))
    return centres, medians
