"""A checkpoint tested on a table as it is: on whom, for whom it errs, and never on what it learned from unless told."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.artifacts.predictions import read_predictions
from study.crosstest import command
from study.quality import attributes, columns_of
from trainables.checkpoints import Checkpoint, save_checkpoint
from trainables.config import TrialConfig
from trainables.faces.table import load_faces
from trainables.fitting import build_net
from trainables.provenance import photos_of


@pytest.fixture
def place(tmp_path, make_table, monkeypatch) -> Path:
    """A table of 12 people without names but with sexes, and a net that learned from its first 8 photos."""
    monkeypatch.chdir(tmp_path)
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


@pytest.mark.slow
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
    assert set(predictions.attributes["sex"].tolist()) == {"female", "male", ""}
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
