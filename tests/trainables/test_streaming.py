"""Streamed faces: each once per epoch, equal to those from memory, for any number of workers and after any resume."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save

from study.folds import dev_split
from study.pretrain.ray_train import Room, find_room, train_with_ray
from trainables.config import Augmentation, TrialConfig
from trainables.faces.augmentation import augment
from trainables.faces.batches import batch_chances
from trainables.faces.index import MOST_ROWS, index_faces
from trainables.faces.stream import Feed, Tables, make_tables
from trainables.faces.table import load_faces
from trainables.faces.windows import make_windows, share
from trainables.fitting import Diverged
from trainables.pretraining import Work

CONFIG = TrialConfig(backbone="vit_tiny", px=32, epochs=3, batch=16, seed=3)


@pytest.fixture(scope="module")
def folder(make_table, tmp_path_factory):
    """120 faces in row groups of 7, over two files."""
    folder = make_table(tmp_path_factory.mktemp("faces"), people=120, photos=1, named=False)
    whole = pq.read_table(folder / "faces" / "00000.parquet")
    pq.write_table(whole.slice(50), folder / "faces" / "00001.parquet", row_group_size=7)
    pq.write_table(whole.slice(0, 50), folder / "faces" / "00000.parquet", row_group_size=7)
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return index_faces([str(folder)])


@pytest.fixture(scope="module")
def tables(index) -> Tables:
    split = dev_split(index, share=0.2, seed=0)
    return make_tables(index, split.train, split.test, CONFIG, window=40)


def test_an_index_knows_what_faces_in_memory_know(folder, index):
    faces = load_faces([folder], px=16)
    assert index.digest == faces.digest
    for name in ("age", "person", "content", "face_hash", "photo_hash"):
        assert (getattr(index, name) == getattr(faces, name)).all()
    in_memory, light = dev_split(faces, share=0.2, seed=5), dev_split(index, share=0.2, seed=5)
    assert (in_memory.test == light.test).all()
    assert (in_memory.train == light.train).all()


def test_a_dev_split_of_an_index_keeps_people_and_twins_together(make_table, tmp_path):
    people = index_faces([str(make_table(tmp_path / "people", people=20, photos=4))])
    split = dev_split(people, share=0.3, seed=0)
    assert not set(people.person[split.test]) & set(people.person[split.train])
    unnamed = make_table(tmp_path / "unnamed", people=20, photos=4, named=False)
    table = pq.read_table(unnamed / "faces" / "00000.parquet")
    column = table.schema.get_field_index("photo_sha256")
    twins = pa.array([f"bytes {row % 25}" for row in range(80)])  # each photo is there three times or four
    pq.write_table(table.set_column(column, table.schema.field(column), twins), unnamed / "faces" / "00000.parquet")
    index = index_faces([str(unnamed)])
    split = dev_split(index, share=0.3, seed=0)
    assert not set(index.content[split.test]) & set(index.content[split.train])
    assert len(split.test) > 0


@pytest.mark.parametrize(("batch", "faces"), [(16, 40), (16, 1000), (50, 40), (7, 14), (1, 1)])
def test_each_face_once_an_epoch_in_near_equal_batches(index, batch, faces):
    chosen = np.random.default_rng(0).permutation(120)[:97]
    windows = make_windows(index, chosen, batch=batch, faces=faces, seed=1)
    expected = sorted(zip(index.group[chosen].tolist(), index.row[chosen].tolist(), strict=True))
    seen, sizes = [], []
    for number in range(windows.windows):
        window = windows.window(2, number)
        assert window.first == len(sizes)
        seen += list(zip(window.group.tolist(), window.row.tolist(), strict=True))
        sizes += np.diff(window.bounds).tolist()
    assert sorted(seen) == expected
    assert seen != expected
    assert sizes == [len(part) for part in np.array_split(np.arange(97), windows.steps)]
    assert sizes == [windows.size(2 * windows.steps + step) for step in range(windows.steps)]
    other = [windows.window(3, number).row.tolist() for number in range(windows.windows)]
    assert other != [windows.window(2, number).row.tolist() for number in range(windows.windows)]


def test_shares_are_a_partition():
    for faces, world in [(16, 2), (15, 2), (7, 3), (1, 2)]:
        parts = [np.arange(faces)[share(faces, rank, world)].tolist() for rank in range(world)]
        assert parts == [part.tolist() for part in np.array_split(np.arange(faces), world)]


def stream(tables, *, rank=0, world=1, start=0, augmented="here"):
    """All batches from step `start` on: (pixels, ages) by step, as the task that Ray Data runs gives them."""
    feed = Feed(tables, CONFIG, rank, world, 2, augmented, start)
    train = tables.train
    rows = [
        {"part": "train", "epoch": epoch, "number": number}
        for epoch in range(start // train.steps, CONFIG.epochs)
        for number in range(train.windows)
        if epoch * train.steps + (number + 1) * train.steps_a_window > start
    ]
    kind = np.float32 if augmented == "here" else np.uint8
    found = []
    for batch in feed(pa.Table.from_pylist(rows)):
        age = np.frombuffer(batch["age"][0].as_py(), np.int16)
        found.append((np.frombuffer(batch["pixels"][0].as_py(), kind).reshape(len(age), 32, 32, 3), age))
    return found


def test_a_streamed_batch_is_what_memory_gives(folder, index, tables):
    faces = load_faces([folder], px=32)
    place = {(group, row): face for face, (group, row) in enumerate(zip(index.group, index.row, strict=True))}
    train, step = tables.train, 0
    for pixels, age in stream(tables)[train.steps : 2 * train.steps]:
        window = train.window(1, step // train.steps_a_window)
        inner = step - window.first
        chosen = slice(window.bounds[inner], window.bounds[inner + 1])
        rows = [place[key] for key in zip(window.group[chosen], window.row[chosen], strict=True)]
        plain = torch.from_numpy(faces.pixels[rows]).permute(0, 3, 1, 2).float()
        expected = augment(plain, batch_chances(CONFIG.seed, 1, step, len(rows)), Augmentation())
        assert torch.equal(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), expected)
        assert (age == faces.age[rows]).all()
        step += 1
    assert step == train.steps


@pytest.mark.slow
def test_what_remains_after_any_step_is_the_same_and_workers_share_it(tables):
    whole = stream(tables)
    assert len(whole) == CONFIG.epochs * tables.train.steps
    for start in range(len(whole)):
        rest = stream(tables, start=start, augmented="later")
        assert [age.tolist() for _, age in rest] == [age.tolist() for _, age in whole[start:]]
    halves = [stream(tables, rank=rank, world=2) for rank in range(2)]
    for (pixels, age), first, second in zip(whole, *halves, strict=True):
        assert np.allclose(pixels, np.concatenate([first[0], second[0]]), atol=1e-3)
        assert age.tolist() == [*first[1], *second[1]]


def test_a_row_group_too_large_to_stream_is_refused(folder, tmp_path):
    table = pq.read_table(folder / "faces" / "00000.parquet")
    many = pa.concat_tables([table] * (MOST_ROWS // len(table) + 1))
    pq.write_table(many, tmp_path / "large.parquet")
    with pytest.raises(ValueError, match="row_group_size=256"):
        index_faces([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="no faces table at"):
        index_faces([str(tmp_path / "none")])


def pretrain(tables, storage, config, *, workers=1, kill=False):
    """The state's digest and tensors, and the loss of each epoch. kill: SIGKILL the worker once within an epoch."""
    epochs, resumed, killed = {}, [], threading.Event()

    def kill_later():
        while len(list((storage / "net").glob("checkpoint_*/snapshot.pt"))) < 2:
            time.sleep(0.05)
        time.sleep(3)  # a snapshot younger than two seconds may be lost, and then there is nothing to go on from
        for process in psutil.Process().children(recursive=True):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                process.kill()
                killed.set()

    if kill:
        threading.Thread(target=kill_later, daemon=True).start()
    work = Work(threads=1, feeders=1, snapshot_seconds=0.0 if kill else 60.0, batch_norm="worker")
    snapshot, last = train_with_ray(
        config, tables, key="net", storage=str(storage), work=work, room=Room(workers, 1, 0.0),
        on_epoch=lambda epoch: epochs.__setitem__(epoch.epoch, epoch),
        on_step=lambda step, again: resumed.append(step) if again else None,
    )  # fmt: skip
    assert resumed[0] == 0
    assert len(resumed) == 1 + kill
    assert all(step > 0 for step in resumed[1:]), "it went on from a snapshot"
    assert killed.is_set() == bool(kill)
    assert last.epoch == CONFIG.epochs
    state = {name: value.contiguous() for name, value in snapshot.net.items()}
    return hashlib.sha256(save(state)).hexdigest(), state, [epochs[n + 1].train_loss for n in range(CONFIG.epochs)]


