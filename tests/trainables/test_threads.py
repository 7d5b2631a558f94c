"""How many threads of a pretraining worker train: none of its cores stands idle."""

from __future__ import annotations

import pytest

from study.pretrain.ray_train import Room


@pytest.mark.parametrize(
    ("cpus", "gpus", "feeders", "threads"),
    [
        (1, 0.0, 1, 1),
        (2, 0.0, 1, 2),
        (3, 0.0, 2, 3),
        (4, 0.0, 1, 3),
        (8, 0.0, 2, 6),
        (4, 0.0, 4, 1),
        (2, 1.0, 1, 1),
        (8, 1.0, 6, 2),
    ],
)
def test_a_feeder_has_a_core_of_its_own_only_where_there_are_several(cpus, gpus, feeders, threads):
    assert Room(1, cpus, gpus).threads(feeders) == threads
