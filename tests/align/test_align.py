"""The align command: one row for each photo, good or hostile; the same table on every rerun."""

import contextlib
import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.align.command import Options, align
from study.cli.run import main
from study.files import locks
from study.landmarks.photos import REASONS
from study.landmarks.warp import TEMPLATE
from trainables.faces.table import ALIGNMENT_KEY, SCHEMA, load_faces

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_ray")


def jpeg(seed: int) -> bytes:
    return picture(seed, "JPEG")


def picture(seed: int, kind: str, *, mode: str = "RGB") -> bytes:
    """A smooth random picture of 120 x 150 pixels."""
    low = np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(low).resize((120, 150), Image.Resampling.BICUBIC).convert(mode).save(sink, kind)
    return sink.getvalue()


def points_file() -> str:
    """FG-NET's 68 points with the five that count on the template of a 100-pixel square."""
    points = np.full((68, 2), 50.0)
    points[[31, 36, 67, 48, 54]] = TEMPLATE * 100 - 0.5
    return "version: 1\nn_points: 68\n{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, one_ray) -> Path:
    """A folder with fgnet/ and its table out/: aligned once; tests read and copy it, and never change it.

    A small FG-NET of 3 people with 12 good photos, two pairs of identical bytes, and ten that are hostile."""
    folder = tmp_path_factory.mktemp("pristine")
    root = folder / "fgnet"
    (root / "images").mkdir(parents=True)
    (root / "points").mkdir()
    content = {f"{1 + i % 3:03}A{10 + i:02}.JPG": jpeg(i) for i in range(12)}
    content |= {"001A50.JPG": jpeg(100), "002A50.JPG": jpeg(100)}  # one age: keep the first
    content |= {"001A51.JPG": jpeg(101), "003A52.JPG": jpeg(101)}  # ages conflict: keep none
    content |= {
        "002A60.JPG": jpeg(7)[:900],
        "002A61.JPG": b"",
        "002A62.JPG": b"this is a text file",
        "002A63.JPG": jpeg(200),  # without points
        "holiday.jpg": jpeg(201),
        "003A64.JPG": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        "003A65.JPG": picture(300, "GIF"),  # good, under a wrong name
        "003A66.JPG": picture(301, "JPEG", mode="CMYK"),
        "003A67.JPG": b"P5 30000 30000 255\n" + bytes(1000),
        "003A68.JPG": picture(302, "BMP")[:18] + struct.pack("<ii", 30_000, 30_000) + picture(302, "BMP")[26:],
    }
    for name, data in content.items():
        (root / "images" / name).write_bytes(data)
        if name != "002A63.JPG":
            (root / "points" / f"{name[:-4].lower()}.pts").write_text(points_file())
    (folder / "secret.jpg").write_bytes(jpeg(400))
    (root / "images" / "003A69.JPG").symlink_to(folder / "secret.jpg")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert align(options_for(folder)) == 0
    (folder / "printed").write_text(printed.getvalue())
    return folder


def options_for(folder: Path) -> Options:
    root, out = str(folder / "fgnet"), str(folder / "out")
    return Options("fgnet", root=(root,), out=out, landmarker="pts", size=100, shard=5, workers=1, track=False)


@pytest.fixture
def copied(pristine, tmp_path) -> Options:
    """Options of a copy of the dataset and its table, to be changed."""
    shutil.copytree(pristine, tmp_path / "copy", symlinks=True)
    return options_for(tmp_path / "copy")


@pytest.fixture
def root(copied) -> Path:
    return Path(copied.root[0])


def table(out: str, which: str) -> pd.DataFrame:
    return pd.read_parquet(Path(out) / which)


def content(out: str) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(Path(out).rglob("*")) if path.is_file()}


