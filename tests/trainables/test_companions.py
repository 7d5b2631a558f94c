"""Companions: each age is drawn alike, fewer are the first of more, and a training with them is one on all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from trainables.backbones import age_net
from trainables.checkpoints import Checkpoint, CheckpointRecord, save_checkpoint
from trainables.config import TrialConfig
from trainables.faces.companions import draw_companions
from trainables.faces.table import Faces, load_faces
from trainables.fitting import fit, freeze, predict
from trainables.fold import run_fold

CONFIG = TrialConfig(backbone="resnet18", px=32, epochs=1, batch=16)


@pytest.fixture(scope="module")
def folder(make_table, tmp_path_factory) -> Path:
    return make_table(tmp_path_factory.mktemp("strangers"), people=40, photos=10, dataset="strangers", named=False)


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory) -> Faces:
    return load_faces([make_table(tmp_path_factory.mktemp("people"), people=6, photos=6)], px=32)


def test_every_age_is_as_likely_as_another(folder):
    table = load_faces([folder], px=32)
    ages, count = np.unique(table.age, return_counts=True)
    drawn = draw_companions([folder], most=100)
    assert len(set(drawn.photo)) == len(drawn) == 100
    often = count >= 2 * np.median(count)  # such ages would have twice as many of a plain draw
    assert often.any()
    share = np.isin(drawn.age, ages[often]).mean()
    plain = count[often].sum() / count.sum()
    assert share < (plain + often.mean()) / 2 < plain


def test_fewer_are_the_first_of_more_whatever_the_order_of_the_files(folder, tmp_path):
    rows = pq.read_table(folder / "faces" / "00000.parquet")
    (tmp_path / "faces").mkdir()
    pq.write_table(rows.take(np.arange(len(rows))[::-1]), tmp_path / "faces" / "00000.parquet")
    more, fewer = draw_companions([folder], most=90), draw_companions([folder], most=30)
    turned = draw_companions([tmp_path], most=90)
    assert more.photo.tolist() == turned.photo.tolist()
    assert more.digest == turned.digest
    assert more.first(30).digest == fewer.digest != more.digest
    assert more.first(30).encoded == fewer.encoded


def test_more_than_there_are_is_one_line(folder):
    with pytest.raises(
        ValueError, match=r"401 companions are asked for, and .* has 400 faces: give fewer --companions"
    ):
        draw_companions([folder], most=401)


def test_they_stand_behind_the_faces_as_their_table_has_them(folder, faces):
    drawn, table = draw_companions([folder], most=20), load_faces([folder], px=32)
    joined = drawn.beside(faces)
    assert (len(joined), joined.companions) == (len(faces) + 20, 20)
    assert np.array_equal(joined.pixels[: len(faces)], faces.pixels)
    place = {name: row for row, name in enumerate(table.photo)}
    there = [place[name] for name in drawn.photo]
    assert np.array_equal(joined.pixels[len(faces) :], table.pixels[there])
    assert np.array_equal(joined.age[len(faces) :], table.age[there])
    assert joined.digest != faces.digest


@pytest.mark.slow  # trains
@pytest.mark.parametrize("frozen", [0, 2])
def test_a_training_with_them_is_one_on_all_of_these_faces(folder, faces, tmp_path, frozen):
    config = CONFIG.replace(frozen=frozen, frozen_views=2)
    if frozen:
        torch.manual_seed(0)
        state = age_net("resnet18", px=32).state_dict()
        save_checkpoint(tmp_path / "start", Checkpoint(state, CONFIG, CheckpointRecord("a test")))
        config = config.replace(weights=str(tmp_path / "start"))
    joined = draw_companions([folder], most=20).beside(faces)
    rows, test = np.arange(30), np.arange(30, 36)
    source = freeze(config, joined)
    with_them = fit(config.replace(companions=12), source, rows).net
    by_hand = fit(config, source, np.concatenate([rows, np.arange(36, 48)])).net
    without = fit(config, source, rows).net
    answers = [predict(config, net, source, test) for net in (with_them, by_hand, without)]
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_a_config_with_more_than_came_with_the_faces_is_one_line(folder, faces):
    joined = draw_companions([folder], most=20).beside(faces)
    rows = np.arange(30)
    with pytest.raises(ValueError, match="the config has 21 companions, and 20 came with the faces"):
        run_fold(CONFIG.replace(companions=21).to_json(), joined, None, rows, np.arange(30, 36), 1, "cpu")
