"""Figures as PNG files, written whole or not at all."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from study.files.storage import write_whole


def as_png(figure: Figure, **how: Any) -> bytes:
    """The figure as PNG bytes; how: arguments of savefig."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        # a name in letters that the font lacks is drawn as boxes; one that is too long leaves no room for the layout
        warnings.filterwarnings("ignore", "Glyph .* missing from|constrained_layout not applied")
        figure.savefig(sink, format="png", **how)
    return sink.getvalue()


def save_picture(figure: Figure, file: Path, **how: Any) -> None:
    """Write the figure; on a full disk nothing of it is left."""
    write_whole(file, as_png(figure, **how))
