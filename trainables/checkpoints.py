"""A checkpoint is one folder: model.safetensors and trial.json. No pickle is ever loaded."""

from __future__ import annotations

import dataclasses
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
from trainables.fields import describe
from trainables.json_files import read_json
from trainables.weight_files import check_finite


@dataclass(frozen=True)
class Checkpoint:
    """A trained network: its tensors, the config that trained it, and what was measured on the way.

    about holds at least "trained_on" (one sentence), and "dev_mae" (years) where there was a dev set.
    """

    state: Mapping[str, Tensor]
    config: TrialConfig
    about: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder whole: under a temporary name first, so that a reader sees the old one or the new.

    Raises OSError where it cannot be written, and leaves nothing behind then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = folder.with_name(f".{folder.name}.new.{os.getpid()}"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(new, ignore_errors=True)
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
    check_finite(folder / "model.safetensors", state)
    return Checkpoint(state, config, about)


def read_trial(file: Path) -> tuple[TrialConfig, dict[str, Any]]:
    """The config in a trial.json, bare or with "about" beside it, as sweeps, checkpoints and people write it.

    Raises FileNotFoundError, or ValueError in one line that names the file and the field.
    """
    if not file.exists():
        raise FileNotFoundError(f'no trial at {file}: expected a JSON file such as {{"backbone": "efficientnet_b0"}}')
    record = read_json(file)
    try:
        if not isinstance(record, dict) or "trial" not in record:
            return TrialConfig.from_json(record), {}
        config, about = TrialConfig.from_json(record["trial"]), record.get("about", {})
        if not isinstance(about, dict):
            raise ValueError(f"about is {describe(about)}, expected an object")
        for stray in sorted(record.keys() & {field.name for field in dataclasses.fields(TrialConfig)}):
            raise ValueError(f'{stray!r} stands next to "trial", where nothing reads it: expected within "trial"')
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return config, about
