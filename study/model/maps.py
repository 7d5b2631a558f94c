"""Pictures of where a network looks: one face, or the mean over many."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure


def draw_map(face: UInt8[np.ndarray, "px px 3"], found: Float[np.ndarray, "px px"]) -> Figure:
    """The face, and over its grey copy what makes it look older (red) and younger (blue)."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(face)
    grey = face.mean(axis=2)
    most = max(float(np.abs(found).max()), 1e-6)
    right.imshow(grey, cmap="gray", vmin=0, vmax=255)
    shown = right.imshow(found, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6)
    figure.colorbar(shown, ax=right, label="years added")
    for axes, title in ((left, "as the network sees it"), (right, "what makes it older or younger")):
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
    return figure


def draw_means(
    means: Mapping[str, tuple[UInt8[np.ndarray, "px px 3"], Float[np.ndarray, "px px"]]], *, columns: int = 4
) -> Figure:
    """Mean maps over mean faces, each with its title, in one scale of colours (years added)."""
    rows = -(-len(means) // columns)
    figure = Figure(figsize=(2.0 * columns, 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    most = max(1e-6, *(float(np.abs(found).max()) for _, found in means.values()))
    for axes in grid:
        axes.set_axis_off()
    for axes, (title, (face, found)) in zip(grid, means.items(), strict=False):
        axes.imshow(face.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        shown = axes.imshow(found, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6)
        axes.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=grid.tolist(), label="years added", shrink=0.8)
    return figure
