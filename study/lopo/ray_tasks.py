"""The folds of LOPO as Ray tasks: what is missing is run, by the plain schedule or the fold tree, written and logged.

Tasks are pure: faces, weights and a config in, predictions out. The driver alone writes files and MLflow's runs, so
that a fold is there once or not at all, whoever was killed.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
from tqdm import tqdm

from study.artifacts.predictions import Predictions, read_predictions, write_predictions
from study.cli.describe import flat
from study.cluster.placing import Running
from study.cluster.start import explain
from study.folds import Fold, lopo_folds
from study.lopo.plan import Plan
from study.lopo.tree import fold_tree
from study.starts import Start, put_weights
from study.tracking import runs as tracking
from trainables import code_version
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import Faces
from trainables.fitting import decode
from trainables.fold import FoldResult, average_folds, run_fold, run_freeze, run_stage
from trainables.memory import lacking_memory
from trainables.metrics import mae, rmse
from trainables.provenance import differences, environment

REPLAY, RATE_FALL = 0.25, 0.8
"""The fold tree's share of photos shown again, and its learning rate's fall a level down (docs/lopo.md)."""


@dataclass(frozen=True)
class Schedule:
    """How folds are trained: plain, one training a fold, or as a tree; and what a training may take.

    orders: trees a seed, each over the people in another order, whose distributions are averaged.
    """

    kind: Literal["plain", "tree"]
    seeds: int
    cpus: int
    gpus: float
    orders: int = 1

    @property
    def made_from(self) -> str | list[Any]:
        """What a fold's key says of the schedule."""
        if self.kind == "plain":
            return "plain"
        return ["tree", REPLAY, RATE_FALL, *([self.orders] if self.orders > 1 else [])]

    @property
    def device(self) -> str:
        """Where a training runs: a task that was given no GPU uses none, even where it sees one."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Job:
    """One training: a left-out person with one seed."""

    fold: Fold
    config: TrialConfig
    key: str
    file: Path


def make_jobs(
    plan: Plan, faces: Faces, starts: Mapping[tuple[str, str], Start], schedule: Schedule, out: Path
) -> tuple[list[Job], str]:
    """Every fold of every seed, and the key of the whole. A fold's key covers all that decides its result.

    starts: by backbone and weights.
    """
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
            }
            trainings.append((fold, config, fingerprint(made_from)))
    key = fingerprint([part for _, _, part in trainings])
    jobs = [
        Job(fold, config, part, out / key / "folds" / f"{fold.name.replace('/', '-')}-seed{config.seed}.parquet")
        for fold, config, part in trainings
    ]
    return jobs, key


def gather(files: Sequence[Path]) -> tuple[Predictions, list[dict[str, str]]]:
    """The predictions of all folds as one table, and the environments that computed them, each once."""
    read = [read_predictions(file) for file in files]
    parts = [part for part, _ in read]
    whole = Predictions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})
    places: list[dict[str, str]] = []
    for _, about in read:
        if about.get("environment") not in (None, *places):
            places.append(about["environment"])
    return whole, places


def say_where(records: Sequence[Mapping[str, Any]], cpus: int) -> None:
    """A line where finished folds were computed in another environment than the missing ones will be."""
    now = {**environment("cpu"), "threads": str(cpus)}
    told = Counter(differences({**about.get("environment", {}), "device": now["device"]}, now) for about in records)
    for other, folds in told.items():
        if other:
            print(f"{folds} finished folds were computed in another environment and are kept: {other}", flush=True)


@dataclass(frozen=True)
class Shared:
    """What lies in Ray's object store once and is read by every training: starting tensors by (backbone, weights), and
    the faces by what _seen says. tables are the same faces here in the driver, by picture size."""

    tables: Mapping[int, Faces]
    faces: Mapping[tuple[Any, ...], Any]
    weights: Mapping[tuple[str, str], Any]

    def given(self, config: TrialConfig) -> tuple[Any, Any]:
        """References to the faces (or their features) and starting tensors of a config's trainings."""
        return self.faces[_seen(config)], self.weights[config.backbone, config.weights]