def test_every_photo_is_a_face_or_a_reject_with_its_reason(pristine):
    options, root = options_for(pristine), pristine / "fgnet"
    faces, rejects = table(options.out, "faces"), table(options.out, "rejects")
    assert faces.columns.tolist() == SCHEMA.names
    assert sorted([*faces.photo, *rejects.photo]) == sorted(f"images/{p.name}" for p in (root / "images").iterdir())
    assert len(faces) == 15
    assert faces.photo.tolist() == sorted(faces.photo, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert dict(zip(rejects.photo.str[7:], rejects.reason, strict=True)) == {
        "002A50.JPG": "duplicate",
        "001A51.JPG": "conflicting_ages",
        "003A52.JPG": "conflicting_ages",
        "002A60.JPG": "truncated",
        "002A61.JPG": "empty_file",
        "002A62.JPG": "not_a_photo",
        "002A63.JPG": "no_points",
        "003A64.JPG": "not_a_photo",
        "holiday.jpg": "bad_name",
        "003A67.JPG": "not_a_photo",
        "003A68.JPG": "too_large",
        "003A69.JPG": "outside_root",
    }
    assert set(rejects.reason) <= set(REASONS)
    printed = (pristine / "printed").read_text()
    assert "read 27, aligned 15, rejected 12" in printed
    funnel = (Path(options.out) / "funnel.md").read_text()
    assert "| not a duplicate | 21 | duplicate 1; conflicting_ages 2 |" in funnel
    assert "| decoded | 16 | not_a_photo 3; truncated 1; too_large 1 |" in funnel
    assert "| aligned | 15 |  |" in funnel
    assert Image.open(Path(options.out) / "funnel.png").width > 500


def test_a_face_is_what_its_photo_shows_at_the_template(pristine):
    options, root = options_for(pristine), pristine / "fgnet"
    faces = table(options.out, "faces").set_index("photo")
    row = faces.loc["images/001A10.JPG"]
    assert (row.dataset, row.person, row.age, row.landmarker, row.found_by) == (
        "fgnet", "001", 10, "pts", "points file",
    )  # fmt: skip
    assert row.landmarks is None  # FG-NET's order is not iBUG's
    face = np.asarray(Image.open(io.BytesIO(row.face)))
    photo = np.asarray(Image.open(root / "images" / "001A10.JPG"))
    assert np.abs(face.astype(int) - photo[:100, :100]).mean() < 3  # its points make it this very square
    loaded = load_faces([Path(options.out)], px=64)
    assert (len(loaded), loaded.people) == (15, ["fgnet/001", "fgnet/002", "fgnet/003"])


def test_the_funnel_is_logged_to_mlflow_once_a_table(copied, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        align(replace(copied, track=True))
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.data.metrics["left/read"], run.data.metrics["left/aligned"]) == (27, 15)
    assert run.data.metrics["rejected/conflicting_ages"] == 2
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"funnel.md", "funnel.png"}


def test_the_files_say_how_they_were_made(pristine):
    options = options_for(pristine)
    for file in sorted(Path(options.out).glob("*/*.parquet")):
        about = json.loads(pq.read_schema(file).metadata[ALIGNMENT_KEY])
        assert (about["size"], about["landmarker"], about["weights"]) == (100, "pts", "none")
        assert about["points"] == TEMPLATE.tolist()
        assert {"template", "version", "quality"} <= set(about)


def test_coverage_is_part_of_a_tables_identity_and_tables_of_two_coverages_never_mix(copied, tmp_path, capsys):
    wide = replace(copied, coverage=1.65, out=str(tmp_path / "wide"))
    assert align(wide) == 0
    faces, tight = table(wide.out, "faces"), table(copied.out, "faces")
    ends = (faces.padded > 0.01).sum()
    assert (faces.padded > tight.padded).all()
    assert f"photos that end before the face's square does: {ends} of 15 (" in capsys.readouterr().out
    assert load_faces([Path(wide.out)], px=32).coverage == 1.65
    assert load_faces([Path(copied.out)], px=32).coverage == 1
    with pytest.raises(ValueError, match="different coverages .1 in .*, 1.65 in .*: align all with one --coverage"):
        load_faces([Path(wide.out), Path(copied.out)], px=32)
    with pytest.raises(ValueError, match="coverage 1.0 there, 1.65 now"):
        align(replace(copied, coverage=1.65))


def test_a_rerun_changes_nothing_and_fills_what_is_missing(copied):
    options = copied
    whole = content(options.out)
    align(options)
    assert content(options.out) == whole
    shards = sorted(Path(options.out).glob("faces/*.parquet"))
    shards[1].unlink()
    (Path(options.out) / "rejects" / shards[2].name).unlink()
    (Path(options.out) / ".unfinished").mkdir(exist_ok=True)
    (Path(options.out) / ".unfinished" / "half").write_bytes(b"PAR1")
    align(options)
    assert content(options.out) == whole


def test_other_options_never_mix_with_a_table(copied):
    options = copied
    whole = content(options.out)
    with pytest.raises(ValueError, match=r"size 100 there, 64 now.*--force"):
        align(replace(options, size=64))
    assert content(options.out) == whole
    align(replace(options, size=64, force=True))
    assert Image.open(io.BytesIO(table(options.out, "faces").face[0])).size == (64, 64)
    assert len(table(options.out, "faces")) == 15


