"""The search for a face: one detector on the photo as it is, then padded, enlarged, equalised and rotated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from study.landmarks.photos import PhotoError, Reason

Pixels = UInt8[np.ndarray, "height width 3"]
View = UInt8[np.ndarray, "view_height view_width 3"]
Points = Float32[np.ndarray, "68 2"]
Matrix = Float64[np.ndarray, "2 3"]
Scheme = Literal["ibug", "fgnet"]

DETECTION_SIDE = 600
"""Photos are scaled down to at most this many pixels a side to look for a face in them."""


@dataclass(frozen=True)
class Box:
    """A face as a detector gives it: left, top, right, bottom in pixels, and the detector's score."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def side(self) -> float:
        """Geometric mean of width and height, pixels."""
        return math.sqrt(max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0))


Boxed = tuple[UInt8[np.ndarray, "_ _ 3"], Box]
"""A face to fit points to: the view, and the box in it. Views differ in size."""


@dataclass(frozen=True)
class Landmarks:
    """68 points (x, y) in pixels of the upright photo, in the order of `scheme`; found_by names the try."""

    points: Points
    scheme: Scheme
    found_by: str


@dataclass(frozen=True)
class Portrait:
    """What a landmarker works on: a decoded photo, and the bytes of its points file if it has one.

    corner: where its left upper pixel lies in the photo that it was cut from, (x, y).
    """

    pixels: Pixels
    points: bytes | None = None
    points_scheme: Scheme = "ibug"
    corner: tuple[int, int] = (0, 0)


MARGIN = 0.5
"""What is shown to the detector around a box that the dataset gives, as a share of the box's longer side."""


def focus(portrait: Portrait, box: Sequence[float] | None) -> Portrait:
    """The part of a photo around a box (left, top, right, bottom in pixels); the photo itself without one.

    A photo with a points file stays whole: its points are the face. Raises PhotoError where the box is outside.
    """
    if not box or portrait.points is not None:
        return portrait
    height, width = portrait.pixels.shape[:2]
    left, top, right, bottom = box
    around = MARGIN * max(right - left, bottom - top)
    x0, y0 = max(0, int(left - around)), max(0, int(top - around))
    x1, y1 = min(width, math.ceil(right + around)), min(height, math.ceil(bottom + around))
    if left >= width or top >= height or right <= 0 or bottom <= 0 or min(x1 - x0, y1 - y0) < 16:
        shown = " ".join(f"{side:g}" for side in box)
        raise PhotoError(Reason.NO_FACE, f"the box {shown} lies outside of the photo's {width}x{height} pixels")
    return Portrait(np.ascontiguousarray(portrait.pixels[y0:y1, x0:x1]), corner=(x0, y0))


@dataclass(frozen=True)
class Landmarker:
    """A loaded landmarker. `find` gives the landmarks of each portrait's main face, or why there are none.

    detector: what finds every face of a photo (study.landmarks.everyone); None where points come with the photos.
    """

    name: str
    find: Callable[[Sequence[Portrait]], list[Landmarks | PhotoError]]
    detector: Detector | None = None


@dataclass(frozen=True)
class Runtime:
    """Where and how a landmarker computes. Only fan uses device ("cpu", "cuda", "cuda:0") and dtype."""

    device: str = "cpu"
    threads: int = 1
    dtype: str = "float32"


@dataclass(frozen=True)
class Try:
    """One way to show a photo to the detector: rotated by `angles` (degrees; the best face counts), padded, scaled,
    equalised.

    A box counts when its score reaches the detector's threshold for sure finds or, with `weak`, for weak ones.
    """

    name: str
    angles: tuple[float, ...] = (0.0,)
    pad: float = 0.0
    scale: float = 1.0
    equalise: bool = False
    weak: bool = False


TRIES = (
    Try("whole"),
    Try("padded", pad=0.25),  # faces that touch the border
    Try("upsampled", scale=2.0),  # small faces
    Try("equalised", pad=0.25, equalise=True),  # faded and dark prints
    Try("turned 20", angles=(-20.0, 20.0), pad=0.2),
    Try("turned 40", angles=(-40.0, 40.0), pad=0.2),
    Try("turned 90", angles=(-90.0, -65.0, 65.0, 90.0), pad=0.2),
    Try("weak", pad=0.25, weak=True),
    Try("weak upsampled", scale=2.0, weak=True),
    Try("weak equalised", pad=0.25, equalise=True, weak=True),
    Try("weak turned", angles=(-30.0, -15.0, 15.0, 30.0), pad=0.2, weak=True),
)
"""Tries in order; the first that finds a face ends the search.

Chosen with dlib on FG-NET, whose points files show which finds are false. A single try with any score above 0 finds
974 of 1,002 faces and the knot of a tie. These tries find 1,001, each with both eyes within 0.27 inter-ocular distances
of the given pupils. Taking the middle of the photo as a last resort was wrong on the one face that is left.
"""


@dataclass(frozen=True)
class Detector:
    """A face detector with its point predictor.

    `detect` gives the boxes of at least a score; `fit` the 68 points of each (view, box), in the view's pixels.
    sure and weak are the least scores of the first tries and of the last.
    """

    detect: Callable[[Pixels, float], list[Box]]
    fit: Callable[[Sequence[Boxed]], list[Points]]
    sure: float
    weak: float


