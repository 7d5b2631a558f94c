"""On whom a sweep chooses: blocks of people, a dev part of the pretraining data, or everybody; and files of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from study.folds import Fold, dev_split, person_folds
from study.records import seal, unseal
from study.storage import write_json
from trainables.checkpoints import read_trial
from trainables.config import TrialConfig, fingerprint
from trainables.faces import Faces, read_contents
from trainables.folders import standing

Select = Literal["blocks", "dev", "none"]


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


def check_apart(pretraining: Sequence[Path], tested: Sequence[Path]) -> None:
    """Raise ValueError where a tested photo lies in the pretraining data, byte for byte. Reads no label."""
    shared = read_contents(pretraining) & read_contents(tested)
    if shared:
        raise ValueError(
            f"{len(shared)} photos of {', '.join(map(str, tested))} lie in {', '.join(map(str, pretraining))} too: a "
            "config chosen there was chosen with tested photos in sight; give --pretrain-faces without them"
        )


def check_never_seen(checkpoint: Path, faces: Faces, *, share: float, seed: int) -> None:
    """Raise ValueError unless a checkpoint, and whatever it started from, left this dev part out of its training.

    study.pretrain records the faces table's digest and the dev part's share; its seed is the config's. A dev part is
    drawn by a hash, so that one of a larger share with the same seed holds the smaller one.
    """
    config, about = read_trial(standing(checkpoint) / "trial.json")
    why = ""
    if about.get("faces_digest") != faces.digest:
        why = "was trained on other faces than --pretrain-faces, and may have seen them"
    elif config.seed != seed:
        why = f"left out the dev part of --seed {config.seed}, not that of {seed}"
    elif _dev_share(config, about) < share:
        why = f"left out {_dev_share(config, about):.0%} of the faces, less than --dev-share {share:g}"
    if why:
        raise ValueError(
            f"{checkpoint} {why}: trials would be scored on faces that it learned from. Give --pretrain-faces and "
            "--seed as it was pretrained with, or another --pretrained"
        )
    if standing(Path(config.weights)).is_dir():
        check_never_seen(Path(config.weights), faces, share=share, seed=seed)
    elif config.weights not in ("random", "imagenet"):
        raise ValueError(f"{checkpoint} started from {config.weights}, of which nobody knows what it has seen")


def _dev_share(config: TrialConfig, about: Mapping[str, Any]) -> float:
    """The share of faces that a pretraining left out; 0 where it cannot be known."""
    if "dev_share" in about:
        return float(about["dev_share"])
    default = {"trial": config.to_json(), "faces": about.get("faces_digest"), "dev_share": 0.1}
    return 0.1 if about.get("fingerprint") == fingerprint(default) else 0.0  # written before shares were recorded


def claim(folder: Path, settings: Mapping[str, Any], *, lag: int, force: bool) -> int:
    """The folder belongs to one setting: trials of two are never mixed. Raises ValueError where it holds another.

    Returns the lag (study.searching) that the sweep began with, so that a rerun on more or fewer machines asks the same
    questions; `lag` where it begins now.
    """
    file = folder / "sweep.json"
    there = _read_settings(file) if file.is_file() else {}
    begun = there.pop("lag", lag)
    trials, seeds = len(list(folder.glob("*/*.json"))), len(list(folder.glob("*/finals/*.json")))
    if there == settings:
        return int(begun)
    if there or trials:
        if not force:
            raise ValueError(
                f"{folder} holds a sweep of other settings, faces or checkpoints: give another --name, or --force to "
                "discard it"
            )
        best = " and its best.json" if (folder / "best.json").is_file() else ""
        print(f"Discarding {trials} trials and {seeds} further seeds of another setting in {folder}{best}", flush=True)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, seal({**settings, "lag": lag}))
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
