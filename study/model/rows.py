"""What a prediction gives: one row for each face, or for a photo in which none was found, with the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from study.landmarks.photos import PhotoError


@dataclass(frozen=True)
class FaceAge:
    """A face: its age and intervals in years, and its box in pixels of the upright photo (the detector's).

    face counts from 1 (the photo's main face) and is 0 where there is none: then reason and detail say why. found_by:
    the landmarker's try that found it.
    """

    photo: str
    face: int = 0
    age: float | None = None
    low_80: float | None = None
    high_80: float | None = None
    low_95: float | None = None
    high_95: float | None = None
    left: int | None = None
    top: int | None = None
    right: int | None = None
    bottom: int | None = None
    found_by: str = ""
    reason: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The row by column."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(FaceAge))
"""The columns of a table of rows."""


def no_face(photo: str, error: PhotoError) -> FaceAge:
    """The row of a photo without an age."""
    return FaceAge(photo, reason=error.reason.value, detail=error.detail)
