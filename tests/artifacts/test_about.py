"""What a LOPO result is about travels in JSON as it was, and records of earlier versions are read."""

from __future__ import annotations

import json

import pytest

from study.artifacts.about import About, FoldRecord, Pretraining
from study.artifacts.choice import AppliedChoice, BlockChoice, Optimism
from study.artifacts.pretraining import LearnedFrom, StartRecord

CONFIG = {"backbone": "resnet18", "px": 64, "loss": {"name": "mean_variance", "mean_weight": 0.2}}
CHOICE = AppliedChoice(
    (BlockChoice("one", 3, CONFIG, 8, 40, 4.0, 4.2, 0.5, 0.9),), Optimism(4.0, 4.2, 0.2, 0.1, 0.3), ("resnet18",),
    {"λ1": (0.1, 0.2)}, 0, None, "blocks", {"one": ("fgnet/001", "fgnet/002")},
)  # fmt: skip
ABOUT = About(
    "fgnet", "d1", CONFIG, (CONFIG, {**CONFIG, "px": 96}), name="mine", key="k", faces=("runs/fgnet",), photos=9,
    people=2, selection="sealed", choice=CHOICE, pretraining=Pretraining("ImageNet"), seeds=(0, 1), code="c",
    starts=(StartRecord("resnet18", "imagenet", "d", "ImageNet"),), environments=({"torch": "2.9"},),
    learned_from=LearnedFrom("apart", photos=0, people=0, compared=9, synthetic=False, sentence="compared"),
)  # fmt: skip


def test_what_was_written_is_read_again():
    record = json.loads(json.dumps(ABOUT.to_json()))
    assert About.from_json(record, where="here") == ABOUT
    assert record["choice"]["optimism"]["gap"] == 0.2
    assert (record["choice"]["select"], record["choice"]["people"]) == ("blocks", {"one": ["fgnet/001", "fgnet/002"]})
    assert ABOUT.setting("px") == "64 or 96"
    fold = FoldRecord(CONFIG, ({"epoch": 1, "train_loss": 2.5},), 1.5, {"torch": "2.9"})
    assert FoldRecord.from_json(json.loads(json.dumps(fold.to_json())), where="here") == fold


def test_a_record_of_an_earlier_version_is_read_and_one_of_a_later_version_is_refused():
    least = {"dataset": "fgnet", "faces_digest": "d", "trial": {"backbone": "a network that is gone"}, "choice": {}}
    about = About.from_json(least, where="here")
    assert (about.choice, about.learned_from, about.pretraining.what) == (None, None, "not recorded")
    assert about.backbones == ("a network that is gone",)
    assert about.to_json()["choice"] == {}
    with pytest.raises(ValueError, match="here is of version 2, expected 1: run study.lopo again"):
        About.from_json({**least, "version": 2}, where="here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [0, "x"]}, r"here: seeds\[1\] is 'x', expected a whole number"),
        ({"trial": {"backbone": "b", "loss": {"sigma": [1]}}}, "here: trial is not a config: loss.sigma is "),
        ({"pretraining": {"what": None}}, "here: pretraining.what is None, expected a text"),
        ({"choice": {**ABOUT.to_json()["choice"], "people": {}}}, "here: choice.people is of"),
        ({"choice": {**ABOUT.to_json()["choice"], "spread": {"λ1": [1]}}}, "here: choice.spread.λ1 is .*expected 2"),
        ({"choice": {**ABOUT.to_json()["choice"], "select": "x"}}, "choice.select is 'x', expected blocks or dev or"),
        ({"learned_from": {"state": "apart"}}, "here: learned_from.photos is missing"),
        ({"photos": True}, "here: photos is True, expected a whole number"),
        ({"photos": 10**5000}, "here: photos is a number with more than 15 digits"),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        About.from_json({**ABOUT.to_json(), **change}, where="here")
