"""Leave one person out: one training a person on everyone else's faces, tested on that person's.

`--best` runs the winner of the newest finished sweep; `--trial FILE`, or --backbone and its like, a config given by
hand. Folds fan out over all of Ray's resources and log to MLflow under one parent run. Interrupted, only the missing
folds are run: type the same command again.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray
import tyro
from tqdm import tqdm

from study import tracking
from study.cluster import start_ray
from study.command import main
from study.folds import Fold, lopo_folds
from study.options import BUILT_IN_PEOPLE, Training, faces_or_built_in, is_built_in
from study.plans import Plan, describe_pretraining, plan_by_hand, plan_of_sweep
from study.predictions import Predictions, read_predictions, write_predictions
from study.statistics import alarms, constant_guess, summarise
from study.sweeping import flat
from trainables import code_version
from trainables.backbones import read_weights
from trainables.config import TrialConfig, fingerprint
from trainables.faces import Faces, load_faces
from trainables.fold import FoldResult, run_fold
from trainables.metrics import mae, rmse


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
    seeds: int = 1
    """Trainings a person, with seeds counted up from the config's."""
    cpus_per_fold: int = 1
    gpus_per_fold: float = 0.0
    """Share of a GPU: 0.1 puts ten folds on one."""
    name: str | None = None
    """Name in MLflow; default: what was run."""
    out: Path = Path("runs/lopo")
    force: bool = False
    """Discard finished folds of this very config and run them anew."""
    address: str | None = None
    """Ray cluster to join; default: RAY_ADDRESS, else one started here."""


@dataclass(frozen=True)
class Job:
    """One training: a left-out person with one seed."""

    fold: Fold
    config: TrialConfig
    key: str
    file: Path


def lopo(options: Lopo) -> int:
    """Run the folds that are missing, then write, log and print the result; returns the exit status."""
    store = tracking.connect()
    if options.best:
        plan = plan_of_sweep(store, name=options.sweep, training=options.training)
    else:
        plan = plan_by_hand(options.training, backbone=options.backbone, weights=options.weights)
    folders = faces_or_built_in(options.faces or plan.faces, BUILT_IN_PEOPLE)
    configs = list({config.fingerprint(): config for config in plan.trials.values()}.values())
    tables = {px: load_faces(folders, px=px) for px in sorted({config.px for config in configs})}
    faces = next(iter(tables.values()))
    if plan.faces_digest not in (None, faces.digest):
        raise ValueError(
            f"the faces at {', '.join(map(str, folders))} are not those the sweep chose on: run study.sweep on these, "
            "or give the config by hand with --trial FILE"
        )
    pretraining = {config.weights: describe_pretraining(config.weights) for config in configs}
    jobs, key = make_jobs(plan, faces, pretraining, options)
    about = _about(plan, folders, faces, configs, pretraining, options, key)
    folder = options.out / key
    if options.force:
        _discard(folder)
    print(f"LOPO {plan.name!r}: {len(jobs)} folds, {len(faces)} faces of {len(faces.people)} people", flush=True)
    print(f"Config: {plan.selection}", flush=True)
    start_ray(address=options.address)
    parent = tracking.find_or_start(
        store,
        key=f"lopo-{key}",
        name=options.name or f"lopo {plan.name}",
        stage="lopo",
        params=(flat(configs[0]) if len(configs) == 1 else {}) | {"faces": about["dataset"], "seeds": options.seeds},
        tags={"study.selection": plan.selection},
    )
    failed = _run(jobs, tables, store, parent, options)
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


def make_jobs(
    plan: Plan, faces: Faces, pretraining: Mapping[str, Mapping[str, Any]], options: Lopo
) -> tuple[list[Job], str]:
    """Every fold of every seed, and the key of the whole. A fold's key covers all that decides its result."""
    trainings = []
    for step in range(options.seeds):
        for fold in lopo_folds(faces):
            config = plan.config(fold.name)
            config = config.replace(seed=config.seed + step)
            made_from = {
                "trial": {**config.to_json(), "weights": pretraining[config.weights]["fingerprint"]},
                "faces": faces.digest,
                "code": code_version(),
                "person": fold.name,
            }
            trainings.append((fold, config, fingerprint(made_from)))
    key = fingerprint([part for _, _, part in trainings])
    folds = options.out / key / "folds"
    jobs = [
        Job(fold, config, part, folds / f"{fold.name.replace('/', '-')}-seed{config.seed}.parquet")
        for fold, config, part in trainings
    ]
    return jobs, key


