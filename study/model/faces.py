"""From a photo to the faces that a network sees, by the code that made its training faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from study.artifacts.aligned import Recipe
from study.landmarks.everyone import find_everyone
from study.landmarks.landmarkers import LANDMARKERS
from study.landmarks.photos import PhotoError, Reason, decode_photo
from study.landmarks.search import Pixels, Runtime
from study.landmarks.warp import align_face, encode_face, template
from trainables.faces.table import decode_face


@dataclass(frozen=True)
class SeenFace:
    """A face as the network sees it (RGB, 0 to 255), the detector's box (left, top, right, bottom) in the photo's
    pixels, and the try that found it."""

    pixels: UInt8[np.ndarray, "px px 3"]
    box: tuple[int, int, int, int]
    found_by: str


class FaceFinder:
    """Finds, aligns and cuts all faces of a photo as the recipe of the training's faces says."""

    def __init__(self, recipe: Recipe, *, px: int, threads: int = 1) -> None:
        """Raises ValueError where this code cannot make such faces, ImportError or FileNotFoundError where the
        landmarker is not installed."""
        points = np.array(recipe.points, np.float64).reshape(-1, 2)
        if not np.allclose(points, template(recipe.coverage), atol=1e-9):
            raise ValueError(
                f"the model was trained on faces of the template {recipe.template!r}, which this version does not cut: "
                "align, pretrain and refit again, or use the version that made the model"
            )
        entry = LANDMARKERS.get(recipe.landmarker)
        # a digest is compared where the weights are files of this machine
        found = entry.load(Runtime(threads=threads)) if entry is not None else None
        if found is None or found.detector is None:
            raise ValueError(
                f"the model was trained on faces that the landmarker {recipe.landmarker!r} placed, which cannot find "
                "the points of a new photo: align with --landmarker dlib or fan, and refit"
            )
        cv2.setNumThreads(threads)
        self.recipe, self.px, self.detector = recipe, px, found.detector

    def find(self, pixels: Pixels) -> list[SeenFace]:
        """All faces of an upright RGB photo, the main one first. Raises PhotoError where there is none."""
        faces: list[SeenFace] = []
        for someone in find_everyone(pixels, self.detector):
            try:
                cut = align_face(pixels, someone.landmarks, size=self.recipe.size, coverage=self.recipe.coverage)
            except ValueError as error:  # landmarks that coincide
                if not faces:
                    raise PhotoError(Reason.BAD_POINTS, str(error)) from None
                continue
            # a training face went through JPEG, too
            seen = decode_face(encode_face(cut, quality=self.recipe.quality), px=self.px)
            left, top, right, bottom = (round(edge) for edge in someone.box)
            faces.append(SeenFace(seen, (left, top, right, bottom), someone.landmarks.found_by))
        return faces


def open_photo(photo: Any) -> Pixels:
    """The upright RGB pixels of a photo: a path, a file's bytes, an array (RGB or grey, 0 to 255) or a Pillow image.

    Raises PhotoError where it is no photo, TypeError for anything else.
    """
    if isinstance(photo, str | Path):
        return decode_photo(read_file(Path(photo)))
    if isinstance(photo, bytes):
        return decode_photo(photo)
    array = np.asarray(photo.convert("RGB") if hasattr(photo, "convert") else photo)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
        raise TypeError(
            f"a photo is an array of {array.dtype} and shape {array.shape}: expected uint8 of shape (height, width, 3) "
            "in RGB, a path, bytes, or a Pillow image"
        )
    return np.ascontiguousarray(array[:, :, :3])


def read_file(file: Path) -> bytes:
    """A photo's bytes. Raises PhotoError where they cannot be read."""
    try:
        if file.exists() and not file.is_file():  # reading a pipe could block for ever
            raise PhotoError(Reason.NOT_A_PHOTO, "not a regular file")
        return file.read_bytes()
    except FileNotFoundError:
        raise PhotoError(Reason.MISSING, "no such file") from None
    except OSError as error:
        raise PhotoError(Reason.UNREADABLE, f"{type(error).__name__}: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file system takes
        raise PhotoError(Reason.MISSING, str(error)) from None
