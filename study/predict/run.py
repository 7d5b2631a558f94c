"""Predicts the photos that a command line names, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from study.landmarks.photos import PhotoError
from study.model.ages import AT_ONCE, AgeModel
from study.model.rows import FaceAge, no_face
from study.predict.photos import Named, read_photo


def predict_named(model: AgeModel, photos: Sequence[Named]) -> list[FaceAge]:
    """The rows of some photos, in their order: a photo that cannot be read is a row, too."""
    rows: list[FaceAge] = []
    for start in range(0, len(photos), AT_ONCE):
        part = photos[start : start + AT_ONCE]
        data = [read_photo(photo) for photo in part]
        sound = [(photo, each) for photo, each in zip(part, data, strict=True) if not isinstance(each, PhotoError)]
        found: dict[str, list[FaceAge]] = {}
        for row in model.predict_rows([each for _, each in sound], names=[photo.name for photo, _ in sound]):
            found.setdefault(row.photo, []).append(row)
        for photo, each in zip(part, data, strict=True):
            rows += [no_face(photo.name, each)] if isinstance(each, PhotoError) else found.pop(photo.name, [])
    return rows
