"""python -m study.faces says what is in a table, and draws it; the table reads in pandas, pyarrow and Ray alike."""

import io

import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pytest
import ray.data
from PIL import Image

from study.cli.run import main
from study.faces.command import Options, contact_sheet, show


def test_the_summary_counts_what_the_table_holds(make_table, tmp_path, capsys):
    table = make_table(tmp_path / "drawn", people=4, photos=5)
    faces = pd.read_parquet(table / "faces")
    show(Options(str(table), sheet=tmp_path / "sheet.png"))
    printed = capsys.readouterr().out
    median = faces.age.median()
    assert "20 faces of drawn: 48 x 48 px JPEG" in printed
    assert "4 people, 5 to 5 faces each" in printed
    assert f"off by {(faces.age - median).abs().mean():.2f} years" in printed
    assert f"0s {(faces.age < 10).sum()}," in printed
    assert "found by: as is 20" in printed
    assert Image.open(tmp_path / "sheet.png").width > 400


def test_a_contact_sheet_is_in_order_of_age(make_table, tmp_path):
    """The drawn faces are brighter with age."""
    faces = pd.read_parquet(make_table(tmp_path / "drawn") / "faces")
    sheet = np.asarray(contact_sheet(faces, count=24, px=32).convert("L"))
    columns = sheet.shape[1] // 32
    places = [(i % columns * 32, i // columns * 46 + 14) for i in range(24)]
    means = [sheet[y : y + 32, x : x + 32].mean() for x, y in places]
    assert np.corrcoef(means, range(24))[0, 1] > 0.98


@pytest.mark.parametrize(("content", "said"), [(None, "no faces table at"), ("empty", "no faces table at")])
def test_a_folder_without_a_table_is_one_line(tmp_path, capsys, content, said):
    if content == "empty":
        (tmp_path / "nothing" / "faces").mkdir(parents=True)
    assert main(show, Options, prog="faces", args=[str(tmp_path / "nothing")]) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.strip().splitlines()) == 1


def test_pandas_pyarrow_and_ray_read_the_same_rows(make_table, tmp_path, one_ray):
    table = make_table(tmp_path / "drawn", people=3, photos=2) / "faces"
    by_pandas = pd.read_parquet(table)
    by_arrow = pads.dataset(table).to_table().to_pandas()
    by_ray = ray.data.read_parquet(str(table)).to_pandas()
    for other in (by_arrow, by_ray):
        assert other.columns.tolist() == by_pandas.columns.tolist()
        assert other.photo.tolist() == by_pandas.photo.tolist()
        assert [bytes(face) for face in other.face] == by_pandas.face.tolist()
        assert other.age.tolist() == by_pandas.age.tolist()
    assert Image.open(io.BytesIO(by_ray.face[0])).size == (48, 48)
