"""Fixtures: faces whose age can be seen (their brightness), so that a training on them must learn."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from jaxtyping import install_import_hook

# Shapes and dtypes of every annotated function are checked in every test.
install_import_hook(["trainables", "search_spaces", "study"], "beartype.beartype")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., Path]:
    """make_table(folder, people=12, photos=6, dataset="drawn", named=True) writes a faces table, gives its folder."""
    return write_table


def write_table(
    folder: Path,
    *,
    people: int = 12,
    photos: int = 6,
    dataset: str = "drawn",
    named: bool = True,
    px: int = 48,
    seed: int = 0,
) -> Path:
    from trainables.faces.table import SCHEMA

    # pictures of two datasets differ: copies would be found out
    random = np.random.default_rng(seed if dataset == "drawn" else [seed, *dataset.encode()])
    rows = []
    for person in range(people):
        for shot in range(photos):
            age = int(random.integers(0, 70))
            picture = np.clip(random.normal(30 + 2.5 * age, 12, (px, px, 3)), 0, 255).astype(np.uint8)
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "JPEG", quality=90)
            rows.append(
                {
                    "dataset": dataset,
                    "photo": f"images/{person:03d}A{age:02d}_{shot}.JPG",
                    "person": f"{person:03d}" if named else None,
                    "age": age,
                    "face": data.getvalue(),
                    "landmarks": None,
                    "landmarker": "none",
                    "found_by": "as is",
                    "photo_sha256": hashlib.sha256(dataset.encode() + data.getvalue()).hexdigest(),
                }
            )
    (folder / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "faces" / "00000.parquet")
    return folder
