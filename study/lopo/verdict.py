"""What a LOPO says and records: its record, its MLflow metrics, and what it prints at its start and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from study.artifacts.about import About, Pretraining
from study.artifacts.brands import branded
from study.artifacts.predictions import Predictions
from study.cli.options import is_synthetic
from study.files.storage import write_json
from study.gallery import write_photos
from study.lopo.jobs import Job
from study.lopo.options import Lopo
from study.lopo.pages import outcome, result_name, save_views
from study.lopo.plan import Inputs, Plan
from study.statistics.summary import alarms, constant_guess, summarise
from study.tracking import runs as tracking
from study.tracking.look import artifact, how_to_look, is_here, link
from trainables import code_version
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.faces.table import Faces


def say_start(name: str, jobs: Sequence[Job], faces: Faces, about: About) -> None:
    """Print what is about to run."""
    print(f"LOPO {name!r}: {len(jobs)} folds, {len(faces)} faces of {len(faces.people)} people", flush=True)
    print(f"Config: {about.selection}", flush=True)
    print(f"Pretraining: {about.learning}", flush=True)


def conclude(
    store: tracking.Tracking,
    folds: tracking.Tracking,
    parent: str,
    predictions: Predictions,
    about: About,
    folder: Path,
    seconds: float,
    faces: Faces,
) -> None:
    """Log a complete result to its run, write about.json and trial.json, and print the summary.

    folds: the connection to the experiment of its folds. seconds: what all trainings took.
    """
    summary = summarise(predictions)
    guess = summarise(constant_guess(predictions))
    warnings = alarms(predictions)
    metrics = {
        "mae": summary.mae.value,
        "mae_low": summary.mae.low,
        "mae_high": summary.mae.high,
        "rmse": summary.rmse.value,
        "cs_5": float(summary.cs.value[5]),
        "seconds": seconds,
        "pooled/mae": summary.mae_pooled.value,
        "pooled/rmse": summary.rmse_pooled.value,
        "constant_guess/mae": guess.mae.value,
        **_costs(about),
    }
    if about.choice:
        metrics |= {f"choice/{name}": value for name, value in asdict(about.choice.optimism).items()}
    record, trial = folder / "about.json", folder / "trial.json"
    write_json(record, about.to_json())
    write_json(trial, {"trial": about.trial, "trials": list(about.configs)})
    tracking.log_files(store, parent, [folder / "predictions.parquet", record, trial])
    curve = [(th, {"curve/cs": float(share)}) for th, share in enumerate(summary.cs.value)]
    tracking.log_steps(store, parent, curve)
    view, people = save_views(store, folds, parent, about)
    shown = write_photos(folder, predictions, faces, synthetic=about.built_in)
    stays = is_here(store)
    if stays:
        tracking.log_files(store, parent, shown)
    photos = artifact(store.experiment, parent, shown[0].name) if stays else ""
    where = link("", folds.experiment, people).lstrip("/") if people else ""
    note = outcome(about, summary, guess, people=where, photos=photos)
    tracking.finish(
        store, parent, metrics=metrics, tags={tracking.COMPLETE: "yes", "study.state": "complete"},
        name=result_name(about, summary.mae.value), note=note, seconds=seconds,
    )  # fmt: skip
    print(
        f"\n{branded('MAE', about.brand)} {summary.mae.value:.2f} years (mean over {summary.people} people; 95 % "
        f"interval over people {summary.mae.low:.2f} to {summary.mae.high:.2f})\n"
        f"MAE pooled over {summary.photos} photos {summary.mae_pooled.value:.2f}\n"
        f"RMSE {summary.rmse.value:.2f}, CS(5) {summary.cs.value[5]:.1f} %, CS(10) {summary.cs.value[10]:.1f} %\n"
        f"A constant guess scores {guess.mae.value:.2f}. Pretraining: {about.learning}.\n"
        f"Config: {about.selection}."
    )
    if about.built_in:
        print("Synthetic people: this result means nothing about real faces.")
    for warning in warnings:
        print(f"ALARM: {warning}")
    print(f"Predictions: {folder / 'predictions.parquet'}")
    print(f"Worst and best photos, for this machine only: {shown[0]}")
    print(f"Next: python -m study.report        Look: {how_to_look(store, view)}")
    if people:
        print(f"Worst person first: {how_to_look(folds, people)}")


def _costs(about: About) -> dict[str, float]:
    """The network's parameters and multiply-adds; none where people were tested with different ones."""
    configs = [TrialConfig.from_json(config) for config in about.configs]
    costs = {count_cost(config.backbone, config.px, config.ages) for config in configs}
    return {name: float(value) for name, value in asdict(costs.pop()).items()} if len(costs) == 1 else {}


def describe_result(plan: Plan, inputs: Inputs, options: Lopo, key: str) -> About:
    """What the report must know about a result, and what identifies it."""
    faces, configs, starts = inputs.faces, inputs.configs, inputs.starts.values()
    return About(
        name=options.name or plan.name,
        key=key,
        dataset=", ".join(faces.datasets),
        faces=tuple(map(str, inputs.folders)),
        faces_digest=faces.digest,
        photos=len(faces),
        people=len(faces.people),
        trial=configs[0].to_json(),
        trials=tuple(config.to_json() for config in configs),
        selection=plan.selection,
        sealed=plan.sealed,
        choice=plan.choice,
        pretraining=Pretraining("; ".join(dict.fromkeys(start.what for start in starts)), plan.unlike),
        starts=tuple(start.record for start in starts),
        learned_from=inputs.learned_from,
        beside=inputs.drawn.record,
        seeds=tuple(configs[0].seed + step for step in range(options.seeds)),
        schedule=options.schedule,
        epochs_by="fixed beforehand by the config",
        built_in=is_synthetic(faces.datasets),
        code=code_version(),
    )
