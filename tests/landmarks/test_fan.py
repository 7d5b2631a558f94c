"""FAN runs through face-alignment's own classes; only the numbers in the weights are not a user's.

The weights are made here and put where the real ones lie: S3FD's say "face" at every 32nd pixel, FAN's are random.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from study.align.command import Options, align
from study.cli.run import main
from study.landmarks.fan import FAN_WEIGHTS, load_fan
from study.landmarks.landmarkers import weights_digest
from study.landmarks.search import Landmarks, Portrait, Runtime
from trainables.faces.table import ALIGNMENT_KEY

pytestmark = pytest.mark.slow  # runs FAN's networks


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory) -> Path:
    """A TORCH_HOME with both weights."""
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.models import FAN

    home = tmp_path_factory.mktemp("torch")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    landmarks, detector = FAN(4), s3fd()
    state = detector.state_dict()
    for name, values in state.items():
        if "_mbox_" in name:
            values.zero_()
        if name.endswith("_mbox_conf.bias"):  # background, except in the layer of 128-pixel boxes
            background = -2.0 if name.startswith("fc7") else 10.0
            values.copy_(torch.tensor([background] * (len(values) - 1) + [-background]))
    for name, network in zip(FAN_WEIGHTS, (landmarks, detector), strict=True):
        torch.save(network.state_dict(), folder / name)
    return home


@pytest.fixture
def portraits() -> list[Portrait]:
    low = np.random.default_rng(0).integers(0, 255, (3, 8, 7, 3), dtype=np.uint8)
    sizes = [(160, 180), (128, 128), (300, 200)]
    pictures = [Image.fromarray(p).resize(s, Image.Resampling.BICUBIC) for p, s in zip(low, sizes, strict=True)]
    return [Portrait(np.asarray(picture)) for picture in pictures]


@pytest.fixture
def with_weights(torch_home, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    return torch_home / "hub" / "checkpoints"


def test_a_batch_gives_each_face_the_points_that_face_alignment_gives_it_alone(with_weights, portraits):
    import face_alignment

    found = load_fan(Runtime()).find(portraits)
    alone = face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D, device="cpu", flip_input=False, compile=False
    )
    for portrait, landmarks in zip(portraits, found, strict=True):
        assert isinstance(landmarks, Landmarks)
        assert landmarks.scheme == "ibug"
        assert landmarks.found_by == "whole"
        height, width = portrait.pixels.shape[:2]
        boxes = alone.face_detector.detect_from_image(portrait.pixels.copy())
        middle = min(boxes, key=lambda b: np.hypot((b[0] + b[2]) / 2 - width / 2, (b[1] + b[3]) / 2 - height / 2))
        (points,) = alone.get_landmarks_from_image(portrait.pixels, detected_faces=[[float(x) for x in middle[:4]]])
        # face-alignment rounds a crop's corner towards zero, and so otherwise for one that leaves the photo.
        assert np.median(np.abs(points - landmarks.points)) < 2


def test_broken_weights_are_named(with_weights, tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name in FAN_WEIGHTS:
        (folder / name).write_bytes((with_weights / name).read_bytes()[:5000])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="does not hold FAN's weights") as error:
        load_fan(Runtime())
    assert FAN_WEIGHTS[0] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cuda"], "--gpus-per-worker"),
        (["--device", "tpu9"], "--device tpu9 is not available here"),
        (["--dtype", "float61"], "Did you mean 'float16'?"),
    ],
)
def test_what_fan_cannot_run_on_is_said_before_any_photo_is_read(with_weights, tmp_path, capsys, options, said):
    (tmp_path / "1_0_0_20170110183726390.jpg").touch()
    arguments = ["utkface", "--root", str(tmp_path), "--out", str(tmp_path / "out"), *options]
    assert main(align, Options, prog="align", args=arguments) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_align_with_fan_by_default(with_weights, tmp_path, portraits, own_ray):
    """The default for one's own data; the table names the weights by what is in them."""
    root, out = tmp_path / "utkface", tmp_path / "out"
    root.mkdir()
    for age, portrait in enumerate(portraits):
        Image.fromarray(portrait.pixels).save(root / f"{age}_0_0_2017011018372639.jpg", quality=95)
    own_ray(num_cpus=1)  # its workers look for the weights where this test has put them
    assert align(Options("utkface", root=(str(root),), out=str(out), size=64, track=False)) == 0
    faces = pd.read_parquet(out / "faces")
    assert faces.landmarker.tolist() == ["fan"] * 3
    assert sorted(faces.age) == [0, 1, 2]
    assert faces.landmarks.map(len).tolist() == [136] * 3
    assert Image.open(io.BytesIO(faces.face[0])).size == (64, 64)
    (file,) = sorted((out / "faces").iterdir())
    about = json.loads(pq.read_schema(file).metadata[ALIGNMENT_KEY])
    digests = [hashlib.sha256((with_weights / name).read_bytes()).hexdigest()[:16] for name in FAN_WEIGHTS]
    assert about["weights"] == weights_digest("fan") == "+".join(digests)
    assert (about["device"], about["dtype"]) == ("cpu", "float32")
