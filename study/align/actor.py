"""What a Ray worker does with photos: hash them; and read, decode, find landmarks, cut and encode. No Ray in here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from study.align.listing import FATE, HASHED
from study.artifacts.aligned import Recipe
from study.cluster.placing import mark_running
from study.files.storage import Folder
from study.landmarks.landmarkers import LANDMARKERS
from study.landmarks.photos import PhotoError, Reason, climbs, decode_photo
from study.landmarks.search import Landmarks, Portrait, Runtime, Scheme, focus
from study.landmarks.warp import align_face, encode_face, face_matrix, padded_share
from trainables.faces.hashes import SIDE, picture_hash
from trainables.faces.table import SCHEMA, face_hash

DECODED = 16
"""Photos that are decoded at once, and go through the landmark model together: 16 of 50 megapixels take 2.4 GB."""
READERS = 8
"""Threads that read ahead for one landmark model."""

ALIGNED = pa.schema([pa.field("shard", pa.int32()), *(field.with_nullable(True) for field in SCHEMA), *FATE])
"""What Align gives: a row of the faces table, or why the photo failed."""


def read_photo(root: Folder, path: str) -> bytes:
    """A photo's bytes, or PhotoError. Paths that leave the root are refused, and links unless root.follow_links."""
    if climbs(path):
        raise PhotoError(Reason.OUTSIDE_ROOT, "an absolute or climbing path")
    try:
        if root.local is not None:
            target = os.path.realpath(root.local / path, strict=True)
            if not root.follow_links and not Path(target).is_relative_to(_real(root.local)):
                raise PhotoError(Reason.OUTSIDE_ROOT, "a link that leaves the root; --follow-links reads it")
            if not os.path.isfile(target):  # reading a pipe could block for ever
                raise PhotoError(Reason.NOT_A_PHOTO, "not a regular file")
        data = root.read(path)
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(Reason.MISSING, "no such file") from None
    except OSError as error:
        raise PhotoError(Reason.UNREADABLE, f"{type(error).__name__}: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file system takes
        raise PhotoError(Reason.MISSING, str(error)) from None
    if not data:
        raise PhotoError(Reason.EMPTY_FILE, "0 bytes")
    return data


@cache
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def add_hashes(batch: pa.Table, *, root: Folder) -> pa.Table:
    """A LISTING as HASHED: sha256 and bytes are null, with a reason and detail, where a photo cannot be read."""
    rows: list[tuple[str | None, int | None, str | None, str | None]] = []
    for path in batch["photo"].to_pylist():
        try:
            photo = read_photo(root, path)
            rows.append((hashlib.sha256(photo).hexdigest(), len(photo), None, None))
        except PhotoError as error:
            rows.append((None, None, error.reason.value, error.detail))
    for field, values in zip(list(HASHED)[-4:], zip(*rows, strict=True), strict=True):
        batch = batch.append_column(field, pa.array(values, field.type))
    return batch


@dataclass(frozen=True)
class Cut:
    """A face that was found: encoded, its landmarks in the photo, the hash of the whole photo, and the share of the
    face's square that lies outside of it."""

    face: bytes
    landmarks: Landmarks
    photo_hash: bytes
    padded: float


class Align:
    """Actor with a landmark model: rows of a hashed listing in, rows of the faces table out, or why a photo failed.

    It computes in as many threads as it has CPUs: more would slow all actors. Further threads read ahead and mostly
    wait for a disk or a bucket. Photos never travel through Ray's object store, so its memory does not grow with their
    number.
    """

    def __init__(self, root: Folder, recipe: Recipe, *, runtime: Runtime, scheme: Scheme, running: str = "") -> None:
        """scheme: the order of the points in points files. running: the prefix of a Running that counts this actor."""
        if running:
            mark_running(f"{running}{os.getpid()}")
        cv2.setNumThreads(runtime.threads)
        self.root, self.recipe, self.scheme = root, recipe, scheme
        self.landmarker = LANDMARKERS[recipe.landmarker].load(runtime)
        self.readers = ThreadPoolExecutor(READERS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        files = self.readers.map(self._read, rows)  # the first photos are decoded while the others are still read
        made: list[dict] = []
        for start in range(0, len(rows), DECODED):
            part = rows[start : start + DECODED]
            made += self._align(part, list(islice(files, len(part))))
        return pa.Table.from_pylist(made, schema=ALIGNED)

    def _read(self, row: dict) -> tuple[bytes, bytes | None] | PhotoError:
        """A photo's bytes, and its points file's where they are asked for; or why they cannot be had."""
        try:
            photo = read_photo(self.root, row["photo"])
            if hashlib.sha256(photo).hexdigest() != row["sha256"]:
                raise PhotoError(Reason.UNREADABLE, "its bytes changed while it was being aligned")
            with_points = self.recipe.landmarker == "pts" and row["points"]
            return photo, read_photo(self.root, row["points"]) if with_points else None
        except PhotoError as error:
            return error

    def _align(self, rows: list[dict], files: Sequence[tuple[bytes, bytes | None] | PhotoError]) -> list[dict]:
        answers: dict[int, PhotoError | Cut] = {}
        portraits: dict[int, Portrait] = {}
        focused: dict[int, Portrait] = {}  # what of them is searched
        for index, file in enumerate(files):
            try:
                if isinstance(file, PhotoError):
                    raise file
                photo, points = file
                portraits[index] = Portrait(decode_photo(photo), points, self.scheme)
                focused[index] = focus(portraits[index], rows[index]["box"])
            except PhotoError as error:
                answers[index] = error
        found = self.landmarker.find(list(focused.values()))
        for (index, portrait), landmarks in zip(focused.items(), found, strict=True):
            if not isinstance(landmarks, PhotoError):
                moved = landmarks.points + np.asarray(portrait.corner, np.float32)
                answers[index] = self._cut(portraits[index], replace(landmarks, points=moved))
            else:
                answers[index] = landmarks
        return [self._row(row, answers[index]) for index, row in enumerate(rows)]

    def _cut(self, portrait: Portrait, landmarks: Landmarks) -> PhotoError | Cut:
        size = self.recipe.size
        try:
            face = align_face(portrait.pixels, landmarks, size=size, coverage=self.recipe.coverage)
            matrix = face_matrix(landmarks, size=size, coverage=self.recipe.coverage)
        except ValueError as error:  # landmarks that coincide
            return PhotoError(Reason.BAD_POINTS, str(error))
        height, width = portrait.pixels.shape[:2]
        padded = padded_share(matrix, size=size, width=width, height=height)
        small = cv2.resize(portrait.pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return Cut(encode_face(face, quality=self.recipe.quality), landmarks, picture_hash(small), padded)

    def _row(self, row: dict, answer: PhotoError | Cut) -> dict:
        base = {"shard": row["shard"], "dataset": self.recipe.dataset, "photo": row["photo"]}
        if isinstance(answer, PhotoError):
            return base | {"reason": answer.reason.value, "detail": answer.detail}
        landmarks = answer.landmarks
        return base | {
            "person": row["person"] or None,
            "age": row["age"],
            "face": answer.face,
            "landmarks": np.ravel(landmarks.points).tolist() if landmarks.scheme == "ibug" else None,
            "landmarker": self.landmarker.name,
            "found_by": landmarks.found_by,
            "photo_sha256": row["sha256"],
            "sex": row["sex"] or None,
            "group": row["group"] or None,
            "face_hash": face_hash(answer.face),
            "photo_hash": answer.photo_hash,
            "padded": answer.padded,
        }
