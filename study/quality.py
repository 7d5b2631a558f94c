"""What a faces table says of each photo besides the age: sex and group, and how good the picture is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, Shaped

from trainables.faces.table import decode_face, read_columns

SIDE = 128
"""Faces are compared at this size in pixels, so that sharpness does not depend on the table's."""

GREY = 4.0
"""A picture whose channels differ by less than this on average (of 255) is greyscale; JPEG's noise is below it."""

THIRDS = ("lowest third", "middle third", "highest third")


def attributes(folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """For each photo, as in Faces.photo, its attributes; "" where one is not known.

    sex, group: the dataset's own words. colour: whether the picture is greyscale. sharpness: thirds of the variance of
    the Laplacian. face size: thirds of the distance between the eyes in the photo. found: whether the first try of the
    landmarker found the face.
    """
    names, sex, group, found, grey = [], [], [], [], []
    sharp: list[float] = []
    eyes: list[float] = []
    columns = ["dataset", "photo", "face", "landmarks", "found_by", "sex", "group"]
    for row in read_columns(folders, columns):
        pixels = decode_face(row["face"], px=SIDE)
        names.append(f"{row['dataset']}/{row['photo']}")
        sex.append(row["sex"] or "")
        group.append(row["group"] or "")
        found.append("first try" if row["found_by"] == "whole" else "later try")
        apart = np.abs(np.diff(pixels.astype(np.int16), axis=2)).mean()
        grey.append("greyscale" if apart < GREY else "colour")
        sharp.append(float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()))
        eyes.append(_eye_distance(row["landmarks"]))
    kinds = {
        "sex": sex, "group": group, "colour": grey, "sharpness": _thirds(np.array(sharp)),
        "face size": _thirds(np.array(eyes)), "found": found,
    }  # fmt: skip
    return {name: {kind: values[i] for kind, values in kinds.items()} for i, name in enumerate(names)}


def columns_of(found: dict[str, dict[str, str]], photo: Shaped[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
    """The attributes as columns in the order of these photos."""
    kinds = next(iter(found.values())).keys()
    return {kind: np.array([found[str(name)][kind] for name in photo.tolist()], dtype=np.str_) for kind in kinds}


def _eye_distance(landmarks: Sequence[float] | None) -> float:
    """Pixels between the centres of the eyes, in iBUG's order of points; nan without points."""
    if landmarks is None:
        return float("nan")
    points = np.asarray(landmarks, np.float64).reshape(68, 2)
    return float(np.linalg.norm(points[36:42].mean(axis=0) - points[42:48].mean(axis=0)))


def _thirds(values: Float64[np.ndarray, " photos"]) -> list[str]:
    """In which third of the known values each lies; "" where it is not known, or where too many are equal to cut."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return [""] * len(values)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    if not known.min() < low < high < known.max():
        return [""] * len(values)
    places = np.digitize(values, [low, high])
    return [THIRDS[place] if np.isfinite(value) else "" for place, value in zip(places, values, strict=True)]
