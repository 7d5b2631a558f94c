"""The rule by which one of several blocks' winners becomes the model."""

from __future__ import annotations

import numpy as np
import pytest

from study.artifacts.best import Best, BlockWinner
from study.artifacts.choice import BlockChoice, Choice, Optimism
from study.artifacts.pretraining import LearnedFrom, StartRecord
from study.refit.choose import ONLY, choose_winner, constant_error
from trainables.config import TrialConfig
from trainables.faces.table import Faces

TRIAL = TrialConfig(backbone="resnet18").to_json()
PEOPLE = (("d/a", "d/b"), ("d/c", "d/d"))
PERSON = np.array(["d/a", "d/a", "d/b", "d/b", "d/c", "d/c", "d/d", "d/d"])
FACES = Faces(
    pixels=np.zeros((8, 8, 8, 3), np.uint8),
    age=np.array([10, 12, 14, 16, 0, 20, 40, 60], np.int16),  # c and d, on whom block 1 chose, differ by more
    person=PERSON,
    photo=np.array([f"d/{i}" for i in range(8)]),
    content=np.array([str(i) for i in range(8)]),
    digest="d",
)


def best_of(corrected: list[float], blocks: int = 2) -> Best:
    names = [f"block{i + 1}of2" for i in range(blocks)]
    rows = tuple(
        BlockChoice(name, i, TRIAL, 3, 2, corrected[i] - 0.5, corrected[i], 0.5, 0.9) for i, name in enumerate(names)
    )
    return Best(
        sweep="mine", select="blocks", sealed=True, faces=("x",), faces_digest="d", apart_from=(),
        starts=(StartRecord("resnet18", "random", "random", "none"),), unlike="",
        learned_from=LearnedFrom("apart", photos=0, people=0, compared=9, synthetic=False, sentence="compared"),
        choice=Choice(rows, Optimism(4.0, 4.2, 0.2, 0.1, 0.3), ("resnet18",), {}, 0, None),
        blocks=tuple(BlockWinner(name, PEOPLE[i], TRIAL, i, [8.0, 1.0][i]) for i, name in enumerate(names)),
    )  # fmt: skip


def test_a_constant_guess_is_the_median():
    assert constant_error([0, 20, 40, 60]) == 20.0
    assert constant_error([10, 12, 14, 16]) == 2.0


def test_an_error_counts_relative_to_a_constant_guess_on_the_people_that_it_was_measured_on():
    chosen = choose_winner(best_of([6.0, 1.0]), FACES)
    assert chosen.block == "block1of2", "6 of 20 years is better than 1 of 2"
    assert [(each.mae, each.constant, each.ratio) for each in chosen.candidates] == [(6.0, 20.0, 0.3), (1.0, 2.0, 0.5)]
    assert "corrected for being the lowest of many" in chosen.rule
    assert choose_winner(best_of([6.0, 0.5]), FACES).block == "block2of2"


def test_of_equal_ones_the_first_is_chosen():
    assert choose_winner(best_of([5.0, 0.5]), FACES).block == "block1of2"


def test_where_not_all_could_be_corrected_all_count_as_claimed():
    chosen = choose_winner(best_of([float("nan"), 1.9]), FACES)
    assert [each.mae for each in chosen.candidates] == [8.0, 1.0]
    assert "as claimed" in chosen.rule


def test_an_only_winner_needs_no_rule():
    chosen = choose_winner(best_of([6.0], blocks=1), FACES)
    assert (chosen.block, chosen.rule, chosen.candidates) == ("block1of2", ONLY, ())


@pytest.mark.parametrize("index", range(8))
def test_the_choice_depends_on_no_single_label_of_the_winners_own_people(index):
    """Where the corrected errors are given, a block's own people enter only by the other block's constant guess."""
    ages = FACES.age.copy()
    ages[index] += 1
    changed = Faces(FACES.pixels, ages, FACES.person, FACES.photo, FACES.content, "d")
    before, after = (choose_winner(best_of([6.0, 1.0]), faces).candidates for faces in (FACES, changed))
    own = 0 if index < 4 else 1
    assert after[own] == before[own]
