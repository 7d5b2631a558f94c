"""The Ray Data pipeline of aligning: photos are hashed in tasks, then read, decoded, landmarked and cut in actors."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import ray.data

from study import landmarks as finding
from study.cluster.placing import Running, mark_running
from study.files.storage import Folder
from study.landmarks.landmarkers import LANDMARKERS
from study.landmarks.photos import PhotoError, Reason, climbs, decode_photo
from study.landmarks.search import Landmarks, Portrait, Runtime, Scheme
from study.landmarks.warp import Alignment, align_face, encode_face
from trainables import source_digest
from trainables.faces.table import SCHEMA

LISTING = pa.schema(
    [
        ("photo", pa.string()),
        ("person", pa.string()),
        ("age", pa.int16()),
        ("points", pa.string()),
    ]
)
"""What a parser knows of the photos, one row a photo, before any is opened."""

FATE = pa.schema([("reason", pa.string()), ("detail", pa.string())])
"""Why a photo failed; both null where it did not."""

HASHED = pa.schema([*LISTING, ("sha256", pa.string()), ("bytes", pa.int64()), *FATE])
"""A listing whose photos were opened: the file's hash and size, null where it could not be read."""

READ_BATCH = 256
ALIGN_BATCH, ALIGN_BYTES = 64, 64_000_000
"""A task's photos, at most, and their files' bytes: enough to hide what a task costs, few enough for the memory."""
DECODED = 16
"""Photos that are decoded at once, and go through the landmark model together: 16 of 50 megapixels take 2.4 GB."""
READERS = 8
"""Threads that read ahead for one landmark model."""


@dataclass(frozen=True)
class Workers:
    """Actors that hold a landmark model: how many, and what each takes of the cluster."""

    count: int
    cpus: float = 1.0
    gpus: float = 0.0


@cache
def code_version() -> str:
    """12 hex digits of the code that finds and cuts a face: study.landmarks, and how photos are put together here."""
    return source_digest(Path(finding.__file__).parent, Path(__file__))


def environment(landmarker: str) -> dict[str, str]:
    """Versions that may move a point or a pixel in its last digits."""
    packages = [
        "numpy",
        "opencv-python",
        "pillow",
        *{"fan": ("face-alignment", "torch"), "dlib": ("dlib-bin",)}.get(landmarker, ()),
    ]
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def configure() -> None:
    """Set Ray Data up for this pipeline: order kept, and no progress bars or logs beside our own."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def read_photo(root: Folder, path: str) -> bytes:
    """A photo's bytes, or PhotoError. Paths that leave the root are refused, and links unless root.follow_links."""
    if climbs(path):
        raise PhotoError(Reason.OUTSIDE_ROOT, "an absolute or climbing path")
    try:
        if root.local is not None:
            target = os.path.realpath(root.local / path, strict=True)
            if not root.follow_links and not Path(target).is_relative_to(_real(root.local)):
                raise PhotoError(Reason.OUTSIDE_ROOT, "a link that leaves the root; with --follow-links it is read")
            if not os.path.isfile(target):  # a pipe would be waited on for ever
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
    """A listing with `sha256` and `bytes` (the file's size); null, with `reason` and `detail`, where a photo cannot be
    read."""
    digests: list[str | None] = []
    sizes: list[int | None] = []
    fates: list[tuple[str | None, str | None]] = []
    for path in batch["photo"].to_pylist():
        try:
            photo = read_photo(root, path)
            digests.append(hashlib.sha256(photo).hexdigest())
            sizes.append(len(photo))
            fates.append((None, None))
        except PhotoError as error:
            digests.append(None)
            sizes.append(None)
            fates.append((error.reason.value, error.detail))
    batch = batch.append_column("sha256", pa.array(digests, pa.string()))
    return _with_fates(batch.append_column("bytes", pa.array(sizes, pa.int64())), fates)


