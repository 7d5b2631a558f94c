"""best.json travels from a sweep to LOPO as it was, or not at all."""

from __future__ import annotations

import json

import pytest

from study.artifacts.best import Best, BlockWinner
from study.artifacts.choice import Choice, Optimism
from study.artifacts.pretraining import LearnedFrom, StartRecord
from trainables.config import TrialConfig

CHOICE = Choice((), Optimism(4.0, 4.2, 0.2, 0.1, 0.3), ("resnet18",), {"λ1": (0.1, 0.2)}, 0, None)
LEARNED = LearnedFrom("apart", photos=0, people=0, compared=9, synthetic=False, sentence="compared")
BEST = Best(
    sweep="mine", select="blocks", sealed=True, faces=("runs/fgnet",), faces_digest="d", apart_from=(),
    starts=(StartRecord("resnet18", "random", "random", "none"),), learned_from=LEARNED,
    unlike="", choice=CHOICE,
    blocks=(BlockWinner("block1of2", ("a/1", "a/2"), TrialConfig(backbone="resnet18").to_json(), 3, 4.5, 2),),
)  # fmt: skip


def test_what_was_written_is_read_again():
    record = json.loads(json.dumps(BEST.to_json()))
    assert Best.from_json(record, where="here") == BEST
    assert Best.from_json(record, where="here").blocks[0].config == TrialConfig(backbone="resnet18")


def test_an_edited_record_and_another_version_are_refused_by_name():
    record = json.loads(json.dumps(BEST.to_json()))
    with pytest.raises(ValueError, match="here was changed after it was written"):
        Best.from_json({**record, "sealed": False}, where="here")
    later = {name: value for name, value in record.items() if name != "digest"}
    with pytest.raises(ValueError, match="here is of version 2, expected 1"):
        Best.from_json({**later, "version": 2}, where="here")
    with pytest.raises(ValueError, match="here: blocks"):
        Best.from_json({**later, "blocks": []}, where="here")
