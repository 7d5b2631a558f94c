"""The faces table, which study.align writes and training reads.

It is a folder of Parquet files with one row per face. pandas and pyarrow read it without Ray.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int16, UInt8
from PIL import Image
from pyarrow import fs

from trainables.faces.hashes import SIDE, Hashes, picture_hash, stacked
from trainables.folders import SCHEME, file_system, shown

SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("photo", pa.string(), nullable=False),  # path relative to the dataset's root, / between folders
        pa.field("person", pa.string()),  # null where the dataset names no people
        pa.field("age", pa.int16(), nullable=False),  # years
        pa.field("face", pa.binary(), nullable=False),  # encoded JPEG or PNG, RGB
        # 68 x (x, y), in pixels of the photo, in iBUG order; null where the source has other points. Not a list of
        # fixed size 136: Arrow writes a null in such a list to Parquet and then cannot read it back.
        pa.field("landmarks", pa.list_(pa.float32())),
        pa.field("landmarker", pa.string(), nullable=False),
        pa.field("found_by", pa.string(), nullable=False),  # the landmarker's attempt that found the face
        pa.field("photo_sha256", pa.string(), nullable=False),
        # the dataset's words, null where it has none: for whom does it err? No network is ever given them.
        pa.field("sex", pa.string()),
        pa.field("group", pa.string()),
        # trainables.faces.hashes of the stored face and of the whole photo; null in tables of earlier versions
        pa.field("face_hash", pa.binary()),
        pa.field("photo_hash", pa.binary()),
        pa.field("padded", pa.float32()),  # share of the face's square that lies outside of its photo
    ]
)
"""Columns of a faces table."""

REJECTS_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("photo", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""Columns of a rejects table. `reason` is one of study.landmarks.photos.REASONS."""

ALIGNMENT_KEY = b"alignment"
"""Key of the Parquet metadata that holds the alignment as JSON: template, size, version, weights digest."""


