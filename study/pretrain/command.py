"""Pretrain backbones on faces of many people with Ray Train; a sweep and LOPO start from what this writes.

Each backbone becomes one checkpoint folder OUT/<backbone>/ (model.safetensors, trial.json). A finished one is not
trained again. An interrupted one continues from its last snapshot, with the same result as without the interruption:
type the same command again. Faces are streamed from the tables (Ray Data) and never all in memory. Several workers
train as one with the same --batch would; but batch norm takes its statistics from each worker's own share (see
--batch-norm).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from study.artifacts.environments import differences
from study.cli.describe import params, run_name
from study.cli.progress import progress
from study.cli.run import message
from study.files.locks import hold
from study.files.storage import write_json
from study.pretrain.options import Pretrain
from study.pretrain.plan import Job, Plan, is_there, make_plan
from study.pretrain.ray_train import Room, find_room, forget, run_side_by_side, train_with_ray
from study.pretrain.shown import Shown
from study.pretrain.verdict import Curve, conclude, dataset_of, describe_checkpoint, open_question, print_end
from study.starts import read_tensors
from study.tracking import runs as tracking
from trainables.faces.stream import make_tables
from trainables.fitting import build_net
from trainables.folders import standing
from trainables.pretraining import Work
from trainables.provenance import environment


def pretrain(options: Pretrain) -> int:
    """Pretrain each backbone; returns the exit status."""
    plan = make_plan(options)
    with ExitStack() as held:
        for job in plan.jobs:
            held.enter_context(hold(plan.out, job.folder.name))
        failed = [*plan.failed, *pretrain_all(plan)]
    return print_end(plan, failed)


def pretrain_all(plan: Plan) -> list[tuple[str, str]]:
    """Train what is missing, side by side as the cluster has room; (backbone, why) of what failed.

    The failure of one that was asked for alone is raised.
    """
    options, missing = plan.options, []
    failed: list[tuple[str, str]] = []
    for job in plan.jobs:
        try:
            if not is_there(job, options):
                missing.append(job)
        except ValueError as error:
            if plan.alone:
                raise
            failed.append((job.config.backbone, str(error)))
    store = tracking.connect()  # even where nothing is missing: it sends what waits from an earlier command
    if not missing:
        return failed
    store = open_question(store, plan)
    options.ray.start(quiet_core=True)
    asked = min(options.at_once or 1, len(missing))
    cpus, gpus = options.cpus_per_worker, options.gpus_per_worker
    room = find_room(options.workers, cpus, gpus, joined=options.ray.joins, at_once=asked)
    at_once = options.at_once or room.at_once
    total = sum(job.config.epochs * len(plan.split(job.config).train) for job in missing)
    with progress("pretraining", total=total, unit="faces") as bar:
        shown = Shown(bar)
        raised = run_side_by_side(missing, lambda job: pretrain_one(job, plan, room, store, shown), at_once=at_once)
    if raised and plan.alone:
        raise raised[0][1]
    failed += [(job.config.backbone, message(why) or f"{type(why).__name__}: {why}") for job, why in raised]
    return sorted(failed)


def pretrain_one(job: Job, plan: Plan, room: Room, store: tracking.Tracking, shown: Shown) -> None:
    """Train one backbone and write its checkpoint folder."""
    config, key, storage, options = job.config, job.key, plan.storage, plan.options
    initial = read_tensors(job.start)
    build_net(config, initial)  # a size or weights that do not fit: one error here, not many in workers
    split = plan.split(config)
    tables = make_tables(plan.index, split.train, split.test, config, window=plan.window)
    about = describe_checkpoint(job, plan, split)
    run_id = tracking.find_or_start(
        store,
        key=f"pretrain-{key}",
        name=run_name([config]),
        stage="pretrain",
        params={**params([config]), "start": job.start.what, "workers": options.workers},
        tags={"study.trained_on": about.trained_on},
        datasets=[dataset_of(plan)],
    )
    print(
        f"{config.backbone}: {len(split.train)} faces to train on, {len(split.test)} to measure on, {config.px} px, "
        f"{config.epochs} epochs, {options.workers} worker(s)",
        flush=True,
    )
    if options.force:
        if forget(storage, key):
            print(f"Discarding the snapshots of an interrupted training in {storage}/{key}", flush=True)
        if standing(job.folder).is_dir():
            print(f"The checkpoint at {job.folder} will be replaced when the new one is finished", flush=True)
    began = plan.out / ".train" / f"{key}.json"
    about = replace(about, environment=begin(began, {**environment("cpu"), "threads": str(room.cpus)}))
    work = Work(
        threads=room.threads(options.feeders),
        feeders=options.feeders,
        snapshot_seconds=60 * options.checkpoint_minutes,
        batch_norm=options.batch_norm,
    )
    curve = Curve(config, store, run_id)
    faces, steps = config.epochs * len(split.train), config.epochs * tables.train.steps
    snapshot, last = train_with_ray(
        config, tables, key=key, storage=storage, work=work, room=room, initial=initial,
        on_epoch=curve.add,
        on_step=lambda step, resumed: shown.reach(config.backbone, faces * step // steps, resumed=resumed),
    )  # fmt: skip
    shown.reach(config.backbone, faces)
    conclude(job, plan, split, about, snapshot, last, curve)
    forget(storage, key)  # only now: until here a rerun continues from it
    began.unlink(missing_ok=True)


def begin(file: Path, now: Mapping[str, str]) -> Mapping[str, str]:
    """The environment that the training was begun in, kept in a file; prints a line where it continues in another."""
    then = json.loads(file.read_text()) if file.is_file() else now
    if changed := differences(then, now):
        print(f"An unfinished training continues in another environment: {changed}", flush=True)
    write_json(file, then)
    return then
