"""The trainings of a LOPO: their keys and files, and how a finished one is read and checked. No Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from study.artifacts.about import FoldRecord
from study.artifacts.environments import differences
from study.artifacts.predictions import Predictions, read_predictions
from study.companions import NONE, Drawn
from study.files.storage import write_whole
from study.folds import Fold, lopo_folds
from study.lopo.fold_files import FoldRows
from study.lopo.plan import Plan
from study.starts import Start
from trainables import code_version
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import Faces
from trainables.fitting import decode
from trainables.provenance import environment

REPLAY, RATE_FALL = 0.25, 0.8
"""The fold tree's share of replayed photos, and the factor of its learning rate per level (docs/lopo.md)."""


@dataclass(frozen=True)
class Schedule:
    """How folds are trained: plain (one training per fold) or as a tree; and the CPUs and GPUs of one training."""

    kind: Literal["plain", "tree"]
    seeds: int
    cpus: int
    gpus: float

    @property
    def made_from(self) -> str | list[Any]:
        """The schedule's part of a fold's key."""
        if self.kind == "plain":
            return "plain"
        return ["tree", REPLAY, RATE_FALL]

    @property
    def device(self) -> str:
        """Where a training runs. A task without a share of a GPU uses none, even if it sees one."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Job:
    """One training: one left-out person and one seed."""

    fold: Fold
    config: TrialConfig
    key: str
    file: Path


def make_jobs(
    plan: Plan,
    faces: Faces,
    starts: Mapping[tuple[str, str], Start],
    schedule: Schedule,
    out: Path,
    drawn: Drawn = NONE,
) -> tuple[list[Job], str]:
    """Every fold of every seed, and the key of the whole result. A fold's key covers all that decides its result.

    starts: by backbone and weights.
    """
    beside = {config.companions: drawn.key(config) for config in plan.trials.values()}
    trainings = []
    for step in range(schedule.seeds):
        for fold in lopo_folds(faces):
            config = plan.config(fold.name)
            config = config.replace(seed=config.seed + step)
            made_from: dict[str, Any] = {
                "trial": {**config.to_json(), "weights": starts[config.backbone, config.weights].digest},
                "faces": faces.digest,
                "code": code_version(),
                "person": fold.name,
                "schedule": schedule.made_from,
                "device": schedule.device,
                "precision": resolve_precision(config, schedule.device),
                **beside[config.companions],
            }
            trainings.append((fold, config, fingerprint(made_from)))
    # The same config, chosen in another way, is another result with a name, a selection and a brand of its own.
    how = [*plan.sweep, *([] if plan.sealed else ["chosen on the tested people"])]
    key = fingerprint([*(part for _, _, part in trainings), *how])
    jobs = [
        Job(fold, config, part, out / key / "folds" / f"{fold.name.replace('/', '-')}-seed{config.seed}.parquet")
        for fold, config, part in trainings
    ]
    return jobs, key


def gather(files: Sequence[Path]) -> tuple[Predictions, tuple[Mapping[str, str], ...], float]:
    """The predictions of all folds as one table, the different environments that computed them, and their seconds."""
    read = [read_predictions(file) for file in files]
    parts = [part for part, _ in read]
    columns: dict[str, Any] = {
        name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns
    }
    whole = Predictions(**columns)
    places: list[Mapping[str, str]] = []
    records = [FoldRecord.from_json(record, where=str(file)) for file, (_, record) in zip(files, read, strict=True)]
    for record in records:
        if record.environment and record.environment not in places:
            places.append(record.environment)
    return whole, tuple(places), sum(record.seconds for record in records)


def say_where(records: Sequence[FoldRecord], cpus: int) -> None:
    """Print a line if finished folds were computed in another environment than the missing ones will be."""
    now = {**environment("cpu"), "threads": str(cpus)}
    counts = Counter(differences({**record.environment, "device": now["device"]}, now) for record in records)
    for other, folds in counts.items():
        if other:
            print(f"{folds} finished folds were computed in another environment; they are kept: {other}", flush=True)


def read_fold(job: Job, faces: Faces) -> tuple[Predictions, FoldRecord] | None:
    """A finished fold and its record; None if there is none that can be used.

    A file that is damaged, was changed, or belongs to another training is renamed, with a line that says why, and the
    fold is trained again. A file of an earlier version, without a digest, is used if it passes all checks here.
    """
    if not job.file.is_file():
        return None
    try:
        return _read_checked(job, faces)
    except ValueError as error:
        aside = job.file.with_name(f"{job.file.name}.set-aside")
        job.file.replace(aside)
        why = str(error).removeprefix(f"{job.file} ")
        print(f"{job.file} is renamed to {aside.name}, and its fold is trained again: {why}", flush=True)
        return None


def take_over(jobs: Sequence[Job], tables: Mapping[int, Faces]) -> int:
    """Copy the missing folds that another result next to this one has, such as the same one with fewer seeds; how many.

    A fold's key covers all that decides its training, so a fold of that key is the one that would be trained here.
    """
    home, taken = jobs[0].file.parents[2], 0
    others = sorted(home.glob("[!.]*/folds")) if home.is_dir() else []
    for job in jobs:
        for file in (folder / job.file.name for folder in others):
            if job.file.is_file() or not file.is_file():
                continue
            try:
                _read_checked(replace(job, file=file), tables[job.config.px])
            except ValueError:  # of another training, or damaged: its own command says so
                continue
            write_whole(job.file, file.read_bytes())
            taken += 1
    if taken:
        print(f"{taken} of {len(jobs)} folds were trained for another result already, and are taken over", flush=True)
    return taken


def _read_checked(job: Job, faces: Faces) -> tuple[Predictions, FoldRecord]:
    """A fold's file. Raises ValueError where it is not what this job would have written."""
    part, about = read_predictions(job.file)
    record = FoldRecord.from_json(about, where="its record")
    _check_fold(job, faces, part, record)
    return part, record


def _check_fold(job: Job, faces: Faces, part: Predictions, record: FoldRecord) -> None:
    """Raise ValueError if a file is not what this job would have written, as far as can be told without training."""
    rows = job.fold.test[np.argsort(faces.photo[job.fold.test], kind="stable")]  # in the order of Predictions
    expected = {"photo": faces.photo[rows], "person": faces.person[rows], "age": faces.age[rows]}
    expected |= {"fold": job.fold.name, "seed": job.config.seed, "fingerprint": job.key}
    for name, values in expected.items():
        if not np.array_equal(getattr(part, name), np.broadcast_to(values, rows.shape)):
            raise ValueError(f"its {name} column is not this fold's")
    if part.distribution.shape[1] != job.config.ages:
        raise ValueError(f"its distributions are over {part.distribution.shape[1]} ages, not {job.config.ages}")
    # a little more than the rounding differences between processors
    if not np.allclose(decode(part.distribution, job.config), part.predicted, rtol=0, atol=1e-3):
        raise ValueError("its predicted ages do not follow from its distributions")
    if record.trial != job.config.to_json():
        raise ValueError("its record is of another config")


def rows_of(job: Job, faces: Faces) -> FoldRows:
    """What the fold's file says besides its predictions."""
    rows, config = job.fold.test, job.config
    tested = (faces.photo[rows], faces.person[rows], faces.age[rows])
    return FoldRows(*tested, job.fold.name, config.seed, job.key, config.to_json())
