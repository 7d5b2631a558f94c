"""A block's MAE over λ1 and over λ2, the weights of mean-variance loss, whatever the space calls them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from study.cli.describe import backbone_name
from study.pictures import save_picture
from study.sweep.journal import Tried, ranked
from trainables.losses import MeanVariance

ENOUGH = 10
"""Complete trials of one network from which on a picture of two weights says something."""


def draw_lambdas(journal: Mapping[int, Tried], file: Path, *, title: str) -> Path | None:
    """Two panels, a colour a network; None where no two trials differ in a weight. Says so where trials are few."""
    by_network: dict[str, list[tuple[MeanVariance, float]]] = {}
    for tried in ranked(journal):
        loss = tried.config.loss
        if isinstance(loss, MeanVariance):
            by_network.setdefault(tried.config.backbone, []).append((loss, tried.mae or 0.0))
    weights = {(loss.mean_weight, loss.variance_weight) for trials in by_network.values() for loss, _ in trials}
    if len(weights) < 2:
        return None
    figure = Figure(figsize=(9.0, 4.4), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (field, name) in zip(panels, (("mean_weight", "λ1"), ("variance_weight", "λ2")), strict=True):
        for backbone, trials in sorted(by_network.items()):
            at = [getattr(loss, field) for loss, _ in trials]
            panel.plot(at, [mae for _, mae in trials], "o", alpha=0.75, label=backbone_name(backbone))
        panel.set(xlabel=f"{name} ({'mean' if field == 'mean_weight' else 'variance'} loss)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("MAE (years)")
    panels[1].legend(frameon=False, fontsize=8)
    few = {backbone_name(name): len(trials) for name, trials in sorted(by_network.items()) if len(trials) < ENOUGH}
    note = f"\ntoo few trials to say anything of {', '.join(f'{k} ({n})' for k, n in few.items())}" if few else ""
    figure.suptitle(title + note, x=0.02, ha="left", fontsize=10)
    save_picture(figure, file)
    return file
