"""A checkpoint is one folder: model.safetensors and trial.json. No pickle is ever loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.folders import old_name, standing


@dataclass(frozen=True)
class Checkpoint:
    """A trained network: its tensors, the config that trained it, and what was measured on the way.

    about holds at least "trained_on" (one sentence), and "dev_mae" (years) where there was a dev set.
    """

    state: Mapping[str, Tensor]
    config: TrialConfig
    about: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder whole: under a temporary name first, so that a reader sees the old one or the new, also after a
    kill at any moment (folders.standing). One process at a time.

    Raises OSError where it cannot be written, and leaves nothing behind then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = folder.with_name(f".{folder.name}.new.{os.getpid()}"), old_name(folder)
    for left in folder.parent.glob(f".{folder.name}.new.*"):  # by a command that was killed
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    # contiguous: channels_last weights would be refused
    state = {name: value.detach().cpu().contiguous() for name, value in checkpoint.state.items()}
    record = {"trial": checkpoint.config.to_json(), "about": dict(checkpoint.about)}
    try:
        safetensors.torch.save_file(state, new / "model.safetensors")
        (new / "trial.json").write_text(json.dumps(record, indent=2) + "\n")
    except (safetensors.SafetensorError, OSError) as error:  # a full disk, most likely: what is there takes room
        shutil.rmtree(new, ignore_errors=True)
        raise OSError(f"the checkpoint {folder} cannot be written: {error}") from error
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises FileNotFoundError or ValueError with what was expected."""
    place = standing(folder)
    before = _inode(place)
    try:
        found = _load(place)
    except (FileNotFoundError, ValueError):
        if _inode(place) == before:
            raise
        return load_checkpoint(folder)
    # one that was replaced meanwhile may be the tensors of one training with the record of another
    return found if _inode(place) == before else load_checkpoint(folder)


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _load(folder: Path) -> Checkpoint:
    for name in ("model.safetensors", "trial.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no checkpoint at {folder}: expected {name} in it; make one with: python -m study.pretrain --help"
            )
    config, about = read_trial(folder / "trial.json")
    try:
        state = safetensors.torch.load_file(folder / "model.safetensors")
    except Exception as error:  # safetensors raises its own kind for each sort of damage
        raise ValueError(
            f"{folder / 'model.safetensors'} is damaged ({error}); pretrain again or copy it again"
        ) from error
    return Checkpoint(state, config, about)


def read_trial(file: Path) -> tuple[TrialConfig, dict[str, Any]]:
    """The config in a trial.json, bare or with "about" beside it, as sweeps, checkpoints and people write it."""
    if not file.is_file():
        raise FileNotFoundError(f'no trial at {file}: expected a JSON file such as {{"backbone": "efficientnet_b0"}}')
    try:
        record = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{file} holds no trial: expected a JSON object of TrialConfig's fields")
    if "trial" in record:
        return TrialConfig.from_json(record["trial"]), dict(record.get("about", {}))
    return TrialConfig.from_json(record), {}
