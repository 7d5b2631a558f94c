"""Whom a network learned from: recorded with every checkpoint, compared with the tested, claimed where compared."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image

from study.align.datasets.built_in import PEOPLE
from study.artifacts.brands import brand, branded, unlike
from study.artifacts.environments import differences
from study.artifacts.pretraining import StartRecord
from study.cli.options import Allowed
from study.lopo.plan import Plan
from study.starts import check_apart, check_starts, read_start, read_tensors, worst
from trainables import code_version
from trainables.backbones import age_net
from trainables.checkpoints import Checkpoint, CheckpointRecord, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig
from trainables.faces.table import SCHEMA, Faces, Identities, identify, load_faces, read_identities
from trainables.provenance import NO_PHOTOS, environment, merge_photos, photos_digest, photos_of, tensors_digest

CONFIG = TrialConfig(backbone="resnet18", px=32)
STRICT = Allowed()


@pytest.fixture(scope="module")
def people(make_table, tmp_path_factory) -> Path:
    return make_table(tmp_path_factory.mktemp("people"), people=6, photos=2)


@pytest.fixture(scope="module")
def faces(people) -> Faces:
    return load_faces([people], px=32)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return age_net("resnet18", px=32).state_dict()


def write(folder: Path, state, photos, **about) -> str:
    save_checkpoint(folder, Checkpoint(state, CONFIG, CheckpointRecord("a test", **about), photos))
    return str(folder)


def test_nobody_is_tested_by_a_network_that_learned_from_them(faces, state, tmp_path):
    rows = np.arange(len(faces))
    some = np.flatnonzero(faces.person == faces.people[0])[:1]  # one photo of one person
    others = Identities(frozenset({"crowd/1"}), frozenset({"abc"}), frozenset({"crowd"}))
    start = read_start("resnet18", write(tmp_path / "saw_one", state, photos_of(faces, some)))
    with pytest.raises(ValueError, match="learned from 1 of the tested photos and from 1 of the tested people"):
        check_starts([start], faces.identities, STRICT)
    told = check_starts([start], faces.identities, Allowed(allow_overlap=True))
    assert (told.state, told.photos, told.people) == ("overlap", 1, 1)
    assert brand(learned_from=told) == "OVERLAP"
    apart = check_starts([start], others, STRICT)
    assert apart.state == "apart"
    said = "none of the tested photos or people is among the 1 photos that it was pretrained on; only identical bytes"
    assert apart.sentence == f"{said} could be compared", "of these others it is not known how they look"
    whole = read_start("resnet18", write(tmp_path / "saw_all", state, photos_of(faces, rows)))
    assert check_starts([whole], faces.identities, Allowed(allow_overlap=True)).photos == len(faces)


def test_another_photo_of_a_tested_person_is_an_overlap_too(faces, state, tmp_path):
    first = np.flatnonzero(faces.person == faces.people[0])[:1]
    rest = Identities(
        frozenset(faces.people), frozenset(map(str, np.delete(faces.content, first))), frozenset({"drawn"})
    )
    start = read_start("resnet18", write(tmp_path / "saw_another", state, photos_of(faces, first)))
    with pytest.raises(ValueError, match="from 0 of the tested photos and from 1 of the tested people"):
        check_starts([start], rest, STRICT)


def portraits(folder: Path, *, dataset: str, px: int, quality: int) -> Path:
    """A table of twelve synthetic people's photos, as faces of this size and JPEG quality."""
    rows = []
    for number, file in enumerate(sorted((PEOPLE / "images").iterdir())[::80][:12]):
        data = io.BytesIO()
        Image.open(file).convert("RGB").resize((px, px), Image.Resampling.BICUBIC).save(data, "JPEG", quality=quality)
        rows.append(
            {
                "dataset": dataset,
                "photo": f"{number:02}.jpg",
                "person": None,
                "age": 30,
                "face": data.getvalue(),
                "landmarker": "none",
                "found_by": "whole",
                "photo_sha256": hashlib.sha256(data.getvalue()).hexdigest(),
            }
        )
    (folder / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "faces" / "00000.parquet")
    return folder


def test_a_copy_of_a_tested_photo_is_an_overlap_and_is_named(state, tmp_path, capsys):
    tested = portraits(tmp_path / "tested", dataset="shown", px=128, quality=95)
    crowd = portraits(tmp_path / "crowd", dataset="crowd", px=90, quality=60)
    learned = load_faces([crowd], px=32)
    start = read_start("resnet18", write(tmp_path / "saw_copies", state, photos_of(learned, np.arange(3))))
    identities = load_faces([tested], px=32).identities
    assert not identities.photos & learned.identities.photos
    with pytest.raises(ValueError, match="; 3 tested photos are near-identical to one of its photos: shown/"):
        check_starts([start], identities, STRICT)
    told = check_starts([start], identify([tested]), Allowed(allow_overlap=True))
    assert (told.state, told.photos, told.people, told.near) == ("overlap", 0, 0, 3)
    assert brand(learned_from=told) == "OVERLAP"
    assert "and 3 further ones are near-identical to one of them" in told.sentence
    printed = capsys.readouterr().out
    assert all(f"shown/{number:02}.jpg (" in printed for number in range(3))
    with pytest.raises(ValueError, match="0 photos of .* lie in .*; 12 tested photos are near-identical"):
        check_apart([crowd], [tested])
    others = read_start("resnet18", write(tmp_path / "saw_others", state, photos_of(learned, np.arange(3, 12))))
    rest = load_faces([tested], px=32).take(np.arange(12) < 3).identities
    assert check_starts([others], rest, STRICT).sentence == (
        "none of the tested photos or people is among the 9 photos that it was pretrained on, or near-identical to one "
        "of them"
    )