class Align:
    """Actor with a landmark model that turns a hashed listing into rows of the faces table, or their reasons.

    It works in one thread for each CPU it was given; a second pool of threads beside the other actors' would
    slow them all. The threads that read only wait, for a disk or a bucket: photos never travel through Ray's object
    store, so its memory does not grow with their number.
    """

    def __init__(
        self,
        root: Folder,
        *,
        dataset: str,
        landmarker: str,
        runtime: Runtime,
        scheme: Scheme,
        alignment: Alignment,
        running: str = "",
    ) -> None:
        """running: the prefix of a Running that counts this actor."""
        if running:
            mark_running(f"{running}{os.getpid()}")
        cv2.setNumThreads(runtime.threads)
        self.root = root
        self.dataset = dataset
        self.landmarker = LANDMARKERS[landmarker].load(runtime)
        self.points = landmarker == "pts"
        self.scheme = scheme
        self.alignment = alignment
        self.readers = ThreadPoolExecutor(READERS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        files = self.readers.map(self._read, rows)  # the first photos are looked at while the others are still read
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
            return photo, read_photo(self.root, row["points"]) if self.points and row["points"] else None
        except PhotoError as error:
            return error

    def _align(self, rows: list[dict], files: Sequence[tuple[bytes, bytes | None] | PhotoError]) -> list[dict]:
        answers: dict[int, PhotoError | tuple[bytes, Landmarks]] = {}
        portraits: dict[int, Portrait] = {}
        for index, file in enumerate(files):
            try:
                if isinstance(file, PhotoError):
                    raise file
                photo, points = file
                portraits[index] = Portrait(decode_photo(photo), points, self.scheme)
            except PhotoError as error:
                answers[index] = error
        found = self.landmarker.find(list(portraits.values()))
        for (index, portrait), landmarks in zip(portraits.items(), found, strict=True):
            answers[index] = landmarks if isinstance(landmarks, PhotoError) else self._cut(portrait, landmarks)
        return [self._row(row, answers[index]) for index, row in enumerate(rows)]

    def _cut(self, portrait: Portrait, landmarks: Landmarks) -> PhotoError | tuple[bytes, Landmarks]:
        try:
            face = align_face(portrait.pixels, landmarks, size=self.alignment.size)
        except ValueError as error:  # landmarks that coincide
            return PhotoError(Reason.BAD_POINTS, str(error))
        return encode_face(face, quality=self.alignment.quality), landmarks

    def _row(self, row: dict, answer: PhotoError | tuple[bytes, Landmarks]) -> dict:
        base = {"shard": row["shard"], "dataset": self.dataset, "photo": row["photo"]}
        if isinstance(answer, PhotoError):
            return base | {"reason": answer.reason.value, "detail": answer.detail}
        face, landmarks = answer
        return base | {
            "person": row["person"] or None,
            "age": row["age"],
            "face": face,
            "landmarks": np.ravel(landmarks.points).tolist() if landmarks.scheme == "ibug" else None,
            "landmarker": self.landmarker.name,
            "found_by": landmarks.found_by,
            "photo_sha256": row["sha256"],
        }


ALIGNED = pa.schema([pa.field("shard", pa.int32()), *(field.with_nullable(True) for field in SCHEMA), *FATE])
"""What Align gives: a row of the faces table, or the photo's fate."""


def hash_photos(listing: pa.Table, root: Folder, running: Running | None = None) -> Iterator[pa.Table]:
    """The listing in batches, in order, with columns sha256, bytes, reason and detail."""
    if listing.num_rows == 0:
        return
    blocks = [listing.slice(start, READ_BATCH) for start in range(0, listing.num_rows, READ_BATCH)]
    read = partial(add_hashes, root=root)
    rows = ray.data.from_arrow(blocks).map_batches(
        running.counted(read) if running else read, batch_size=None, batch_format="pyarrow", num_cpus=1
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")


def align_photos(
    listing: pa.Table,
    root: Folder,
    *,
    dataset: str,
    landmarker: str,
    runtime: Runtime,
    scheme: Scheme | None,
    alignment: Alignment,
    workers: Workers,
    running: Running | None = None,
) -> Iterator[pa.Table]:
    """ALIGNED rows in batches, in the listing's order. The listing is a hashed one with a column `shard`."""
    rows = ray.data.from_arrow(cut_batches(listing)).map_batches(
        Align,
        fn_constructor_args=(root,),
        fn_constructor_kwargs={
            "dataset": dataset,
            "landmarker": landmarker,
            "runtime": runtime,
            "scheme": scheme or "ibug",
            "alignment": alignment,
            "running": running.prefix if running else "",
        },
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers.count),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus or None,
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)


def cut_batches(listing: pa.Table) -> list[pa.Table]:
    """A hashed listing with a column `shard` in parts of at most ALIGN_BATCH photos and, beyond one, ALIGN_BYTES.

    A part lies within a shard, so that a resumed run computes the same faces together as an undisturbed one.
    """
    parts, start, weight = [], 0, 0
    shards, sizes = listing["shard"].to_pylist(), listing["bytes"].to_pylist()
    for row, (shard, size) in enumerate(zip(shards, sizes, strict=True)):
        full = row - start == ALIGN_BATCH or weight + size > ALIGN_BYTES
        if row > start and (full or shard != shards[start]):
            parts.append(listing.slice(start, row - start))
            start, weight = row, 0
        weight += size
    return [*parts, listing.slice(start)] if listing.num_rows else []


def _with_fates(batch: pa.Table, fates: list[tuple[str | None, str | None]]) -> pa.Table:
    for index, name in enumerate(FATE.names):
        column = pa.array([fate[index] for fate in fates], pa.string())
        place = batch.schema.get_field_index(name)
        batch = batch.append_column(name, column) if place < 0 else batch.set_column(place, name, column)
    return batch