def gather(files: Sequence[Path]) -> Predictions:
    """The predictions of all folds as one table."""
    parts = [read_predictions(file)[0] for file in files]
    return Predictions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _run(
    jobs: list[Job], tables: Mapping[int, Faces], store: tracking.Tracking, parent: str, options: Lopo
) -> list[tuple[str, str]]:
    """Run what has no file yet; (person, reason) of what failed. The driver alone writes files and MLflow's runs."""
    missing = [job for job in jobs if not job.file.is_file()]
    finished = [job for job in jobs if job.file.is_file()]
    logged = tracking.children(store, parent)
    for job in finished:  # killed between the file and its run: the run is made up for
        if job.key not in logged:
            part, about = read_predictions(job.file)
            _log_fold(store, parent, job, part.predicted, part.age, about["history"], about["seconds"])
    shared = {px: ray.put(faces) for px, faces in tables.items()}
    weights: dict[str, Any] = {
        name: ray.put({k: v.numpy() for k, v in read_weights(backbone, name).items()}) if name != "random" else None
        for backbone, name in sorted({(job.config.backbone, job.config.weights) for job in missing})
    }
    run = ray.remote(run_fold).options(
        num_cpus=options.cpus_per_fold,
        num_gpus=options.gpus_per_fold,
        max_retries=3,
        scheduling_strategy="SPREAD",
    )
    waiting = {
        run.remote(
            job.config.to_json(),
            shared[job.config.px],
            weights[job.config.weights],
            job.fold.train,
            job.fold.test,
            options.cpus_per_fold,
        ): job
        for job in missing
    }
    failed: list[tuple[str, str]] = []
    errors = {job.file: _person_mae(read_predictions(job.file)[0]) for job in finished}
    calm = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not one a second
    with tqdm(
        total=len(jobs), initial=len(finished), unit="fold", dynamic_ncols=True, desc="folds", mininterval=calm
    ) as bar:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=5)
            for reference in done:
                job = waiting.pop(reference)
                try:
                    result: FoldResult = ray.get(reference)
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", None) or error
                    failed.append((job.fold.name, " ".join(str(cause).split())[:300]))
                else:
                    part = _write_fold(job, tables[job.config.px], result)
                    age = part.age
                    _log_fold(store, parent, job, part.predicted, age, result.history, result.seconds)
                    errors[job.file] = _person_mae(part)
                bar.update()
            told = f", {len(failed)} failed" if failed else ""
            running = min(len(waiting), int(ray.cluster_resources().get("CPU", 1) // options.cpus_per_fold))
            bar.set_postfix_str(f"MAE {_so_far(list(errors.values()))}, {running} running{told}", refresh=False)
    return failed


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
    about = {"trial": job.config.to_json(), "history": _finite(result.history), "seconds": result.seconds}
    write_predictions(job.file, part, about=about)
    return part


def _log_fold(
    store: tracking.Tracking,
    parent: str,
    job: Job,
    predicted: np.ndarray,
    age: np.ndarray,
    history: Sequence[Mapping[str, Any]],
    seconds: float,
) -> None:
    run_id = tracking.find_or_start(
        store,
        key=f"fold-{parent}-{job.key}",
        name=f"{job.fold.name} seed {job.config.seed}",
        stage="fold",
        parent=parent,
        params={"person": job.fold.name, "faces": len(age), **flat(job.config)},
        tags={tracking.FOLD: job.key},
    )
    curves = [(epoch["epoch"], {"train_loss": epoch["train_loss"]}) for epoch in history]
    final = {"mae": mae(predicted, age), "rmse": rmse(predicted, age), "seconds": seconds}
    tracking.log_steps(store, run_id, curves)
    tracking.finish(store, run_id, metrics=final)


def _person_mae(part: Predictions) -> float:
    return mae(part.predicted, part.age)


def _so_far(errors: Sequence[float]) -> str:
    """Mean over the folds done, with a normal 95 % interval: a sign of where it goes, not the result."""
    if not errors:
        return "-"
    if len(errors) < 3:
        return f"{np.mean(errors):.2f}"
    return f"{np.mean(errors):.2f} ± {1.96 * np.std(errors, ddof=1) / np.sqrt(len(errors)):.2f}"


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
    }
    told = folder / "about.json"
    told.write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    trial = folder / "trial.json"
    trial.write_text(json.dumps({"trial": about["trial"]}, indent=2, sort_keys=True) + "\n")
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
        "pretraining": {"what": "; ".join(whats)},
        "seeds": [first.seed + step for step in range(options.seeds)],
        "schedule": "plain",
        "epochs_by": "fixed beforehand by the config",
        "built_in": is_built_in(folders),
        "code": code_version(),
    }


def _discard(folder: Path) -> None:
    finished = len(list(folder.glob("folds/*.parquet")))
    if finished:
        print(f"Discarding {finished} finished folds in {folder}")
        shutil.rmtree(folder)


def _finite(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without the NaN of a curve that was not measured, which JSON has no word for."""
    return [{name: value for name, value in epoch.items() if value == value} for epoch in history]


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main(lopo, Lopo, prog="python -m study.lopo", description=__doc__))
