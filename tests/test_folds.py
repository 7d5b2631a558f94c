"""No person is on both sides of any split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from study.folds import dev_split, lopo_folds, person_folds
from trainables.faces.table import load_faces


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory):
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=20, photos=5)], px=16)


@pytest.fixture(scope="module")
def strangers(make_table, tmp_path_factory):
    folder = make_table(tmp_path_factory.mktemp("strangers"), people=200, photos=1, named=False)
    return load_faces([folder], px=16)


def test_each_person_is_left_out_once_with_all_photos(faces):
    folds = lopo_folds(faces)
    assert len(folds) == 20
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(100))
    for fold in folds:
        assert set(faces.person[fold.test]) == {fold.name}
        assert fold.name not in faces.person[fold.train]
        assert len(fold.train) == 95


@pytest.mark.parametrize("seed", range(5))
def test_person_folds_separate_people_and_cover_all(faces, seed):
    folds = person_folds(faces, folds=4, seed=seed)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(100))
    for fold in folds:
        assert not set(faces.person[fold.test]) & set(faces.person[fold.train])
        assert len(fold.test) == 25


def test_folds_among_rows_have_no_other_people(faces):
    outer = person_folds(faces, folds=2, seed=0)
    for block in outer:
        away = set(faces.person[block.test])
        for inner in person_folds(faces, folds=3, seed=0, rows=block.train):
            assert not away & set(faces.person[np.concatenate([inner.train, inner.test])])


def test_a_dev_set_keeps_its_share_and_its_members(strangers):
    split = dev_split(strangers, share=0.2, seed=0)
    assert 20 <= len(split.test) <= 60
    assert sorted([*split.train, *split.test]) == list(range(200))
    fewer = dataclasses.replace(
        strangers,
        **{name: getattr(strangers, name)[:100] for name in ("pixels", "age", "person", "photo", "content")},
    )
    again = dev_split(fewer, share=0.2, seed=0)
    assert again.test.tolist() == [row for row in split.test if row < 100]


def test_people_must_be_known(strangers, faces):
    with pytest.raises(ValueError, match="name no person"):
        lopo_folds(strangers)
    content = faces.content.copy()
    content[0] = content[99]
    with pytest.raises(ValueError, match="two people have the same photo"):
        lopo_folds(dataclasses.replace(faces, content=content))
