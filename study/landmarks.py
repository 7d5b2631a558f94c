"""Landmarkers: each gives 68 points of the face in a photo, or the reason why not.

    fan   face-alignment's FAN with its S3FD detector: the paper's landmarks
    dlib  dlib's HOG detector and 68-point predictor: packages only, nothing to download
    pts   points that came with the photos

A detector that misses a face tries harder before it gives up (TRIES), and every face says which try found it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from study.photos import PhotoError, Reason

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


@dataclass(frozen=True)
class Landmarks:
    """68 points (x, y) in pixels of the upright photo, in the order of `scheme`; found_by names the try."""

    points: Points
    scheme: Scheme
    found_by: str


@dataclass(frozen=True)
class Portrait:
    """What a landmarker looks at: a decoded photo, and its points file's bytes where it has one."""

    pixels: Pixels
    points: bytes | None = None
    points_scheme: Scheme = "ibug"


@dataclass(frozen=True)
class Landmarker:
    """A landmarker, ready to work. `find` gives each portrait's landmarks, or why there are none."""

    name: str
    find: Callable[[Sequence[Portrait]], list[Landmarks | PhotoError]]


@dataclass(frozen=True)
class Try:
    """One way to look at a photo: turned by `angles` (degrees, the best wins), padded, scaled, equalised.

    A box counts when its score reaches the detector's threshold for sure finds, or, where `weak`, for
    weak ones.
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

Chosen on FG-NET, whose points files tell false finds, with dlib: one look at any score
above 0 finds 974 of 1,002 faces and the knot of a tie; these tries find 1,001, each with both eyes within
0.27 inter-ocular distances of the given pupils. The middle of the photo as a last resort was tried and left
out: on the one face that is left it was wrong.
"""


@dataclass(frozen=True)
class Detector:
    """A face detector with its point predictor. `detect` gives boxes of at least a score; `fit` points
    for a box.

    sure and weak are the least scores of the first tries and of the last.
    """

    detect: Callable[[Pixels, float], list[Box]]
    fit: Callable[[Pixels, Box], Points]
    sure: float
    weak: float


def view(pixels: Pixels, *, angle: float, pad: float, scale: float, equalise: bool) -> tuple[View, Matrix]:
    """A photo as a try looks at it, and the 2x3 matrix from photo pixels to the view's.

    The border is repeated outwards, as a black one hides the edge of a face that touches it.
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


def search(pixels: Pixels, detector: Detector) -> Landmarks | PhotoError:
    """The landmarks of the photo's main face by the first try that finds one, or PhotoError(NO_FACE)."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, DETECTION_SIDE / max(height, width))
    small = pixels
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    to_photo = np.array([width / small.shape[1], height / small.shape[0]])
    for attempt in TRIES:
        best: tuple[float, Pixels, Matrix, Box] | None = None
        for angle in attempt.angles:
            plain = angle == 0 and not attempt.pad and attempt.scale == 1 and not attempt.equalise
            seen, matrix = (
                (small, np.eye(2, 3))
                if plain
                else view(small, angle=angle, pad=attempt.pad, scale=attempt.scale, equalise=attempt.equalise)
            )
            threshold = detector.weak if attempt.weak else detector.sure
            for box in detector.detect(seen, threshold):
                worth = _worth(box, seen, floor=detector.weak)
                if best is None or worth > best[0]:
                    best = worth, seen, matrix, box
        if best is not None:
            _, seen, matrix, box = best
            # cv2.resize keeps edges, not centres: a pixel's centre lies half a pixel from its edge.
            points = (_back(detector.fit(seen, box), matrix) + 0.5) * to_photo - 0.5
            return Landmarks(points.astype(np.float32), "ibug", attempt.name)
    return PhotoError(Reason.NO_FACE, f"none in {width}x{height} pixels by {len(TRIES)} tries")


def search_each(portraits: Sequence[Portrait], detector: Detector) -> list[Landmarks | PhotoError]:
    """`search` for each portrait; what breaks on one photo is that photo's fate, not the run's.

    Errors of the device (torch's out of memory and the like) are not the photo's, and pass through.
    """
    found: list[Landmarks | PhotoError] = []
    for portrait in portraits:
        try:
            found.append(search(portrait.pixels, detector))
        except Exception as error:
            if isinstance(error, MemoryError) or type(error).__module__.startswith("torch"):
                raise
            found.append(PhotoError(Reason.FAILED, f"{type(error).__name__}: {error}"))
    return found


