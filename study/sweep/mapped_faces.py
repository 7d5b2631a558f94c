"""Large faces tables as files that every process of a machine maps read-only, instead of arrays in each one's memory.

Half a million faces of 224 px are 79 GB of pixels. They are decoded once into a file (.faces/ in the folder of the
sweeps), by a key that covers the table's content, and the operating system keeps in memory what is being read. Trials
on other machines, which do not see that file, make their own from the table, once for each machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa

from study.process.home import private_folder
from trainables.faces.hashes import stacked
from trainables.faces.table import (
    Faces,
    decode_face,
    digest_row,
    face_hash,
    load_faces,
    open_parquet,
    read_columns,
    read_coverage,
    table_files,
)

LARGE = 512 << 20
"""Bytes of pixels from which on a table is mapped: below, Ray's object store brings it to every machine."""

_SOME = 4096
"""Rows that are handled at a time."""

_HASHES = ("face_hash", "photo_hash")
_COLUMNS = ("pixels", "age", "person", "photo", "content", *_HASHES)
"""Files of a mapped table: the arrays of Faces. A file more holds the coverage."""


@dataclass(frozen=True)
class MappedFaces:
    """A table in files. Ray gives a task that gets one the Faces, mapped, which are made where they are not there."""

    folder: Path
    tables: tuple[str, ...]
    px: int
    digest: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _faces_for_trial, (str(self.folder), self.tables, self.px, self.digest)


def read_faces(tables: Sequence[Path], *, px: int, place: Path) -> Faces:
    """The faces of whole tables, as load_faces gives them; large ones are mapped from files under `place`.

    Raises OSError where the disk has no room for them.
    """
    if count_faces(tables) * px * px * 3 < LARGE:
        return load_faces(tables, px=px)
    return map_faces([str(table) for table in tables], px=px, place=place)


def for_trials(faces: Faces, tables: Sequence[Path], *, px: int, place: Path) -> Faces | MappedFaces:
    """What is put into Ray's object store for the trials at `px` pixels. faces: the tables in one size."""
    if faces.pixels.shape[1] != px:
        faces = read_faces(tables, px=px, place=place)
    if not isinstance(faces.pixels, np.memmap):
        return faces
    # absolute: a worker's working directory is Ray's
    where = tuple(str(table.expanduser().absolute()) for table in tables)
    return MappedFaces(_folder(place.absolute(), faces.digest, px), where, px, faces.digest)


def count_faces(tables: Sequence[Path]) -> int:
    """How many faces the tables have, from their files' footers."""
    count = 0
    for table in tables:
        for file in table_files(table):
            with open_parquet(file) as parquet:
                count += parquet.metadata.num_rows
    return count


def map_faces(tables: Sequence[str], *, px: int, place: Path) -> Faces:
    """The mapped faces of whole tables, made under `place` where they are not there. All of the tables is read in any
    case, a few faces at a time, since the key is their content."""
    rows, order = _light(tables)
    digest = _digest(rows)
    folder = _folder(place, digest, px)
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(place / f".{folder.name}.lock"):  # two sweeps may begin at once
        if not folder.is_dir():
            _make(folder, tables, rows, order, px)
    return _open(folder, digest)


def _faces_for_trial(folder: str, tables: tuple[str, ...], px: int, digest: str) -> Faces:
    """The mapped faces, made on this machine where the driver's files are not to be seen."""
    there = Path(folder)
    if there.is_dir():
        return _open(there, digest)
    place = private_folder() / "faces"
    there = _folder(place, digest, px)
    if there.is_dir():
        return _open(there, digest)
    faces = map_faces(tables, px=px, place=place)
    if faces.digest != digest:
        raise ValueError(
            f"the faces at {tables[0]} are others on this machine than where the sweep began: give a folder that all "
            "machines see"
        )
    return faces


def _folder(place: Path, digest: str, px: int) -> Path:
    return place / f"{digest}-{px}"


