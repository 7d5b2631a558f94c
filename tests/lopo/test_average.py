"""The mean of several LOPO results as a result of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from study.artifacts.about import About
from study.artifacts.predictions import read_predictions, write_predictions
from study.cli.run import main
from study.lopo.options import Lopo
from study.report.sections import Result, labels
from study.tracking import runs as tracking
from tests.model.models import random_predictions
from trainables.config import TrialConfig
from trainables.faces.table import load_faces

SMALL, LARGE = TrialConfig(backbone="resnet18", px=32), TrialConfig(backbone="resnet34", px=48)


@pytest.fixture
def place(tmp_path, make_table, monkeypatch) -> Path:
    """A working directory with two results of the same faces, a and b: the second of two seeds, and not sealed."""
    monkeypatch.chdir(tmp_path)
    faces = load_faces([make_table(tmp_path / "people", people=6, photos=4)], px=32)
    one = random_predictions(faces)
    other = dataclasses.replace(one, distribution=one.distribution[:, ::-1].copy(), predicted=one.predicted + 2)
    columns = {name: np.concatenate([values, values]) for name, values in other.columns.items()}
    two = dataclasses.replace(other, **{**columns, "seed": np.repeat([0, 1], len(one)).astype(np.int32)})
    for name, predictions, config in (("a", one, SMALL), ("b", two, LARGE)):
        about = About(
            "people", faces.digest, config.to_json(), key=name * 12, faces=("people",), photos=len(faces), people=6,
            name=config.backbone, selection=f"{name} by hand", sealed=name == "a", built_in=True,
        )  # fmt: skip
        write_predictions(Path("runs/lopo", name, "predictions.parquet"), predictions, about=about.to_json())
    return tmp_path


def average(*names: str, **further) -> int:
    folders = [f"runs/lopo/{name}" for name in names]
    options = [word for flag, value in further.items() for word in (f"--{flag}", value)]
    return main("study.lopo.command:lopo", Lopo, prog="lopo", args=["--average", *folders, *options])


@pytest.mark.slow
def test_each_photo_has_the_mean_of_both_answers(place, capsys):
    assert average("a", "b") == 0
    a, b = (read_predictions(Path(f"runs/lopo/{name}/predictions.parquet"))[0] for name in "ab")
    b = b.average_seeds()
    (run,) = tracking.finished_lopo(tracking.connect(), folder=place / "artifacts")
    mean, record = read_predictions(run.predictions)
    np.testing.assert_allclose(mean.distribution, (a.distribution + b.distribution) / 2, rtol=1e-5)
    np.testing.assert_allclose(mean.predicted, a.predicted + 1, rtol=1e-5)
    assert np.array_equal(mean.photo, a.photo)
    about = About.from_json(record, where="about")
    assert about.members == ("a" * 12, "b" * 12)
    assert not about.sealed, "it is as well sealed as its least sealed member"
    assert about.brand == "OPTIMISTIC"
    assert about.setting("px") == "32 and 48", "both answer for every person"
    assert "a by hand" in about.selection
    assert "b by hand" in about.selection
    shown = capsys.readouterr().out
    assert "OPTIMISTIC" in shown
    assert "Worst person first" not in shown, "it has no folds of its own"
    assert labels([Result("x", about, mean)]) == ["Mean of 2 results (ResNet-18 and ResNet-34) [OPTIMISTIC]"]
    assert average("b", "a") == 0, "the order says nothing"
    assert len(tracking.finished_lopo(tracking.connect(), folder=place / "again")) == 1


@pytest.mark.parametrize(
    ("names", "further", "said"),
    [
        (["a"], {}, "needs two results or more"),
        (["a", "a"], {}, "twice"),
        (["a", "c"], {}, "no predictions at runs/lopo/c"),
        (["a", "b"], {"epochs": "3"}, "trains nothing"),
        (["a", "b"], {"seeds": "3"}, "trains nothing"),
    ],
)
def test_what_cannot_be_averaged_is_said_in_one_line(place, capsys, names, further, said):
    assert average(*names, **further) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("column", "said"), [("photo", "column photo"), ("faces", "different faces"), ("members", "average itself")]
)
def test_only_results_of_the_same_photos_are_averaged(place, capsys, column, said):
    file = Path("runs/lopo/b/predictions.parquet")
    predictions, record = read_predictions(file)
    if column == "photo":
        predictions = dataclasses.replace(predictions, photo=np.char.add(predictions.photo, "x"))
    else:
        record |= {"faces": {"faces_digest": "another"}, "members": {"members": ["x", "y"]}}[column]
    write_predictions(file, predictions, about=record)
    assert average("a", "b") == 1
    assert said in capsys.readouterr().err


def test_faces_that_changed_since_are_an_error(place, make_table, capsys):
    Path("people").rename("before")
    make_table(Path("people"), people=7, photos=4)
    assert average("a", "b") == 1
    assert "no longer those" in capsys.readouterr().err
