"""Aligned faces: 68 landmarks -> similarity transform -> a square face of one size, tilt and position.

Pure NumPy and OpenCV. Pixel (0, 0) has its centre at (0, 0); a template's shares are of the whole square,
whose left edge lies at -0.5.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from study.landmarks.search import Landmarks, Scheme

FIVE = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
"""The points by which a face is placed; left and right as seen in the photo. The jaw and brows are left out: dlib, FAN
and human annotators disagree on them most, and a child's jaw has another shape, not another place."""

TEMPLATE_NAME = "tight-5"

TEMPLATE: Float64[np.ndarray, "5 2"] = np.array(
    [(0.2855, 0.279), (0.7145, 0.279), (0.5, 0.511), (0.3075, 0.709), (0.6925, 0.709)]
)
"""Where the FIVE land, as shares (x, y) of the square: brows to chin, ear to ear.

Chosen so that both UTKFace's tight crops and FG-NET's photos fill it: a network would learn from a padded border. It is
the median face of 9,005 UTKFace crops (dlib's points, made symmetric), enlarged by 1.1 about the middle. Mean share of
the square that lies outside the photo: UTKFace 6.8 % and FG-NET 1.9 % at 1.0, 0.3 % and 0.7 % at 1.1, 0.04 % and 0.3 %
at 1.2. Beyond 1.1 the forehead and chin are lost, which show age.
"""


def template(coverage: float = 1.0) -> Float64[np.ndarray, "5 2"]:
    """Where the FIVE land in a square of `coverage` times TEMPLATE's side with the same middle: 1.65 takes in hair and
    chin. TEMPLATE's side is 2.33 times the distance between the eyes."""
    return TEMPLATE if coverage == 1 else 0.5 + (TEMPLATE - 0.5) / coverage


def five_points(points: Float[np.ndarray, "68 2"], *, scheme: Scheme) -> Float64[np.ndarray, "5 2"]:
    """The FIVE points of a face, in the unit of `points`.

    iBUG: an eye is the mean of its six points (36:42 and 42:48), nose 30, mouth 48 and 54. FG-NET has an
    order of its own: pupils 31 and 36, nose tip 67, mouth 48 and 54.
    """
    wide = np.asarray(points, dtype=np.float64)
    if scheme == "ibug":
        return np.stack([wide[36:42].mean(0), wide[42:48].mean(0), wide[30], wide[48], wide[54]])
    if scheme == "fgnet":
        return wide[[31, 36, 67, 48, 54]]
    raise ValueError(f"landmark scheme must be 'ibug' or 'fgnet', got {scheme!r}")


def similarity(
    source: Float[np.ndarray, "points 2"], target: Float[np.ndarray, "points 2"]
) -> Float64[np.ndarray, "2 3"]:
    """The 2x3 matrix [sR | t] (scale, rotation, shift; no reflection) from source to target, by least squares.

    Umeyama (PAMI 1991) in two dimensions, where a similarity is z -> k z + t over the complex numbers.
    Raises ValueError where the source points coincide.
    """
    a = source[:, 0] + 1j * source[:, 1]
    b = target[:, 0] + 1j * target[:, 1]
    spread = a - a.mean()
    power = float((np.abs(spread) ** 2).sum())
    if not power > 1e-12:
        raise ValueError("the landmarks coincide: no similarity transform maps them to the template")
    k = complex((spread.conj() * (b - b.mean())).sum() / power)
    t = complex(b.mean() - k * a.mean())
    return np.array([[k.real, -k.imag, t.real], [k.imag, k.real, t.imag]])


def face_matrix(landmarks: Landmarks, *, size: int, coverage: float = 1.0) -> Float64[np.ndarray, "2 3"]:
    """The 2x3 matrix from photo pixels to the pixels of a face of size x size."""
    five = five_points(landmarks.points, scheme=landmarks.scheme)
    return similarity(five, template(coverage) * size - 0.5)


def padded_share(matrix: Float64[np.ndarray, "2 3"], *, size: int, width: int, height: int) -> float:
    """The share of a face's square, 0 to 1, that lies outside of its photo of width x height pixels: 64 x 64 points of
    the square are tried."""
    steps = (np.arange(64) + 0.5) / 64 * size - 0.5
    points = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    inverse = cv2.invertAffineTransform(matrix)
    x, y = (points @ inverse[:, :2].T + inverse[:, 2]).T
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return float(1 - inside.mean())


def align_face(
    pixels: UInt8[np.ndarray, "height width 3"], landmarks: Landmarks, *, size: int, coverage: float = 1.0
) -> UInt8[np.ndarray, "size size 3"]:
    """The face of a photo: size x size RGB, with its FIVE points on template(coverage).

    Where a face becomes smaller, it is first averaged (area filter) against aliasing. Outside the photo its border is
    mirrored.
    """
    matrix = face_matrix(landmarks, size=size, coverage=coverage)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1:
        pixels, matrix = _shrink(pixels, matrix, scale=scale, size=size)
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _shrink(
    pixels: UInt8[np.ndarray, "height width 3"],
    matrix: Float64[np.ndarray, "2 3"],
    *,
    scale: float,
    size: int,
) -> tuple[UInt8[np.ndarray, "small_height small_width 3"], Float64[np.ndarray, "2 3"]]:
    """The part of a photo that the face needs, averaged down by about `scale`, and the matrix from there."""
    inverse = cv2.invertAffineTransform(matrix)
    square = np.array([(0, 0), (size, 0), (0, size), (size, size)], dtype=np.float64)
    corners = square @ inverse[:, :2].T + inverse[:, 2]
    margin = 2 / scale
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(corners.min(0) - margin).astype(int), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(corners.max(0) + margin).astype(int), (left + 1, top + 1), (width, height))
    part = pixels[top:bottom, left:right]
    columns = max(1, round(part.shape[1] * scale))
    rows = max(1, round(part.shape[0] * scale))
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    # Pixel p of the part has its centre at (p + 0.5) * ratio - 0.5 of the small one; here is the way back.
    ratio = np.array([part.shape[1] / columns, part.shape[0] / rows])
    grown = matrix[:, :2] * ratio
    shift = matrix[:, :2] @ ((ratio - 1) / 2 + np.array([left, top])) + matrix[:, 2]
    return small, np.column_stack([grown, shift])


def encode_face(face: UInt8[np.ndarray, "size size 3"], *, quality: int) -> bytes:
    """A face as JPEG without colour subsampling; RGB in, the same bytes every time."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"OpenCV could not encode a face of shape {face.shape}")
    return encoded.tobytes()