def _worth(box: Box, seen: View, *, floor: float) -> float:
    """How likely a box is the photo's main face: score times size, less towards the edge.

    False finds are small (a knot of a tie, an ear); the face a portrait is of is large and near the middle.
    """
    height, width = seen.shape[:2]
    off_x = abs((box.left + box.right) / 2 / width - 0.5)
    off_y = abs((box.top + box.bottom) / 2 / height - 0.5)
    return (box.score - floor + 0.1) * box.side * (1.0 - min(0.9, math.hypot(off_x, off_y)))


def _back(points: np.ndarray, matrix: Matrix) -> np.ndarray:
    inverse = cv2.invertAffineTransform(matrix)
    return points @ inverse[:, :2].T + inverse[:, 2]


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
        raise PhotoError(
            Reason.NO_POINTS, f"not a .pts file of 68 points: {numbers.size / 2:g} points in braces"
        )
    return numbers.reshape(68, 2)


def load_pts(*, device: str, threads: int = 1) -> Landmarker:
    """The landmarker that takes the points that came with the photos."""

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
    """Where the 68-point predictor of face-recognition-models lies; ImportError where it is not installed."""
    spec = importlib.util.find_spec("face_recognition_models")  # not imported: it needs pkg_resources
    if spec is None or spec.origin is None or importlib.util.find_spec("dlib") is None:
        raise ImportError(
            "--landmarker dlib needs dlib-bin and face-recognition-models: pip install 'age-study[dlib]'; "
            "or choose fan or pts"
        )
    return (Path(spec.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat",)


def load_dlib(*, device: str, threads: int = 1) -> Landmarker:
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

    def fit(pixels: Pixels, box: Box) -> Points:
        corners = [round(corner) for corner in (box.left, box.top, box.right, box.bottom)]
        shape = predictor(pixels, dlib.rectangle(*corners))
        return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float32)

    hog = Detector(detect, fit, sure=0.25, weak=-0.5)

    return Landmarker("dlib", lambda portraits: search_each(portraits, hog))


FAN_WEIGHTS = ("2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth")
"""Files of face-alignment: the 68-point network and the S3FD detector."""


def fan_weights() -> tuple[Path, ...]:
    """Where FAN's weights lie; FileNotFoundError names those that are missing. Nothing is downloaded."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in FAN_WEIGHTS if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--landmarker fan needs {' and '.join(missing)} in {folder} "
            "($TORCH_HOME/hub/checkpoints); get them from https://www.adrianbulat.com/downloads/python-fan/ "
            "or choose --landmarker dlib (needs no download) or pts (points that come with the photos)"
        )
    return tuple(folder / name for name in FAN_WEIGHTS)


def load_fan(*, device: str, threads: int = 1) -> Landmarker:
    """face-alignment's FAN with its S3FD detector on a device ("cpu", "cuda", "cuda:0").

    flip_input is off: it halves the speed for a small change of the points. compile is off: on a CPU it takes
    a minute at start and gains nothing, and crops come in ever new batch sizes.
    """
    fan_weights()
    import face_alignment
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"--device {device}: torch {torch.__version__} sees no GPU here; choose --device cpu"
        )
    torch.set_num_threads(threads)
    network = face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D,
        device=device,
        flip_input=False,
        compile=False,
        face_detector="sfd",
        face_detector_kwargs={"filter_threshold": 0.2},
    )

    def detect(pixels: Pixels, threshold: float) -> list[Box]:
        boxes = network.face_detector.detect_from_image(pixels.copy())
        # Python floats: float32 boxes crash face-alignment's crop.
        return [box for box in (Box(*map(float, row[:5])) for row in boxes) if box.score >= threshold]

    def fit(pixels: Pixels, box: Box) -> Points:
        corners = [box.left, box.top, box.right, box.bottom]
        (points,) = network.get_landmarks_from_image(pixels, detected_faces=[corners])
        return np.asarray(points, dtype=np.float32)

    sfd = Detector(detect, fit, sure=0.8, weak=0.3)

    return Landmarker("fan", lambda portraits: search_each(portraits, sfd))


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Choice:
    """What --landmarker may name. `weights` gives the files it needs, or an error that names them."""

    what: str
    weights: Callable[[], tuple[Path, ...]]
    load: Callable[..., Landmarker]


LANDMARKERS = {
    "fan": Choice("face-alignment's FAN, the paper's", fan_weights, load_fan),
    "dlib": Choice("dlib's 68 points, from packages alone", dlib_weights, load_dlib),
    "pts": Choice("the points that come with the photos", tuple, load_pts),
}
"""None stands in for another in silence: the points would differ, and nobody would know."""


def weights_digest(landmarker: str) -> str:
    """Names a landmarker's weights, so that tables of different weights are told apart; "none" for pts."""
    return "+".join(file_digest(file) for file in LANDMARKERS[landmarker].weights()) or "none"
