"""A checkpoint is one folder: model.safetensors, trial.json and photos.parquet. No pickle is ever loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from torch import Tensor

from trainables.config import TrialConfig, read_trial
from trainables.fields import Amount, Chance, Positive, Whole, describe, read_fields
from trainables.folders import old_name, standing
from trainables.provenance import photos_digest, read_photos, tensors_digest
from trainables.weight_files import check_finite

MODEL, TRIAL, PHOTOS_FILE = "model.safetensors", "trial.json", "photos.parquet"


RECORD_VERSION = 1


@dataclass(frozen=True)
class CheckpointRecord:
    """How a checkpoint was trained: "about" in its trial.json. What is empty or None is not known.

    trained_on: on what, in one sentence. fingerprint: the key of its pretraining, the hash of made_from. datasets and
    faces_digest: of the faces tables. dev_share of the faces were kept to measure on: dev_mae (years) on dev_faces of
    them after `epochs` epochs. environment: trainables.provenance.environment where it was begun. content: digests of
    model.safetensors ("tensors") and photos.parquet ("photos"). coverage: of the faces (study.align).
    """

    trained_on: str = ""
    fingerprint: str = ""
    made_from: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    faces_digest: str = ""
    dev_share: Chance | None = None
    dev_mae: Amount | None = None
    dev_faces: Whole | None = None
    epochs: Whole | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, str] = field(default_factory=dict)
    coverage: Positive = 1.0
    version: int = RECORD_VERSION

    @property
    def described(self) -> str:
        """What it learned from, with the faces' coverage where it is not 1, and the dev MAE where there is one."""
        cut = f", coverage {self.coverage:g}" if self.coverage != 1 else ""
        return self.trained_on + cut + (f", dev MAE {self.dev_mae:.2f}" if self.dev_mae is not None else "")

    def to_json(self) -> dict[str, Any]:
        """The record for trial.json, without what is not known; from_json gives the same back."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in values.items() if value not in ("", None, [], {})}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> CheckpointRecord:
        """What to_json wrote, also in an earlier version. Raises ValueError with the field that is wrong, or where it
        is of a later version."""
        if record.get("version", RECORD_VERSION) != RECORD_VERSION:
            raise ValueError(f"about is of version {describe(record['version'])}, expected {RECORD_VERSION}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return read_fields(cls, values, what="about", of="about.", elsewhere={})


@dataclass(frozen=True)
class Checkpoint:
    """A trained network: its tensors, the config that trained it, and how.

    photos: all that it and what it started from learned from (trainables.provenance); None where nobody knows.
    """

    state: Mapping[str, Tensor]
    config: TrialConfig
    about: CheckpointRecord = CheckpointRecord()
    photos: pa.Table | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder under a temporary name, then rename it: a reader sees the old checkpoint or the new one, also
    after a kill at any moment (folders.standing). One process at a time.

    Raises OSError where it cannot be written; no partial folder is left then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = folder.with_name(f".{folder.name}.new.{os.getpid()}"), old_name(folder)
    for left in folder.parent.glob(f".{folder.name}.new.*"):  # left by a command that was killed
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    # safetensors refuses channels_last weights
    state = {name: value.detach().cpu().contiguous() for name, value in checkpoint.state.items()}
    content = {"tensors": tensors_digest(state)}
    if checkpoint.photos is not None:
        content["photos"] = photos_digest(checkpoint.photos)
    about = dataclasses.replace(checkpoint.about, content=content)
    record = {"trial": checkpoint.config.to_json(), "about": about.to_json()}
    try:
        safetensors.torch.save_file(state, new / MODEL)
        if checkpoint.photos is not None:
            pq.write_table(checkpoint.photos, new / PHOTOS_FILE, compression="zstd")
        (new / TRIAL).write_text(json.dumps(record, indent=2) + "\n")
    except (safetensors.SafetensorError, OSError) as error:  # most likely a full disk: free the space again
        shutil.rmtree(new, ignore_errors=True)
        raise OSError(f"the checkpoint {folder} cannot be written: {error}") from error
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises FileNotFoundError or ValueError that says what was expected.

    Tensors and photos are compared with the digests in trial.json, so a file that was replaced is refused.
    """
    place = standing(folder)
    before = _inode(place)
    try:
        found = _load(place)
    except (FileNotFoundError, ValueError):
        if _inode(place) == before:
            raise
        return load_checkpoint(folder)
    # if the folder was replaced meanwhile, the tensors and the record may belong to two trainings: read again
    return found if _inode(place) == before else load_checkpoint(folder)


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _load(folder: Path) -> Checkpoint:
    for name in (MODEL, TRIAL):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no checkpoint at {folder}: expected {name} in it; make one with: python -m study.pretrain --help"
            )
    config, record = read_trial(folder / TRIAL)
    try:
        about = CheckpointRecord.from_json(record)
    except ValueError as error:
        raise ValueError(f"{folder / TRIAL}: {error}; pretrain again") from None
    try:
        state = safetensors.torch.load_file(folder / MODEL)
    except Exception as error:  # safetensors raises many types of error
        raise ValueError(f"{folder / MODEL} is damaged ({error}); pretrain again or copy it again") from error
    tensors, seen = about.content.get("tensors"), about.content.get("photos")
    _compare(folder / MODEL, tensors_digest(state) if tensors else None, tensors)
    photos = _read_photos(folder / PHOTOS_FILE) if seen else None
    _compare(folder / PHOTOS_FILE, photos_digest(photos) if photos is not None else None, seen)
    check_finite(folder / MODEL, state)
    return Checkpoint(state, config, about, photos)


def _read_photos(file: Path) -> pa.Table:
    try:
        return read_photos(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(
            f"{file} is missing or damaged ({error}): it lists the photos that the checkpoint was trained on; pretrain "
            "again or copy the whole folder again"
        ) from error


def _compare(file: Path, found: str | None, expected: str | None) -> None:
    if found != expected:
        raise ValueError(
            f"{file} is not the file that {TRIAL} next to it describes: one of them was replaced or edited; pretrain "
            "again or copy the whole folder again"
        )
