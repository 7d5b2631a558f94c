"""The folds of LOPO as Ray tasks: runs the missing ones, plain or as a tree, writes and logs their results.

Tasks are pure: faces, weights and a config in, the bytes of a file of predictions out. Only the driver writes files, so
that a fold is there once or not at all, whichever process is killed. Its MLflow runs may lag behind the files
(study.tracking.writer); a rerun records what a kill has cut off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from study.artifacts.about import FoldRecord
from study.artifacts.predictions import Predictions, put_predictions
from study.cli.describe import params, run_name
from study.cli.progress import progress
from study.cluster.placing import Running
from study.cluster.start import explain, put_tensors
from study.companions import NONE, Drawn
from study.lopo.fold_files import FoldFile, losses, run_to_file
from study.lopo.jobs import RATE_FALL, REPLAY, Job, Schedule, read_fold, rows_of, say_where
from study.lopo.tree import fold_tree
from study.starts import Start, read_tensors
from study.tracking import runs as tracking
from study.tracking.records import Record
from study.tracking.writer import behind, wait_for_earlier
from trainables.config import TrialConfig
from trainables.faces.table import Faces
from trainables.fold import run_fold, run_freeze, run_stage
from trainables.frozen.cache import what_is_seen
from trainables.memory import lacking_memory
from trainables.metrics import mae, rmse


@dataclass(frozen=True)
class Shared:
    """What is in Ray's object store once and read by every training: initial tensors by (backbone, weights), and faces
    by what_is_seen. tables: the same faces here in the driver, by picture size."""

    tables: Mapping[int, Faces]
    faces: Mapping[tuple[Any, ...], Any]
    weights: Mapping[tuple[str, str], Any]

    def given(self, config: TrialConfig) -> tuple[Any, Any]:
        """References to the faces (or their features) and the initial tensors of a config's trainings."""
        return self.faces[what_is_seen(config)], self.weights[config.backbone, config.weights]


def run_jobs(
    jobs: list[Job],
    tables: Mapping[int, Faces],
    starts: Mapping[tuple[str, str], Start],
    store: tracking.Tracking,
    parent: str,
    schedule: Schedule,
    running: Running | None = None,
    tags: Mapping[str, str] | None = None,
    drawn: Drawn = NONE,
) -> list[tuple[str, str]]:
    """Run the folds without a file, with a progress bar; returns (person, reason) of those that failed.

    running: counts the tasks. tags: of every fold's MLflow run. drawn: the companions of all trainings.
    """
    running = running or Running()
    kept = {job.file: read for job in jobs if (read := read_fold(job, tables[job.config.px])) is not None}
    missing = [job for job in jobs if job.file not in kept]
    say_where([record for _, record in kept.values()], schedule.cpus)
    folder = jobs[0].file.parents[1]
    lock = folder.with_name(f".{folder.name}.runs.lock")  # outside: --force takes the folder away
    wait_for_earlier(lock)
    logged = tracking.children(store, parent)
    ended = {job.file for job in jobs if logged.get(_fold_key(parent, job), ("", ""))[1] == "FINISHED"}
    pending = [job for job in jobs if not (job.file in kept and job.file in ended)]
    with behind(store, lock, runs=len(pending)) as write:

        def log(job: Job, file: FoldFile) -> None:
            write(_fold_run(parent, logged.get(_fold_key(parent, job), (None, ""))[0], job, file, tags))

        for job in pending:
            if job.file in kept:  # killed between writing the file and logging the run
                log(job, _kept_file(*kept[job.file]))
        errors = {file: mae(part.predicted, part.age) for file, (part, _) in kept.items()}
        kept.clear()
        return _run_missing(jobs, missing, tables, starts, schedule, running, errors, log, drawn)


def _run_missing(
    jobs: Sequence[Job],
    missing: Sequence[Job],
    tables: Mapping[int, Faces],
    starts: Mapping[tuple[str, str], Start],
    schedule: Schedule,
    running: Running,
    errors: dict[Path, float],
    log: Callable[[Job, FoldFile], None],
    drawn: Drawn,
) -> list[tuple[str, str]]:
    """Run the missing folds; returns (person, reason) of those that failed. errors: MAE by finished file."""
    shared = _share([job.config for job in missing], tables, starts, schedule, running, drawn)
    begin = _start_plain if schedule.kind == "plain" else _start_tree
    waiting = begin(missing, shared, schedule, running)
    failed: list[tuple[str, str]] = []
    looked, at_work = 0.0, 0
    plain = schedule.kind == "plain"  # a tree's leaves finish late and all at once: no rate can be estimated
    with progress("folds", total=len(jobs), done=len(jobs) - len(missing), timed=plain) as bar:
        while waiting:
            # several at a time: each call of ray.wait looks at all references
            done, _ = ray.wait(list(waiting), num_returns=min(32, len(waiting)), timeout=0.5)
            for reference in done:
                job = waiting.pop(reference)
                try:
                    file: FoldFile = ray.get(reference)
                    put_predictions(job.file, file.data)
                except (ray.exceptions.RayError, ValueError) as error:  # ValueError: predictions that cannot be written
                    failed.append((job.fold.name, _why(error)))
                else:
                    log(job, file)
                    errors[job.file] = file.mae
                bar.update()
            if time.monotonic() > looked + 1.0:
                looked, at_work = time.monotonic(), running.count()
            counts = f"{min(at_work, len(waiting))} running, {len(failed)} failed"
            bar.note(f"{counts}, MAE {_so_far(list(errors.values()))}")
    return failed


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
    drawn: Drawn,
) -> Shared:
    """Put everything into the object store once. Features of frozen layers come from tasks that the folds wait for."""
    used = sorted({(config.backbone, config.weights) for config in configs})
    weights = {start: put_tensors(read_tensors(starts[start])) for start in used}
    pixels = {px: ray.put(drawn.beside(tables[px])) for px in sorted({config.px for config in configs})}
    freeze = _task(run_freeze, schedule, running)
    faces: dict[tuple[Any, ...], Any] = {}
    for config in configs:
        if not config.frozen:
            faces[what_is_seen(config)] = pixels[config.px]
        elif what_is_seen(config) not in faces:
            initial = weights[config.backbone, config.weights]
            given = (config.to_json(), pixels[config.px], initial)
            faces[what_is_seen(config)] = freeze(*given, schedule.cpus, schedule.device)
    return Shared(tables, faces, weights)


