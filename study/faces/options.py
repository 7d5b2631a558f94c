"""What is asked of a faces table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from study.cli.about import About
from study.cli.words import File, Word
from trainables.fields import Count, Range

ABOUT = About(
    "what a faces table holds, and a contact sheet of its faces",
    (("A table of study.align", "python -m study.faces runs/fgnet --sheet runs/fgnet.png"),),
    ("table", "sheet", "count", "px"),
)


@dataclass(frozen=True)
class Options:
    """Options of `python -m study.faces`."""

    table: Annotated[str, tyro.conf.Positional, Word("FOLDER")]
    """OUT of study.align, local or a URI."""
    sheet: File | None = None
    """PNG file for a contact sheet, in order of age. Do not publish one of real people."""
    count: Count = 96
    """Faces on the sheet, spread evenly over the ages."""
    px: Annotated[int, Range(8, 4096)] = 96
    """Side of a face on the sheet, in pixels."""