def test_a_checkpoint_without_hashes_says_that_only_bytes_were_compared(faces, state, tmp_path, capsys):
    crowd = load_faces([portraits(tmp_path / "crowd", dataset="crowd", px=90, quality=60)], px=32)
    old = photos_of(crowd, np.arange(3)).select(["person", "photo_sha256"])
    folder = Path(write(tmp_path / "old", state, photos_of(crowd, np.arange(3))))
    pq.write_table(old, folder / "photos.parquet")
    record = json.loads((folder / "trial.json").read_text())
    lines = "".join(
        f"{who}\0{sha}\0" for who, sha in zip(*(old[name].to_pylist() for name in old.column_names), strict=True)
    )
    record["about"]["content"]["photos"] = hashlib.sha256(lines.encode()).hexdigest()  # as it was before hashes
    (folder / "trial.json").write_text(json.dumps(record))
    told = check_starts([read_start("resnet18", str(folder))], faces.identities, STRICT)
    assert told.state == "apart"
    assert told.sentence.endswith("; only identical bytes could be compared")
    assert "only identical bytes could be compared, and a re-encoded or resized copy" in capsys.readouterr().out


def test_what_was_not_compared_is_not_claimed(faces, state, tmp_path):
    file = tmp_path / "somebodys.safetensors"
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, file)
    for start in (read_start("resnet18", str(file)), read_start("resnet18", write(tmp_path / "old", state, None))):
        told = check_starts([start], faces.identities, STRICT)
        assert told.state == "unknown"
        assert "not recorded" in told.sentence
    random = check_starts([read_start("resnet18", "random")], faces.identities, STRICT)
    assert random.state == "apart"
    assert worst([random, told]).state == "unknown"


def test_a_checkpoint_of_synthetic_faces_is_refused_for_real_ones_unless_asked_for(faces, state, tmp_path):
    photos = photos_of(faces, np.arange(1))
    start = read_start("resnet18", write(tmp_path / "synthetic", state, photos, datasets=("strangers",)))
    real = Identities(frozenset({"fgnet/001"}), frozenset({"x"}), frozenset({"fgnet"}))
    with pytest.raises(ValueError, match="synthetic faces .* and fgnet has real ones"):
        check_starts([start], real, STRICT)
    told = check_starts([start], real, Allowed(allow_synthetic=True))
    assert branded("LOPO", brand(learned_from=told)) == "LOPO [SYNTHETIC START]"
    drawn = Identities(frozenset({"people/001"}), frozenset({"x"}), frozenset({"people"}))
    assert check_starts([start], drawn, STRICT).state == "apart"


def test_a_network_of_one_coverage_is_refused_for_faces_of_another_unless_asked_for(faces, state, tmp_path):
    start = read_start("resnet18", write(tmp_path / "wide", state, NO_PHOTOS, coverage=1.65))
    assert ", coverage 1.65" in start.what
    with pytest.raises(ValueError, match="faces cut with --coverage 1.65, and these with 1: .* add --allow-coverage"):
        check_starts([start], faces.identities, STRICT)
    assert check_starts([start], faces.identities, Allowed(allow_coverage=True)).state == "apart"
    assert check_starts([start], replace(faces, coverage=1.65).identities, STRICT).state == "apart"
    assert check_starts([read_start("resnet18", "random")], replace(faces, coverage=1.65).identities, STRICT)


def test_networks_that_start_differently_are_named_in_one_sentence():
    one, other = (
        StartRecord(name, "w", "d", f"9 faces of utkface, from {start} weights, dev MAE {dev}")
        for name, start, dev in (("resnet18", "random", 6.1), ("efficientnet_lite0", "imagenet", 5.4))
    )
    assert unlike([one, replace(one, backbone="resnet34", what=one.what.replace("6.1", "7.2"))]) == ""
    told = unlike([one, other])
    assert "do not start alike" in told
    assert "resnet18: 9 faces of utkface, from random weights" in told


