"""The Pareto front of MAE and cost, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from study.artifacts.choice import FrontPoint
from study.pictures import save_picture
from study.sweep.journal import Tried, ranked
from study.sweep.search import COSTS, Objective

WORDS = {
    "macs": ("MACs", 1e6, "million multiply-adds a face"),
    "parameters": ("parameters", 1e6, "million parameters"),
    "latency_ms": ("latency", 1.0, "milliseconds a face, alone"),
}
"""A cost's name, its unit as a number, and the unit in words."""


def cost_field(objective: Objective) -> str:
    """An objective's cost; multiply-adds where it has none."""
    return COSTS.get(objective, "macs")


def cost_of(journal: Mapping[int, Tried], tried: Tried, field: str) -> float:
    """A trial's cost. Of a network's latencies the least that a trial measured: the one least disturbed by others."""
    if field != "latency_ms":
        return float(getattr(tried, field))
    same = (tried.config.backbone, tried.config.px)
    return min(t.latency_ms for t in journal.values() if (t.config.backbone, t.config.px) == same and t.latency_ms > 0)


def front(journal: Mapping[int, Tried], field: str) -> list[Tried]:
    """The complete trials on the Pareto front, cheapest first. Of equals the earlier one."""
    ordered = sorted(ranked(journal), key=lambda tried: cost_of(journal, tried, field))  # of equal cost the best first
    found: list[Tried] = []
    for tried in ordered:
        if not found or (tried.mae or 0) < (found[-1].mae or 0):
            found.append(tried)
    return found


def front_points(block: str, journal: Mapping[int, Tried], field: str) -> list[FrontPoint]:
    """The front for best.json."""
    return [
        FrontPoint(
            block, t.number, t.config.backbone, t.config.px, cost_of(journal, t, field), WORDS[field][0], t.mae or 0.0
        )
        for t in front(journal, field)
    ]


def front_table(journal: Mapping[int, Tried], field: str) -> str:
    """The front as text, a row a trial."""
    name, unit, words = WORDS[field]
    rows = [
        f"{cost_of(journal, tried, field) / unit:10.2f}  {tried.mae:6.2f}  {tried.number:5d}  {tried.config.backbone} "
        f"{tried.config.px} px"
        for tried in front(journal, field)
    ]
    return "\n".join(
        [f"{name:>10}     MAE  trial  network   ({words}; nothing tried is both cheaper and better)", *rows]
    )


def draw_front(journal: Mapping[int, Tried], field: str, file: Path, *, title: str) -> Path | None:
    """Every complete trial by cost and MAE, with the front; None where all networks cost the same."""
    complete = ranked(journal)
    costs = {tried.number: cost_of(journal, tried, field) for tried in complete}
    if len(set(costs.values())) < 2:
        return None
    name, unit, words = WORDS[field]
    figure = Figure(figsize=(7.5, 4.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    every = [t.mae or 0.0 for t in complete]
    axes.plot([costs[t.number] / unit for t in complete], every, "o", color="#767676", alpha=0.6)
    best = front(journal, field)
    at = [costs[t.number] / unit for t in best]
    axes.step(
        at, [t.mae or 0.0 for t in best], where="post", marker="o", color="#0072B2",
        label="nothing is cheaper and better",
    )  # fmt: skip
    for tried, cost in zip(best, at, strict=True):
        label = f"{tried.config.backbone} {tried.config.px} px"
        axes.annotate(label, (cost, tried.mae or 0), xytext=(5, 6), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel=f"{name} ({words})", ylabel="MAE (years)")
    axes.grid(alpha=0.3)
    axes.margins(x=0.15)
    axes.legend(frameon=False)
    axes.set_title(title, loc="left", fontsize=10)
    save_picture(figure, file)
    return file
