"""What a sweep reads back: a record that was edited or damaged is refused by name, and never told to the sampler."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from search_spaces import SPACES, Space
from study.cli.options import Training
from study.cli.run import message
from study.files.seals import seal
from study.lopo import plan as plans
from study.lopo.plan import plan_of_sweep
from study.sweep.journal import (
    Part,
    finals_folder,
    parts_folder,
    read_finals,
    read_journal,
    read_parts,
    read_tried,
    to_json,
    write_part,
    write_tried,
)
from study.sweep.search import BlockSearch, check_block, next_training
from study.sweep.search import Training as FoldTraining
from study.sweep.selection import claim
from study.tracking import runs as tracking
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.losses import MeanVariance

BASE = TrialConfig(backbone="resnet18", px=32)
SPACE = SPACES["mean_variance"]
TRIALS = 12


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory) -> Faces:
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=5, photos=3)], px=32)


def searching(folder: Path, space: Space = SPACE) -> BlockSearch:
    return BlockSearch(
        space, BASE, read_journal(folder), trials=TRIALS, folds=1, lag=2, seed=0, pretrained={},
        finals=read_finals(folder), parts=read_parts(folder), most=2, seeds=1,
    )  # fmt: skip


def scored(training: FoldTraining, faces: Faces) -> Part:
    """A fold with predictions made up for the purpose, and the errors that they have."""
    years = np.random.default_rng([training.number, training.repeat]).uniform(0, 90, len(faces))
    off = {row: abs(float(years[row]) - int(faces.age[row])) for row in range(len(faces))}
    people = {who: float(np.mean([off[row] for row in off if faces.person[row] == who])) for who in faces.people}
    return Part(
        training.number, training.repeat, 0, "complete", training.config.to_json(), float(np.mean(list(off.values()))),
        people, {str(row): float(years[row]) for row in off}, people, {"median": people},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory) -> Path:
    """A block's journal with two finalists' second seeds."""
    folder = tmp_path_factory.mktemp("sweep") / "block"
    search = searching(folder)
    while found := next_training([search]):
        search.receive(scored(found[1], faces))
        for tried in search.take_over():
            write_tried(folder, tried)
    assert search.done
    assert len(search.finals) == 2
    return folder


def final_of(folder: Path) -> Path:
    """The file of a finalist's second seed."""
    return sorted(finals_folder(folder).glob("*.json"))[0]


def test_what_was_written_is_read_again_and_asked_again(whole, faces, tmp_path):
    journal = read_journal(whole, faces)
    assert sorted(journal) == list(range(TRIALS))
    check_block(searching(whole), whole)
    assert len(read_finals(whole, faces)) == 2
    earlier = {n: v for n, v in json.loads((whole / "00003.json").read_text()).items() if n != "digest"}
    (tmp_path / "00003.json").write_text(json.dumps(earlier))  # as earlier versions wrote it
    assert read_journal(tmp_path, faces) == {3: journal[3]}


def put(**values: Any) -> Callable[[dict], object]:
    return lambda record: record.update(values)


def within(field: str, name: str, value: Any) -> Callable[[dict], object]:
    return lambda record: record[field].update({name: value})


