"""A large faces table is mapped from files: the same faces, for the driver, its trials and other machines."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from study.sweep import mapped_faces
from study.sweep.mapped_faces import for_trials, map_faces, read_faces
from trainables.faces.table import Faces, load_faces


@pytest.fixture(scope="module")
def tables(make_table, tmp_path_factory):
    """Two tables whose files are not in table order: "b" before "a", one without people."""
    place = tmp_path_factory.mktemp("tables")
    named = make_table(place / "b", people=3, photos=4, dataset="b")
    return [named, make_table(place / "a", people=5, photos=2, dataset="a", named=False, seed=1)]


def same(one: Faces, other: Faces) -> bool:
    """Whether two tables are equal in every field."""
    pairs = [(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(Faces)]
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def test_mapped_faces_are_those_that_are_loaded(tables, tmp_path):
    loaded = load_faces(tables, px=32)
    mapped = map_faces([str(table) for table in tables], px=32, place=tmp_path / "place")
    assert isinstance(mapped.pixels, np.memmap)
    assert not mapped.pixels.flags.writeable
    assert same(mapped, loaded)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "place").rglob("*.npy")}
    again = map_faces([str(table) for table in tables], px=32, place=tmp_path / "place")
    assert same(again, loaded)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "place").rglob("*.npy")} == before, "made once"


def test_only_large_tables_are_mapped(tables, tmp_path, monkeypatch):
    assert not isinstance(read_faces(tables, px=32, place=tmp_path).pixels, np.memmap)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(mapped_faces, "LARGE", 22 * 32 * 32 * 3)  # the 22 faces' bytes
    assert isinstance(read_faces(tables, px=32, place=tmp_path).pixels, np.memmap)


def test_a_trial_gets_a_map_here_and_one_of_its_own_on_another_machine(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_faces, "LARGE", 1)
    monkeypatch.setattr(mapped_faces, "private_folder", lambda: tmp_path / "other")
    here = read_faces(tables, px=32, place=tmp_path / "place")
    travels = pickle.dumps(for_trials(here, tables, px=32, place=tmp_path / "place"))  # as Ray does
    assert len(travels) < 1000, "a name, not the pixels"
    assert same(pickle.loads(travels), here)
    assert not (tmp_path / "other").exists()
    larger = pickle.dumps(for_trials(here, tables, px=40, place=tmp_path / "place"))
    assert same(pickle.loads(larger), load_faces(tables, px=40))
    (tmp_path / "place").rename(tmp_path / "unseen")
    there = pickle.loads(travels)
    assert same(there, here)
    assert (tmp_path / "other").is_dir()


def test_a_map_that_was_cut_short_is_one_line(tables, tmp_path):
    map_faces([str(table) for table in tables], px=32, place=tmp_path)
    (file,) = tmp_path.glob("*/pixels.npy")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged .* delete it, and it is made again"):
        map_faces([str(table) for table in tables], px=32, place=tmp_path)
