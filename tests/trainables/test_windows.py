"""How many faces are shuffled together: enough that no part of an epoch is of other ages than the whole."""

from __future__ import annotations

import numpy as np
import pytest

from study.pretrain.options import Pretrain
from study.pretrain.plan import choose_window
from trainables.faces.hashes import stacked
from trainables.faces.index import FacesIndex
from trainables.faces.windows import APART, USUAL, apart, make_windows, usual_window

AGES = np.random.default_rng(0).integers(1, 90, 16_732).astype(np.int16)


def index_of(ages: np.ndarray) -> FacesIndex:
    """A table of 256 faces a row group, in this order."""
    count = len(ages)
    group, row = np.divmod(np.arange(count, dtype=np.int32), 256)
    return FacesIndex(
        files=("faces.parquet",),
        groups=np.array([(0, number) for number in range(group.max() + 1)], np.int32),
        group=group,
        row=row,
        age=ages,
        person=np.full(count, ""),
        content=np.arange(count).astype(str),
        datasets=("utkface",),
        digest="0" * 16,
        face_hash=stacked([None] * count),
        photo_hash=stacked([None] * count),
        coverage=1.0,
    )


SORTED, SHUFFLED = index_of(np.sort(AGES)), index_of(AGES)


def epoch(index: FacesIndex, faces: int, *, seed: int) -> list[np.ndarray]:
    """The ages of each window of an epoch, in the order of training."""
    every = np.arange(len(index))
    windows = make_windows(index, every, batch=32, faces=faces, seed=seed)
    found = [windows.window(0, number) for number in range(windows.windows)]
    return [index.age[window.group.astype(int) * 256 + window.row] for window in found]


@pytest.mark.parametrize("index", [SORTED, SHUFFLED], ids=["sorted by age", "shuffled"])
def test_no_part_of_an_epoch_is_of_other_ages_than_the_whole(index):
    window = usual_window(index)
    for seed in range(20):
        ages = epoch(index, window, seed=seed)
        last = np.concatenate(ages)[-20 * 32 :]  # what batch norm's running statistics are of
        assert abs(last.mean() - index.age.mean()) < 4  # 640 random faces: 4 SD
        assert abs(last.std() - index.age.std()) < 4


def test_the_usual_window_of_a_sorted_table_would_be():
    off = [abs(np.concatenate(epoch(SORTED, USUAL, seed=seed))[-640:].mean() - AGES.mean()) for seed in range(20)]
    assert np.median(off) > 3


def test_the_difference_of_windows_is_what_is_seen():
    for index, faces in ((SORTED, 4096), (SORTED, 8192), (SHUFFLED, 4096)):
        seen = [part.mean() - AGES.mean() for seed in range(40) for part in epoch(index, faces, seed=seed)]
        assert np.std(seen) == pytest.approx(apart(index, faces), rel=0.25)
    assert apart(SORTED, 65_536) == 0


def test_windows_are_of_near_equal_size():
    for faces in (4096, 5000, 16_000, 100_000):
        sizes = [len(part) for part in epoch(SHUFFLED, faces, seed=0)]
        assert max(sizes) <= faces + 32
        assert max(sizes) - min(sizes) <= 32 * len(sizes)


def test_a_line_says_where_more_faces_are_shuffled_or_still_too_few(capsys):
    assert choose_window(Pretrain(), SHUFFLED) == USUAL
    assert capsys.readouterr().out == ""
    window = choose_window(Pretrain(), SORTED)
    assert apart(SORTED, window) <= APART < apart(SORTED, window // 2)
    assert "16,732 faces are shuffled together, not 4,096" in capsys.readouterr().out
    assert choose_window(Pretrain(window=USUAL), SORTED) == USUAL
    assert "Caution: neighbours in these tables are alike in age" in capsys.readouterr().out