def _open(folder: Path, digest: str) -> Faces:
    try:
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _COLUMNS]
        coverage = float(np.load(folder / "coverage.npy", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it, and it is made again") from error
    return Faces(digest=digest, coverage=coverage, **dict(zip(_COLUMNS, arrays, strict=True)))


def _light(tables: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
    """All but the pixels, in table order, with each face's SHA-256; and the row of each face of the files in it."""
    parts = []
    names = ["dataset", "photo", "person", "age", "photo_sha256", "face", *_HASHES]
    rows = read_columns([Path(table) for table in tables], names)
    while some := list(islice(rows, _SOME)):
        parts.append(
            pa.table(
                {
                    "dataset": pa.array([row["dataset"] for row in some], pa.string()),
                    "name": pa.array([row["photo"] for row in some], pa.string()),
                    "photo": pa.array([f"{row['dataset']}/{row['photo']}" for row in some], pa.string()),
                    "person": pa.array(
                        [f"{row['dataset']}/{row['person']}" if row["person"] else "" for row in some], pa.string()
                    ),
                    "age": pa.array([row["age"] for row in some], pa.int16()),
                    "content": pa.array([row["photo_sha256"] for row in some], pa.string()),
                    "sha256": pa.array([hashlib.sha256(row["face"]).hexdigest() for row in some], pa.string()),
                    "face_hash": pa.array([row["face_hash"] or face_hash(row["face"]) for row in some], pa.binary()),
                    "photo_hash": pa.array([row["photo_hash"] for row in some], pa.binary()),
                }
            )
        )
    whole = pa.concat_tables(parts)
    whole = whole.append_column("at", pa.array(np.arange(len(whole), dtype=np.int32)))
    whole = whole.sort_by([("dataset", "ascending"), ("name", "ascending")]).drop_columns(["dataset", "name"])
    order = np.empty(len(whole), np.int32)
    order[whole["at"].to_numpy()] = np.arange(len(whole), dtype=np.int32)
    return whole.drop_columns(["at"]), order


def _digest(rows: pa.Table) -> str:
    """The digest that load_faces calculates."""
    digest = hashlib.sha256()
    for batch in rows.to_batches(max_chunksize=_SOME):
        for row in batch.to_pylist():
            digest.update(digest_row(row["photo"], row["person"], row["age"], row["sha256"], row["content"]))
    return digest.hexdigest()[:16]


def _make(folder: Path, tables: Sequence[str], rows: pa.Table, order: np.ndarray, px: int) -> None:
    """Write the files under a temporary name, then rename their folder."""
    half = folder.with_name(f".{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)  # of a command that was killed
    half.mkdir()
    try:
        np.save(half / "age.npy", rows["age"].to_numpy())
        for name in ("person", "photo", "content"):
            _save_text(half / f"{name}.npy", rows[name])
        for name in _HASHES:
            np.save(half / f"{name}.npy", stacked(rows[name].to_pylist()))
        files = [file for table in tables for file in table_files(table)]
        np.save(half / "coverage.npy", np.float64(read_coverage(files)))
        # written, not mapped: what is written through a map counts as this process's memory
        with (half / "pixels.npy").open("wb") as file:
            shape = (len(order), px, px, 3)
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            first, size = file.tell(), px * px * 3
            file.truncate(first + len(order) * size)
            file.flush()
            for place, face in zip(order.tolist(), _encoded(tables), strict=True):
                os.pwrite(file.fileno(), decode_face(face, px=px).tobytes(), first + place * size)
            os.fsync(file.fileno())
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _encoded(tables: Sequence[str]) -> Iterator[bytes]:
    """The faces' bytes, in the order of the files."""
    for row in read_columns([Path(table) for table in tables], ["face"]):
        yield row["face"]


def _save_text(file: Path, column: pa.ChunkedArray) -> None:
    """A column of text as an array of fixed width, some rows at a time."""
    width = max((len(text) for batch in column.chunks for text in batch.to_pylist()), default=1)
    kind = np.dtype(f"<U{max(1, width)}")
    with file.open("wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (len(column),)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(column), _SOME):
            out.write(np.array(column.slice(start, _SOME).to_pylist(), kind).tobytes())