EDITS: dict[str, tuple[Callable[[dict], object], str]] = {
    "NaN": (put(mae=float("nan")), "its mae is 'nan', expected a number of years"),
    "negative": (put(mae=-5), "its mae is '-5'"),
    "text": (put(mae="3"), "its mae is '3'"),
    "yes": (put(mae=True), "its mae is 'True'"),
    "infinite": (put(mae=float("inf")), "its mae is 'inf'"),
    "no mae": (put(mae=None), "its mae is None, which does not go with its state 'complete'"),
    "another mae": (put(mae=5.0), "its mae is 5.0, where its predicted ages give"),
    "no trial": (put(trial={}), "its trial is"),
    "half a trial": (lambda record: record["trial"].pop("px"), "its trial says None of px"),
    "unknown loss": (within("trial", "loss", {"name": "best"}), "unknown loss 'best'"),
    "another config": (within("trial", "learning_rate", 0.5), "digest"),
    "other params": (within("params", "mean_term", "maybe"), "digest"),
    "params of a list": (put(params=[1]), "its params is"),
    "unknown state": (put(state="done"), "its state is 'done', expected one of complete"),
    "another state": (put(state="pruned"), "digest"),
    "another person's error": (within("people", "drawn/000", 0.1), "its people say 0.1 of drawn/000"),
    "another prediction": (within("predicted", "0", 0.1), "where its predicted ages give"),
    "a prediction too many": (within("predicted", "999", 1.0), "row 999, where the table has 15 faces"),
    "a fold's error": (within("folds", "0", -1), "its folds is"),
    "another number": (put(number=7), "its number and repeat are those of 00007.json"),
    "another seed": (put(repeat=1), "those of 00003-seed1.json"),
    "seconds": (put(seconds="long"), "its seconds is 'long'"),
    "an unknown field": (put(score=1), "a field 'score' that no trial has"),
    "a missing field": (lambda record: record.pop("params"), "it has no params"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_is_an_error_that_names_file_and_field(name, whole, faces, tmp_path):
    edit, said = EDITS[name]
    file = tmp_path / "00003.json"
    record = json.loads((whole / file.name).read_text())
    edit(record)
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="delete it to run that trial again") as error:
        read_journal(tmp_path, faces)
    line = message(error.value)
    assert line is not None
    assert line.startswith(str(file))
    assert said in line


def test_no_flipped_bit_of_a_record_is_believed(whole, faces, tmp_path):
    file = tmp_path / "00003.json"
    data, true = (whole / file.name).read_bytes(), read_tried(whole / file.name)
    refused = 0
    for bit in random.Random(0).sample(range(8 * len(data)), 150):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(bytes(flipped))
        try:
            read = read_tried(file, faces)
        except ValueError as error:
            refused += 1 if message(error) else 0
        else:
            assert read == true
    assert refused > 110
    for torn in (b"", data[: len(data) // 2], b"[" * 100_000, b"null"):
        file.write_bytes(torn)
        with pytest.raises(ValueError, match="no sound record"):
            read_tried(file)


def wider(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """mean_variance, with another range of the first weight."""
    loss = MeanVariance(mean_weight=0.0, variance_weight=0.0)
    if trial.suggest_categorical("mean_term", (True, False)):
        loss = replace(loss, mean_weight=trial.suggest_float("mean_weight", 0.001, 50.0, log=True))
    if trial.suggest_categorical("variance_term", (True, False)):
        loss = replace(loss, variance_weight=trial.suggest_float("variance_weight", 0.001, 1.0, log=True))
    return base.replace(loss=loss)


def test_a_range_that_was_widened_is_seen_before_the_sampler_is_told_of_it(whole, faces):
    journal = read_journal(whole)
    search = searching(whole, replace(SPACE, ask=wider))
    with pytest.raises(ValueError, match=r"trial (\d+) .*mean_weight [\d.]+ there, [\d.]+ now") as error:
        check_block(search, whole)
    assert str(error.value).startswith(str(whole))
    first = next(n for n, tried in journal.items() if n >= len(SPACE.first) and "mean_weight" in tried.params)
    assert f"trial {first} of the journal" in str(error.value)
    assert search.told <= first
    # the same where Ray Tune asks
    with pytest.raises(ValueError, match=f"trial {first} of the journal"):
        next_training([searching(whole, replace(SPACE, ask=wider))])


@pytest.mark.parametrize(("field", "value"), [("px", 48), ("epochs", 9)])
def test_a_config_that_was_never_asked_is_refused_though_its_digest_fits(field, value, whole, faces, tmp_path):
    shutil.copytree(whole, tmp_path / "block")
    file = tmp_path / "block" / "00005.json"
    tried = read_tried(file)
    file.write_text(json.dumps(seal({**to_json(tried), "trial": {**tried.trial, field: value}})))
    with pytest.raises(ValueError, match=f"trial 5 of the journal .*{field} {value} there"):
        check_block(searching(tmp_path / "block"), tmp_path / "block")


def test_a_finalists_seed_of_another_config_is_refused(whole, faces, tmp_path):
    shutil.copytree(whole, tmp_path / "block")
    file = final_of(tmp_path / "block")
    tried = read_tried(file)
    file.write_text(json.dumps(seal({**to_json(tried), "trial": {**tried.trial, "px": 48}})))
    with pytest.raises(ValueError, match=f"seed 1 of trial {tried.number} with another config than the journal"):
        check_block(searching(tmp_path / "block"), tmp_path / "block")


def test_a_kept_fold_is_taken_up_and_one_of_another_config_or_edited_is_refused(whole, faces, tmp_path):
    folder = tmp_path / "block"
    first = next_training([searching(folder)])
    assert first is not None
    part = scored(first[1], faces)
    write_part(folder, part)
    search = searching(folder)
    following = next_training([search])
    assert following is not None
    assert following[1].number == 1, "the fold of trial 0 is there, and was its only one"
    (over,) = search.take_over()
    assert (over.number, over.mae, over.people) == (0, part.mae, part.people)
    write_tried(folder, over)
    assert read_parts(folder) == [], "a finished trial needs its folds no longer"
    other = replace(part, number=1, trial={**part.trial, "px": 48})
    write_part(folder, other)
    with pytest.raises(ValueError, match="fold 0 of trial 1 is of another config .*px 48 there"):
        next_training([searching(folder)])
    with pytest.raises(ValueError, match="fold 0 of trial 1 is of another config"):
        check_block(searching(folder), folder)  # before anything is trained
    file = next(parts_folder(folder).glob("*.json"))
    file.write_text(file.read_text().replace('"mae": ', '"mae": 1'))
    with pytest.raises(ValueError, match="no sound record of a trial.*digest") as error:
        read_parts(folder)
    assert str(error.value).startswith(str(file))


def test_a_folder_belongs_to_one_setting_and_force_says_what_it_discards(tmp_path, capsys, whole):
    folder = tmp_path / "mine"
    assert claim(folder, {"px": 32}, lag=4, environment={}, force=False) == 4
    shutil.copytree(whole, folder / "block")
    assert claim(folder, {"px": 32}, lag=9, environment={}, force=False) == 4
    settings = folder / "sweep.json"
    for damage in ('{"lag": 2, "px"', '{"px": 32, "lag": 3, "digest": "0"}', '{"px": 32, "lag": "three"}', "[]"):
        settings.write_text(damage)
        with pytest.raises(ValueError, match="no sound record of a sweep's settings") as error:
            claim(folder, {"px": 32}, lag=4, environment={}, force=False)
        assert message(error.value)
    settings.unlink()  # trials of nobody knows which settings
    with pytest.raises(ValueError, match="--force"):
        claim(folder, {"px": 32}, lag=4, environment={}, force=False)
    assert len(list(folder.glob("block/*.json"))) == TRIALS
    assert claim(folder, {"px": 48}, lag=2, environment={}, force=True) == 2
    assert f"Discarding {TRIALS} trials and 2 further seeds" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["sweep.json"]


def test_an_edited_best_json_is_not_what_lopo_runs(monkeypatch):
    block = {"name": "all", "people": [], "number": 1, "mae": 3.0, "seeds": 1, "trial": BASE.to_json()}
    choice = {
        "blocks": [], "optimism": dict.fromkeys(("claimed", "corrected", "gap", "gap_low", "gap_high"), 0.0),
        "backbones": ["resnet18"], "spread": {}, "common_trials": 0, "rank_correlation": None,
    }  # fmt: skip
    learned_from = {
        "state": "apart",
        "photos": 0,
        "people": 0,
        "compared": 0,
        "synthetic": False,
        "sentence": "compared",
    }
    best = {
        "sweep": "small", "select": "none", "sealed": False, "faces": [], "faces_digest": "f", "apart_from": [],
        "choice": choice, "blocks": [block], "starts": [], "learned_from": learned_from, "unlike": "",
    }  # fmt: skip
    store = tracking.Tracking("sqlite://", "0")
    monkeypatch.setattr(tracking, "finished", lambda *_, **__: [("run", "sweep", {"study.name": "small"})])
    monkeypatch.setattr(plans.tracking, "read_json", lambda *_: seal(best))
    assert plan_of_sweep(store, name=None, training=Training()).config("anyone") == BASE
    edited = {**seal(best), "blocks": [{**block, "trial": BASE.replace(px=96).to_json()}]}
    monkeypatch.setattr(plans.tracking, "read_json", lambda *_: edited)
    with pytest.raises(ValueError, match="run run: best.json was changed"):
        plan_of_sweep(store, name=None, training=Training())
