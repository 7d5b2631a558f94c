"""Reading a faces table: table order for any files, little memory, and damage is found."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.cli.run import message
from trainables.faces.index import index_faces
from trainables.faces.table import SCHEMA, decode_face, load_faces


def row(photo: str, *, dataset: str = "test", age: int = 7, padding: int = 0) -> dict:
    data = io.BytesIO()
    Image.new("RGB", (40, 40), (age, 90, 120)).save(data, "PNG")
    face = data.getvalue() + bytes(padding)  # decoders ignore what follows a picture's end
    return {
        "dataset": dataset, "photo": photo, "person": f"p{age % 3}" if age % 4 else None, "age": age, "face": face,
        "landmarks": None, "landmarker": "none", "found_by": "as is", "photo_sha256": f"sha {dataset} {photo}",
    }  # fmt: skip


def write(folder: Path, parts: list[list[dict]], **options: object) -> Path:
    (folder / "faces").mkdir(parents=True)
    for number, rows in enumerate(parts):
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "faces" / f"{number:05d}.parquet", **options)
    return folder


def test_faces_come_in_table_order_with_what_belongs_to_them(tmp_path):
    random = np.random.default_rng(0)
    rows = [row(f"{n:03d}.png", dataset=f"d{n % 2}", age=n % 90) for n in random.permutation(300).tolist()]
    one = write(tmp_path / "one", [rows[:90], rows[90:91], rows[91:200]])
    two = write(tmp_path / "two", [rows[200:]])
    loaded = load_faces([two, one], px=20)
    ordered = sorted(rows, key=lambda each: (each["dataset"], each["photo"]))
    assert loaded.photo.tolist() == [f"{each['dataset']}/{each['photo']}" for each in ordered]
    assert loaded.content.tolist() == [each["photo_sha256"] for each in ordered]
    assert loaded.age.tolist() == [each["age"] for each in ordered]
    who = [f"{each['dataset']}/{each['person']}" if each["person"] else "" for each in ordered]
    assert loaded.person.tolist() == who
    assert np.array_equal(loaded.pixels, np.stack([decode_face(each["face"], px=20) for each in ordered]))
    digest = hashlib.sha256()
    for each, person in zip(ordered, who, strict=True):
        sha = hashlib.sha256(each["face"]).hexdigest()
        row_of_digest = [f"{each['dataset']}/{each['photo']}", person, each["age"], sha, each["photo_sha256"]]
        digest.update(json.dumps(row_of_digest).encode())
    assert loaded.digest == digest.hexdigest()[:16]
    assert loaded.digest == index_faces([str(two), str(one)]).digest


@pytest.mark.slow
def test_the_encoded_faces_are_never_all_in_memory(tmp_path):
    """Arrow cannot hold more than 2 GiB in one column. (70 faces of 32 MiB were once loaded by hand.)"""
    padding, faces = 2**20, 100
    write(
        tmp_path / "large", [[row(f"{n:03d}", padding=padding) for n in range(faces)]],
        row_group_size=1, compression="zstd", use_dictionary=False,
    )  # fmt: skip
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        assert len(load_faces([tmp_path / "large"], px=16)) == faces
    finally:
        pa.set_memory_pool(before)
    assert padding < pool.max_memory() < padding * faces / 2


def test_a_flipped_bit_in_a_checked_table_is_one_line(tmp_path):
    folder = write(tmp_path / "table", [[row(f"{n}", age=n) for n in range(9)]], write_page_checksum=True)
    (file,) = (folder / "faces").iterdir()
    data, whole, refused = file.read_bytes(), load_faces([folder], px=16), 0
    for bit in range(0, 8 * len(data), 211):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(bytes(flipped))
        try:
            read = load_faces([folder], px=16)
        except ValueError as error:
            refused += 1 if message(error) else 0
        else:
            assert np.array_equal(read.pixels, whole.pixels)
    assert refused > 50
