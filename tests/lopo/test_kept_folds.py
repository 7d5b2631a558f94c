"""A finished fold is used only if it is what its training wrote; any other is renamed, and trained again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from study.artifacts.about import FoldRecord
from study.artifacts.predictions import Predictions, read_predictions, write_predictions
from study.folds import lopo_folds
from study.lopo.jobs import Job, read_fold, take_over
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces

CONFIG = TrialConfig(backbone="resnet18", px=32, ages=101)


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory) -> Faces:
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=3, photos=4)], px=32)


def finished(job: Job, faces: Faces) -> tuple[Predictions, dict]:
    """What a training of the job might have written."""
    rows = job.fold.test
    distribution = np.random.default_rng(0).dirichlet(np.full(101, 0.3), len(rows)).astype(np.float32)
    part = Predictions(
        photo=faces.photo[rows], person=faces.person[rows], age=faces.age[rows],
        predicted=(distribution.astype(float) @ np.arange(101)).astype(np.float32), distribution=distribution,
        fold=np.full(len(rows), job.fold.name), seed=np.full(len(rows), job.config.seed, np.int32),
        fingerprint=np.full(len(rows), job.key),
    )  # fmt: skip
    history = [{"epoch": 1, "train_loss": 2.5}]
    return part, {"trial": job.config.to_json(), "history": history, "seconds": 1.5}


@pytest.fixture
def job(faces, tmp_path) -> Job:
    return Job(lopo_folds(faces)[1], CONFIG, "0123456789ab", tmp_path / "folds" / "one-seed0.parquet")


def test_a_fold_that_is_whole_is_kept(job, faces):
    assert read_fold(job, faces) is None, "there is none yet"
    part, about = finished(job, faces)
    write_predictions(job.file, part, about=about)
    kept = read_fold(job, faces)
    assert kept is not None
    assert np.array_equal(kept[0].distribution, part.distribution)
    assert kept[1] == FoldRecord.from_json(about, where="here")
    assert kept[1].to_json() == {**about, "environment": {}}
    assert job.file.is_file()


def column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Predictions, dict], tuple]:
    return lambda part, about: (replace(part, **{name: change(getattr(part, name))}), about)


def other(name: str, value: object) -> Callable[[Predictions, dict], tuple]:
    return lambda part, about: (part, {**about, name: value})


CHANGES: dict[str, tuple[Callable[[Predictions, dict], tuple[Predictions, dict]], str]] = {
    "the true ages as answers": (
        lambda part, about: (replace(part, predicted=part.age.astype(np.float32)), about),
        "predicted ages do not follow from its distributions",
    ),
    "another truth": (column("age", lambda age: (age + 1).astype(np.int16)), "age column"),
    "another photo": (column("photo", lambda photo: np.char.add(photo, "x")), "photo column"),
    "another person": (column("person", lambda person: np.char.add(person, "x")), "person column"),
    "another training's": (column("fingerprint", lambda key: np.full(len(key), "ba9876543210")), "fingerprint column"),
    "another seed's": (column("seed", lambda seed: seed + 1), "seed column"),
    "another fold's": (column("fold", lambda fold: np.full(len(fold), "drawn/002")), "fold column"),
    "a row dropped": (
        lambda part, about: (Predictions(**{name: values[1:] for name, values in part.columns.items()}), about),
        "photo column",
    ),
    "another config's": (other("trial", CONFIG.replace(px=48).to_json()), "record is of another config"),
    "no curve": (other("history", None), "its record: history is None, expected a list"),
    "a curve of nothing": (other("history", [{}]), "its record: history has an epoch without its number"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fold_that_is_another_s_is_set_aside_and_said(name, job, faces, capsys):
    """Each with a digest that fits: what can be calculated again does not depend on it."""
    change, said = CHANGES[name]
    part, about = change(*finished(job, faces))
    write_predictions(job.file, part, about=about)
    written = job.file.read_bytes()
    assert read_fold(job, faces) is None
    assert not job.file.exists()
    (aside,) = job.file.parent.iterdir()
    assert aside.suffix == ".set-aside"
    assert aside.read_bytes() == written
    (line,) = capsys.readouterr().out.splitlines()
    assert said in line
    assert line.startswith(f"{job.file} is renamed to")


@pytest.mark.parametrize("damage", [b"", b"no table", None], ids=["empty", "text", "one bit"])
def test_a_fold_that_is_damaged_is_set_aside(damage, job, faces, capsys):
    write_predictions(job.file, *finished(job, faces)[:1], about=finished(job, faces)[1])
    data = bytearray(job.file.read_bytes())
    data[300] ^= 4
    job.file.write_bytes(bytes(data) if damage is None else damage)
    assert read_fold(job, faces) is None
    assert "trained again" in capsys.readouterr().out


def test_a_record_in_the_file_is_json_alone(job, faces):
    part, about = finished(job, faces)
    write_predictions(job.file, part, about=about)
    assert json.loads(json.dumps(read_predictions(job.file)[1])) == about


@pytest.fixture
def other(job, faces, tmp_path) -> Job:
    """The same fold in the folder of another result."""
    one = replace(job, file=tmp_path / "other" / "folds" / job.file.name)
    part, about = finished(one, faces)
    write_predictions(one.file, part, about=about)
    return one


def test_a_fold_that_another_result_has_is_taken_over(job, other, faces, tmp_path, capsys):
    mine = replace(job, file=tmp_path / "mine" / "folds" / job.file.name)
    seed = replace(mine, config=CONFIG.replace(seed=1), key="b" * 12, file=mine.file.with_name("one-seed1.parquet"))
    assert take_over([mine, seed], {32: faces}) == 1
    assert mine.file.read_bytes() == other.file.read_bytes()
    assert not seed.file.is_file()
    assert "1 of 2 folds were trained for another result" in capsys.readouterr().out
    assert take_over([mine, seed], {32: faces}) == 0


@pytest.mark.parametrize("change", ["key", "config", "bytes"])
def test_a_fold_of_another_training_is_left_where_it_is(job, other, faces, tmp_path, change):
    mine = replace(job, file=tmp_path / "mine" / "folds" / job.file.name)
    if change == "key":
        mine = replace(mine, key="f" * 12)
    elif change == "config":
        mine = replace(mine, config=CONFIG.replace(epochs=9))
    else:
        other.file.write_bytes(other.file.read_bytes()[:-100])
    before = other.file.read_bytes()
    assert take_over([mine], {32: faces}) == 0
    assert not mine.file.exists()
    assert other.file.read_bytes() == before