def run_jobs(
    jobs: list[Job],
    tables: Mapping[int, Faces],
    starts: Mapping[tuple[str, str], Start],
    store: tracking.Tracking,
    parent: str,
    schedule: Schedule,
    running: Running | None = None,
) -> list[tuple[str, str]]:
    """Run what has no file yet, with a progress line; (person, reason) of what failed. running: counts the tasks."""
    running = running or Running()
    kept = {job.file: read for job in jobs if (read := read_fold(job, tables[job.config.px])) is not None}
    missing = [job for job in jobs if job.file not in kept]
    finished = [job for job in jobs if job.file in kept]
    logged = tracking.children(store, parent)

    def run_of(job: Job) -> tuple[str | None, str]:
        return logged.get(_fold_key(parent, job), (None, ""))

    for job in finished:  # killed between the file and the end of its run: the run is made up for
        run_id, status = run_of(job)
        if status != "FINISHED":
            part, about = kept[job.file]
            _log_fold(store, parent, run_id, job, part, about["history"], about["seconds"])
    say_where([about for _, about in kept.values()], schedule.cpus)
    shared = _share([job.config for job in missing], tables, starts, schedule, running)
    begin = _start_plain if schedule.kind == "plain" else _start_tree
    waiting = begin(missing, shared, schedule, running)
    failed: list[tuple[str, str]] = []
    errors = {file: _person_mae(part) for file, (part, _) in kept.items()}
    calm = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not one a second
    # a tree's leaves come late and all at once: their rate foretells nothing
    shown = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]" if schedule.kind == "tree" else None
    looked, at_work = 0.0, 0
    with tqdm(
        total=len(jobs), initial=len(finished), unit="fold", dynamic_ncols=True, desc="folds", mininterval=calm,
        bar_format=shown,
    ) as bar:  # fmt: skip
        while waiting:
            # several at a time: a wait looks at all that are waiting
            done, _ = ray.wait(list(waiting), num_returns=min(32, len(waiting)), timeout=0.5)
            for reference in done:
                job = waiting.pop(reference)
                try:
                    result: FoldResult = ray.get(reference)
                    part = _write_fold(job, tables[job.config.px], result)
                except (ray.exceptions.RayError, ValueError) as error:  # ValueError: no predictions that can be written
                    failed.append((job.fold.name, _why(error)))
                else:
                    _log_fold(store, parent, run_of(job)[0], job, part, result.history, result.seconds)
                    errors[job.file] = _person_mae(part)
                bar.update()
            if time.monotonic() > looked + 1.0:
                looked, at_work = time.monotonic(), running.count()
            told = f"{min(at_work, len(waiting))} running, {len(failed)} failed"
            bar.set_postfix_str(f"{told}, MAE {_so_far(list(errors.values()))}", refresh=False)
    return failed


def read_fold(job: Job, faces: Faces) -> tuple[Predictions, dict[str, Any]] | None:
    """A finished fold and its record; None where there is none that can be kept.

    A file that is damaged, was changed, or belongs to another training is set aside, with a line that says why: the
    fold is trained again. One of an earlier version, without a digest, is kept where all that is checked here holds.
    """
    if not job.file.is_file():
        return None
    try:
        part, about = read_predictions(job.file)
        _check_fold(job, faces, part, about)
    except ValueError as error:
        aside = job.file.with_name(f"{job.file.name}.set-aside")
        job.file.replace(aside)
        why = str(error).removeprefix(f"{job.file} ")
        print(f"{job.file} is set aside as {aside.name}, and the fold is trained again: {why}", flush=True)
        return None
    return part, about


