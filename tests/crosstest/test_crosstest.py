"""A checkpoint tested on a table as it is: on whom, for whom it errs, and never on what it learned from unless told."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.artifacts.predictions import Predictions, read_predictions
from study.crosstest import command
from study.crosstest.groups import for_whom, group_table, sentences
from study.quality import attributes, columns_of
from study.statistics.groups import by_group
from study.table import Table
from trainables.checkpoints import Checkpoint, save_checkpoint
from trainables.config import TrialConfig
from trainables.faces.table import load_faces
from trainables.fitting import build_net
from trainables.provenance import photos_of


@pytest.fixture
def place(tmp_path, make_table) -> Path:
    """A table of 12 people without names but with sexes, and a net that learned from its first 8 photos."""
    table = make_table(tmp_path / "faces", people=12, photos=2, named=False)
    file = table / "faces" / "00000.parquet"
    rows = pq.read_table(file)
    sex = pa.array(["female", "male", None] * 8, pa.string())
    pq.write_table(rows.set_column(rows.schema.get_field_index("sex"), rows.schema.field("sex"), sex), file)
    faces = load_faces([table], px=32)
    config = TrialConfig(backbone="resnet18", px=32)
    learned = photos_of(faces, np.arange(8))
    save_checkpoint(tmp_path / "net", Checkpoint(build_net(config).state_dict(), config, photos=learned))
    return tmp_path


def test_what_the_checkpoint_learned_from_is_refused_and_left_out_on_request(place, capsys):
    options = {"faces": (place / "faces",), "out": place / "out"}
    with pytest.raises(ValueError, match="learned from 8 of the tested photos"):
        command.crosstest(command.CrossTest(place / "net", **options))
    assert command.crosstest(command.CrossTest(place / "net", unseen=True, **options)) == 0
    printed = capsys.readouterr().out
    assert "--unseen: 16 of 24 faces" in printed
    assert "Who 16 of these faces are is not known" in printed
    (file,) = (place / "out").rglob("predictions.parquet")
    predictions, about = read_predictions(file)
    learned = load_faces([place / "faces"], px=32).photo[:8]
    assert len(predictions) == 16
    assert not set(predictions.photo) & set(learned)
    assert about["learned_from"]["state"] == "apart"
    assert "that it did not learn from" in about["protocol"]
    rows = list(csv.reader(io.StringIO((file.parent / "groups.csv").read_text())))
    assert {row[0]: int(row[1]) for row in rows if row[0].startswith("sex")} == {"sex: female": 5, "sex: male": 5}
    assert "| sex: female" in (file.parent / "groups.md").read_text()
    assert "For whom does it err?" in printed


def test_a_checkpoint_that_learned_from_everything_leaves_nothing_to_test_on(place):
    faces = load_faces([place / "faces"], px=32)
    config = TrialConfig(backbone="resnet18", px=32)
    every = photos_of(faces, np.arange(len(faces)))
    save_checkpoint(place / "all", Checkpoint(build_net(config).state_dict(), config, photos=every))
    with pytest.raises(ValueError, match="learned from all 24 of these faces"):
        command.crosstest(command.CrossTest(place / "all", (place / "faces",), unseen=True, out=place / "out"))


def test_attributes_say_what_a_picture_is_like(place):
    found = attributes([place / "faces"])
    faces = load_faces([place / "faces"], px=32)
    columns = columns_of(found, faces.photo)
    assert set(columns) == {"sex", "group", "colour", "sharpness", "face size", "found"}
    assert {kind: set(columns[kind].tolist()) for kind in ("sex", "group", "face size")} == {
        "sex": {"female", "male", ""},
        "group": {""},
        "face size": {""},
    }
    thirds = [int((columns["sharpness"] == name).sum()) for name in set(columns["sharpness"].tolist())]
    assert thirds == [8, 8, 8]


def made(more: float) -> tuple[Predictions, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    age = rng.integers(10, 40, 400).astype(np.int16)
    sex = np.where(np.arange(400) % 2, "a|<b", "c")
    predicted = (age + rng.normal(0, 2, 400) * np.where(sex == "c", 1, 1 + more)).clip(0, 100).astype(np.float32)
    names = np.array([f"{i:03}" for i in range(400)])
    density = np.full((400, 101), 1 / 101, np.float32)
    seed = np.zeros(400, np.int32)
    return Predictions(names, names, age, predicted, density, names, seed, names), {"sex": sex}


def test_a_difference_is_said_once_and_only_where_it_stands():
    table, values = made(1.5)
    lines = sentences(by_group(table, values))
    assert lines[0].startswith("The largest error: sex a¦‹b, MAE ")
    assert len(lines) == 2
    assert lines[1].startswith("At the same ages the error for sex a¦‹b is larger than for the others by ")
    assert "p < 0.001" in lines[1]
    table, values = made(0.0)
    assert "no difference between groups" in sentences(by_group(table, values))[1]
    assert "nothing is known" in sentences([])[0]


def test_the_tables_have_a_row_for_each_group_and_adults_are_asked_about():
    table, values = made(0.5)
    assert [row[0] for row in group_table(by_group(table, values)).rows] == ["sex: a¦‹b", "sex: c"]
    tables = {part.name: part for part in for_whom(table, values) if isinstance(part, Table)}
    assert list(tables) == ["groups", "ages", "adults"]
    assert [row[0] for row in tables["adults"].rows] == ["everyone", "sex: a¦‹b", "sex: c"]
    assert [row[0] for row in tables["ages"].rows] == ["10 to 19", "20 to 29", "30 to 39"]
