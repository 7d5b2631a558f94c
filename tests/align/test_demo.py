"""The synthetic people: what the first run of a new user relies on."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from study.align.datasets.built_in import PEOPLE, STRANGERS

_NAME = re.compile(r"(\d{3})A(\d{2})([a-h]?)\.JPG")
_CHIP = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{17})\.jpg\.chip\.jpg")
_MODEL = "models/shape_predictor_68_face_landmarks.dat"


def _images() -> list[Path]:
    return sorted((PEOPLE / "images").iterdir())


def _points(path: Path) -> np.ndarray:
    lines = path.read_text().splitlines()
    assert lines[:3] == ["version: 1", "n_points: 68", "{"]
    assert lines[-1] == "}"
    return np.array([line.split() for line in lines[3:-1]], np.float64)


def test_people_have_fgnets_names_and_counts():
    names = [_NAME.fullmatch(path.name) for path in _images()]
    assert all(names)
    persons = Counter(name[1] for name in names if name)
    assert sorted(persons) == [f"{k:03d}" for k in range(1, 83)]
    assert sum(persons.values()) == 1002
    assert min(persons.values()) >= 6
    assert max(persons.values()) <= 18


def test_people_have_fgnets_decades():
    decades = Counter(int(path.name[4:6]) // 10 for path in _images())
    assert [decades[k] for k in range(7)] == [371, 339, 144, 79, 46, 15, 8]


@pytest.mark.slow
def test_every_photo_has_68_points_inside_it():
    assert len(list((PEOPLE / "points").iterdir())) == 1002
    for path in _images():
        points = _points(PEOPLE / "points" / f"{path.stem.lower()}.pts")
        height, width = cv2.imread(str(path)).shape[:2]
        assert points.shape == (68, 2), path.name
        assert (points >= 0).all(), path.name
        assert (points <= (width - 1, height - 1)).all(), path.name


def test_points_are_in_ibug_order():
    """The jaw runs from the image's left to its right, the eyes lie above the nose's tip, and that above the chin."""
    for path in _images()[::20]:
        points = _points(PEOPLE / "points" / f"{path.stem.lower()}.pts")
        assert points[0, 0] < points[8, 0] < points[16, 0]
        assert points[36:42, 0].mean() < points[30, 0] + 15
        assert points[36:48, 1].mean() < points[30, 1] < points[8, 1]


def test_strangers_have_utkfaces_names():
    names = [_CHIP.fullmatch(path.name) for path in STRANGERS.iterdir()]
    assert len(names) >= 2000
    assert all(names)
    ages = np.array([int(name[1]) for name in names if name])
    assert ages.min() == 0
    assert ages.max() == 90
    assert len({name[4] for name in names if name}) == len(names)


def test_no_two_photos_are_the_same():
    files = _images() + sorted(STRANGERS.iterdir())
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == len(files)


def test_both_datasets_take_at_most_12_megabytes():
    files = [path for root in (PEOPLE, STRANGERS) for path in root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000


def test_file_size_does_not_depend_on_age():
    size = [path.stat().st_size for path in _images()]
    age = [int(path.name[4:6]) for path in _images()]
    assert abs(np.corrcoef(size, age)[0, 1]) < 0.12


@pytest.mark.slow
def test_dlib_finds_the_people_and_agrees_with_the_truth():
    dlib = pytest.importorskip("dlib")
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the extra dlib is not installed")
    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(Path(spec.submodule_search_locations[0]) / _MODEL))
    found, errors = 0, []
    chosen = _images()[::10]
    for path in chosen:
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        boxes = detector(picture, 0) or detector(picture, 1)
        if not boxes:
            continue
        found += 1
        shape = predictor(picture, max(boxes, key=lambda box: box.area()))
        guess = np.array([(shape.part(k).x, shape.part(k).y) for k in range(68)])
        truth = _points(PEOPLE / "points" / f"{path.stem.lower()}.pts")
        eyes = np.linalg.norm(truth[36:42].mean(axis=0) - truth[42:48].mean(axis=0))
        errors.append(np.linalg.norm(guess - truth, axis=1).mean() / eyes)
    assert found >= 0.97 * len(chosen)
    assert np.median(errors) <= 0.06


@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="the extra demo is not installed")
def test_a_photo_rendered_again_is_the_stored_one():
    """Byte for byte on the machine it was rendered on; elsewhere sines and blurs may round differently."""
    from tools.built_in_people import album, cast
    from tools.built_in_people.photograph import photograph

    people, strangers = cast.people(0), cast.strangers(0, 3)
    assert [sitting.name for sitting in people] == [path.name for path in _images()]
    for sitting, frame in ((people[0], album.PEOPLE), (people[500], album.PEOPLE), (strangers[2], album.STRANGERS)):
        folder = PEOPLE / "images" if frame == album.PEOPLE else STRANGERS
        stored = (folder / sitting.name).read_bytes()
        data, landmarks = photograph(sitting, seed=0, frame=frame)
        if frame == album.PEOPLE:
            truth = _points(PEOPLE / "points" / f"{Path(sitting.name).stem.lower()}.pts")
            assert np.abs(landmarks - truth).max() < 0.02
        if data != stored:
            one, other = (cv2.imdecode(np.frombuffer(file, np.uint8), 1).astype(float) for file in (data, stored))
            assert np.abs(one - other).mean() < 1.5
