"""The gallery of a LOPO result: worst first, every photo in the table, and no name of a photo is markup."""

import csv
import io

import numpy as np

from study.artifacts.predictions import Predictions
from study.gallery import write_photos
from trainables.faces.table import Faces


def test_the_worst_photo_stands_first_and_none_is_left_out(tmp_path):
    rng = np.random.default_rng(0)
    names = np.array([f"x/<b>{i:02}</b>.jpg" for i in range(50)])
    age = rng.integers(0, 70, 50).astype(np.int16)
    predicted = (age + np.arange(50) % 25).astype(np.float32)
    density = np.full((50, 101), 1 / 101, np.float32)
    person = np.array([f"x/{i // 5}" for i in range(50)])
    seed = np.zeros(50, np.int32)
    table = Predictions(names, person, age, predicted, density, person, seed, names)
    faces = Faces(rng.integers(0, 255, (50, 16, 16, 3), np.uint8), age, person, names, names, "d")
    page, sheet = write_photos(tmp_path, table, faces, synthetic=False)
    rows = list(csv.DictReader(io.StringIO(sheet.read_text())))
    errors = [abs(float(row["error"])) for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert {row["photo"] for row in rows} == set(names.tolist())
    html = page.read_text()
    assert html.count("<img") == 40, "the 20 worst and the 20 best"
    assert "<b>00" not in html
    assert "publish" in html
    assert "http" not in html
