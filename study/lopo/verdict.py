"""The end of a LOPO: what a result is about, MLflow's metrics, and what the terminal says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.artifacts.brands import branded
from study.artifacts.predictions import Predictions
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


def conclude(
    store: tracking.Tracking, parent: str, predictions: Predictions, about: Mapping[str, Any], folder: Path
) -> None:
    """Log a complete result to its run, write what names it, and print it."""
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


def describe_result(
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