# SGD, since Adam divides the rounding error of a zero gradient by itself.
ALIKE = CONFIG.replace(optimizer="sgd", learning_rate=1e-2, ema=0.9)


@pytest.fixture(scope="module")
def undisturbed(tables, tmp_path_factory, one_ray):
    return pretrain(tables, tmp_path_factory.mktemp("undisturbed"), ALIKE)


def test_a_worker_killed_within_an_epoch_changes_nothing(tables, tmp_path, undisturbed):
    digest, _, losses = pretrain(tables, tmp_path, ALIKE, kill=True)
    assert digest == undisturbed[0]
    assert losses == undisturbed[2]


def test_two_workers_on_two_cores_learn_what_one_does(tables, tmp_path, undisturbed):
    """Training holds both cores, and shares of a batch differ in size: 16 does not divide the faces."""
    assert any(tables.train.size(step) % 2 for step in range(tables.train.steps))
    _, state, losses = pretrain(tables, tmp_path, ALIKE, workers=2)
    assert losses == pytest.approx(undisturbed[2], rel=1e-4)
    for name, value in undisturbed[1].items():
        assert torch.allclose(value, state[name], atol=1e-4), name


def test_a_training_that_diverges_says_so_and_is_not_started_again_and_again(tables, tmp_path, one_ray):
    config = CONFIG.replace(optimizer="sgd", learning_rate=1e12, clip=0.0, warmup=0.0)
    with pytest.raises(Diverged, match="a lower --learning-rate"):
        pretrain(tables, tmp_path, config)
    assert not (tmp_path / "net").exists()


def test_room_is_this_machines_cores_or_said(one_ray):
    assert find_room(1, None, 0.0, joined=False).cpus == 2
    assert find_room(2, None, 0.0, joined=False).cpus == 1
    assert find_room(2, None, 0.0, joined=True).cpus == 4
    assert find_room(1, None, 0.0, joined=False, at_once=2).cpus == 1
    assert find_room(1, 1, 0.0, joined=False).at_once == 2
    assert dataclasses.replace(find_room(1, 1, 0.0, joined=False), cpus=8).at_once == 1
    with pytest.raises(ValueError, match="no room for a worker"):
        find_room(1, None, 1.0, joined=False)
