"""What a network was trained on, and with which versions and hardware: the record kept with every result.

photos.parquet in a checkpoint's folder has one row for each photo that the network, or a checkpoint it started from,
was trained on: person ("fgnet/001", "" where unknown), photo_sha256, the hash of the photo's file, and face_hash and
photo_hash, by which its copies are found (trainables.faces.hashes; null where they are not known). Photos of the dev
set are not in it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from trainables.faces.companions import Companions
from trainables.faces.hashes import in_parts
from trainables.faces.index import FacesIndex
from trainables.faces.table import Faces

_KEYS, _LOOKS = ("person", "photo_sha256"), ("face_hash", "photo_hash")

PHOTOS = pa.schema(
    [*(pa.field(name, pa.string(), nullable=False) for name in _KEYS), *(pa.field(n, pa.binary()) for n in _LOOKS)]
)
"""Columns of photos.parquet."""

NO_PHOTOS = PHOTOS.empty_table()
"""The photos of a network with random weights: none."""


def photos_of(faces: Faces | FacesIndex | Companions, rows: Int[ndarray, " rows"]) -> pa.Table:
    """A PHOTOS table of the photos of these rows, sorted, without duplicates."""
    columns = [pa.array(values[rows].tolist(), pa.string()) for values in (faces.person, faces.content)]
    for hashes in (faces.face_hash, faces.photo_hash):
        known = [None] * len(rows) if hashes is None else list(in_parts(hashes[rows]))
        columns.append(pa.array(known, pa.binary()))
    return merge_photos([pa.Table.from_arrays(columns, schema=PHOTOS)])


def merge_photos(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows of some PHOTOS tables, sorted, without duplicates. A photo keeps a hash that one of them knows."""
    grouped = pa.concat_tables(tables).group_by(list(_KEYS)).aggregate([(name, "max") for name in _LOOKS])
    whole = grouped.rename_columns({f"{name}_max": name for name in _LOOKS}).select(PHOTOS.names)
    return whole.sort_by([("photo_sha256", "ascending"), ("person", "ascending")]).cast(PHOTOS)


def read_photos(file: Path) -> pa.Table:
    """The PHOTOS table of a file; its hashes are null where an earlier version wrote it."""
    with pq.ParquetFile(file) as parquet:
        table = parquet.read(columns=[name for name in PHOTOS.names if name in parquet.schema_arrow.names])
    for name in _LOOKS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.binary()))
    return table.select(PHOTOS.names).cast(PHOTOS)


def photos_digest(photos: pa.Table) -> str:
    """SHA-256 of the rows of a PHOTOS table, in order."""
    digest = hashlib.sha256()
    for person, sha, *looks in zip(*(photos[name].to_pylist() for name in PHOTOS.names), strict=True):
        digest.update("\0".join((person, sha, "")).encode())
        if any(looks):  # else as earlier versions computed it
            digest.update("\0".join([(each or b"").hex() for each in looks]).encode())
    return digest.hexdigest()


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name, dtype, shape and values: it identifies weights in any file or format."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def environment(device: torch.device | str) -> dict[str, str]:
    """Everything that may change a result slightly or more: versions, type of processor, threads, GPU."""
    device = torch.device(device)
    packages = ("torch", "torchvision", "timm", "numpy")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