def test_another_folder_replaces_a_table_only_with_force_and_a_line(copied, root, tmp_path, capsys):
    options = copied
    whole = content(options.out)
    (tmp_path / "second" / "images").mkdir(parents=True)
    (tmp_path / "second" / "points").mkdir()
    for number in range(3):
        (tmp_path / "second" / "images" / f"00{number + 1}A10.JPG").write_bytes(jpeg(500 + number))
        (tmp_path / "second" / "points" / f"00{number + 1}a10.pts").write_text(points_file())
    second = replace(options, root=(str(tmp_path / "second"),))
    with pytest.raises(
        ValueError, match=r"holds 15 faces of photos that are not in .*second: use another --out, or --force"
    ):
        align(second)
    assert content(options.out) == whole
    align(replace(second, force=True))
    assert "Discarding 15 faces" in capsys.readouterr().out
    assert sorted(table(options.out, "faces").photo) == [f"images/00{number}A10.JPG" for number in (1, 2, 3)]
    with pytest.raises(ValueError, match=f"made from {tmp_path / 'second'}, holds 3 faces"):
        align(options)


def test_force_says_what_it_discards_and_a_held_folder_is_left_alone(copied, capsys, monkeypatch):
    options = replace(copied, size=64, force=True)
    shards = len(list(Path(options.out).glob("faces/*")))
    whole = content(options.out)
    monkeypatch.setattr(locks, "GRACE", 0.0)
    with locks.hold(Path(options.out)), pytest.raises(ValueError, match=r"out is in use by process"):
        align(options)
    assert content(options.out) == whole
    align(options)
    assert f"Discarding {shards} files of {options.out}/faces (15 faces)" in capsys.readouterr().out


def test_a_damaged_record_of_a_table_is_one_line(copied):
    for damage in ("{", "[]", '{"alignment": 3}'):
        (Path(copied.out) / "align.json").write_text(damage)
        with pytest.raises(ValueError, match=r"align.json is damaged"):
            align(copied)


def test_a_folder_that_holds_something_else_is_left_alone(copied):
    options = copied
    (Path(options.out) / "align.json").unlink()
    (Path(options.out) / "faces" / "mine.parquet").write_bytes(b"precious")
    with pytest.raises(ValueError, match="--force"):
        align(options)
    assert (Path(options.out) / "faces" / "mine.parquet").read_bytes() == b"precious"


def test_changed_photos_are_aligned_again(copied, root):
    options = copied
    (root / "images" / "001A10.JPG").write_bytes(jpeg(999))
    (root / "images" / "002A11.JPG").unlink()
    align(options)
    faces = table(options.out, "faces")
    assert Counter(faces.photo).most_common(1)[0][1] == 1
    assert len(faces) == 14
    face = np.asarray(Image.open(io.BytesIO(faces.set_index("photo").loc["images/001A10.JPG"].face)))
    photo = np.asarray(Image.open(root / "images" / "001A10.JPG"))
    assert np.abs(face.astype(int) - photo[:100, :100]).mean() < 3


def test_no_face_at_all_is_an_error(copied, root):
    options = copied
    shutil.rmtree(options.out)
    for file in (root / "points").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="none of the 27 photos gave a face"):
        align(options)
    assert Counter(table(options.out, "rejects").reason)["no_points"] == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fgnt"], "Did you mean 'fgnet'?"),
        (["fgnet", "--root", "{root}", "--landmarker", "dlip"], "Did you mean 'dlib'?"),
        (["fgnet"], "needs --root"),
        (["fgnet", "--root", "{root}/nowhere", "--landmarker", "pts"], "no folder"),
        (["fgnet", "--root", "{root}/images", "--landmarker", "pts"], "holds images/"),
        (["utkface", "--root", "{root}", "--landmarker", "dlib"], "It looks like fgnet"),
        (["utkface", "--root", "{root}", "--landmarker", "pts"], "comes without points"),
        (["fgnet", "--root", "{root}", "--landmarker", "pts", "--size", "4"], "--size is"),
        (["fgnet", "--root", "{root}", "--landmarker", "fan"], "2DFAN4-11f355bf06.pth.tar"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(arguments, said, pristine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    words = [word.format(root=pristine / "fgnet") for word in arguments]
    status = main(align, Options, prog="align", args=[*words, "--out", str(tmp_path / "never")])
    printed = capsys.readouterr()
    assert status == 1
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not (tmp_path / "never").exists()


def test_the_command_itself_ends_with_that_line_and_status(tmp_path):
    command = [sys.executable, "-m", "study.align", "fgnet", "--root", str(tmp_path), "--landmarker", "pts"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=240, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"python -m study.align: error: FG-NET: no folder {tmp_path}/images; --root is the folder that holds images/\n"
    )
