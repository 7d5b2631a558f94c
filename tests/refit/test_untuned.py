"""A pretrained network as a model, as it is: its own weights, and its error on what it did not learn from."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from study.artifacts.model import CARD, ModelRecord
from study.cli.options import Training
from study.refit.command import refit
from study.refit.options import Refit
from tests.model.models import CONFIG, RECIPE
from trainables.checkpoints import Checkpoint, CheckpointRecord, load_checkpoint, save_checkpoint
from trainables.faces.table import ALIGNMENT_KEY, load_faces
from trainables.fitting import build_net, decode, predict
from trainables.provenance import photos_of

LEARNED = 80


@pytest.fixture
def place(tmp_path, make_table, monkeypatch) -> Path:
    """A table of 30 nameless people, and a network that learned from the first 80 of its 120 photos."""
    monkeypatch.chdir(tmp_path)
    file = make_table(tmp_path / "faces", people=30, photos=4, named=False) / "faces" / "00000.parquet"
    rows = pq.read_table(file)
    pq.write_table(rows.replace_schema_metadata({ALIGNMENT_KEY: json.dumps(asdict(RECIPE)).encode()}), file)
    save(tmp_path / "net", np.arange(LEARNED))
    return tmp_path


def save(folder: Path, learned: np.ndarray) -> None:
    torch.manual_seed(0)
    photos = photos_of(load_faces([folder.parent / "faces"], px=32), learned)
    about = CheckpointRecord(trained_on="80 faces of drawn people", datasets=("drawn",))
    save_checkpoint(folder, Checkpoint(build_net(CONFIG).state_dict(), CONFIG, about, photos))


def options(place: Path, **changes) -> Refit:
    given = Refit(checkpoint=place / "net", faces=(place / "faces",), out=place / "models", register=False)
    return replace(given, **changes)


@pytest.mark.slow
def test_it_has_the_checkpoints_weights_and_its_error_on_what_that_left_out(place, capsys):
    assert refit(options(place)) == 0
    assert "nothing is trained" in capsys.readouterr().out
    (folder,) = (place / "models").glob("[!.]*")
    record, net = ModelRecord.read(folder), load_checkpoint(place / "net")
    found = load_checkpoint(folder)
    assert all(torch.equal(found.state[name], value) for name, value in net.state.items())
    assert found.photos is not None
    assert net.photos is not None
    assert set(found.photos["photo_sha256"].to_pylist()) == set(net.photos["photo_sha256"].to_pylist())
    assert found.about.trained_on == net.about.trained_on
    faces = load_faces([place / "faces"], px=32)
    unseen = np.arange(LEARNED, len(faces))
    torch.manual_seed(CONFIG.seed)
    years = decode(predict(CONFIG, build_net(CONFIG, net.state), faces, unseen), CONFIG)
    assert record.untuned
    assert record.measured is not None
    assert record.measured.mae == pytest.approx(np.abs(years - faces.age[unseen]).mean(), rel=1e-5)
    assert (record.measured.photos, record.measured.strangers, record.photos) == (40, 40, LEARNED)
    assert (record.youngest, record.oldest) == (faces.age[:LEARNED].min(), faces.age[:LEARNED].max())
    card = (folder / CARD).read_text()
    assert "not fine-tuned: 80 faces of drawn people" in card
    assert "on photos that its training left out" in card
    assert "Who is on 40 of them is not known" in card
    assert "leaving one person out" not in card
    assert refit(options(place)) == 0
    assert "Nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_tables_without_all_that_it_learned_from_are_refused(place, make_table):
    make_table(place / "other", dataset="utkface", named=False)
    with pytest.raises(ValueError, match="80 of the 80 photos that .*net learned from are not in .*other: give all"):
        refit(options(place, faces=(place / "other",)))
    file = place / "faces" / "faces" / "00000.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(ValueError, match="1 of the 80 photos"):
        refit(options(place))


@pytest.mark.slow
def test_a_network_that_left_nothing_out_has_no_error_to_tell(place):
    save(place / "all", np.arange(120))
    with pytest.raises(ValueError, match="learned from all 120 of these faces: none is left"):
        refit(options(place, checkpoint=place / "all"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"faces": ()}, "--checkpoint needs --faces"),
        ({"best": True}, "--best has no effect with --checkpoint"),
        ({"seeds": 2}, "--seeds has no effect with --checkpoint"),
        ({"weights": "imagenet"}, "--weights has no effect with --checkpoint"),
        ({"training": Training(epochs=3)}, "without options of a training"),
    ],
)
def test_it_takes_no_option_of_a_training(changes, words):
    with pytest.raises(ValueError, match=words):
        options(Path("nowhere"), **changes).refuse_conflicts()
