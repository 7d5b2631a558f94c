"""FacesIndex: everything about the faces of a table except their pixels, and where each face is in its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int16, Int32

from trainables.faces.hashes import Hashes, stacked
from trainables.faces.table import damaged, digest_row, face_hash, open_parquet, read_coverage, table_files

MOST_ROWS = 16384
"""Most rows of a Parquet row group that can be streamed, since it is read whole (16,384 faces of 20 kB are 330 MB)."""

_COLUMNS = ["dataset", "photo", "person", "age", "photo_sha256", "face"]
_HASHES = ["face_hash", "photo_hash"]


@dataclass(frozen=True)
class FacesIndex:
    """One or more tables without their pixels, in the same order as Faces (sorted by dataset, then photo).

    Face i is row row[i] of a Parquet row group: number groups[group[i], 1] of the file files[groups[group[i], 0]].
    age (years), person, content, digest, hashes and coverage are the same as in Faces.
    """

    files: tuple[str, ...]  # absolute paths or URIs
    groups: Int32[np.ndarray, "groups 2"]
    group: Int32[np.ndarray, " faces"]
    row: Int32[np.ndarray, " faces"]
    age: Int16[np.ndarray, " faces"]
    person: np.ndarray
    content: np.ndarray
    datasets: tuple[str, ...]
    digest: str
    face_hash: Hashes
    photo_hash: Hashes
    coverage: float

    def __len__(self) -> int:
        return len(self.age)


def index_faces(places: Sequence[str]) -> FacesIndex:
    """The index of whole tables. They are read once, a few faces at a time; about 400 bytes per face are kept."""
    files = [file for place in places for file in table_files(place)]
    groups: list[tuple[int, int]] = []
    parts: list[pa.Table] = []
    for number, file in enumerate(files):
        try:
            found, inner_groups = _index_file(file, len(groups))
        except (pa.ArrowException, OSError) as error:
            raise damaged(file, error) from error
        parts += found
        groups += [(number, inner) for inner in range(inner_groups)]
    whole = pa.concat_tables(parts).sort_by([("dataset", "ascending"), ("photo", "ascending")]) if parts else None
    if whole is None or whole.num_rows == 0:
        raise ValueError(f"the faces table at {', '.join(places)} has no rows; see its rejects/ for why")
    digest = hashlib.sha256()
    person: list[str] = []
    for batch in whole.to_batches(max_chunksize=4096):
        for face in batch.select(["dataset", "photo", "person", "age", "sha256", "photo_sha256"]).to_pylist():
            person.append(f"{face['dataset']}/{face['person']}" if face["person"] else "")
            name = f"{face['dataset']}/{face['photo']}"
            digest.update(digest_row(name, person[-1], face["age"], face["sha256"], face["photo_sha256"]))
    return FacesIndex(
        files=tuple(files),
        groups=np.array(groups, np.int32),
        group=whole["group"].to_numpy(),
        row=whole["row"].to_numpy(),
        age=whole["age"].to_numpy(),
        person=np.array(person),
        content=np.array(whole["photo_sha256"].to_pylist()),
        datasets=tuple(sorted(whole["dataset"].unique().to_pylist())),
        digest=digest.hexdigest()[:16],
        face_hash=stacked(whole["face_hash"].to_pylist()),
        photo_hash=stacked(whole["photo_hash"].to_pylist()),
        coverage=read_coverage(files),
    )


def _index_file(file: str, first: int) -> tuple[list[pa.Table], int]:
    """A file's rows without their faces, and its number of row groups, which are numbered from `first`."""
    parts: list[pa.Table] = []
    with open_parquet(file) as table:
        for inner in range(table.num_row_groups):
            rows = table.metadata.row_group(inner).num_rows
            if rows > MOST_ROWS:
                raise ValueError(
                    f"{file} has a row group of {rows:,} faces, and at most {MOST_ROWS:,} can be streamed: rewrite "
                    "it with pyarrow.parquet.write_table(..., row_group_size=256), or align again"
                )
            parts += _light(table, inner, first + inner)
        return parts, table.num_row_groups


def _light(table: pq.ParquetFile, inner: int, group: int) -> list[pa.Table]:
    """A row group's rows with the SHA-256 of each face instead of its bytes, and with group and row number."""
    found, start = [], 0
    there = [name for name in _HASHES if name in table.schema_arrow.names]
    for batch in table.iter_batches(batch_size=64, row_groups=[inner], columns=_COLUMNS + there):
        sha = [hashlib.sha256(face.as_buffer()).hexdigest() for face in batch["face"]]
        known = {name: batch[name].to_pylist() if name in there else [None] * len(sha) for name in _HASHES}
        known["face_hash"] = [
            made or face_hash(face.as_py()) for made, face in zip(known["face_hash"], batch["face"], strict=True)
        ]
        columns = {name: batch[name] for name in _COLUMNS[:-1]} | {
            **{name: pa.array(values, pa.binary()) for name, values in known.items()},
            "sha256": pa.array(sha),
            "group": pa.array(np.full(len(sha), group, np.int32)),
            "row": pa.array(np.arange(start, start + len(sha), dtype=np.int32)),
        }
        found.append(pa.table(columns))
        start += len(sha)
    return found
