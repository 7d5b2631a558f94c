"""The options of predicting. They import neither torch nor Ray, so that one photo's age is there at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from trainables.fields import Count


@dataclass(frozen=True)
class Predict:
    """Options of study.predict."""

    photos: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Photos, folders (with all that is in them) and URIs (s3://...)."""
    model: str | None = None
    """A folder of study.refit (or one that holds several: the newest), or models:/facial-age@champion. Default: the
    model that was made here last, without one the registered champion."""
    json: bool = False
    """Print the rows as a JSON list instead of a table."""
    csv: Path | None = None
    """Write the rows as CSV."""
    parquet: Path | None = None
    """Write the rows as Parquet."""
    draw: Path | None = None
    """Folder for a copy of each photo with boxes, ages and intervals drawn in."""
    explain: Path | None = None
    """Folder for a picture of each face that shows where the network looks; prints a test of it."""
    ray_from: Count = 500
    """From so many photos on, Ray Data predicts on all cores; starting it takes longer than a few photos."""
    address: str | None = None
    """Ray cluster to join, as HOST:PORT. Default: RAY_ADDRESS, else Ray is started here."""
    workers: Count | None = None
    """Processes that predict on Ray. Default: as many as there are cores."""