@dataclass(frozen=True)
class Located:
    """A face before its points are known: the view in which it was found, and the way back to the photo."""

    seen: View
    box: Box
    matrix: Matrix  # photo, scaled for detection, to view
    to_photo: tuple[float, float]  # photo pixels a pixel of the scaled photo, x and y
    found_by: str

    def in_photo(self, points: Float32[np.ndarray, "points 2"]) -> Float32[np.ndarray, "points 2"]:
        """Points of the view as points of the photo."""
        inverse = cv2.invertAffineTransform(self.matrix)
        small = points @ inverse[:, :2].T + inverse[:, 2]
        # cv2.resize keeps edges, not centres: a pixel's centre lies half a pixel from its edge.
        return ((small + 0.5) * np.array(self.to_photo) - 0.5).astype(np.float32)


def view(pixels: Pixels, *, angle: float, pad: float, scale: float, equalise: bool) -> tuple[View, Matrix]:
    """A photo as a try shows it, and the 2x3 matrix from photo pixels to the view's.

    The border pixels are repeated outwards: a black border would hide the edge of a face that touches it.
    """
    if equalise:
        lightness, a, b = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB))
        even = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(lightness)
        pixels = cv2.cvtColor(cv2.merge([even, a, b]), cv2.COLOR_LAB2RGB)
    height, width = pixels.shape[:2]
    side = scale * (1 + 2 * pad)
    out_width, out_height = round(width * side), round(height * side)
    if abs(angle) > 45:
        out_width, out_height = max(out_width, out_height), max(out_width, out_height)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    matrix[:, 2] += (out_width / 2 - width / 2, out_height / 2 - height / 2)
    seen = cv2.warpAffine(
        pixels, matrix, (out_width, out_height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return seen, matrix


def locate(pixels: Pixels, detector: Detector) -> Located | PhotoError:
    """The photo's main face by the first try that finds one, or PhotoError(NO_FACE)."""
    found = candidates(pixels, detector)
    if found:
        return max(found, key=lambda each: each[0])[1]
    height, width = pixels.shape[:2]
    return PhotoError(Reason.NO_FACE, f"none in {width}x{height} pixels by {len(TRIES)} tries")


def candidates(pixels: Pixels, detector: Detector) -> list[tuple[float, Located]]:
    """What the first try that finds anything found, each with how likely it is the main face; [] where none does."""
    small, to_photo = scaled(pixels, DETECTION_SIDE)
    for attempt in TRIES:
        found: list[tuple[float, Located]] = []
        for angle in attempt.angles:
            plain = angle == 0 and not attempt.pad and attempt.scale == 1 and not attempt.equalise
            seen, matrix = (
                (small, np.eye(2, 3))
                if plain
                else view(small, angle=angle, pad=attempt.pad, scale=attempt.scale, equalise=attempt.equalise)
            )
            for box in detector.detect(seen, detector.weak if attempt.weak else detector.sure):
                worth = _worth(box, seen, floor=detector.weak)
                found.append((worth, Located(seen, box, matrix, to_photo, attempt.name)))
        if found:
            return found
    return []


def scaled(pixels: Pixels, side: int) -> tuple[View, tuple[float, float]]:
    """A photo scaled down to at most `side` pixels a side, and the photo's pixels for one of its own, x and y."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, side / max(height, width))
    small = pixels
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small, (width / small.shape[1], height / small.shape[0])


def search(portraits: Sequence[Portrait], detector: Detector) -> list[Landmarks | PhotoError]:
    """The landmarks of each photo's main face, the points fitted together; or why there are none.

    An error on one photo rejects that photo and does not stop the run. Errors of the device (such as torch's out of
    memory) are raised.
    """
    located = [_guarded(partial(locate, portrait.pixels, detector)) for portrait in portraits]
    faces = [face for face in located if isinstance(face, Located)]
    fits = [(face.seen, face.box) for face in faces]
    together = _guarded(partial(detector.fit, fits))
    if isinstance(together, PhotoError):  # one of them raised: find out which
        together = [_guarded(partial(_fit_one, detector, fit)) for fit in fits]
    points = iter(together)
    found: list[Landmarks | PhotoError] = []
    for face in located:
        answer = next(points) if isinstance(face, Located) else face
        found.append(
            Landmarks(face.in_photo(answer), "ibug", face.found_by)
            if isinstance(face, Located) and not isinstance(answer, PhotoError)
            else answer
        )
    return found


def _fit_one(detector: Detector, face: Boxed) -> Points:
    (points,) = detector.fit([face])
    return points


def _guarded(work: Callable[[], Any]) -> Any:
    """What work returns, or its error as PhotoError(FAILED), unless it is an error of the machine."""
    try:
        return work()
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__module__.startswith("torch"):
            raise
        return PhotoError(Reason.FAILED, " ".join(f"{type(error).__name__}: {error}".split())[:300])


def _worth(box: Box, seen: View, *, floor: float) -> float:
    """How likely a box is the photo's main face: score times size, lower towards the edge.

    False finds are small (a knot of a tie, an ear); the main face of a portrait is large and near the middle.
    """
    height, width = seen.shape[:2]
    off_x = abs((box.left + box.right) / 2 / width - 0.5)
    off_y = abs((box.top + box.bottom) / 2 / height - 0.5)
    return (box.score - floor + 0.1) * box.side * (1.0 - min(0.9, math.hypot(off_x, off_y)))
