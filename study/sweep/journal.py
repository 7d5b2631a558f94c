"""A sweep's journal: one JSON file for each finished trial, and one for each finished fold of a trial that goes on.

The files are the truth. A killed sweep reads them and goes on; nothing is unpickled. Pure but for the files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from study.files.seals import DIGEST, seal, unseal
from study.files.storage import write_whole
from study.sweep.checks import check_predicted, check_record
from study.sweep.years import years
from trainables.config import TrialConfig
from trainables.faces.table import Faces


@dataclass(frozen=True)
class Tried:
    """One finished trial. mae in years over the photos tested; people: each person's MAE; seconds in its processes.

    decoded: each person's MAE for every decoder of the same distributions. halfway: MAE of the first fold's people
    after half of its epochs; a trial pruned there has no people yet. parameters and macs (multiply-adds) are counted;
    latency_ms: a face's, alone, on the trial's device. repeat s > 0: a finalist again, with the config's seed + s.
    """

    number: int
    state: str
    trial: Mapping[str, Any]
    params: Mapping[str, Any]
    mae: float | None
    people: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)  # row of the faces table: years
    folds: Mapping[str, float] = field(default_factory=dict)  # fold: MAE of all folds so far
    seconds: float = 0.0
    why: str = ""
    parameters: int = 0
    macs: int = 0
    latency_ms: float = 0.0
    repeat: int = 0
    halfway: Mapping[str, float] = field(default_factory=dict)
    decoded: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _keep_small(self)

    @property
    def config(self) -> TrialConfig:
        return TrialConfig.from_json(self.trial)


@dataclass(frozen=True)
class Part:
    """One finished fold of a trial, with the fields of Tried for that fold alone.

    state "pruned": it ended halfway, and mae is that moment's.
    """

    number: int
    repeat: int
    fold: int
    state: str
    trial: Mapping[str, Any]
    mae: float | None
    people: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    halfway: Mapping[str, float] = field(default_factory=dict)
    decoded: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    why: str = ""
    latency_ms: float = 0.0

    def __post_init__(self) -> None:
        _keep_small(self)

    @property
    def config(self) -> TrialConfig:
        return TrialConfig.from_json(self.trial)


def _keep_small(record: Tried | Part) -> None:
    """Replace what a record holds for each person and row by study.sweep.years.Years, which equal the same dicts."""
    for name in ("people", "predicted", "halfway"):
        object.__setattr__(record, name, years(getattr(record, name)))
    object.__setattr__(record, "decoded", {name: years(each) for name, each in record.decoded.items()})


def to_json(record: Tried | Part) -> dict[str, Any]:
    """The record as JSON's values."""
    found = {each.name: getattr(record, each.name) for each in fields(record)}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}
    return {**plain, "decoded": {name: dict(each) for name, each in record.decoded.items()}}


def finals_folder(block: Path) -> Path:
    """Where a block's journal keeps its finalists' further seeds."""
    return block / "finals"


def parts_folder(block: Path) -> Path:
    """Where a block's journal keeps the folds of trials that are not finished."""
    return block / "folds"


def write_tried(block: Path, tried: Tried) -> None:
    """Into the block's journal, whole or not at all; the trial's folds are then no longer needed."""
    folder = finals_folder(block) if tried.repeat else block
    write_whole(folder / _file_name(tried), json.dumps(seal(to_json(tried)), sort_keys=True).encode())
    for file in parts_folder(block).glob(f"{_file_name(tried).removesuffix('.json')}-fold*.json"):
        file.unlink(missing_ok=True)


def write_part(block: Path, part: Part) -> None:
    """One fold into the block's journal, whole or not at all."""
    write_whole(parts_folder(block) / _part_name(part), json.dumps(seal(to_json(part)), sort_keys=True).encode())


def read_journal(block: Path, faces: Faces | None = None) -> dict[int, Tried]:
    """Finished trials by number. Raises ValueError where a file is damaged or was changed by hand.

    faces: those the trials were scored on, to calculate each MAE again from what was predicted.
    """
    return {tried.number: tried for tried in (read_tried(file, faces) for file in sorted(block.glob("*.json")))}


def read_finals(block: Path, faces: Faces | None = None) -> list[Tried]:
    """What a block's finalists gave with other seeds; faces as read_journal takes them."""
    return [read_tried(file, faces) for file in sorted(finals_folder(block).glob("*.json"))]


def read_parts(block: Path) -> list[Part]:
    """Finished folds of trials that go on. Raises ValueError as read_journal does."""
    return [_read(file, Part, _part_name) for file in sorted(parts_folder(block).glob("*.json"))]


def read_tried(file: Path, faces: Faces | None = None) -> Tried:
    """One trial of a journal. Raises ValueError, naming file and field, where it is damaged or was changed."""
    return _read(file, Tried, _file_name, faces)


def ranked(journal: Mapping[int, Tried]) -> list[Tried]:
    """The complete trials, that of the least MAE first; the earlier one of two equal."""
    complete = [t for t in journal.values() if t.state == "complete" and t.mae is not None and math.isfinite(t.mae)]
    return sorted(complete, key=lambda tried: (tried.mae, tried.number))


def best(journal: Mapping[int, Tried]) -> Tried | None:
    """The complete trial of the least MAE, if any is complete."""
    return next(iter(ranked(journal)), None)


def join(parts: Sequence[Part], state: str, params: Mapping[str, Any], *, parameters: int, macs: int) -> Tried:
    """A trial of these folds (the first ones, in order), which ended in this state."""
    whole = [part for part in parts if part.state == "complete"]
    folds: dict[str, float] = {}
    error, count = 0.0, 0
    for part in whole:
        error += (part.mae or 0.0) * len(part.predicted)
        count += len(part.predicted)
        folds[str(part.fold)] = error / count
    last, first = parts[-1], parts[0]
    return Tried(
        last.number,
        state,
        last.trial,
        params,
        mae=last.mae if last.state != "complete" else folds[str(last.fold)],
        people={who: years for part in whole for who, years in part.people.items()},
        predicted={row: years for part in whole for row, years in part.predicted.items()} if state != "failed" else {},
        folds=folds,
        seconds=sum(part.seconds for part in parts),
        why=last.why,
        parameters=parameters,
        macs=macs,
        latency_ms=first.latency_ms,
        repeat=last.repeat,
        halfway=first.halfway,
        decoded={
            name: {who: years for part in whole for who, years in part.decoded.get(name, {}).items()}
            for name in (whole[0].decoded if whole else ())
        },
    )


_Record = TypeVar("_Record", Tried, Part)


def _read(file: Path, kind: type[_Record], named: Callable[[Any], str], faces: Faces | None = None) -> _Record:
    try:
        record = json.loads(file.read_bytes())
        if not isinstance(record, dict):
            raise ValueError("expected a JSON object")
        content = {name: value for name, value in record.items() if name != DIGEST}
        check_record(content, known=[each.name for each in fields(kind)])
        read = kind(**content)
        if named(read) != file.name:
            raise ValueError(f"its number and repeat are those of {named(read)}")
        if faces is not None:
            check_predicted(content, faces)
        unseal(record, where="it")  # last: the checks above can say which field
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no sound record of a trial: {error}; delete it to run that trial again") from error
    return read


def _file_name(tried: Tried | Part) -> str:
    return f"{tried.number:05d}" + (f"-seed{tried.repeat}" if tried.repeat else "") + ".json"


def _part_name(part: Part) -> str:
    return f"{_file_name(part).removesuffix('.json')}-fold{part.fold}.json"
