"""The options of predicting. They import neither torch nor Ray, so that one photo's age is there at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from study.cli.about import About
from study.cli.words import File, Folder, Word
from trainables.fields import Count

ABOUT = About(
    "tell the age of every face in photos, with intervals of 80 and 95 %",
    (
        ("One photo", "python -m study.predict photo.jpg"),
        ("Many, as a table and drawn", "python -m study.predict FOLDER --csv ages.csv --draw drawn"),
    ),
    ("photos", "model", "json", "csv", "draw", "explain"),
    """A photo without a face, or one that cannot be read, is a row with its reason. The exit status is 0 where at least
    one face got an age. Not for deciding anything about a person: see the model's README.md.""",
    "docs/model.md",
)

NO_PHOTOS = "of which photos? Name photos, folders or URIs, such as: python -m study.predict photo.jpg"


@dataclass(frozen=True)
class Predict:
    """Options of study.predict."""

    photos: Annotated[tuple[str, ...], tyro.conf.Positional, Word("PHOTO")] = ()
    """Photos, folders (with all that is in them) and URIs (s3://...)."""
    model: str | None = None
    """A folder of study.refit (or one that holds several: the newest), or models:/facial-age@champion. Default: the
    model that was made here last, without one the registered champion."""
    json: bool = False
    """Print the rows as a JSON list instead of a table."""
    csv: File | None = None
    """Write the rows as CSV."""
    parquet: File | None = None
    """Write the rows as Parquet."""
    draw: Folder | None = None
    """Folder for a copy of each photo with boxes, ages and intervals drawn in."""
    explain: Folder | None = None
    """Folder for a picture of each face that shows where the network looks; prints a test of it."""
    ray_from: Count = 500
    """From so many photos on, Ray Data predicts on all cores; starting it takes longer than a few photos."""
    address: Annotated[str, Word("HOST:PORT")] | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else Ray is started here."""
    workers: Count | None = None
    """Processes that predict on Ray. Default: as many as there are cores."""


def refuse(options: Predict) -> None:
    """Raise ValueError where no photo is named."""
    if not options.photos:
        raise ValueError(NO_PHOTOS)
