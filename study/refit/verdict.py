"""What a refit says and records: at its start, and when the model is written, logged and registered."""

from __future__ import annotations

from pathlib import Path

from study.artifacts.brands import branded
from study.artifacts.model import Measured, ModelRecord
from study.cli.describe import describe
from study.model.place import CHAMPION
from study.refit.plan import Plan
from study.refit.register import log_and_register
from study.tracking import runs as tracking


def say_start(plan: Plan, measured: Measured | None) -> None:
    """Print what is about to be trained, and why this config."""
    faces = plan.faces
    people = f" of {len(faces.people)} people" if faces.people else ""
    if plan.untuned:
        print(f"{branded(plan.name, plan.brand)}: a pretrained network as it is; nothing is trained")
    else:
        print(f"Refit {branded(plan.name, plan.brand)}: {plan.seeds} training(s) on {len(faces)} faces{people}")
    print(f"Config: {describe(plan.config)}; {plan.chosen.rule}")
    for each in plan.chosen.candidates:
        chosen = " (chosen)" if each.block == plan.chosen.block else ""
        print(
            f"  {each.block}: trial {each.trial} ({each.backbone}), MAE {each.mae:.2f}, constant guess "
            f"{each.constant:.2f}, ratio {each.ratio:.3f}{chosen}"
        )
    print(f"Pretraining: {plan.start.what}")
    if measured is None:
        print("Expected error: not measured, there is no LOPO result of these configs; the intervals stay uncalibrated")
    print(end="", flush=True)


def conclude(store: tracking.Tracking, parent: str, record: ModelRecord, folder: Path, *, register: bool) -> None:
    """Log the model and its metrics, register it, and print where it is and how it is used."""
    metrics = {"onnx_difference": record.onnx_difference}
    if found := record.measured:
        metrics |= {"expected_mae": found.mae, "expected_mae_low": found.mae_low, "expected_mae_high": found.mae_high}
        for scale in found.scales:
            metrics[f"covered_{100 * scale.level:.0f}"] = scale.covered
    logged = log_and_register(store, parent, record, folder, register=register)
    tracking.finish(store, parent, metrics=metrics, tags={tracking.COMPLETE: "yes", "study.folder": str(folder)})
    print(f"\n{folder}: {record.error}")
    if found:
        left_out = "on photos that it did not learn from" if found.untuned else "of people who were left out"
        for scale in found.scales:
            factor = "all ages" if scale.factor is None else f"± {scale.factor:.2f} spreads"
            print(
                f"{100 * scale.level:.0f} % interval ({factor}, {scale.width:.1f} years wide on average): held "
                f"{100 * scale.covered:.1f} % of true ages {left_out}"
            )
    print(f"model.onnx: at most {record.onnx_difference:.1e} years from torch on {record.onnx_faces} faces")
    if record.synthetic:
        print("Synthetic people: this model means nothing for real faces.")
    print(f"MLflow: {logged}")
    print(f"Card: {folder / 'README.md'}")
    print(f"Next: python -m study.predict PHOTO        or --model {CHAMPION if register else folder}")
