"""A config survives JSON, and its fingerprint changes with every field."""

from __future__ import annotations

import dataclasses
import json

import pytest

from trainables.config import CONFIGS, NO_AUGMENTATION, Augmentation, TrialConfig
from trainables.losses import LOSSES


@pytest.mark.parametrize("loss", [kind() for kind in LOSSES.values()], ids=LOSSES)
def test_json_gives_the_same_config_back(loss):
    config = TrialConfig(loss=loss, learning_rate=1 / 3, augmentation=NO_AUGMENTATION)
    back = TrialConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert back == config
    assert back.fingerprint() == config.fingerprint()


def test_every_field_changes_the_fingerprint():
    base = TrialConfig()
    for field in dataclasses.fields(TrialConfig):
        value = getattr(base, field.name)
        if isinstance(value, int | float):
            other = value + 1 if isinstance(value, int) else value / 2 + 0.2
            assert base.replace(**{field.name: other}).fingerprint() != base.fingerprint(), field.name
    assert base.replace(augmentation=Augmentation(flip=0.1)).fingerprint() != base.fingerprint()


def test_the_papers_settings():
    paper = CONFIGS["paper"]
    assert (paper.batch, paper.epochs, paper.learning_rate) == (8, 100, 0.001)
    assert (paper.loss.mean_weight, paper.loss.variance_weight) == (0.2, 0.05)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"backbone": "efficientnet_bo"}, "Did you mean"),
        ({"colour": 1}, "no field 'colour'"),
        ({"loss": {"name": "hinge"}}, "unknown loss 'hinge'"),
        ({"epochs": 0}, "epochs is 0, expected a whole number"),
    ],
)
def test_a_wrong_record_says_what_is_wrong(record, message):
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_json(record)


def test_fields_that_earlier_versions_had_are_read_where_they_changed_nothing():
    """Checkpoints and trials of earlier versions have them."""
    record = TrialConfig(backbone="resnet18").to_json()
    earlier = {**record, "head_rate": 1.0, "augmentation": {**record["augmentation"], "erase": 0.0}}
    assert TrialConfig.from_json(earlier) == TrialConfig(backbone="resnet18")
    with pytest.raises(ValueError, match="no field 'head_rate'"):
        TrialConfig.from_json({**record, "head_rate": 3.0})
    with pytest.raises(ValueError, match="no field 'erase'"):
        TrialConfig.from_json({"augmentation": {"erase": 0.2}})
