"""On whom a sweep chooses: blocks of people, a dev part of the pretraining data, or everybody; and files of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.artifacts.environments import differences
from study.files.seals import seal, unseal
from study.files.storage import write_json
from study.folds import Fold, dev_split, person_folds
from study.starts import Start
from trainables.faces.table import Faces


@dataclass(frozen=True)
class Block:
    """A study of its own: the people whom its choice is for (none: everyone, of any table), and what it chooses on.

    folds are rows of the faces that the trials see: the tested table's, or with dev the pretraining data's.
    """

    name: str
    people: tuple[str, ...]
    folds: tuple[Fold, ...]


def person_blocks(faces: Faces, *, blocks: int, folds: int, seed: int) -> list[Block]:
    """Outer blocks of people, each with inner folds over everyone else."""
    made = []
    for index, fold in enumerate(person_folds(faces, folds=blocks, seed=seed)):
        inner = person_folds(faces, folds=folds, seed=seed, rows=fold.train)
        people = tuple(sorted({str(person) for person in faces.person[fold.test]}))
        made.append(Block(f"block{index + 1}of{blocks}", people, tuple(inner)))
    return made


def everybody(faces: Faces, *, folds: int, seed: int) -> list[Block]:
    """One block of everybody, chosen on everybody: not sealed."""
    return [Block("all", tuple(faces.people), tuple(person_folds(faces, folds=folds, seed=seed)))]


def dev_block(faces: Faces, *, share: float, seed: int) -> list[Block]:
    """One block for everyone: trained on the pretraining data's training part, scored on its dev part."""
    return [Block("dev", (), (dev_split(faces, share=share, seed=seed),))]


def check_never_seen(start: Start, faces: Faces, block: Block) -> None:
    """Raise ValueError unless a start, and whatever came before it, left the block's dev part out of its training."""
    if start.photos is None:
        raise ValueError(
            f"{start.weights} has no record of the photos that it learned from, so trials might be scored on faces "
            "that it knows: pretrain it again, or give another --pretrained"
        )
    (dev,) = block.folds
    photos = set(faces.content[dev.test].tolist()) & set(start.photos["photo_sha256"].to_pylist())
    people = (set(faces.person[dev.test].tolist()) - {""}) & set(start.photos["person"].to_pylist())
    if photos or people:
        raise ValueError(
            f"{start.weights} learned from {len(photos)} photos and {len(people)} people of the dev part: trials would "
            "be scored on faces that it knows. Give --pretrain-faces, --dev-share and --seed as it was pretrained "
            "with, or another --pretrained"
        )


def claim(folder: Path, settings: Mapping[str, Any], *, lag: int, environment: Mapping[str, str], force: bool) -> int:
    """The folder belongs to one setting: trials of two are never mixed. Raises ValueError where it holds another.

    Returns the lag (study.sweep.search) that the sweep began with, so that a rerun on more or fewer machines asks the
    same questions; `lag` where it begins now. A sweep that goes on in another environment says so in a line.
    """
    file = folder / "sweep.json"
    there = _read_settings(file) if file.is_file() else {}
    begun, begun_in = there.pop("lag", lag), there.pop("environment", environment)
    trials, seeds = len(list(folder.glob("*/*.json"))), len(list(folder.glob("*/finals/*.json")))
    if there == settings:
        if told := differences(begun_in, environment):
            print(f"This sweep goes on in another environment than it began in: {told}", flush=True)
        return int(begun)
    if there or trials:
        if not force:
            changed = sorted(name for name in there.keys() | settings if there.get(name) != settings.get(name))
            raise ValueError(
                f"{folder} holds a sweep of other settings, faces or checkpoints (other {', '.join(changed)}): give "
                "another --name, or --force to discard it"
            )
        best = " and its best.json" if (folder / "best.json").is_file() else ""
        print(f"Discarding {trials} trials and {seeds} further seeds of another setting in {folder}{best}", flush=True)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, seal({**settings, "lag": lag, "environment": dict(environment)}))
    return lag


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        there = unseal(json.loads(file.read_bytes()), where="it")
        if not isinstance(there.get("lag", 1), int):
            raise ValueError(f"its lag is {there['lag']!r}, expected a whole number")
    except ValueError as error:
        raise ValueError(
            f"{file} is no sound record of a sweep's settings: {error}; give another --name, or delete {file.parent}"
        ) from error
    return there
