"""Every face of a photo, not only the main one. The main face is found and placed exactly as in study.align."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float64

from study.landmarks.photos import PhotoError, Reason
from study.landmarks.search import (
    TRIES,
    Detector,
    Landmarks,
    Located,
    Pixels,
    candidates,
    scaled,
)

GROUP_SIDE = 1200
"""A photo that is no portrait is looked at a second time, scaled to this many pixels a side but at most doubled: faces
of a group are small. Of the 43 faces in dlib's example photos all are found with it, and 38 without."""

PORTRAIT = 1 / 3
"""A photo is a portrait if its main face's box has this share of its shorter side, or more."""

SAME = 0.3
"""Two boxes that share more of their union than this are one face."""


@dataclass(frozen=True)
class Someone:
    """A face of a photo: its landmarks, and the detector's box as left, top, right, bottom in the photo's pixels."""

    landmarks: Landmarks
    box: tuple[float, float, float, float]


def find_everyone(pixels: Pixels, detector: Detector) -> list[Someone]:
    """All faces of a photo, the main one first, then by how likely each is the main one.

    Where only a weak try finds anything, its best find alone counts: its others are mostly no faces. Raises
    PhotoError(NO_FACE) where no try finds a face.
    """
    found = sorted(candidates(pixels, detector), key=lambda each: -each[0])
    if not found:
        height, width = pixels.shape[:2]
        raise PhotoError(Reason.NO_FACE, f"none in {width}x{height} pixels by {len(TRIES)} tries")
    located = [face for _, face in found]
    if any(attempt.weak for attempt in TRIES if attempt.name == located[0].found_by):
        located = located[:1]
    elif not _is_portrait(located[0], pixels):
        located += _in_group(pixels, detector)
    kept: list[tuple[Located, Float64[np.ndarray, " 4"]]] = []
    for face in located:
        box = _in_photo(face)
        if all(_overlap(box, other) <= SAME for _, other in kept):
            kept.append((face, box))
    points = detector.fit([(face.seen, face.box) for face, _ in kept])
    return [
        Someone(Landmarks(face.in_photo(fitted), "ibug", face.found_by), (box[0], box[1], box[2], box[3]))
        for (face, _), box, fitted in zip(kept, (box.tolist() for _, box in kept), points, strict=True)
    ]


def _in_group(pixels: Pixels, detector: Detector) -> list[Located]:
    """The sure finds in the photo at GROUP_SIDE, the surest first."""
    side = min(GROUP_SIDE, 2 * max(pixels.shape[:2]))
    larger, to_photo = scaled(pixels, side)
    if max(larger.shape[:2]) < side:
        height, width = larger.shape[:2]
        grown = side / max(height, width)
        size = round(width * grown), round(height * grown)
        larger = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        to_photo = width / size[0], height / size[1]
    boxes = sorted(detector.detect(larger, detector.sure), key=lambda box: -box.score)
    return [Located(larger, box, np.eye(2, 3), to_photo, "group") for box in boxes]


def _is_portrait(face: Located, pixels: Pixels) -> bool:
    box = _in_photo(face)
    return float(np.min(box[2:] - box[:2])) >= PORTRAIT * min(pixels.shape[:2])


def _in_photo(face: Located) -> Float64[np.ndarray, " 4"]:
    """The box of a face in the photo's pixels: of a rotated one the upright box around it."""
    box = face.box
    corners = [(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)]
    there = face.in_photo(np.array(corners, np.float32)).astype(np.float64)
    return np.concatenate([there.min(axis=0), there.max(axis=0)])


def _overlap(a: Float64[np.ndarray, " 4"], b: Float64[np.ndarray, " 4"]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.clip(sides, 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / union if union > 0 else 0.0
