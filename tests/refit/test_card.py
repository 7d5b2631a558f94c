"""The model card says what was measured, how, and what was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.artifacts.model import Chosen, Measured, ModelRecord
from study.refit.card import write_card
from study.refit.measure import measure
from study.statistics.groups import by_group
from tests.model.models import CONFIG, faces, folder, measured, random_predictions  # noqa: F401
from trainables.faces.table import Faces

pytestmark = pytest.mark.slow  # a model folder has an ONNX file


@pytest.fixture
def record(folder: Path) -> ModelRecord:  # noqa: F811
    return ModelRecord.read(folder)


def told(faces: Faces, sex: np.ndarray, group: np.ndarray) -> Measured:  # noqa: F811
    predictions = replace(random_predictions(faces), attributes={"sex": sex, "group": group})
    return measure(predictions, result="0123456789ab")


def test_it_tells_errors_by_sex_and_group_as_far_as_the_data_names_them(record, faces):  # noqa: F811
    sex = np.where(np.arange(len(faces)) % 12 < 6, "female", "male")
    found = told(faces, sex, np.full(len(faces), "asian"))
    assert [(each.attribute, each.name) for each in found.groups] == [("sex", "female"), ("sex", "male")]
    random = random_predictions(faces)
    expected = by_group(random, {"sex": sex})[0]
    error = np.abs(random.predicted - random.age)[sex == "female"]
    assert found.groups[0].mae == pytest.approx(error.mean())
    card = write_card(replace(record, measured=found))
    row = f"| sex: female | {len(error)} | {expected.people} | {expected.mae.value:.2f} ({expected.mae.low:.2f} to"
    assert row in card
    assert "By group: not measured" in card
    assert "not measured: group, skin colour" in card


def test_without_such_names_it_says_so(record, faces):  # noqa: F811
    nothing = np.full(len(faces), "")
    card = write_card(replace(record, measured=told(faces, nothing, nothing)))
    assert "By sex and group: not measured" in card


def test_only_a_swept_config_is_called_one_that_the_sweep_chose(record, measured):  # noqa: F811
    by_hand = write_card(replace(record, measured=measured, chosen=Chosen("given by hand")))
    assert "with this model's own config for everybody" in by_hand
    assert "sweep" not in by_hand
    swept = write_card(replace(record, measured=measured, chosen=Chosen("the least error", sweep="study")))
    assert "the configs that the sweep chose for each block of people" in swept


@pytest.mark.parametrize(("sweep", "command"), [("", "study.lopo` with the same"), ("study", "study.lopo --best`")])
def test_an_unmeasured_one_names_the_command_that_measures_it(record, sweep, command):
    assert command in write_card(replace(record, measured=None, chosen=Chosen("so", sweep=sweep)))
