"""The end of a LOPO: its record, its MLflow metrics, and the summary for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from study.artifacts.about import About, Pretraining
from study.artifacts.brands import branded
from study.artifacts.predictions import Predictions
from study.artifacts.pretraining import LearnedFrom
from study.cli.options import is_synthetic
from study.files.storage import write_json
from study.lopo.options import Lopo
from study.lopo.plan import Plan
from study.starts import Start
from study.statistics.summary import alarms, constant_guess, summarise
from study.tracking import runs as tracking
from trainables import code_version
from trainables.config import TrialConfig
from trainables.faces.table import Faces


def conclude(store: tracking.Tracking, parent: str, predictions: Predictions, about: About, folder: Path) -> None:
    """Log a complete result to its run, write about.json and trial.json, and print the summary."""
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
    if about.choice:
        metrics |= {f"choice_{name}": value for name, value in asdict(about.choice.optimism).items()}
    learned_from = f"; {about.learned_from.sentence}" if about.learned_from else ""
    record, trial = folder / "about.json", folder / "trial.json"
    write_json(record, about.to_json())
    write_json(trial, {"trial": about.trial})
    tracking.log_files(store, parent, [folder / "predictions.parquet", record, trial])
    curve = [(th, {"cs": float(share)}) for th, share in enumerate(summary.cs.value)]
    tracking.log_steps(store, parent, curve)
    tracking.finish(store, parent, metrics=metrics, tags={tracking.COMPLETE: "yes"})
    print(
        f"\n{branded('MAE', about.brand)} {summary.mae.value:.2f} years (mean over {summary.people} people; 95 % "
        f"interval over people {summary.mae.low:.2f} to {summary.mae.high:.2f})\n"
        f"MAE pooled over {summary.photos} photos {summary.mae_pooled.value:.2f}\n"
        f"RMSE {summary.rmse.value:.2f}, CS(5) {summary.cs.value[5]:.1f} %, CS(10) {summary.cs.value[10]:.1f} %\n"
        f"A constant guess scores {guess.mae.value:.2f}. Pretraining: {about.pretraining.what}{learned_from}.\n"
        f"Config: {about.selection}."
    )
    if about.built_in:
        print("Synthetic people: this result means nothing about real faces.")
    for warning in warnings:
        print(f"ALARM: {warning}")
    print(f"Predictions: {folder / 'predictions.parquet'}")
    print(f"Next: python -m study.report        Look: {tracking.how_to_look()}")


def describe_result(
    plan: Plan,
    folders: Sequence[Path],
    faces: Faces,
    configs: Sequence[TrialConfig],
    starts: Sequence[Start],
    learned_from: LearnedFrom,
    options: Lopo,
    key: str,
) -> About:
    """What the report must know about a result, and what identifies it."""
    return About(
        name=options.name or plan.name,
        key=key,
        dataset=", ".join(faces.datasets),
        faces=tuple(map(str, folders)),
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
        learned_from=learned_from,
        seeds=tuple(configs[0].seed + step for step in range(options.seeds)),
        schedule=options.schedule,
        epochs_by="fixed beforehand by the config",
        built_in=is_synthetic(faces.datasets),
        code=code_version(),
    )