def _check_fold(job: Job, faces: Faces, part: Predictions, about: Mapping[str, Any]) -> None:
    """Raise ValueError where a fold's file is not what this job would have written, as far as no training is needed."""
    rows = job.fold.test[np.argsort(faces.photo[job.fold.test], kind="stable")]  # in the order of Predictions
    expected = {"photo": faces.photo[rows], "person": faces.person[rows], "age": faces.age[rows]}
    expected |= {"fold": job.fold.name, "seed": job.config.seed, "fingerprint": job.key}
    for name, values in expected.items():
        if not np.array_equal(getattr(part, name), np.broadcast_to(values, rows.shape)):
            raise ValueError(f"its {name} column is not that of this fold")
    if part.distribution.shape[1] != job.config.ages:
        raise ValueError(f"its distributions are over {part.distribution.shape[1]} ages, not {job.config.ages}")
    # a little more than another processor's rounding
    if not np.allclose(decode(part.distribution, job.config), part.predicted, rtol=0, atol=1e-3):
        raise ValueError("its predicted ages are not what its distributions give")
    if about.get("trial") != job.config.to_json():
        raise ValueError("its record is of another config")
    history = about.get("history")
    if not isinstance(history, list) or not isinstance(about.get("seconds"), int | float):
        raise ValueError("its record lacks the training's curve or its seconds")
    if not all(isinstance(epoch, dict) and {"epoch", "train_loss"} <= epoch.keys() for epoch in history):
        raise ValueError("its record's curve is no list of epochs")


def _why(error: Exception) -> str:
    """One line on why a fold has no prediction."""
    cause: BaseException = getattr(error, "cause", None) or error
    return " ".join((lacking_memory(cause) or explain(cause) or str(cause) or type(cause).__name__).split())[:300]


def _share(
    configs: Sequence[TrialConfig],
    tables: Mapping[int, Faces],
    starts: Mapping[tuple[str, str], Start],
    schedule: Schedule,
    running: Running,
) -> Shared:
    """Put everything once. Features of frozen stages come from tasks of their own, for which the folds wait."""
    used = sorted({(config.backbone, config.weights) for config in configs})
    weights = {start: put_weights(starts[start]) for start in used}
    pixels = {px: ray.put(tables[px]) for px in sorted({config.px for config in configs})}
    freeze = _task(run_freeze, schedule, running)
    faces: dict[tuple[Any, ...], Any] = {}
    for config in configs:
        if not config.frozen:
            faces[_seen(config)] = pixels[config.px]
        elif _seen(config) not in faces:
            initial = weights[config.backbone, config.weights]
            given = (config.to_json(), pixels[config.px], initial)
            faces[_seen(config)] = freeze(*given, schedule.cpus, schedule.device)
    return Shared(tables, faces, weights)


def _seen(config: TrialConfig) -> tuple[Any, ...]:
    """What decides the faces, or features of them, that a training is given: not its seed nor its loss."""
    if not config.frozen:
        return (config.px,)
    start = (config.backbone, config.weights)
    return (config.px, *start, config.frozen, config.frozen_views, config.augmentation)


def _task(function: Any, schedule: Schedule, running: Running) -> Any:
    """What starts a Ray task that is run again when its process or node dies, and not when it raises."""
    return running.of(
        function, num_cpus=schedule.cpus, num_gpus=schedule.gpus, max_retries=3, scheduling_strategy="SPREAD"
    )


def _start_plain(jobs: Sequence[Job], shared: Shared, schedule: Schedule, running: Running) -> dict[Any, Job]:
    """One task a fold; all wait in Ray's queue, so that no resource is ever idle."""
    run = _task(run_fold, schedule, running)
    return {
        run(
            job.config.to_json(),
            *shared.given(job.config),
            job.fold.train,
            job.fold.test,
            schedule.cpus,
            schedule.device,
        ): job
        for job in jobs
    }


