"""best.json: what a sweep hands to LOPO, a winner for each block of people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.artifacts.records import check_best
from study.files.seals import seal, unseal
from trainables.config import TrialConfig

VERSION = 1


@dataclass(frozen=True)
class BlockWinner:
    """What a block chose for `people` (none: for everyone): a trial's config as JSON, its number in the journal, and
    its MAE (years), the mean over `seeds`."""

    name: str
    people: tuple[str, ...]
    trial: Mapping[str, Any]
    number: int
    mae: float = float("nan")
    seeds: int = 1

    @property
    def config(self) -> TrialConfig:
        return TrialConfig.from_json(self.trial)


@dataclass(frozen=True)
class Best:
    """A finished sweep.

    faces: the tables of the tested people, faces_digest theirs (None: the choice read none of their labels). sealed: no
    tested person had a say in the config that they are tested with. starts: study.starts.Start.record of each network;
    learned_from: what study.starts.check_starts said of them; unlike: how they differ. apart_from: tables that the
    choice was made on, in which no tested photo may lie. choice: how far it can be trusted (study.sweep.optimism).
    """

    sweep: str
    select: str
    sealed: bool
    faces: tuple[str, ...]
    faces_digest: str | None
    apart_from: tuple[str, ...]
    starts: tuple[Mapping[str, str], ...]
    learned_from: Mapping[str, Any]
    unlike: str
    choice: Mapping[str, Any]
    blocks: tuple[BlockWinner, ...]
    key: str = ""
    space: str = ""
    trials: int = 0
    built_in: bool = False
    version: int = field(default=VERSION)

    def to_json(self) -> dict[str, Any]:
        """The record with the digest of its content; from_json gives the same back."""
        return seal(_plain(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, record: Any, *, where: str) -> Best:
        """What to_json wrote. Raises ValueError, naming `where` and the field, for anything else, an edited record and
        one of another version."""
        told = check_best(unseal(record, where=where), where)
        if told.get("version", VERSION) != VERSION:
            raise ValueError(f"{where} is of version {told['version']}, expected {VERSION}: run study.sweep again")
        known = {each.name for each in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in told.items() if name in known
        }
        inner = {each.name for each in dataclasses.fields(BlockWinner)}
        blocks = [{name: value for name, value in block.items() if name in inner} for block in told["blocks"]]
        values["blocks"] = tuple(BlockWinner(**{**block, "people": tuple(block["people"])}) for block in blocks)
        return cls(**values)


def _plain(value: Any) -> Any:
    """With lists in the place of tuples, as JSON gives them back: a digest must not tell them apart."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