def _task(function: Any, schedule: Schedule, running: Running) -> Any:
    """A Ray task that is retried when its process or node dies, and not when it raises."""
    return running.of(
        function, num_cpus=schedule.cpus, num_gpus=schedule.gpus, max_retries=3, scheduling_strategy="SPREAD"
    )


def _start_plain(jobs: Sequence[Job], shared: Shared, schedule: Schedule, running: Running) -> dict[Any, Job]:
    """One task per fold; all wait in Ray's queue, so that no resource is idle."""
    run = _task(run_to_file, schedule, running)
    return {
        run(
            run_fold,
            rows_of(job, shared.tables[job.config.px]),
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
    """A tree per config and seed, with only the nodes that the missing folds need."""
    waiting: dict[Any, Job] = {}
    groups: dict[str, dict[str, Job]] = {}
    for job in jobs:
        groups.setdefault(job.config.fingerprint(), {})[job.fold.name] = job
    for group in groups.values():
        config = next(iter(group.values())).config
        leaves = _grow(config, group, shared, schedule, running)
        waiting |= {leaves[person]: job for person, job in group.items()}
    return waiting


def _grow(
    config: TrialConfig, wanted: Mapping[str, Job], shared: Shared, schedule: Schedule, running: Running
) -> dict[str, Any]:
    """References to the leaves of the wanted people. Weights pass from task to task through Ray's object store, which
    frees them when both halves are done."""
    fold, inner = _task(run_to_file, schedule, running), _task(run_stage, schedule, running)
    nodes = fold_tree(shared.tables[config.px], seed=config.seed, replay=REPLAY, wanted=wanted)
    faces, start = shared.given(config)
    states: list[Any] = []
    leaves: dict[str, Any] = {}
    for node in nodes:
        before = start if node.parent is None else states[node.parent]
        record = config.replace(learning_rate=config.learning_rate * RATE_FALL**node.depth).to_json()
        given = (record, faces, before, node.rows)
        if node.test is None:
            states.append(inner(*given, schedule.cpus, schedule.device))
        else:
            states.append(None)
            rows = rows_of(wanted[node.held[0]], shared.tables[config.px])
            leaves[node.held[0]] = fold(run_fold, rows, *given, node.test, schedule.cpus, schedule.device)
    return leaves


def _fold_run(parent: str, run_id: str | None, job: Job, file: FoldFile, tags: Mapping[str, str] | None) -> Record:
    """The fold's MLflow run."""
    error = {"mae": file.mae, "rmse": file.rmse, "seconds": file.seconds}
    naming = params([job.config], _NAMING)
    return tracking.whole_run(
        run_id,
        key=_fold_key(parent, job),
        name=run_name([job.config], f"{error['mae']:.2f}", first=f"{job.fold.name} · seed {job.config.seed}"),
        stage="fold",
        parent=parent,
        params={"person": job.fold.name, "faces": len(job.fold.test), "seed": job.config.seed, **naming},
        steps=[*((epoch, {"training/loss": loss}) for epoch, loss in file.losses), (0, error)],
        tags={"study.state": "complete", **(tags or {})},
        seconds=file.seconds,
    )


def _kept_file(part: Predictions, record: FoldRecord) -> FoldFile:
    """What a fold's run shows, from its file."""
    errors = mae(part.predicted, part.age), rmse(part.predicted, part.age)
    return FoldFile(b"", *errors, losses(record.history), record.seconds)


_NAMING = ("backbone", "px")
"""Fields of a config that name a fold; all of it is in the result's trial.json."""


def _fold_key(parent: str, job: Job) -> str:
    return f"fold-{parent}-{job.key}"


def _so_far(errors: Sequence[float]) -> str:
    """Mean over the finished folds with a normal 95 % interval: a preview, not the result."""
    if not errors:
        return "-"
    if len(errors) < 3:
        return f"{np.mean(errors):.2f}"
    return f"{np.mean(errors):.2f} ± {1.96 * np.std(errors, ddof=1) / np.sqrt(len(errors)):.2f}"