def _start_tree(jobs: Sequence[Job], shared: Shared, schedule: Schedule, running: Running) -> dict[Any, Job]:
    """A tree a config, seed and order of people, grown only towards the folds that are missing; with several orders a
    fold's answer is the average of its leaves."""
    average = ray.remote(average_folds).options(num_cpus=0, max_retries=3)
    waiting: dict[Any, Job] = {}
    groups: dict[str, dict[str, Job]] = {}
    for job in jobs:
        groups.setdefault(job.config.fingerprint(), {})[job.fold.name] = job
    for group in groups.values():
        config = next(iter(group.values())).config
        trees = [_grow(config, group, shared, schedule, running, order) for order in range(schedule.orders)]
        for person, job in group.items():
            leaves = [tree[person] for tree in trees]
            waiting[leaves[0] if len(leaves) == 1 else average.remote(config.to_json(), *leaves)] = job
    return waiting


def _grow(
    config: TrialConfig, wanted: Collection[str], shared: Shared, schedule: Schedule, running: Running, order: int
) -> dict[str, Any]:
    """The wanted people's leaves, as references. Weights go from task to task in Ray's object store, and leave it when
    both halves are done."""
    fold, inner = _task(run_fold, schedule, running), _task(run_stage, schedule, running)
    stages = fold_tree(shared.tables[config.px], seed=config.seed + 1000 * order, replay=REPLAY, wanted=wanted)
    faces, start = shared.given(config)
    states: list[Any] = []
    leaves: dict[str, Any] = {}
    for stage in stages:
        before = start if stage.parent is None else states[stage.parent]
        record = config.replace(learning_rate=config.learning_rate * RATE_FALL**stage.depth).to_json()
        given = (record, faces, before, stage.rows)
        if stage.test is None:
            states.append(inner(*given, schedule.cpus, schedule.device))
        else:
            states.append(None)
            leaves[stage.held[0]] = fold(*given, stage.test, schedule.cpus, schedule.device)
    return leaves


def _write_fold(job: Job, faces: Faces, result: FoldResult) -> Predictions:
    rows = job.fold.test
    part = Predictions(
        photo=faces.photo[rows],
        person=faces.person[rows],
        age=faces.age[rows],
        predicted=result.predicted,
        distribution=result.distribution,
        fold=np.full(len(rows), job.fold.name),
        seed=np.full(len(rows), job.config.seed, np.int32),
        fingerprint=np.full(len(rows), job.key),
    )
    about = {
        "trial": job.config.to_json(),
        "history": _finite(result.history),
        "seconds": result.seconds,
        "environment": result.environment,
    }
    write_predictions(job.file, part, about=about)
    return part


def _log_fold(
    store: tracking.Tracking,
    parent: str,
    run_id: str | None,
    job: Job,
    part: Predictions,
    history: Sequence[Mapping[str, Any]],
    seconds: float,
) -> None:
    last = max((epoch["epoch"] for epoch in history), default=0)
    error = {"mae": mae(part.predicted, part.age), "rmse": rmse(part.predicted, part.age), "seconds": seconds}
    tracking.log_whole(
        store,
        run_id,
        key=_fold_key(parent, job),
        name=f"{job.fold.name} seed {job.config.seed}",
        stage="fold",
        parent=parent,
        params={"person": job.fold.name, "faces": len(part), **flat(job.config)},
        steps=[*((epoch["epoch"], {"train_loss": epoch["train_loss"]}) for epoch in history), (last, error)],
    )


def _fold_key(parent: str, job: Job) -> str:
    return f"fold-{parent}-{job.key}"


def _person_mae(part: Predictions) -> float:
    return mae(part.predicted, part.age)


def _so_far(errors: Sequence[float]) -> str:
    """Mean over the folds done, with a normal 95 % interval: a sign of where it goes, not the result."""
    if not errors:
        return "-"
    if len(errors) < 3:
        return f"{np.mean(errors):.2f}"
    return f"{np.mean(errors):.2f} ± {1.96 * np.std(errors, ddof=1) / np.sqrt(len(errors)):.2f}"


def _finite(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without the NaN of a curve that was not measured, which JSON has no word for."""
    return [{name: value for name, value in epoch.items() if value == value} for epoch in history]
