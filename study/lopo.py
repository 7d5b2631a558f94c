"""Leave one person out: one training a person on everyone else's faces, tested on that person's.

`--best` runs the winner of the newest finished sweep; `--trial FILE`, or --backbone and its like, a config given by
hand. Folds fan out over all of Ray's resources and log to MLflow under one parent run. Interrupted, only the missing
folds are run: type the same command again.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from study import tracking
from study.cluster import gpu_share, start_ray
from study.command import main, refuse_ignored
from study.describe import flat
from study.folding import Schedule, gather, make_jobs, run_jobs
from study.options import BUILT_IN_PEOPLE, Training, faces_or_built_in, is_built_in
from study.plans import Plan, describe_pretraining, plan_by_hand, plan_of_sweep
from study.predictions import Predictions, write_predictions
from study.selection import check_apart
from study.statistics import alarms, constant_guess, summarise
from study.storage import write_json
from trainables import code_version
from trainables.checks import check_frozen
from trainables.config import TrialConfig
from trainables.faces import Faces, load_faces
from trainables.fields import Count


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
    """Faces tables with people. Default: the sweep's with --best, else the built-in people."""
    schedule: Literal["plain", "tree"] = "plain"
    """plain: a training a fold, for the figure to publish; tree: all folds for the cost of a few trainings, for
    screening (see docs/lopo.md)."""
    tree_orders: Count = 1
    """With --schedule tree: trees, each over the people in another order, whose answers are averaged."""
    seeds: Count = 1
    """Trainings a person, with seeds counted up from the config's."""
    cpus_per_fold: int = 1
    gpus_per_fold: float | None = None
    """Share of a GPU: 0.1 puts ten folds on one. Default: 0.25 where there are GPUs, else none."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Path = Path("runs/lopo")
    force: bool = False
    """Discard finished folds of this very config and run them anew."""
    address: str | None = None
    """Ray cluster to join; default: RAY_ADDRESS, else one started here."""


def lopo(options: Lopo) -> int:
    """Run the folds that are missing, then write, log and print the result; returns the exit status."""
    if options.best and (options.backbone or options.weights or options.training.trial):
        raise ValueError("--best takes the sweep's config: give it without --backbone, --weights and --trial")
    if options.best and options.training.config:
        raise ValueError("--best takes the sweep's config: give it without --config")
    if not options.best:
        refuse_ignored(options, ["sweep"], why="without --best")
    if options.tree_orders < 1 or (options.tree_orders > 1 and options.schedule == "plain"):
        raise ValueError(f"--tree-orders is >= 1, and more than 1 with --schedule tree, got {options.tree_orders}")
    store = tracking.connect()
    if options.best:
        plan = plan_of_sweep(store, name=options.sweep, training=options.training)
    else:
        plan = plan_by_hand(options.training, backbone=options.backbone, weights=options.weights)
    folders = faces_or_built_in(options.faces or plan.faces, BUILT_IN_PEOPLE)
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
    pretraining = {config.weights: describe_pretraining(config.weights) for config in configs}
    start_ray(address=options.address)
    share = gpu_share(options.gpus_per_fold)
    schedule = Schedule(options.schedule, options.seeds, options.cpus_per_fold, share, options.tree_orders)
    jobs, key = make_jobs(plan, faces, pretraining, schedule, options.out)
    about = _about(plan, folders, faces, configs, pretraining, options, key)
    folder = options.out / key
    if options.force:
        _discard(folder)
    print(f"LOPO {plan.name!r}: {len(jobs)} folds, {len(faces)} faces of {len(faces.people)} people", flush=True)
    print(f"Config: {plan.selection}", flush=True)
    parent = tracking.find_or_start(
        store,
        key=f"lopo-{key}",
        name=options.name or f"lopo {plan.name}",
        stage="lopo",
        params=(flat(configs[0]) if len(configs) == 1 else {}) | {"faces": about["dataset"], "seeds": options.seeds},
        tags={"study.selection": plan.selection},
    )
    failed = run_jobs(jobs, tables, store, parent, schedule)
    if failed:
        tracking.finish(store, parent, status="FAILED")
        person, why = failed[0]
        raise ValueError(
            f"{len(failed)} of {len(jobs)} folds failed, first {person}: {why}; the same command runs only those again"
        )
    predictions = gather([job.file for job in jobs])
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
        f"\nMAE {summary.mae.value:.2f} years (mean over {summary.people} people; 95 % interval over people "
        f"{summary.mae.low:.2f} to {summary.mae.high:.2f})\n"
        f"MAE pooled over {summary.photos} photos {summary.mae_pooled.value:.2f}\n"
        f"RMSE {summary.rmse.value:.2f}, CS(5) {summary.cs.value[5]:.1f} %, CS(10) {summary.cs.value[10]:.1f} %\n"
        f"A constant guess scores {guess.mae.value:.2f}. Pretraining: {about['pretraining']['what']}.\n"
        f"Config: {about['selection']}."
    )
    if about["built_in"]:
        print("Built-in people: these figures mean nothing about real faces.")
    for warning in warnings:
        print(f"ALARM: {warning}")
    print(f"Predictions: {folder / 'predictions.parquet'}")
    print(f"Next: python -m study.report        Look: {tracking.how_to_look()}")


def _about(
    plan: Plan,
    folders: Sequence[Path],
    faces: Faces,
    configs: Sequence[TrialConfig],
    pretraining: Mapping[str, Mapping[str, Any]],
    options: Lopo,
    key: str,
) -> dict[str, Any]:
    """What the report must say about a result, and what names it."""
    first = configs[0]
    dataset = ", ".join(sorted({photo.split("/")[0] for photo in faces.photo}))
    whats = list(dict.fromkeys(told["what"] for told in pretraining.values()))
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
        "pretraining": {"what": "; ".join(whats)},
        "seeds": [first.seed + step for step in range(options.seeds)],
        "schedule": options.schedule,
        "tree_orders": options.tree_orders,
        "epochs_by": "fixed beforehand by the config",
        "built_in": is_built_in(folders),
        "code": code_version(),
    }


def _discard(folder: Path) -> None:
    finished = len(list(folder.glob("folds/*.parquet")))
    if finished:
        print(f"Discarding {finished} finished folds in {folder}")
        shutil.rmtree(folder)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main(lopo, Lopo, prog="python -m study.lopo", description=__doc__))