@dataclass(frozen=True)
class Faces:
    """Decoded faces of one or more tables, in memory, in table order (sorted by dataset, then photo).

    pixels are RGB, 0 to 255; age is in years; person is unique over datasets ("fgnet/001"), "" where unknown; photo is
    unique over datasets, too ("fgnet/images/001A02.JPG"); content is the SHA-256 of the photo's file. face_hash and
    photo_hash: trainables.faces.hashes of the face and of the whole photo. coverage: the square's side, of study.align.
    companions: the last so many rows train beside the others and are never tested (trainables.faces.companions).
    """

    pixels: UInt8[np.ndarray, "faces px px 3"]
    age: Int16[np.ndarray, " faces"]
    person: np.ndarray
    photo: np.ndarray
    content: np.ndarray
    digest: str
    face_hash: Hashes | None = None
    photo_hash: Hashes | None = None
    coverage: float = 1.0
    companions: int = 0

    def __len__(self) -> int:
        return len(self.age)

    @property
    def people(self) -> list[str]:
        """Names of the known people, sorted."""
        return sorted({str(name) for name in self.person if name})

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets, sorted."""
        return sorted({str(photo).split("/")[0] for photo in self.photo})

    def take(self, rows: Bool[np.ndarray, " faces"]) -> Faces:
        """The faces of these rows, with a digest of their own."""
        if rows.all():
            return self
        digest = hashlib.sha256(json.dumps([self.digest, self.photo[rows].tolist()]).encode()).hexdigest()[:16]
        columns = {name: values[rows] for name, values in vars(self).items() if isinstance(values, np.ndarray)}
        return replace(self, **columns, digest=digest)

    @property
    def identities(self) -> Identities:
        """People, photos and datasets in this table, and how its pictures look."""
        looks = None
        if self.face_hash is not None and self.photo_hash is not None:
            looks = Looks(self.photo, self.content, self.face_hash, self.photo_hash)
        names = (frozenset(self.people), frozenset(map(str, self.content)), frozenset(self.datasets))
        return Identities(*names, looks, self.coverage)


def table_files(place: str | Path) -> list[str]:
    """The Parquet files of one table, sorted, as absolute paths or URIs.

    place: OUT of `study.align`, or its `faces/`: a folder, or the URI of one (s3://, gs://). Raises FileNotFoundError
    where there is no such file.
    """
    place = str(place)
    place = place.rstrip("/") if SCHEME.match(place) else os.path.abspath(os.path.expanduser(place))
    for folder in (f"{place}/faces", place):
        store, path = file_system(folder)
        listing = store.get_file_info(fs.FileSelector(path, allow_not_found=True))
        names = sorted(entry.base_name for entry in listing if entry.base_name.endswith(".parquet"))
        if names:
            return [f"{folder}/{name}" for name in names]
    raise FileNotFoundError(
        f"no faces table at {shown(place)}: expected {shown(place)}/faces/*.parquet; make one with: python -m "
        "study.align --help"
    )


def open_parquet(file: str) -> pq.ParquetFile:
    """A Parquet file by absolute path or URI. Its pages are checked where they have checksums."""
    store, path = file_system(file)
    return pq.ParquetFile(path, filesystem=store, page_checksum_verification=True)


def read_coverage(files: Sequence[str]) -> float:
    """The coverage that the faces of these files were cut with; 1 where a file does not say.

    Raises ValueError where two files differ: their faces would be of different sizes.
    """
    found: dict[float, str] = {}
    for file in files:
        try:
            with open_parquet(file) as table:
                made = json.loads((table.schema_arrow.metadata or {}).get(ALIGNMENT_KEY, b"{}"))
            found.setdefault(float(made.get("coverage", 1.0)), file)
        except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
            raise damaged(file, error) from error
    if len(found) > 1:
        told = ", ".join(f"{value:g} in {shown(file)}" for value, file in sorted(found.items()))
        raise ValueError(f"the faces were cut with different coverages ({told}): align all with one --coverage")
    return next(iter(found), 1.0)


def load_faces(folders: Sequence[Path], *, px: int) -> Faces:
    """The decoded faces of whole tables, resized to px x px pixels (area filter when shrinking).

    The digest covers encoded faces, ages, people and hashes of photos: everything that training sees, and that splits
    and comparisons of faces depend on.
    """
    files = [file for folder in folders for file in table_files(folder)]
    table = _read(files, ["dataset", "photo", "person", "age", "photo_sha256", "face_hash", "photo_hash"])
    if table.num_rows == 0:
        raise ValueError(f"the faces table at {', '.join(map(str, folders))} has no rows; see its rejects/ for why")
    order = pc.sort_indices(table, [("dataset", "ascending"), ("photo", "ascending")]).to_numpy()
    # Decode a few faces at a time, each into its place in table order. All encoded bytes together would be in memory
    # twice, and Arrow cannot sort more than 2 GiB of them.
    place = np.empty_like(order)
    place[order] = np.arange(len(order), dtype=order.dtype)
    pixels, sha, row = np.empty((len(order), px, px, 3), np.uint8), [""] * len(order), 0
    hashes: list[bytes | None] = table["face_hash"].take(order).to_pylist()
    for batch in _batches(files, ["face"]):
        for face in batch["face"]:
            data = face.as_py()
            pixels[place[row]], sha[place[row]] = decode_face(data, px=px), hashlib.sha256(data).hexdigest()
            hashes[place[row]] = hashes[place[row]] or face_hash(data)
            row += 1
    table = table.take(order)
    dataset = table["dataset"].to_pylist()
    person = [f"{d}/{p}" if p else "" for d, p in zip(dataset, table["person"].to_pylist(), strict=True)]
    photo = [f"{d}/{p}" for d, p in zip(dataset, table["photo"].to_pylist(), strict=True)]
    age = table["age"].to_numpy().astype(np.int16)
    digest = hashlib.sha256()
    content = table["photo_sha256"].to_pylist()
    for each in zip(photo, person, age.tolist(), sha, content, strict=True):
        digest.update(digest_row(*each))
    return Faces(
        pixels, age, np.array(person), np.array(photo), np.array(content), digest.hexdigest()[:16], stacked(hashes),
        stacked(table["photo_hash"].to_pylist()), read_coverage(files),
    )  # fmt: skip


@dataclass(frozen=True)
class Looks:
    """How pictures look: names, SHA-256 and hashes as in Faces, a row each."""

    photo: np.ndarray
    content: np.ndarray
    face_hash: Hashes
    photo_hash: Hashes


@dataclass(frozen=True)
class Identities:
    """Who and what is in faces tables: people as in Faces, SHA-256 of photo files, names of datasets, and how the
    pictures look (None: not read). coverage: of all faces, as in Faces."""

    people: frozenset[str]
    photos: frozenset[str]
    datasets: frozenset[str]
    looks: Looks | None = field(default=None, compare=False)
    coverage: float = 1.0


def read_identities(folders: Sequence[Path]) -> Identities:
    """The identities of whole tables, without looks. No age, name of a photo or picture is read."""
    files = [file for folder in folders for file in table_files(folder)]
    columns = ["dataset", "person", "photo_sha256"]
    dataset, person, photo = (column.to_pylist() for column in _read(files, columns).columns)
    people = frozenset(f"{d}/{p}" for d, p in zip(dataset, person, strict=True) if p)
    return Identities(people, frozenset(photo), frozenset(dataset), coverage=read_coverage(files))


def identify(folders: Sequence[Path]) -> Identities:
    """The identities of whole tables, and how their pictures look; no age is read."""
    names, content, faces, photos = [], [], [], []
    for row in read_columns(folders, ["dataset", "photo", "photo_sha256", "face", "face_hash", "photo_hash"]):
        names.append(f"{row['dataset']}/{row['photo']}")
        content.append(row["photo_sha256"])
        faces.append(row["face_hash"] or face_hash(row["face"]))
        photos.append(row["photo_hash"])
    looks = Looks(np.array(names), np.array(content), stacked(faces), stacked(photos))
    return replace(read_identities(folders), looks=looks)


def face_hash(encoded: bytes) -> bytes:
    """The hash of a face of a table."""
    return picture_hash(decode_face(encoded, px=SIDE))


def read_columns(folders: Sequence[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of whole tables with these columns of SCHEMA, a few in memory at a time, in the order of the files."""
    for folder in folders:
        for batch in _batches(table_files(folder), list(columns)):
            yield from batch.to_pylist()


def _read(files: Sequence[str], columns: list[str]) -> pa.Table:
    return pa.Table.from_batches(_batches(files, columns), pa.schema([SCHEMA.field(name) for name in columns]))


def _batches(files: Sequence[str], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Rows in the order of the files, a few at a time. A missing column is null, where SCHEMA allows it.

    Raises ValueError where a file is damaged, which page checksums show (files of earlier versions have none).
    """
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    for file in files:
        try:
            with open_parquet(file) as table:
                there = [name for name in columns if name in table.schema_arrow.names]
                if lost := [name for name in columns if name not in there and not schema.field(name).nullable]:
                    raise OSError(f"no column {', '.join(lost)}")
                for batch in table.iter_batches(batch_size=16, columns=there):
                    null = pa.nulls(batch.num_rows)
                    values = [batch[f.name] if f.name in there else null for f in schema]
                    cast = [value.cast(f.type) for value, f in zip(values, schema, strict=True)]
                    yield pa.RecordBatch.from_arrays(cast, schema=schema)
        except (pa.ArrowException, OSError) as error:
            raise damaged(file, error) from error


def damaged(file: str, error: Exception) -> ValueError:
    """The error for a table's file that Arrow cannot read, or whose checksums do not match."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ValueError(f"{shown(file)} is damaged, or no file of a faces table ({line}); delete it and align again")


def digest_row(photo: str, person: str, age: int, face_sha256: str, photo_sha256: str) -> bytes:
    """The bytes that a face adds to the digest of its tables, in table order."""
    return json.dumps([photo, person, age, face_sha256, photo_sha256]).encode()


def decode_face(encoded: bytes, *, px: int) -> UInt8[np.ndarray, "px px 3"]:
    """One face of a table as RGB pixels (0 to 255). study.align wrote the bytes, so they decode."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", (2 * px, 2 * px))  # the JPEG decoder halves down to twice the size: several times faster
        rgb = image.convert("RGB")
        if rgb.size != (px, px):
            rgb = rgb.resize((px, px), Image.Resampling.BOX if rgb.width > px else Image.Resampling.BICUBIC)
        return np.asarray(rgb)
