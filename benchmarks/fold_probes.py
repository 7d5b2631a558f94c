"""What a change of the config does to the error, in a few folds over people: hand probes, paired over people.

    python benchmarks/fold_probes.py run --name base --trial runs/lopo/KEY/trial.json
    python benchmarks/fold_probes.py run --name longer --trial runs/lopo/KEY/trial.json --change '{"epochs": 12}'
    python benchmarks/fold_probes.py table --names base longer base+seed1

`run` trains a config on a fixed set of folds over people and writes its predictions; `table` compares what was run with
the first name. A name joined with + stands for the averaged distributions. These probes look at every person's error:
put what they recommend into a search space, so that the sealed sweep chooses.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from study.artifacts.predictions import Predictions, read_predictions, write_predictions
from study.folds import person_folds
from study.statistics.summary import compare, summarise
from trainables.backbones import read_weights
from trainables.checkpoints import read_trial
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.fitting import decode
from trainables.fold import run_fold, run_freeze

COLUMNS = ("pixels", "age", "person", "photo", "content")


@dataclass(frozen=True)
class Run:
    """Train one config on the folds."""

    name: str
    trial: Path
    change: str = "{}"
    """JSON of TrialConfig's fields to change; "augmentation" may name some of its fields."""
    faces: Path = Path("runs/fgnet")
    joint: tuple[Path, ...] = ()
    """Faces tables whose faces are also trained on in every fold, and never tested on."""
    share: float = 1.0
    """Of the joint faces: the part that is taken, at random."""
    folds: int = 5
    out: Path = Path("runs/probes")


@dataclass(frozen=True)
class Table:
    """Compare what was run."""

    names: tuple[str, ...]
    out: Path = Path("runs/probes")


def changed(config: TrialConfig, change: dict) -> TrialConfig:
    """The config with JSON values in the place of its own."""
    record = config.to_json()
    record["augmentation"] |= change.pop("augmentation", {})
    return TrialConfig.from_json(record | change)


def joined(faces: Faces, others: Faces, share: float) -> tuple[Faces, np.ndarray]:
    """Both tables as one, and the rows of the others that train in every fold."""
    count = len(faces) + len(others)
    whole = Faces(
        *(np.concatenate([getattr(faces, name), getattr(others, name)]) for name in COLUMNS),
        digest=faces.digest + others.digest,
    )
    chosen = np.random.default_rng(0).permutation(np.arange(len(faces), count))
    return whole, np.sort(chosen[: round(share * len(others))])


def score(config: TrialConfig, faces: Faces, *, folds: int, extra: np.ndarray | None = None) -> Predictions:
    """Out-of-fold predictions of every named face, in folds over people that are the same for every config."""
    start = None if config.weights == "random" else read_weights(config.backbone, config.weights)
    initial = None if start is None else {name: value.numpy() for name, value in start.items()}
    named = np.flatnonzero(faces.person != "") if extra is None else np.setdiff1d(np.arange(len(faces)), extra)
    found = np.zeros((len(faces), config.ages), np.float32)
    people = dataclasses.replace(faces, **{name: getattr(faces, name)[named] for name in COLUMNS})
    record = config.to_json()
    source = run_freeze(record, faces, initial, 1, "cpu")
    for fold in person_folds(people, folds=folds, seed=0):
        train = named[fold.train] if extra is None else np.concatenate([named[fold.train], extra])
        test = named[fold.test]
        found[test] = run_fold(record, source, initial, train, test, 1, "cpu").distribution
    return Predictions(
        photo=faces.photo[named],
        person=faces.person[named],
        age=faces.age[named],
        predicted=decode(found[named], config).astype(np.float32),
        distribution=found[named],
        fold=faces.person[named],
        seed=np.zeros(len(named), np.int32),
        fingerprint=np.full(len(named), config.fingerprint()),
    )


def run(options: Run) -> None:
    """Train, write, and print the error."""
    config = changed(read_trial(options.trial)[0], json.loads(options.change))
    faces, extra = load_faces([options.faces], px=config.px), None
    if options.joint:
        faces, extra = joined(faces, load_faces(list(options.joint), px=config.px), options.share)
    began = time.perf_counter()
    predictions = score(config, faces, folds=options.folds, extra=extra)
    seconds = time.perf_counter() - began
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"seconds": seconds, "trial": config.to_json()}
    write_predictions(options.out / f"{options.name}.parquet", predictions, about=about)
    table(Table((options.name,), options.out))


def averaged(tables: list[Predictions]) -> Predictions:
    """The mean of their distributions, and its expectation."""
    mean = np.mean([each.distribution for each in tables], axis=0).astype(np.float32)
    predicted = (mean @ np.arange(mean.shape[1], dtype=np.float32)).astype(np.float32)
    return dataclasses.replace(tables[0], distribution=mean, predicted=predicted)


def table(options: Table) -> None:
    """A row a name; differences to the first, paired over people."""
    tables: dict[str, Predictions] = {}
    for name in options.names:
        read = [read_predictions(options.out / f"{part}.parquet") for part in name.split("+")]
        seconds = sum(about["seconds"] for _, about in read)
        tables[name] = averaged([one for one, _ in read]) if len(read) > 1 else read[0][0]
        first = next(iter(tables))
        summary = summarise(tables[name])
        line = f"{name:<28} MAE {summary.mae:.2f}  pooled {summary.mae_pooled.value:.2f}  {seconds:5.0f} s"
        if name != first:
            gap = compare({first: tables[first], name: tables[name]})[0]
            sign = -1 if gap.better == name else 1
            line += f"  {sign * gap.difference.value:+.2f} to {first}" + (" (significant)" if gap.decided else "")
        print(line, flush=True)


if __name__ == "__main__":
    chosen = tyro.cli(Run | Table, description=__doc__)
    run(chosen) if isinstance(chosen, Run) else table(chosen)
