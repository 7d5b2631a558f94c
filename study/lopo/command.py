"""Leave one person out: one training a person on everyone else's faces, tested on that person's.

`--best` runs the winner of the newest finished sweep; `--trial FILE`, or --backbone and its like, a config given by
hand. Folds fan out over all of Ray's resources and log to MLflow under one parent run. Interrupted, only the missing
folds are run: type the same command again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from study.artifacts.brands import brand, branded
from study.artifacts.predictions import Predictions, write_predictions
from study.cli.describe import flat
from study.cli.options import PEOPLE, Allowed, Training, faces_or_synthetic, home, is_synthetic
from study.cli.run import refuse_ignored
from study.cluster.placing import Running, Unit, check_room, explaining, gpu_share
from study.cluster.start import Joining
from study.files.locks import hold
from study.files.storage import write_json
from study.lopo.jobs import Schedule, gather, make_jobs
from study.lopo.plan import Plan, plan_by_hand, plan_of_sweep
from study.lopo.ray_tasks import run_jobs
from study.starts import Start, check_apart, check_starts, read_start, worst
from study.statistics.summary import alarms, constant_guess, summarise
from study.tracking import runs as tracking
from trainables import code_version
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.fields import Count
from trainables.frozen.checks import check_frozen


@dataclass(frozen=True)
class Lopo:
    """Options of study.lopo."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    best: bool = False
    """Run the winner of the newest finished sweep (see --sweep)."""
    sweep: str | None = None
    """With --best: the sweep of this name."""
    backbone: str | None = None
    """Without --best: the network."""
    weights: str | None = None
    """Without --best: random, imagenet, a weights file, or a checkpoint folder of study.pretrain."""
    faces: tuple[Path, ...] = ()
    """Faces tables with people. Default: the sweep's with --best, else the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    schedule: Literal["plain", "tree"] = "plain"
    """plain: a training a fold, for the figure to publish; tree: all folds for the cost of a few trainings, for
    screening (see docs/lopo.md)."""
    seeds: Count = 1
    """Trainings a person, with seeds counted up from the config's."""
    cpus_per_fold: int = 1
    gpus_per_fold: float | None = None
    """Share of a GPU: 0.1 puts ten folds on one. Default: 0.25 where there are GPUs, else none."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Path | None = None
    """Folder for a folder a result. Default: runs/lopo, or runs/synthetic/lopo of synthetic people."""
    force: bool = False
    """Discard finished folds of this very config and run them anew."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


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
    about = _about(plan, folders, faces, configs, list(starts.values()), learned_from, options, key)
    folder = out / key
    with hold(out, key):
        if options.force:
            _discard(folder)
        print(f"LOPO {plan.name!r}: {len(jobs)} folds, {len(faces)} faces of {len(faces.people)} people", flush=True)
        print(f"Config: {plan.selection}", flush=True)
        print(f"Pretraining: {about['pretraining']['what']}; {learned_from['sentence']}", flush=True)
        params = flat(configs[0]) if len(configs) == 1 else {}
        parent = tracking.find_or_start(
            store,
            key=f"lopo-{key}",
            name=branded(options.name or f"lopo {plan.name}", about),
            stage="lopo",
            params=params | {"faces": about["dataset"], "seeds": options.seeds},
            tags={"study.selection": plan.selection, "study.brand": brand(about) or "none"},
        )
        running = Running()
        with explaining(unit, running.count, joined=options.ray.joins):
            failed = run_jobs(jobs, tables, starts, store, parent, schedule, running)
        if failed:
            tracking.finish(store, parent, status="FAILED")
            person, why = failed[0]
            raise ValueError(
                f"{len(failed)} of {len(jobs)} folds failed, first {person}: {why}; the same command runs only those "
                "again"
            )
        predictions, environments = gather([job.file for job in jobs])
        about["environments"] = environments
        write_predictions(folder / "predictions.parquet", predictions, about=about)
        _finish(store, parent, predictions, about, folder)
    return 0


