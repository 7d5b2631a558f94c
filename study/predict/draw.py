"""A photo with the boxes of its faces, their ages and 80 % intervals."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from study.files.storage import write_whole
from study.landmarks.photos import PhotoError, decode_photo
from study.model.rows import FaceAge
from study.plain import apart, slug
from study.predict.photos import Named, read_photo

LEAST_SIDE = 320
"""A smaller photo is enlarged to this many pixels, or its text could not be read."""


def draw_photos(photos: Sequence[Named], rows: Sequence[FaceAge], folder: Path) -> Iterator[Path]:
    """Write a PNG for each photo with an age; gives each file when it is written."""
    by_name = {name: list(mine) for name, mine in groupby(rows, key=lambda row: row.photo)}
    named = [photo for photo in photos if any(row.age is not None for row in by_name.get(photo.name, ()))]
    for photo, stem in zip(named, apart(slug(Path(photo.name).stem) for photo in named), strict=True):
        data = read_photo(photo)
        if isinstance(data, PhotoError):
            continue
        sink = io.BytesIO()
        draw_faces(decode_photo(data), by_name[photo.name]).save(sink, format="PNG")
        file = folder / f"{stem}.png"
        write_whole(file, sink.getvalue())
        yield file


def draw_faces(pixels: np.ndarray, rows: Sequence[FaceAge]) -> Image.Image:
    """The photo (RGB) with what was found in it."""
    image = Image.fromarray(pixels)
    grown = max(1.0, LEAST_SIDE / max(image.size))
    if grown > 1:
        image = image.resize((round(image.width * grown), round(image.height * grown)), Image.Resampling.BICUBIC)
    line = max(2, max(image.size) // 300)
    font = ImageFont.load_default(size=max(14, max(image.size) // 40))
    brush = ImageDraw.Draw(image)
    for row in rows:
        if row.age is None or row.left is None or row.top is None or row.right is None or row.bottom is None:
            continue
        box = [edge * grown for edge in (row.left, row.top, row.right, row.bottom)]
        brush.rectangle(box, outline="#ffd400", width=line)
        text = f"{row.age:.0f} ({row.low_80:.0f} to {row.high_80:.0f})"
        width, height = brush.textbbox((0, 0), text, font=font)[2:]
        x = min(max(0.0, box[0]), max(0.0, image.width - width - 4))
        y = box[1] - height - 6 if box[1] > height + 6 else min(box[3] + 2, image.height - height - 6)
        brush.rectangle((x, y, x + width + 4, y + height + 4), fill="#000000")
        brush.text((x + 2, y + 1), text, fill="#ffd400", font=font)
    return image
