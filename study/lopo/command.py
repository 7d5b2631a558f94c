"""Leave one person out: one training per person, on everyone else's faces, tested on that person's.

`--best` runs the winner of the newest finished sweep. `--trial FILE`, or options such as --backbone, run a config given
by hand. Folds run on all of Ray's resources and are logged to MLflow under one parent run. After an interruption the
same command runs only the missing folds.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from study.artifacts.predictions import write_predictions
from study.cli.options import home
from study.cluster.placing import Running, Unit, check_room, explaining, gpu_share
from study.files.locks import hold
from study.lopo.average import average
from study.lopo.jobs import Schedule, gather, make_jobs, take_over
from study.lopo.options import Lopo
from study.lopo.pages import dataset_of, open_questions, result_name
from study.lopo.plan import plan_by_hand, plan_of_sweep, read_inputs
from study.lopo.ray_tasks import run_jobs
from study.lopo.verdict import conclude, describe_result, say_start
from study.quality import attributes, columns_of
from study.tracking import runs as tracking


def lopo(options: Lopo) -> int:
    """Run the missing folds, then write, log and print the result; returns the exit status."""
    options.refuse_conflicts()
    if options.average:
        return average(options)
    store = tracking.connect()
    if options.best:
        plan = plan_of_sweep(store, name=options.sweep, training=options.training)
    else:
        plan = plan_by_hand(options.training, backbone=options.backbone, weights=options.weights, beside=options.beside)
    inputs = read_inputs(plan, options)
    options.ray.start()
    share = gpu_share(options.gpus_per_fold)
    unit = Unit("fold", options.cpus_per_fold, share, "--cpus-per-fold and --gpus-per-fold")
    check_room(unit, joined=options.ray.joins)
    schedule = Schedule(options.schedule, options.seeds, options.cpus_per_fold, share)
    out = options.out or home(inputs.faces.datasets) / "lopo"
    jobs, key = make_jobs(plan, inputs.faces, inputs.starts, schedule, out, inputs.drawn)
    about = describe_result(plan, inputs, options, key)
    folder = out / key
    with hold(out, key):
        results, folds = open_questions(store, inputs.faces)
        if options.force:
            _discard(folder)
        say_start(plan.name, jobs, inputs.faces, about)
        if not options.force:
            take_over(jobs, inputs.tables)
        mark = {"study.brand": about.brand or "none"}
        parent = tracking.find_or_start(
            results,
            key=f"lopo-{key}",
            name=result_name(about),
            stage="lopo",
            params=inputs.params | {"faces": about.dataset, "seeds": options.seeds, "schedule": options.schedule},
            tags={"study.selection": plan.selection, **mark},
            datasets=[dataset_of(about)],
        )
        if not all(job.file.is_file() for job in jobs):
            tracking.reopen(results, parent, key=f"lopo-{key}")
        running = Running()
        with explaining(unit, running.count, joined=options.ray.joins):
            failed = run_jobs(
                jobs, inputs.tables, inputs.starts, folds, parent, schedule, running, mark, drawn=inputs.drawn
            )
        if failed:
            tracking.finish(results, parent, status="FAILED", tags={"study.state": "failed"})
            person, why = failed[0]
            raise ValueError(
                f"{len(failed)} of {len(jobs)} folds failed, first {person}: {why}; the same command runs only those "
                "again"
            )
        predictions, environments, seconds = gather([job.file for job in jobs])
        about = replace(about, environments=environments)
        known = columns_of(attributes(inputs.folders), predictions.photo)
        predictions = replace(predictions, attributes=known)
        write_predictions(folder / "predictions.parquet", predictions, about=about.to_json())
        conclude(results, folds, parent, predictions, about, folder, seconds, inputs.tables[max(inputs.tables)])
    return 0


def _discard(folder: Path) -> None:
    if folder.is_dir():
        finished = len(list(folder.glob("folds/*.parquet")))
        whole = " and their predictions.parquet" if (folder / "predictions.parquet").is_file() else ""
        print(f"Discarding {finished} finished folds in {folder}{whole}", flush=True)
        shutil.rmtree(folder)
