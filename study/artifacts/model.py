"""model.json: what a model folder says of itself. Read without torch, so that a photo's age is there at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.artifacts.aligned import Recipe
from study.artifacts.records import check_version, plain_json, read_record
from study.files.storage import write_json

FILE, ONNX, CARD = "model.json", "model.onnx", "README.md"
VERSION = 1

CARD_ATTRIBUTES = ("sex", "group")
"""What a model card tells errors by, where the data names it."""


@dataclass(frozen=True)
class DecadeError:
    """Ages low to high: how many photos and people, MAE and bias (years; above 0: judged too old), and the share of
    true ages within the 80 and 95 % intervals."""

    low: int
    high: int
    photos: int
    people: int
    mae: float
    bias: float
    covered_80: float
    covered_95: float


@dataclass(frozen=True)
class SubgroupError:
    """Photos of one sex or group: how many, of how many people, MAE with its 95 % interval over people (None with too
    few of them), and bias, in years."""

    attribute: str
    name: str
    photos: int
    people: int
    mae: float
    mae_low: float | None
    mae_high: float | None
    bias: float


@dataclass(frozen=True)
class IntervalScale:
    """The interval of a level is age ± factor · spread (study.statistics.intervals).

    factor: None where too few people were measured: then the interval is all ages. covered: what share of true ages it
    contained, cross-validated over people, with an interval over people. width: mean, years.
    """

    level: float
    factor: float | None
    covered: float
    covered_low: float
    covered_high: float
    width: float


@dataclass(frozen=True)
class Measured:
    """The error to expect, from a LOPO result of the same configs on the same faces: MAE in years, the mean over people
    with its 95 % interval over people, and pooled over photos.

    result: the LOPO's key. seeds: of its trainings; committee: whether the error is that of their averaged predictions.
    brand: words that must stand next to the error. groups: by sex and group, as far as the data names two of either.
    untuned: the error is of a checkpoint as it is, on faces that its training left out, and result a key of those.
    strangers: photos of which nobody knows who it is; each counts as a person of its own.
    """

    result: str
    people: int
    photos: int
    seeds: int
    committee: bool
    mae: float
    mae_low: float
    mae_high: float
    mae_pooled: float
    decades: tuple[DecadeError, ...]
    scales: tuple[IntervalScale, ...]
    brand: str = ""
    groups: tuple[SubgroupError, ...] = ()
    untuned: bool = False
    strangers: int = 0


@dataclass(frozen=True)
class Candidate:
    """A block's winner, as it was compared for the model: its MAE corrected for choosing (or as claimed, if not all
    could be corrected), the MAE of a constant guess on the same people, and their ratio."""

    block: str
    trial: int
    backbone: str
    mae: float
    constant: float
    ratio: float


@dataclass(frozen=True)
class Chosen:
    """How the config was chosen: in words, from which sweep, and among which winners."""

    rule: str
    sweep: str = ""
    block: str = ""
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class ModelRecord:
    """A model to use.

    training: the key of its trainings; content: of all that decides this folder. files: SHA-256 by name. trial: its
    config as JSON. px: side of a face in pixels; ages: number of age classes; seeds: one training each, averaged.
    alignment: how faces are cut. faces_digest, datasets, photos, people, youngest, oldest: what it was trained on.
    pretraining: what the network had learned before, in words. synthetic: trained on synthetic people. measured: None
    where no LOPO result exists. untuned: a checkpoint of study.pretrain as it is. code: digests of the source code by
    package. onnx_difference: the largest difference (years) between the ages of model.onnx and of the trained network
    when it was made, on onnx_faces faces.
    """

    name: str
    training: str
    content: str
    files: Mapping[str, str]
    trial: Mapping[str, Any]
    px: int
    ages: int
    decoder: str
    seeds: tuple[int, ...]
    alignment: Recipe
    datasets: tuple[str, ...]
    faces_digest: str
    photos: int
    people: int
    youngest: int
    oldest: int
    pretraining: str
    synthetic: bool
    chosen: Chosen
    measured: Measured | None
    code: Mapping[str, str]
    environment: Mapping[str, str]
    onnx_difference: float
    onnx_faces: int
    made: str = ""
    brand: str = ""
    untuned: bool = False
    version: int = field(default=VERSION)

    @property
    def backbone(self) -> str:
        """The network's name."""
        return str(self.trial["backbone"])

    @property
    def error(self) -> str:
        """The error to expect, in words."""
        if self.measured is None:
            return "error not measured (no LOPO result of this config)"
        found = self.measured
        brand = f" [{found.brand}]" if found.brand else ""
        who = f"{found.photos:,} photos" if found.strangers else f"{found.people} people"
        return f"expected MAE {found.mae:.2f} years (95 % {found.mae_low:.2f} to {found.mae_high:.2f}, {who}){brand}"

    def write(self, folder: Path) -> None:
        """Write model.json."""
        write_json(folder / FILE, plain_json(self))

    @classmethod
    def parse(cls, text: bytes, *, where: str) -> ModelRecord:
        """What write() wrote. Raises ValueError, in one line that names `where` and the field, for anything else."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not JSON: copy the model folder again, or run study.refit again") from error
        check_version(record, VERSION, where=where, command="study.refit")
        return read_record(cls, record, where=where)

    @classmethod
    def read(cls, folder: Path) -> ModelRecord:
        """The record of a model folder. Raises FileNotFoundError, or ValueError as parse() does."""
        file = folder / FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"no model at {folder}: expected {FILE} in it; make one with: python -m study.refit --best"
            )
        return cls.parse(file.read_bytes(), where=str(file))


def sha256(data: bytes) -> str:
    """The SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
