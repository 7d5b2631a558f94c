"""What a trial holds for each person and row is a small array, and to every reader a mapping like any other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from study.sweep.journal import Tried, read_journal, write_tried
from study.sweep.years import years
from trainables.config import TrialConfig

ERRORS = {"fgnet/002": 3.25, "fgnet/001": 0.1, "fgnet/010": 7.0}


def test_it_is_the_mapping_that_it_was_made_of():
    kept = years(ERRORS)
    assert kept == ERRORS
    assert dict(kept) == ERRORS
    assert list(kept) == list(ERRORS), "in the same order"
    assert "fgnet/003" not in kept
    with pytest.raises(KeyError, match="fgnet/003"):
        kept["fgnet/003"]
    assert not years({})
    assert years(kept) is kept


def test_mappings_of_the_same_people_share_their_names():
    fifty = [years({f"person {i}": float(i * k) for i in range(1000)}) for k in range(50)]
    assert len({id(each.names) for each in fifty}) == 1
    assert sum(each.values_.nbytes for each in fifty) == 50 * 1000 * 8


@pytest.mark.slow
def test_a_trial_of_fifty_thousand_faces_is_written_and_read_to_the_last_bit(tmp_path):
    random = np.random.default_rng(0)
    errors = {f"imdb/{i:06d}.jpg": float(random.gamma(2, 3)) for i in range(50_000)}
    config = TrialConfig().to_json()
    tried = Tried(
        3, "complete", config, {"learning_rate": 0.001}, 6.5, people=errors, halfway=errors,
        predicted={str(i): year for i, year in enumerate(errors.values())}, decoded={"median": errors},
    )  # fmt: skip
    write_tried(tmp_path, tried)
    (read,) = read_journal(tmp_path).values()
    assert read.people == errors
    assert read.decoded == {"median": errors}
    assert read == tried
    there = json.loads(next(tmp_path.glob("*.json")).read_bytes())
    assert there["people"] == errors, "plain JSON"
