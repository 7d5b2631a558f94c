"""What a network learned from, and on what it was computed: the record that travels with every result.

photos.parquet in a checkpoint's folder has one row for each photo that the network, or a checkpoint it started from,
was trained on: person ("fgnet/001", "" where unknown) and photo_sha256, the hash of the photo's file. Photos of the dev
part are not in it. A perceptual hash of each photo will be a further column.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import pyarrow as pa
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from trainables.faces.index import FacesIndex
from trainables.faces.table import Faces

PHOTOS = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("person", "photo_sha256")])
"""Columns of photos.parquet."""

NO_PHOTOS = PHOTOS.empty_table()
"""Of a network with random weights."""


def photos_of(faces: Faces | FacesIndex, rows: Int[ndarray, " rows"]) -> pa.Table:
    """The photos behind these rows, once each, sorted."""
    columns = [pa.array(values[rows].tolist(), pa.string()) for values in (faces.person, faces.content)]
    return merge_photos([pa.Table.from_arrays(columns, schema=PHOTOS)])


def merge_photos(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows of some PHOTOS tables, once each, sorted."""
    whole = pa.concat_tables(tables).group_by(PHOTOS.names).aggregate([])
    return whole.sort_by([("photo_sha256", "ascending"), ("person", "ascending")]).cast(PHOTOS)


def photos_digest(photos: pa.Table) -> str:
    """SHA-256 of a PHOTOS table's rows in their order."""
    digest = hashlib.sha256()
    for row in zip(photos["person"].to_pylist(), photos["photo_sha256"].to_pylist(), strict=True):
        digest.update("\0".join((*row, "")).encode())
    return digest.hexdigest()


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name, dtype, shape and values: what identifies weights, wherever they lie."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def environment(device: torch.device | str) -> dict[str, str]:
    """What may move a result in its last digits, or more: versions, the processor's kind and threads, the GPU."""
    device = torch.device(device)
    packages = ("torch", "torchvision", "timm", "numpy")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
