"""Photos: what a dataset's parser yields, how a photo is decoded, and the reasons for which one is rejected."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.contents import what_is

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
"""Formats that are decoded (JPEG includes MPO, several in one file). Pillow's others are refused: EPS, which runs
Ghostscript, and 40 rare ones."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Extensions of photos' file names, in upper or lower case."""

MAX_PIXELS = 120_000_000
"""A photo with more pixels is refused before it is decoded: 120 megapixels are 360 MB of RGB."""

MAX_SCANS = 100
"""A JPEG with more scans is refused: each scan is a pass over all pixels, so a small file could take hours."""

MIN_SIDE = 16
"""A photo with a shorter side (pixels) is too small for 68 points on a face."""


class Reason(StrEnum):
    """Why a photo is not in the faces table: the fixed set of the rejects table's column `reason`."""

    BAD_NAME = "bad_name"  # the name or the metadata row does not say who or how old, or is no UTF-8
    AGE_OUT_OF_RANGE = "age_out_of_range"
    NO_FACE_IN_METADATA = "no_face_in_metadata"  # IMDB-WIKI: face_score is not finite
    LOW_FACE_SCORE = "low_face_score"
    SECOND_FACE = "second_face"
    OTHER_SPLIT = "other_split"  # a row of labels of a split that was not asked for
    OUTSIDE_ROOT = "outside_root"  # an absolute or climbing path, or a link that leaves the root
    MISSING = "missing"  # named by the metadata, not on disk
    UNREADABLE = "unreadable"  # the file system refused
    EMPTY_FILE = "empty_file"
    NOT_A_PHOTO = "not_a_photo"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    DUPLICATE = "duplicate"  # the same bytes and age as another photo, which is kept
    CONFLICTING_AGES = "conflicting_ages"  # the same bytes as another photo with another age
    NO_POINTS = "no_points"  # landmarker pts: no points file, or one that does not hold 68 points
    NO_FACE = "no_face"  # no try of the landmarker found one
    BAD_POINTS = "bad_points"  # the 68 points coincide, so they place no face
    FAILED = "failed"  # an error of the landmarker on this photo; see the detail


REASONS = tuple(Reason)


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a dataset, before it is opened.

    path is relative to the dataset's root, / between folders; age in years; person "" where the dataset names
    no people; points is the path of the file with its 68 points, likewise relative, "" where there is none. sex and
    group are the dataset's words, "" where it has none; no network is given them. box: left, top, right, bottom of the
    face in pixels, where the dataset says which face of the photo is meant.
    """

    path: str
    age: int
    person: str = ""
    points: str = ""
    sex: str = ""
    group: str = ""
    box: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """A photo that is not used, with its reason and the details."""

    path: str
    reason: Reason
    detail: str


class PhotoError(ValueError):
    """A photo's bytes cannot be used: one of REASONS, and the details."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it pickles on its way out of a Ray worker
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def photo_names(names: Iterable[str]) -> list[str]:
    """The names with a photo's extension, in upper or lower case, sorted; without hidden files."""
    return sorted(name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith("."))


def climbs(path: str) -> bool:
    """Whether a relative path from a downloaded file is absolute, empty or leaves its root by '..'."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return not parts or path.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in path


def decode_photo(encoded: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """A photo as upright RGB pixels: turned by its EXIF orientation, converted from any mode, the first of its frames.

    Transparent parts become white; 16-bit greyscale keeps its upper 8 bits. Raises PhotoError for bytes that are no
    photo or are truncated, for more than MAX_PIXELS and for a side below MIN_SIDE. The size is checked before anything
    is decoded.
    """
    if not encoded:
        raise PhotoError(Reason.EMPTY_FILE, "0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF, palettes and large photos; we decide below
        try:
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise PhotoError(Reason.TOO_LARGE, str(error)) from None
        except UnidentifiedImageError:
            found = what_is(encoded)
            broken = " with a broken header" if found.endswith((" photo", " picture")) else ""
            raise PhotoError(Reason.NOT_A_PHOTO, f"{found}{broken}") from None
        except Exception as error:  # a hostile header makes Pillow raise many kinds of errors
            raise PhotoError(Reason.NOT_A_PHOTO, f"{type(error).__name__}: {error}") from None
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PhotoError(Reason.TOO_LARGE, f"{width}x{height} pixels, more than {MAX_PIXELS:,}")
            if image.format == "JPEG" and encoded.count(b"\xff\xda") > MAX_SCANS:
                raise PhotoError(Reason.NOT_A_PHOTO, f"a JPEG of more than {MAX_SCANS} scans")
            if min(width, height) < MIN_SIDE:
                raise PhotoError(Reason.TOO_SMALL, f"{width}x{height} pixels, a side under {MIN_SIDE}")
            try:
                image.load()
                return _upright_rgb(image)
            except MemoryError:
                raise PhotoError(Reason.TOO_LARGE, f"no memory for {width}x{height} pixels") from None
            except Exception as error:  # OSError for a truncated JPEG, SyntaxError for a broken PNG, ...
                raise PhotoError(Reason.TRUNCATED, f"{type(error).__name__}: {error}") from None


def _upright_rgb(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel: convert("RGB") would clip, not scale
        deep = np.asarray(upright).astype(np.float64)
        top = 65535.0 if upright.mode.startswith("I") else max(float(np.nanmax(deep)), 1.0)
        grey = np.nan_to_num(deep / top * 255.0).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(upright.convert("RGB"))
