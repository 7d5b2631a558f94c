"""Folders behave the same on a disk and in an S3-compatible store, here a real server on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyarrow import fs

from study.align.command import Options, align
from study.files.storage import Folder, open_folder
from study.landmarks.warp import TEMPLATE

pytest.importorskip("moto.server", reason="the extra dev (moto[s3,server]) is not installed")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of an empty bucket on a server started for the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/faces", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        yield f"s3://test:secret@faces/{{}}?scheme=http&endpoint_override=127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path) -> Folder:
    if request.param == "disk":
        return open_folder(tmp_path / "folder")
    return open_folder(request.getfixturevalue("bucket").format(tmp_path.name))


def test_what_was_written_is_listed_and_read(folder):
    assert folder.names("faces") == []
    assert not folder.has("faces/b.parquet")
    folder.write("faces/b.parquet", b"second")
    folder.write("faces/a.parquet", b"first")
    folder.write("about.json", b"{}")
    assert folder.names("faces") == ["a.parquet", "b.parquet"]
    assert folder.names() == ["about.json"]
    assert folder.read("faces/a.parquet") == b"first"
    folder.write("faces/a.parquet", b"")
    assert folder.read("faces/a.parquet") == b""
    assert folder.is_folder("faces")
    assert folder.has("about.json")
    folder.delete("faces/a.parquet")
    assert folder.names("faces") == ["b.parquet"]
    folder.delete("faces")
    folder.delete("nothing")
    assert folder.names("faces") == []
    with pytest.raises(FileNotFoundError):
        folder.read("faces/b.parquet")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    folder = open_folder(tmp_path)
    folder.write("faces/a.parquet", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write("faces/a.parquet", b"new")
    assert folder.read("faces/a.parquet") == b"old"
    assert folder.names("faces") == ["a.parquet"]


def test_a_relative_path_is_made_absolute_and_a_uri_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_folder("runs/../faces").local == tmp_path / "faces"
    assert open_folder(f"file://{tmp_path}/faces").local == tmp_path / "faces"
    assert open_folder("s3://bucket/faces/").local is None


def test_a_secret_in_a_uri_is_not_shown():
    folder = open_folder("s3://key:secret@bucket/faces?region=x")
    assert f"{folder}" == "s3://bucket/faces?region=x"
    assert folder.name == "s3://key:secret@bucket/faces?region=x"


def test_aligning_from_a_store_into_a_store_gives_the_local_table(tmp_path, bucket, own_ray):
    root = tmp_path / "fgnet"
    points = np.full((68, 2), 50.0)
    points[[31, 36, 67, 48, 54]] = TEMPLATE * 100 - 0.5
    lines = "\n".join(f"{x} {y}" for x, y in points)
    far = open_folder(bucket.format("fgnet"))
    for number in range(5):
        low = np.random.default_rng(number).integers(0, 255, (6, 5, 3), dtype=np.uint8)
        stem = f"00{number + 1}A{10 + number}"
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "points").mkdir(parents=True, exist_ok=True)
        Image.fromarray(low).resize((120, 150)).save(root / "images" / f"{stem}.JPG")
        (root / "points" / f"{stem.lower()}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    (root / "images" / "001A50.JPG").write_bytes(b"no photo")
    for path in sorted(root.rglob("*.*")):
        far.write(str(path.relative_to(root)), path.read_bytes())
    near = Options(
        "fgnet", root=(str(root),), out=str(tmp_path / "out"), landmarker="pts", size=64, shard=2, track=False
    )
    out = open_folder(bucket.format("out"))
    own_ray(num_cpus=2)  # its workers have the store's keys
    assert align(near) == 0
    for _ in range(2):  # the second run has nothing to do
        assert align(replace(near, root=(far.name,), out=out.name)) == 0
    local = open_folder(near.out)
    assert out.names("faces") == local.names("faces")
    for which in ("faces", "rejects"):
        for name in local.names(which):
            assert out.read(f"{which}/{name}") == local.read(f"{which}/{name}")
    store, path = fs.FileSystem.from_uri(out.name)
    assert sorted(pd.read_parquet(f"{path}/faces", filesystem=store).photo) == [
        f"images/00{number + 1}A{10 + number}.JPG" for number in range(5)
    ]
    assert not list(Path.cwd().glob("s3:*"))
