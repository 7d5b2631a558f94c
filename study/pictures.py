"""Figures as PNG files that are there whole or not at all."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from study.files.storage import write_whole


def as_png(figure: Figure, **how: Any) -> bytes:
    """The picture's bytes; how: what savefig takes."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        # a name in letters that the font lacks is drawn as boxes, and one that is too long pushes all aside
        warnings.filterwarnings("ignore", "Glyph .* missing from|constrained_layout not applied")
        figure.savefig(sink, format="png", **how)
    return sink.getvalue()


def save_picture(figure: Figure, file: Path, **how: Any) -> None:
    """Write it; a full disk leaves no half of it."""
    write_whole(file, as_png(figure, **how))
