"""Weights that other programs saved are read; any other file is a one-line error that names its kind."""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from trainables.backbones import BACKBONES, age_net
from trainables.checkpoints import Checkpoint, CheckpointRecord, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig
from trainables.weight_files import WRAPPERS, read_tensors

pytestmark = pytest.mark.slow  # builds many networks

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(1)
    return timm.create_model("resnet18", num_classes=7).state_dict()


def under(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}.{name}": value for name, value in state.items()}


class Foreign:
    """A class of another program: importing it would run that program."""


SAVED: dict[str, Callable[[State], Any]] = {
    "plain": dict,
    "DDP": under("module"),
    "torch.compile": under("_orig_mod"),
    "both": under("module._orig_mod"),
    "both the other way": under("_orig_mod.module"),
    "Lightning": lambda s: {
        "state_dict": under("model")(s) | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"where": pathlib.PurePosixPath("/x"), "rate": np.float64(0.1), "more": Foreign()},
    },
    "averaged (SWA)": lambda s: under("module")(s) | {"n_averaged": torch.tensor(3)},
    "with argparse": lambda s: {"state_dict": s, "args": argparse.Namespace(rate=0.1), "epoch": 3},
    "with its optimiser": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "two deep": lambda s: {"model": {"state_dict": under("net")(s)}, "epoch": 1},
    "any key": lambda s: {"whatever": s},
    "with a number next to it": lambda s: s | {"epoch": 3},
}


@pytest.mark.parametrize("how", SAVED)
@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
def test_what_other_programs_save_is_the_network_that_they_saved(state, tmp_path, how, zipped):
    if not zipped and how == "Lightning":
        pytest.skip("torch lists the names only in its new format")
    file = tmp_path / "weights.pth.tar"
    torch.save(SAVED[how](state), file, _use_new_zipfile_serialization=zipped)
    net = age_net("resnet18", weights=str(file), px=32)
    body = {name: value for name, value in state.items() if not name.startswith("fc")}
    found = net.state_dict()
    assert all(torch.equal(found[f"network.{name}"], value) for name, value in body.items())
    assert found["network.fc.weight"].shape == (101, 512), "a head of another size stays fresh"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_precisions_give_their_values_in_float32(state, tmp_path, dtype):
    file = tmp_path / "weights.pth"
    torch.save({name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}, file)
    read = read_tensors(file)
    assert read["conv1.weight"].dtype == torch.float32
    assert torch.equal(read["conv1.weight"], state["conv1.weight"].to(dtype).float())
    assert read["conv1.weight"].numpy().shape == (64, 3, 7, 7)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "weights.pth"])
def test_a_file_is_recognised_by_content_not_by_name(state, tmp_path, name):
    safetensors.torch.save_file(state, tmp_path / name)
    assert read_tensors(tmp_path / name).keys() == state.keys()
    torch.save(state, tmp_path / name)
    assert read_tensors(tmp_path / name).keys() == state.keys()


def type_of(name: str) -> str:
    return re.sub(r"(_(b|s|m|tiny|small|base))?\d*$", "", name)


def test_no_network_of_the_study_has_a_module_named_like_a_wrapper():
    families = {type_of(name): name for name in sorted(BACKBONES, reverse=True)}  # one of each family
    for name in families.values():
        with torch.device("meta"):
            net = age_net(name, px=BACKBONES[name].px)
        assert not {key.split(".")[1] for key in net.state_dict()} & set(WRAPPERS), name


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def zip_of(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "x")
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (bytes(5000), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>Sign in", "a web page"),
        (b"\n  <html lang='en'>", "a web page"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        (b"\x1f\x8b\x08rest", "a gzip archive"),
        (zip_of("readme.txt"), "without weights in it"),
        (zip_of("net/constants.pkl"), "a TorchScript archive"),
        (b"PK\x03\x04 and no more", "not a readable weights file"),
        (b"\x80\x02 no pickle", "not a readable weights file"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_another_file_is_an_error_that_names_its_kind(tmp_path, content, said, name):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_tensors(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (lambda s: {"a": s, "b": s}, "several networks, under 'a', 'b'"),
        (lambda s: {"state_dict": s, "ema": {"module": s}}, "several networks, under 'state_dict', 'ema.module'"),
        (lambda s: {"optimizer": {"state": {}}, "epoch": 1}, "a record of optimizer, epoch and no state dict"),
        (lambda s: [1, 2], "a list and no state dict"),
        (lambda s: torch.ones(3), "a Tensor and no state dict"),
        (lambda s: timm.create_model("resnet18"), "a whole Python object and no state dict"),
        (lambda s: s | {"bn1.weight": s["bn1.weight"] * float("nan")}, "not finite, in 'bn1.weight'"),
        (lambda s: s | {"bn1.weight": s["bn1.weight"] / 0}, "not finite, in 'bn1.weight'"),
    ],
    ids=range(8),
)
def test_a_record_without_exactly_one_valid_network_is_an_error(state, tmp_path, record, said):
    file = tmp_path / "w.pth"
    torch.save(record(state), file)
    with pytest.raises(ValueError, match=said) as error:
        read_tensors(file)
    assert "\n" not in str(error.value)


def test_what_a_file_names_next_to_its_tensors_is_never_called(state, tmp_path):
    file, mark = tmp_path / "w.pth", tmp_path / "ran"
    torch.save({"state_dict": state, "args": Evil(mark)}, file)
    with pytest.raises(ValueError, match="not a readable weights file"):
        read_tensors(file)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_truncated_file_is_an_error(state, tmp_path, share, name):
    file = tmp_path / name
    safetensors.torch.save_file(state, file) if name.endswith("safetensors") else torch.save(state, file)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="not a readable weights file") as error:
        read_tensors(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("theirs", ["resnet34"])
def test_weights_of_another_network_are_an_error_that_names_it(tmp_path, theirs):
    file = tmp_path / "w.pth"
    torch.save(age_net(theirs, ages=3, px=64).network.state_dict(), file)
    with pytest.raises(ValueError, match=f"made for another backbone: {theirs}$"):
        age_net("resnet18", weights=str(file), px=64)


def test_a_checkpoint_that_is_not_finite_is_refused(state, tmp_path):
    wrong = {f"network.{name}": value for name, value in state.items()}
    wrong["network.bn1.weight"] = wrong["network.bn1.weight"] * float("nan")
    save_checkpoint(tmp_path / "one", Checkpoint(wrong, TrialConfig(backbone="resnet18"), CheckpointRecord("nothing")))
    with pytest.raises(ValueError, match="not finite"):
        load_checkpoint(tmp_path / "one")