def _finish(
    store: tracking.Tracking, parent: str, predictions: Predictions, about: Mapping[str, Any], folder: Path
) -> None:
    summary = summarise(predictions)
    guess = summarise(constant_guess(predictions))
    warnings = alarms(predictions)
    metrics = {
        "mae": summary.mae.value,
        "mae_low": summary.mae.low,
        "mae_high": summary.mae.high,
        "mae_pooled": summary.mae_pooled.value,
        "rmse": summary.rmse.value,
        "rmse_pooled": summary.rmse_pooled.value,
        "mae_constant_guess": guess.mae.value,
        **{f"cs_{th:02d}": float(share) for th, share in enumerate(summary.cs.value)},
        **{f"choice_{name}": value for name, value in about["choice"].get("optimism", {}).items()},
    }
    told, trial = folder / "about.json", folder / "trial.json"
    write_json(told, about)
    write_json(trial, {"trial": about["trial"]})
    tracking.log_files(store, parent, [folder / "predictions.parquet", told, trial])
    curve = [(th, {"cs": float(share)}) for th, share in enumerate(summary.cs.value)]
    tracking.log_steps(store, parent, curve)
    tracking.finish(store, parent, metrics=metrics, tags={tracking.COMPLETE: "yes"})
    print(
        f"\n{branded('MAE', about)} {summary.mae.value:.2f} years (mean over {summary.people} people; 95 % interval "
        f"over people {summary.mae.low:.2f} to {summary.mae.high:.2f})\n"
        f"MAE pooled over {summary.photos} photos {summary.mae_pooled.value:.2f}\n"
        f"RMSE {summary.rmse.value:.2f}, CS(5) {summary.cs.value[5]:.1f} %, CS(10) {summary.cs.value[10]:.1f} %\n"
        f"A constant guess scores {guess.mae.value:.2f}. Pretraining: {about['pretraining']['what']}; "
        f"{about['learned_from']['sentence']}.\n"
        f"Config: {about['selection']}."
    )
    if about["built_in"]:
        print("Synthetic people: this result means nothing about real faces.")
    for warning in warnings:
        print(f"ALARM: {warning}")
    print(f"Predictions: {folder / 'predictions.parquet'}")
    print(f"Next: python -m study.report        Look: {tracking.how_to_look()}")


def _about(
    plan: Plan,
    folders: Sequence[Path],
    faces: Faces,
    configs: Sequence[TrialConfig],
    starts: Sequence[Start],
    learned_from: Mapping[str, Any],
    options: Lopo,
    key: str,
) -> dict[str, Any]:
    """What the report must say about a result, and what names it."""
    first = configs[0]
    dataset = ", ".join(faces.datasets)
    whats = list(dict.fromkeys(start.what for start in starts))
    return {
        "name": options.name or plan.name,
        "key": key,
        "dataset": dataset,
        "faces": [str(folder) for folder in folders],
        "faces_digest": faces.digest,
        "photos": len(faces),
        "people": len(faces.people),
        "trial": first.to_json(),
        "trials": [config.to_json() for config in configs],
        "selection": plan.selection,
        "sealed": plan.sealed,
        "choice": dict(plan.choice),
        "pretraining": {"what": "; ".join(whats), "unlike": plan.unlike},
        "starts": [start.record for start in starts],
        "learned_from": dict(learned_from),
        "seeds": [first.seed + step for step in range(options.seeds)],
        "schedule": options.schedule,
        "epochs_by": "fixed beforehand by the config",
        "built_in": is_synthetic(faces.datasets),
        "code": code_version(),
    }


def _discard(folder: Path) -> None:
    if folder.is_dir():
        finished = len(list(folder.glob("folds/*.parquet")))
        whole = " and their predictions.parquet" if (folder / "predictions.parquet").is_file() else ""
        print(f"Discarding {finished} finished folds in {folder}{whole}", flush=True)
        shutil.rmtree(folder)
