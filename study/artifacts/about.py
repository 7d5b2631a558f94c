"""What predictions are about: the records in the metadata of a LOPO result's and of a fold's predictions.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from study.artifacts.brands import brand
from study.artifacts.choice import AppliedChoice
from study.artifacts.pretraining import Beside, LearnedFrom, StartRecord
from study.artifacts.records import check_scalar, check_version, plain_json, read_record

VERSION = 1


@dataclass(frozen=True)
class _Shown:
    """What every version's config has, and the report shows."""

    backbone: str
    loss: Mapping[str, Annotated[Any, check_scalar]] = field(default_factory=dict)


def _check_shown(config: Mapping[str, Any]) -> None:
    read_record(_Shown, config, where="is not a config")


Recorded = Annotated[Mapping[str, Any], _check_shown]
"""A config as JSON, perhaps of another version: it is shown, not run."""


@dataclass(frozen=True)
class Pretraining:
    """What the networks had learned from, in words; unlike: how the starts of a sweep's networks differed."""

    what: str = "not recorded"
    unlike: str = ""


@dataclass(frozen=True)
class About:
    """A LOPO result. Fields with a default are missing in records of earlier versions.

    trial, trials: the config of the first person, and every config (one per block of people after a sealed sweep).
    selection: one sentence on how they were chosen; sealed: no tested person had a part in it; choice: what the sweep
    recorded of it. photos and people: how many were tested. schedule: plain or tree. built_in: synthetic people.
    members: of a mean of several results (study.lopo --average), their keys. beside: the configs' companions.
    """

    dataset: str
    faces_digest: str
    trial: Recorded
    trials: tuple[Recorded, ...] = ()
    name: str = ""
    key: str = ""
    faces: tuple[str, ...] = ()
    photos: int = 0
    people: int = 0
    selection: str = "not recorded"
    sealed: bool = True
    choice: AppliedChoice | None = None
    pretraining: Pretraining = field(default_factory=Pretraining)
    starts: tuple[StartRecord, ...] = ()
    learned_from: LearnedFrom | None = None
    seeds: tuple[int, ...] = (0,)
    schedule: str = "plain"
    epochs_by: str = ""
    built_in: bool = False
    code: str = ""
    environments: tuple[Mapping[str, Any], ...] = ()
    members: tuple[str, ...] = ()
    beside: Beside = field(default_factory=Beside)
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """The record as JSON; from_json gives the same back."""
        record = plain_json(self)
        return {**record, "choice": record["choice"] or {}}

    @classmethod
    def from_json(cls, record: object, *, where: str) -> About:
        """What to_json wrote. Raises ValueError, in one line that names `where` and the field, for anything else."""
        check_version(record, VERSION, where=where, command="study.lopo")
        if isinstance(record, Mapping) and record.get("choice") == {}:  # nothing was chosen
            record = {**record, "choice": None}
        return read_record(cls, record, where=where)

    @property
    def configs(self) -> tuple[Mapping[str, Any], ...]:
        """Every config that people were tested with."""
        return self.trials or (self.trial,)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The networks of the configs, each once."""
        return tuple(dict.fromkeys(config["backbone"] for config in self.configs))

    @property
    def losses(self) -> tuple[Mapping[str, Any], ...]:
        """The losses of the configs."""
        return tuple(config.get("loss", {}) for config in self.configs)

    @property
    def between(self) -> str:
        """Between values of several configs: one of them answers for each person, or all answer together."""
        return " and " if self.members else " or "

    def setting(self, name: str) -> str:
        """A value of the config for people to read; of several configs, "64 or 96"."""
        return self.between.join(dict.fromkeys(str(config.get(name, "–")) for config in self.configs))

    @property
    def learning(self) -> str:
        """What the networks learned from besides the tested data set, in words."""
        beside = self.beside.sentence(self.setting("companions"))
        learned = self.learned_from.sentence if self.learned_from else ""
        return "; ".join(part for part in (self.pretraining.what, beside, learned) if part)

    @property
    def decoder(self) -> str:
        """How a distribution over ages became one age; "expectation or median" where the configs differ."""
        return self.between.join(dict.fromkeys(str(config.get("decoder", "expectation")) for config in self.configs))

    @property
    def brand(self) -> str:
        """The words that must stand next to the result wherever it appears (study.artifacts.brands)."""
        return brand(sealed=self.sealed, learned_from=self.learned_from)


@dataclass(frozen=True)
class FoldRecord:
    """One fold: its config, its training's curve by epoch, how long it took, and where it was computed."""

    trial: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all({"epoch", "train_loss"} <= epoch.keys() for epoch in self.history):
            raise ValueError("history has an epoch without its number or its train_loss")

    def to_json(self) -> dict[str, Any]:
        """The record as JSON; from_json gives the same back."""
        return plain_json(self)

    @classmethod
    def from_json(cls, record: object, *, where: str) -> FoldRecord:
        """What to_json wrote. Raises ValueError, in one line that names `where` and the field, for anything else."""
        return read_record(cls, record, where=where)
