"""Leave one person out: one training per person, on everyone else's faces, tested on that person's.

`--best` runs the winner of the newest finished sweep. `--trial FILE`, or options such as --backbone, run a config given
by hand. Folds run on all of Ray's resources and are logged to MLflow under one parent run. After an interruption the
same command runs only the missing folds.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from study.artifacts.brands import branded
from study.artifacts.predictions import write_predictions
from study.cli.describe import flat
from study.cli.options import PEOPLE, faces_or_synthetic, home
from study.cli.run import refuse_ignored
from study.cluster.placing import Running, Unit, check_room, explaining, gpu_share
from study.files.locks import hold
from study.lopo.jobs import Schedule, gather, make_jobs
from study.lopo.options import Lopo
from study.lopo.plan import plan_by_hand, plan_of_sweep
from study.lopo.ray_tasks import run_jobs
from study.lopo.verdict import conclude, describe_result
from study.starts import check_apart, check_starts, read_start, worst
from study.tracking import runs as tracking
from trainables.faces.table import load_faces
from trainables.frozen.checks import check_frozen


def lopo(options: Lopo) -> int:
    """Run the folds that are missing, then write, log and print the result; returns the exit status."""
    if options.best and (options.backbone or options.weights or options.training.trial):
        raise ValueError("--best takes the sweep's config: give it without --backbone, --weights and --trial")
    if options.best and options.training.config:
        raise ValueError("--best takes the sweep's config: give it without --config")
    if not options.best:
        refuse_ignored(options, ["sweep"], why="without --best")
    store = tracking.connect()
    if options.best:
        plan = plan_of_sweep(store, name=options.sweep, training=options.training)
    else:
        plan = plan_by_hand(options.training, backbone=options.backbone, weights=options.weights)
    folders = faces_or_synthetic(options.faces or plan.faces, PEOPLE)
    configs = list({config.fingerprint(): config for config in plan.trials.values()}.values())
    for config in configs:
        check_frozen(config)
        config.replace(seed=config.seed + options.seeds - 1)  # the last one: a number too
    tables = {px: load_faces(folders, px=px) for px in sorted({config.px for config in configs})}
    faces = next(iter(tables.values()))
    if plan.faces_digest not in (None, faces.digest):
        raise ValueError(
            f"the faces at {', '.join(map(str, folders))} are not those the sweep chose on: run study.sweep on these, "
            "or give the config by hand with --trial FILE"
        )
    if plan.apart_from:
        check_apart(plan.apart_from, folders)
    used = sorted({(config.backbone, config.weights) for config in configs})
    starts = {which: read_start(*which) for which in used}
    plan.check_weights(list(starts.values()))
    learned_from = worst([check_starts(list(starts.values()), faces.identities, options.allowed), *plan.learned_from])
    options.ray.start()
    share = gpu_share(options.gpus_per_fold)
    unit = Unit("fold", options.cpus_per_fold, share, "--cpus-per-fold and --gpus-per-fold")
    check_room(unit, joined=options.ray.joins)
    schedule = Schedule(options.schedule, options.seeds, options.cpus_per_fold, share)
    out = options.out or home(faces.datasets) / "lopo"
    jobs, key = make_jobs(plan, faces, starts, schedule, out)
    about = describe_result(plan, folders, faces, configs, list(starts.values()), learned_from, options, key)
    folder = out / key
    with hold(out, key):
        if options.force:
            _discard(folder)
        print(f"LOPO {plan.name!r}: {len(jobs)} folds, {len(faces)} faces of {len(faces.people)} people", flush=True)
        print(f"Config: {plan.selection}", flush=True)
        print(f"Pretraining: {about.pretraining.what}; {learned_from.sentence}", flush=True)
        params = flat(configs[0]) if len(configs) == 1 else {}
        mark = {"study.brand": about.brand or "none"}
        parent = tracking.find_or_start(
            store,
            key=f"lopo-{key}",
            name=branded(options.name or f"lopo {plan.name}", about.brand),
            stage="lopo",
            params=params | {"faces": about.dataset, "seeds": options.seeds},
            tags={"study.selection": plan.selection, **mark},
        )
        running = Running()
        with explaining(unit, running.count, joined=options.ray.joins):
            failed = run_jobs(jobs, tables, starts, store, parent, schedule, running, mark)
        if failed:
            tracking.finish(store, parent, status="FAILED")
            person, why = failed[0]
            raise ValueError(
                f"{len(failed)} of {len(jobs)} folds failed, first {person}: {why}; the same command runs only those "
                "again"
            )
        predictions, environments = gather([job.file for job in jobs])
        about = replace(about, environments=environments)
        write_predictions(folder / "predictions.parquet", predictions, about=about.to_json())
        conclude(store, parent, predictions, about, folder)
    return 0


def _discard(folder: Path) -> None:
    if folder.is_dir():
        finished = len(list(folder.glob("folds/*.parquet")))
        whole = " and their predictions.parquet" if (folder / "predictions.parquet").is_file() else ""
        print(f"Discarding {finished} finished folds in {folder}{whole}", flush=True)
        shutil.rmtree(folder)
