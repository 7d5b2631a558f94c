"""The contact sheet of the docs: one row for each person, in order of age, with the age under each photo.

`python -m tools.built_in_people.sheet --out docs/strip.png --persons 30`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from study.align.datasets.built_in import PEOPLE

_TILE, _GAP, _LINE = (126, 140), 4, 18  # pixels


@dataclass(frozen=True)
class Config:
    """Which people are on the sheet."""

    out: Path
    images: Path = PEOPLE / "images"
    persons: tuple[int, ...] = (30, 5, 32, 40, 20, 34)
    columns: int = 8


def _row(paths: list[Path], columns: int) -> list[Path]:
    """As many photos as there are columns, spread evenly over the years; all where there are fewer."""
    ages = np.array([int(path.name[4:6]) for path in paths])
    picked: list[int] = []
    for goal in np.linspace(ages.min(), ages.max(), columns):
        free = [k for k in range(len(paths)) if k not in picked]
        if free:
            picked.append(min(free, key=lambda k: abs(ages[k] - goal)))
    return [paths[k] for k in sorted(picked)]


def main(config: Config) -> None:
    """Writes the sheet as a PNG."""
    wide, high = _TILE[0] + _GAP, _TILE[1] + _LINE
    sheet = Image.new("RGB", (config.columns * wide + _GAP, len(config.persons) * high + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, person in enumerate(config.persons):
        mine = sorted(path for path in config.images.iterdir() if path.name.startswith(f"{person:03d}A"))
        if not mine:
            raise ValueError(f"no photo of person {person} in {config.images}")
        for column, path in enumerate(_row(mine, config.columns)):
            left, top = _GAP + column * wide, _GAP + row * high
            with Image.open(path) as photo:
                sheet.paste(photo.convert("RGB").resize(_TILE, Image.Resampling.LANCZOS), (left, top))
            place = (left + _TILE[0] / 2, top + _TILE[1] + _LINE / 2 - 1)
            draw.text(place, str(int(path.name[4:6])), fill="black", font=font, anchor="mm")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    # The lowest bit is film grain, which is a third of the file: without it the sheet stays small.
    sheet.point([value | 1 if value > 127 else value & 254 for value in range(256)] * 3).save(config.out, optimize=True)


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m tools.built_in_people.sheet", description=__doc__))
