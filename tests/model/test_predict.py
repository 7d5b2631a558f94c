"""The command: what it prints, writes and answers with, in a process of its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.landmarks.photos import PhotoError
from study.model import load_model
from study.predict.photos import list_photos, read_photo
from study.predict.run import predict_named
from tests.model.models import PHOTOS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="the extra dlib is not installed")


@pytest.fixture(scope="module")
def place(folder, tmp_path_factory) -> Path:
    """A working directory with a model, and photos: one sound, one broken, one hidden, one without a face."""
    cwd = tmp_path_factory.mktemp("predict")
    shutil.copytree(folder, cwd / "runs" / "models" / "abc")
    (cwd / "photos" / "more").mkdir(parents=True)
    first = sorted(PHOTOS.iterdir())[0]
    shutil.copy(first, cwd / "photos" / "person.JPG")
    shutil.copy(first, cwd / "photos" / ".hidden.jpg")
    (cwd / "photos" / "more" / "broken.png").write_bytes(b"no picture")
    (cwd / "photos" / "notes.txt").write_text("no photo")
    Image.new("RGB", (64, 64), "grey").save(cwd / "photos" / "more" / "blank.png")
    return cwd


def run(cwd: Path, *args: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    env["MLFLOW_TRACKING_URI"] = ""
    command = [sys.executable, "-m", "study.predict", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_a_folder_gives_a_row_for_each_face_and_each_reason(place):
    done = run(place, "photos", "--json", "--csv", "out/a.csv", "--parquet", "out/a.parquet", "--draw", "drawn")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    found = {row["photo"]: row["reason"] for row in rows}
    assert found == {
        "photos/more/blank.png": "no_face",
        "photos/more/broken.png": "not_a_photo",
        "photos/person.JPG": "",
    }
    assert "Model: runs/models/abc" in done.stderr
    assert "1 face in 3 photos; without an age: no_face 1, not_a_photo 1" in done.stderr
    with (place / "out" / "a.csv").open() as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["no_face", "not_a_photo", ""]
    assert pq.read_table(place / "out" / "a.parquet").to_pylist() == rows
    with Image.open(place / "drawn" / "person.png") as drawn:
        assert (255, 212, 0) in set(drawn.convert("RGB").get_flattened_data())
    assert [file.name for file in (place / "drawn").iterdir()] == ["person.png"]


def test_one_photo_needs_neither_ray_nor_torch(place):
    script = (
        "import sys\n"
        "from study.predict import command\n"
        "from study.cli.run import main\n"
        "status = main(command.predict, command.Predict, prog='p', args=['photos/person.JPG'])\n"
        "print([name for name in ('torch', 'ray', 'mlflow', 'timm') if name in sys.modules], status)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], cwd=place, env=env, capture_output=True, text=True)
    assert done.stdout.strip().endswith("[] 0"), done.stderr


def test_where_nobody_has_an_age_the_status_is_1_and_errors_are_one_line(place):
    done = run(place, "photos/more")
    assert done.returncode == 1
    assert "no_face" in done.stdout
    for args, said in (
        (["nothing.jpg"], "no photo or folder at nothing.jpg"),
        (["photos", "--model", "runs"], "no model at runs: expected model.json"),
        (["runs/models/abc"], "no photo in runs/models/abc"),
    ):
        done = run(place, *args)
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.strip().count("\n") == 0


def test_a_named_file_is_a_photo_whatever_its_name_and_each_counts_once(place, monkeypatch):
    monkeypatch.chdir(place)
    found = list_photos(["photos/notes.txt", "photos/person.JPG", "photos/person.JPG"])
    assert [photo.name for photo in found] == ["photos/notes.txt", "photos/person.JPG"]
    (place / "photos" / "person.JPG").rename(place / "gone")
    try:
        error = read_photo(found[1])
    finally:
        (place / "gone").rename(place / "photos" / "person.JPG")
    assert isinstance(error, PhotoError)
    assert error.reason == "missing"
    rows = predict_named(load_model("runs/models/abc"), found)
    assert [(row.photo, row.reason) for row in rows] == [("photos/notes.txt", "not_a_photo"), ("photos/person.JPG", "")]


def test_many_photos_on_ray_give_the_same_rows(place):
    alone, together = (run(place, "photos", "--json", *more) for more in ([], ["--ray-from", 2, "--workers", 1]))
    assert together.returncode == 0, together.stderr
    assert json.loads(together.stdout) == json.loads(alone.stdout)


def test_an_explanation_is_a_picture_and_a_printed_test(place):
    done = run(place, "photos/person.JPG", "--explain", "why")
    assert done.returncode == 0, done.stderr
    assert (place / "why" / "person-face1.png").is_file()
    assert done.stderr.count("Deletion test, faces 1:") == 3