def test_a_checkpoint_whose_files_were_exchanged_is_refused(faces, state, tmp_path):
    photos = photos_of(faces, np.arange(3))
    folder = Path(write(tmp_path / "net", state, photos))
    loaded = load_checkpoint(folder)
    assert loaded.photos is not None
    assert loaded.photos.equals(photos)
    zeroed = {name: torch.zeros_like(value).contiguous() for name, value in state.items()}
    safetensors.torch.save_file(zeroed, folder / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors is not the file that trial.json"):
        load_checkpoint(folder)
    folder = Path(write(tmp_path / "net", state, photos))
    pq.write_table(photos.slice(1), folder / "photos.parquet")
    with pytest.raises(ValueError, match="photos.parquet is not the file"):
        load_checkpoint(folder)
    (folder / "photos.parquet").unlink()
    with pytest.raises(ValueError, match="photos.parquet is missing or damaged"):
        load_checkpoint(folder)


def test_weights_are_known_by_content_wherever_they_lie(state, tmp_path):
    file = tmp_path / "net.pth"
    torch.save(state, file)
    before = read_start("resnet18", str(file))
    assert before.digest == read_start("resnet18", write(tmp_path / "folder", state, None)).digest
    torch.save({**state, "network.fc.bias": state["network.fc.bias"] + 1}, file)
    after = read_start("resnet18", str(file))
    assert after.digest != before.digest
    plan = Plan("p", {}, "", True, (), None, chosen_with={("resnet18", str(file)): before.digest})
    plan.check_weights([before])
    with pytest.raises(ValueError, match="not those that the sweep's trials"):
        plan.check_weights([after])
    with pytest.raises(ValueError, match="replaced while"):
        read_tensors(before)
    with pytest.raises(ValueError, match="a checkpoint of resnet18, expected one of resnet34"):
        read_start("resnet34", str(tmp_path / "folder"))


def test_the_digest_of_tensors_sees_names_kinds_shapes_and_values():
    base = {"a": torch.arange(4.0), "b": torch.tensor(3)}
    changed = (
        {"a": torch.arange(4.0), "c": torch.tensor(3)},
        {"a": torch.arange(4), "b": torch.tensor(3)},
        {"a": torch.arange(4.0).reshape(2, 2), "b": torch.tensor(3)},
        {"a": torch.arange(4.0), "b": torch.tensor(4)},
    )
    assert len({tensors_digest(state) for state in (base, *changed)}) == 5
    picture = torch.rand(2, 3, 4, 5)
    assert tensors_digest({"a": picture}) == tensors_digest({"a": picture.to(memory_format=torch.channels_last)})


def test_photos_of_ancestors_are_kept(people, faces):
    assert read_identities([people]) == faces.identities
    old, new = photos_of(faces, np.array([0, 1])), photos_of(faces, np.array([1, 2]))
    both = merge_photos([old, new])
    assert sorted(both["photo_sha256"].to_pylist()) == sorted(map(str, faces.content[:3]))
    assert photos_digest(both) == photos_digest(merge_photos([new, old]))
    assert photos_digest(both) != photos_digest(old)


def test_another_environment_is_described_by_name():
    now = environment("cpu")
    assert differences(now, now) == ""
    assert differences({**now, "torch": "1.0"}, now) == f"torch 1.0 then, {now['torch']} now"
    assert json.loads(json.dumps(now)) == now


def test_any_changed_source_of_what_is_learned_is_another_code(monkeypatch, tmp_path):
    import shutil

    import trainables

    shutil.copytree(Path(trainables.__file__).parent, tmp_path / "trainables")
    monkeypatch.setattr(trainables, "__file__", str(tmp_path / "trainables" / "__init__.py"))

    def version() -> str:
        code_version.cache_clear()
        return code_version()

    try:
        known = {version()}
        for file in sorted((tmp_path / "trainables").rglob("*.py")):
            file.write_text(file.read_text() + "\n# changed\n")
            known.add(version())
        assert len(known) == 1 + len(list((tmp_path / "trainables").rglob("*.py")))
    finally:
        code_version.cache_clear()


def test_a_checkpoints_record_comes_back_and_another_is_one_line_that_names_file_and_field(state, tmp_path):
    folder = Path(write(tmp_path / "net", state, None, datasets=("fgnet",), dev_mae=6.5, made_from={"window": 4096}))
    about = load_checkpoint(folder).about
    assert (about.trained_on, about.datasets, about.dev_mae, about.made_from) == (
        "a test", ("fgnet",), 6.5, {"window": 4096},
    )  # fmt: skip
    assert about.described == "a test, dev MAE 6.50"
    written = json.loads((folder / "trial.json").read_text())
    for changes, said in (
        ({"dev_mae": "6.5"}, "about.dev_mae is the text '6.5', expected a number >= 0"),
        ({"datasets": "fgnet"}, "about.datasets is the text 'fgnet', expected a list that holds a text each time"),
        ({"content": 3}, "about.content is 3, expected an object"),
        ({"version": 2}, "about is of version 2, expected 1"),
        ({"dev_mea": 6.5}, "about has no field 'dev_mea'. Did you mean 'dev_mae'?"),
    ):
        (folder / "trial.json").write_text(json.dumps({**written, "about": written["about"] | changes}))
        with pytest.raises(ValueError, match=re.escape(f"{folder}/trial.json: {said}")) as error:
            load_checkpoint(folder)
        assert "\n" not in str(error.value)
    earlier = {name: value for name, value in written["about"].items() if name not in ("version", "made_from")}
    (folder / "trial.json").write_text(json.dumps({**written, "about": earlier}))
    assert load_checkpoint(folder).about.dev_mae == 6.5
