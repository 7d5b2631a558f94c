"""A model folder tells ages: its ONNX is the network, its faces are training's, its record is checked."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from study.align.actor import Align
from study.artifacts.model import ModelRecord
from study.files.storage import open_folder
from study.landmarks.everyone import find_everyone
from study.landmarks.landmarkers import LANDMARKERS
from study.landmarks.photos import decode_photo
from study.landmarks.search import Runtime
from study.landmarks.warp import align_face, encode_face, template
from study.model import load_model
from study.model.engine import Engine
from study.model.explain import deletion_test, explain_face
from study.model.export import largest_difference
from study.model.faces import FaceFinder
from study.model.network import MeanNet, mean_net, read_net
from study.statistics.intervals import decode
from tests.model.models import CONFIG, PHOTOS, RECIPE, random_states
from trainables.checkpoints import load_checkpoint
from trainables.faces.table import decode_face
from trainables.fitting import build_net, predict
from trainables.losses import decode_age

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="the extra dlib is not installed"),
    pytest.mark.slow,  # writes a model and its export
]
NAMES = sorted(path.name for path in PHOTOS.iterdir())[:3]


def test_the_onnx_file_gives_the_mean_distribution_of_the_seeds_over_both_views(folder, faces):
    rows = np.arange(50)
    nets = [build_net(CONFIG, state) for state in random_states(2)]
    expected = np.mean([predict(CONFIG, net, faces, rows) for net in nets], axis=0)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch in (1, 50):
        (found,) = session.run(None, {"faces": faces.pixels[rows[:batch]]})
        assert np.abs((found - expected[:batch]) @ np.arange(101)).max() < 1e-3
    assert ModelRecord.read(folder).onnx_difference < 1e-3


def test_a_model_whose_onnx_is_another_network_is_refused_when_it_is_made(folder, faces):
    other = mean_net(CONFIG, [{name: value * 1.01 for name, value in random_states(1)[0].items()}])
    with pytest.raises(ValueError, match="differs from the trained network by"):
        largest_difference(other, (folder / "model.onnx").read_bytes(), faces.pixels[:8])


def test_a_model_folder_is_a_checkpoint_that_knows_its_photos(folder, faces):
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config == CONFIG
    assert checkpoint.photos is not None
    assert set(checkpoint.photos["photo_sha256"].to_pylist()) == set(faces.content.tolist())


def test_the_main_face_is_cut_as_in_training_bit_for_bit(folder):
    import pyarrow as pa

    from study.align.actor import add_hashes
    from study.align.listing import HASHED

    listing = pa.table({"photo": NAMES})
    root = open_folder(PHOTOS)
    empty = {field.name: pa.nulls(len(NAMES), field.type) for field in HASHED}
    empty |= {"photo": pa.array(NAMES), "age": pa.array([1] * len(NAMES), pa.int16())}
    for name in ("sha256", "bytes", "reason", "detail"):
        empty.pop(name, None)
    hashed = add_hashes(pa.table(empty), root=root).append_column("shard", pa.array([0] * len(listing), pa.int32()))
    trained = Align(root, RECIPE, runtime=Runtime(), scheme="ibug")(hashed)
    model = load_model(folder)
    for name, data in zip(NAMES, trained["face"].to_pylist(), strict=True):
        seen = model.look(PHOTOS / name)
        assert (seen[0].pixels == decode_face(data, px=32)).all()


def test_paths_bytes_arrays_and_pictures_give_the_same_rows(folder):
    model, file = load_model(folder), PHOTOS / NAMES[0]
    with Image.open(file) as picture:
        given = [file, file.read_bytes(), decode_photo(file.read_bytes()), picture.convert("RGB")]
    table = model.predict(given, names=["a"] * 4)
    assert (table["face"] == 1).all()
    assert table.drop_duplicates().shape[0] == 1
    row = table.iloc[0]
    assert 0 <= row.low_95 <= row.low_80 <= row.age <= row.high_80 <= row.high_95 <= 100
    assert row.left < row.right
    assert model.predict([file])["photo"].tolist() == [str(file)]


def test_every_face_of_a_photo_is_a_row_and_the_largest_is_the_first(folder):
    with Image.open(PHOTOS / NAMES[0]) as first, Image.open(PHOTOS / NAMES[1]) as second:
        small = second.convert("RGB").resize((2 * second.width // 3, 2 * second.height // 3))
        both = Image.new("RGB", (first.width + small.width, first.height), "white")
        both.paste(first, (0, 0))
        both.paste(small, (first.width, 0))
        boundary = first.width
    rows = load_model(folder).predict_rows([both])
    assert [row.face for row in rows] == [1, 2]
    assert rows[0].right <= boundary <= rows[1].left


def test_a_model_cuts_faces_with_its_own_coverage():
    wide = dataclasses.replace(RECIPE, coverage=1.65, points=tuple(map(tuple, template(1.65).tolist())))
    pixels = decode_photo((PHOTOS / NAMES[0]).read_bytes())
    detector = LANDMARKERS["dlib"].load(Runtime()).detector
    cut = align_face(pixels, find_everyone(pixels, detector)[0].landmarks, size=wide.size, coverage=1.65)
    seen = FaceFinder(wide, px=64).find(pixels)[0].pixels
    assert (seen == decode_face(encode_face(cut, quality=wide.quality), px=64)).all()
    assert (seen != FaceFinder(RECIPE, px=64).find(pixels)[0].pixels).any()
    with pytest.raises(ValueError, match="template"):
        FaceFinder(dataclasses.replace(RECIPE, coverage=1.65), px=64)


def test_a_photo_without_a_face_is_a_row_with_its_reason(folder):
    blank = np.full((64, 64, 3), 128, np.uint8)
    rows = load_model(folder).predict_rows([blank, b"hello", "missing.jpg"])
    assert [row.reason for row in rows] == ["no_face", "not_a_photo", "missing"]
    assert all(row.age is None and row.face == 0 for row in rows)
    with pytest.raises(TypeError, match="expected uint8"):
        load_model(folder).predict_rows([blank.astype(np.float64)])


def test_a_folder_that_was_changed_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    with (tmp_path / "m" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="damaged or replaced"):
        load_model(tmp_path / "m")
    record = json.loads((folder / "model.json").read_text())
    record["alignment"]["points"][0][0] = 0.1
    (tmp_path / "m" / "model.json").write_text(json.dumps(record))
    shutil.copy(folder / "model.onnx", tmp_path / "m" / "model.onnx")
    with pytest.raises(ValueError, match="template"):
        load_model(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match=r"study\.refit --best"):
        load_model(tmp_path / "none")


def test_the_record_is_read_as_it_was_written(folder, measured):
    record = ModelRecord.read(folder)
    assert record.measured == measured
    assert record.seeds == (0, 1)
    card = (folder / "README.md").read_text()
    assert f"MAE {measured.mae:.2f} years" in card
    assert "must not be used to decide anything about a person" in card


@pytest.mark.parametrize("decoder", ["expectation", "median", "argmax"])
def test_ages_are_decoded_as_in_training(decoder):
    distribution = np.random.default_rng(0).dirichlet(np.ones(101), size=40).astype(np.float32)
    there = decode_age(torch.from_numpy(distribution), decoder).numpy()
    assert decode(distribution, decoder) == pytest.approx(there, abs=1e-4)


class Bright(MeanNet):
    """An age that is the brightness of the upper left quarter alone."""

    def __init__(self) -> None:
        super().__init__([], mirror=False)

    def from_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        side = pixels.shape[2] // 2
        share = pixels[:, :, :side, :side].mean(dim=(1, 2, 3)) / 255
        found = torch.zeros(len(pixels), 101)
        found[:, 100], found[:, 0] = share, 1 - share
        return found


def test_an_explanation_finds_the_only_part_that_counts_and_passes_its_test():
    face = np.full((32, 32, 3), 20, np.uint8)
    face[:16, :16] = 250
    found = explain_face(Bright(), face)
    assert np.abs(found[:12, :12]).mean() > 10 * np.abs(found[20:, 20:]).mean()
    assert (found[:8, :8] > 0).all()
    results = deletion_test(Bright(), [face], [found])
    assert all(result.lower > result.fall for result in results)
    (wrong, *_) = deletion_test(Bright(), [face], [-found])
    assert not wrong.passed


def test_explanations_read_the_folders_own_weights(folder, faces):
    net = read_net(folder)
    with torch.inference_mode():
        mine = net(torch.from_numpy(faces.pixels[:4])).numpy()
    assert np.abs(Engine((folder / "model.onnx").read_bytes())(faces.pixels[:4]) - mine).max() < 1e-4


def test_a_photo_is_read_from_any_bytes(folder):
    sink = io.BytesIO()
    with Image.open(PHOTOS / NAMES[0]) as picture:
        picture.convert("RGB").save(sink, "PNG")
    assert load_model(folder).predict_rows([sink.getvalue()])[0].face == 1
