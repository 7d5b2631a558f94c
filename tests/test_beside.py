"""Commands with --beside: folds, sweep and model have the companions, keys know them, and nobody of them is tested."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from study.artifacts.about import About
from study.artifacts.predictions import read_predictions
from study.artifacts.pretraining import Beside
from study.artifacts.records import plain_json
from study.cli.options import Allowed, Training
from study.cluster.placing import Unit
from study.companions import NONE, find_companions
from study.lopo.jobs import Schedule, make_jobs
from study.lopo.plan import plan_by_hand
from study.refit.folder import learned_photos
from study.refit.measure import find_measured
from study.refit.options import Refit
from study.refit.plan import make_plan
from study.refit.ray_tasks import train_seeds
from study.starts import read_start
from study.tracking import runs as tracking
from tests.commands.typed import fails, run
from tests.model.models import RECIPE
from trainables.config import TrialConfig
from trainables.faces.table import ALIGNMENT_KEY, load_faces
from trainables.fitting import fit

CONFIG = TrialConfig(backbone="resnet18", px=32, epochs=1, batch=16, companions=8)
SMALL = ("--px", 32, "--epochs", 1, "--batch", 16)
NOTHING = Allowed()


@pytest.fixture(scope="module")
def place(make_table, tmp_path_factory) -> Path:
    """people: who is tested; others: who is not, of another data set; copies: these and three of the people's faces."""
    place = tmp_path_factory.mktemp("beside")
    people = make_table(place / "people", people=6, photos=3)
    table = pq.read_table(people / "faces" / "00000.parquet")  # a model must know how its faces were aligned
    known = {ALIGNMENT_KEY: json.dumps(plain_json(RECIPE))}
    pq.write_table(table.replace_schema_metadata(known), people / "faces" / "00000.parquet")
    make_table(place / "others", people=10, photos=6, dataset="others", named=False)
    shutil.copytree(place / "others", place / "copies")
    some = pq.read_table(people / "faces" / "00000.parquet").slice(0, 3)
    pq.write_table(some, place / "copies" / "faces" / "00001.parquet")
    return place


def find(place: Path, *beside: str, config: TrialConfig = CONFIG, known: Beside | None = None):
    tested = load_faces([place / "people"], px=32).identities
    return find_companions([config], [place / name for name in beside], tested, NOTHING, known=known or Beside())


def test_who_is_tested_may_not_train_beside(place):
    assert len(find(place, "others").companions) == 8
    with pytest.raises(ValueError, match=r"3 of the tested photos and 1 of the tested people are at .*copies too"):
        find(place, "copies")


def test_a_copy_that_was_saved_again_is_found(place, tmp_path, make_table):
    rows = pq.read_table(place / "people" / "faces" / "00000.parquet")
    others = pq.read_table(place / "others" / "faces" / "00000.parquet").to_pylist()
    others[0] |= {"face": rows["face"][0].as_py()}  # the same picture under another name and hash
    (tmp_path / "again" / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(others, schema=rows.schema), tmp_path / "again" / "faces" / "0.parquet")
    tested = load_faces([place / "people"], px=32).identities
    with pytest.raises(ValueError, match="near-identical"):
        find_companions([CONFIG], [tmp_path / "again"], tested, NOTHING, known=Beside())


def test_what_cannot_be_is_one_line(place):
    with pytest.raises(ValueError, match="8 companions and no table to take them from"):
        find(place)
    with pytest.raises(ValueError, match="--beside has no effect where a config has 0 companions"):
        find(place, "others", config=CONFIG.replace(companions=0))
    record = find(place, "others").record
    none = CONFIG.replace(companions=0)  # the winner of a sweep that asked: nothing is drawn for it
    assert find(place, config=none, known=record) == NONE
    assert find(place, known=record).record.digest == record.digest
    with pytest.raises(ValueError, match="are not those that trained beside the sweep's"):
        find(place, "others", known=Beside(record.faces, 8, "another", record.datasets))


def test_a_result_names_them_where_it_took_some(place):
    record = find(place, "others").record
    assert record.sentence("8") == "8 faces of others trained beside, and nobody of them is tested"
    assert record.sentence("0 or 8").startswith("0 or 8 faces")
    assert record.sentence("0") == Beside().sentence("8") == ""


def test_a_number_is_usual_only_where_tables_are_given():
    assert Training().config_beside([]).companions == 0
    assert Training().config_beside([Path("a")]).companions == 1000
    assert Training(companions=0).config_beside([Path("a")]).companions == 0
    assert Training(companions=5).config_beside([Path("a")]).companions == 5


def test_a_fold_of_other_companions_is_another_fold(place, tmp_path):
    faces, random = load_faces([place / "people"], px=32), {("resnet18", "random"): read_start("resnet18", "random")}
    plan = plan_by_hand(Training(px=32, companions=8), backbone="resnet18", weights=None, beside=[place / "others"])

    def keys(drawn) -> set[str]:
        jobs, key = make_jobs(plan, faces, random, Schedule("plain", 1, 1, 0.0), tmp_path, drawn)
        return {key, *(job.key for job in jobs)}

    drawn, more = find(place, "others"), find(place, "others", config=CONFIG.replace(companions=20))
    assert keys(drawn) == keys(more)  # the first eight of more are the same
    table = pq.read_table(place / "others" / "faces" / "00000.parquet")
    (tmp_path / "fewer" / "faces").mkdir(parents=True)
    pq.write_table(table.slice(0, 30), tmp_path / "fewer" / "faces" / "0.parquet")
    tested = faces.identities
    other = find_companions([CONFIG], [tmp_path / "fewer"], tested, NOTHING, known=Beside())
    assert not keys(drawn) & keys(other)


@pytest.mark.slow  # a sweep and its folds
def test_from_the_sweep_to_the_model(place, tmp_path, one_ray):
    said = run(
        tmp_path, "sweep", "--faces", place / "people", "--beside", place / "others", "--companions", 8, *SMALL,
        "--space", "small", "--networks", "resnet18", "--trials", 1, "--blocks", 2,
        "--folds", 2, "--finalists", 1, "--name", "tiny",
    )  # fmt: skip
    assert "up to 8 of others beside" in said
    said = run(tmp_path, "lopo", "--best")
    assert "8 faces of others trained beside, and nobody of them is tested" in said
    (file,) = tmp_path.glob("runs/lopo/*/predictions.parquet")
    predictions, record = read_predictions(file)
    about = About.from_json(record, where="it")
    assert len(predictions) == 18
    assert (about.people, about.dataset, about.beside.count) == (6, "drawn", 8)
    assert {config["companions"] for config in about.configs} == {8}
    refused = fails(tmp_path, "lopo", "--backbone", "resnet18", "--faces", place / "people", *SMALL, "--companions", 3)
    assert "name their faces tables after --beside" in refused
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("MLFLOW_TRACKING_URI", "")
        store = tracking.connect()
        plan = make_plan(Refit(best=True, training=Training()), store)
        assert find_measured(store, plan) is not None
        bare = dataclasses.replace(plan, drawn=NONE)
        assert find_measured(store, bare) is None
    assert plan.training_key("cpu") != bare.training_key("cpu")
    photos = learned_photos(plan)
    assert photos is not None
    assert photos.num_rows == 18 + 8
    (state,) = train_seeds(plan, tmp_path / "seeds", Unit("training", 1, 0.0, ""), joined=True)
    by_hand = fit(plan.config, plan.drawn.beside(plan.faces), np.arange(18)).net.state_dict()
    assert torch.equal(state["network.fc.weight"], by_hand["network.fc.weight"])
