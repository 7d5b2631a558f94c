"""best.json: what a sweep passes to LOPO, a winner for each block of people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from study.artifacts.choice import Choice, Select
from study.artifacts.pretraining import Beside, LearnedFrom, StartRecord
from study.artifacts.records import check_config, check_version, plain_json, read_record
from study.files.seals import seal, unseal
from trainables.config import TrialConfig

VERSION = 1


@dataclass(frozen=True)
class BlockWinner:
    """A block's winner, used for `people` (none: for everyone): a trial's config as JSON, its number in the journal,
    and its MAE (years), the mean over `seeds`."""

    name: str
    people: tuple[str, ...]
    trial: Annotated[Mapping[str, Any], check_config]
    number: int
    mae: float = float("nan")
    seeds: int = 1

    @property
    def config(self) -> TrialConfig:
        return TrialConfig.from_json(self.trial)


@dataclass(frozen=True)
class Best:
    """A finished sweep.

    faces: the tables of the tested people; faces_digest: theirs (None: the choice used none of their labels).
    sealed: no tested person had a part in choosing the config that they are tested with. starts: of each network;
    unlike: how they differ. apart_from: tables that the choice was made on; no tested photo may be in them. choice: how
    far it can be trusted. beside: the companions that its trials could take.
    """

    sweep: str
    select: Select
    sealed: bool
    faces: tuple[str, ...]
    faces_digest: str | None
    apart_from: tuple[str, ...]
    starts: tuple[StartRecord, ...]
    learned_from: LearnedFrom
    unlike: str
    choice: Choice
    blocks: tuple[BlockWinner, ...]
    key: str = ""
    space: str = ""
    trials: int = 0
    built_in: bool = False
    beside: Beside = field(default_factory=Beside)
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.sealed and self.select == "none":
            raise ValueError("sealed is true, expected false if select is none")
        if not self.blocks:
            raise ValueError("blocks is empty, expected one or more")
        names = [block.name for block in self.blocks]
        if unknown := [each.block for each in self.choice.blocks if each.block not in names]:
            raise ValueError(f"choice.blocks has {unknown[0]!r}, expected one of {names}")

    def to_json(self) -> dict[str, Any]:
        """The record with the digest of its content; from_json gives the same back."""
        return seal(plain_json(self))

    @classmethod
    def from_json(cls, record: Any, *, where: str) -> Best:
        """What to_json wrote. Raises ValueError, in one line that names `where` and the field, for anything else, an
        edited record and one of another version."""
        record = unseal(record, where=where)
        check_version(record, VERSION, where=where, command="study.sweep")
        if "blocks" in record and "starts" not in record:
            raise ValueError(f"{where} is of an earlier version, without its weights' record: run study.sweep again")
        return read_record(cls, record, where=where)
