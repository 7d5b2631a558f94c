"""The mean of several LOPO results as one result: networks that answer together. Trains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from study.artifacts.about import About, Pretraining
from study.artifacts.predictions import Predictions, read_predictions, write_predictions
from study.files.locks import hold
from study.lopo.options import Lopo
from study.lopo.pages import dataset_of, open_questions, result_name
from study.lopo.verdict import conclude
from study.starts import worst
from study.tracking import runs as tracking
from trainables.config import fingerprint
from trainables.faces.table import load_faces

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """A finished LOPO result, with its seeds averaged."""

    folder: Path
    predictions: Predictions
    about: About


def average(options: Lopo) -> int:
    """Write, log and print the mean of the results in options.average as a result of its own."""
    members = [read_member(Path(folder)) for folder in options.average]
    check_members(members)
    faces = load_faces([Path(folder) for folder in members[0].about.faces], px=members[0].about.trial["px"])
    if faces.digest != members[0].about.faces_digest:
        raise ValueError(f"the faces at {', '.join(members[0].about.faces)} are no longer those of the results")
    about = describe(members, name=options.name)
    out = options.out or members[0].folder.parent
    folder, store = out / about.key, tracking.connect()
    print(f"The mean of {len(members)} results: {len(faces)} faces of {len(faces.people)} people", flush=True)
    with hold(out, about.key):
        results, folds = open_questions(store, faces)
        parent = tracking.find_or_start(
            results,
            key=f"lopo-{about.key}",
            name=result_name(about),
            stage="lopo",
            params={"start": about.pretraining.what, "faces": about.dataset, "members": len(members)},
            tags={"study.selection": about.selection, "study.brand": about.brand or "none"},
            datasets=[dataset_of(about)],
        )
        predictions = mean_of([member.predictions for member in members], key=about.key)
        write_predictions(folder / "predictions.parquet", predictions, about=about.to_json())
        conclude(results, folds, parent, predictions, about, folder, 0.0, faces)
    return 0


def read_member(folder: Path) -> Member:
    """A finished result. Raises FileNotFoundError or ValueError where the folder holds none, or a damaged one."""
    file = folder / "predictions.parquet"
    predictions, record = read_predictions(file)
    return Member(folder, predictions.average_seeds(), About.from_json(record, where=str(file)))


def check_members(members: Sequence[Member]) -> None:
    """Raise ValueError, in one line, unless the results can be averaged: each once, none an average itself, of
    the same photos, folds and ages."""
    first, *others = members
    keys = [member.about.key for member in members]
    for member in members:
        if keys.count(member.about.key) > 1:
            raise ValueError(f"--average has the result {member.about.key} twice")
        if member.about.members:
            raise ValueError(f"{member.folder} is an average itself: name the results that it is made from")
    for member in others:
        ours, theirs = first.predictions, member.predictions
        if member.about.faces_digest != first.about.faces_digest:
            raise ValueError(f"{member.folder} and {first.folder} were tested on different faces")
        for name in ("photo", "fold", "age"):
            if not np.array_equal(getattr(ours, name), getattr(theirs, name)):
                raise ValueError(f"{member.folder} and {first.folder} differ in the column {name}")
        if ours.distribution.shape != theirs.distribution.shape:
            raise ValueError(f"{member.folder} and {first.folder} have distributions over different ages")


def mean_of(members: Sequence[Predictions], *, key: str) -> Predictions:
    """The members' mean distribution and mean predicted age for each photo: of one seed each, as average_seeds has it
    of seeds."""
    columns: dict[str, Any] = {
        name: np.concatenate([each.columns[name] for each in members]) for name in members[0].columns
    }
    columns["seed"] = np.repeat(np.arange(len(members), dtype=np.int32), len(members[0]))
    mean = Predictions(**columns).average_seeds()
    rows = len(mean)
    known = members[0].attributes
    return replace(mean, seed=np.zeros(rows, np.int32), fingerprint=np.full(rows, key), attributes=known)


def describe(members: Sequence[Member], *, name: str | None) -> About:
    """What the report must know of the average. It is as well sealed as its least sealed member."""
    abouts = [member.about for member in members]
    configs = once([config for about in abouts for config in about.configs])
    learned = [about.learned_from for about in abouts if about.learned_from]
    parts = "; ".join(f"{result_name(about)} ({about.key}): {about.selection}" for about in abouts)
    environments = once([each for about in abouts for each in about.environments])
    return replace(
        abouts[0],
        name=name or f"mean of {len(members)} results",
        key=fingerprint(["average", *sorted(about.key for about in abouts)]),
        trial=configs[0],
        trials=tuple(configs),
        selection=f"the mean of {len(members)} results, put together by hand once their errors were known [{parts}]",
        sealed=all(about.sealed for about in abouts),
        choice=None,
        pretraining=Pretraining("; ".join(dict.fromkeys(about.pretraining.what for about in abouts))),
        beside=max((about.beside for about in abouts), key=lambda each: each.count),
        starts=tuple(once([start for about in abouts for start in about.starts])),
        learned_from=worst(learned) if len(learned) == len(abouts) else None,
        seeds=tuple(range(sum(len(about.seeds) for about in abouts))),
        schedule=" and ".join(dict.fromkeys(about.schedule for about in abouts)),
        environments=tuple(environments),
        members=tuple(about.key for about in abouts),
    )


def once(values: Iterable[T]) -> list[T]:
    """The values, each once, in their order; they need not be hashable."""
    found: list[T] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
