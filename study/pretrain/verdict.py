"""The end of a pretraining: its epochs and metrics in MLflow, its checkpoint, and what the terminal says."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from study.cli.describe import run_name
from study.cli.options import is_synthetic
from study.folds import Fold
from study.pretrain.plan import Job, Plan
from study.tracking import runs as tracking
from study.tracking.look import how_to_look
from study.tracking.questions import question
from study.tracking.views import View, save
from trainables.checkpoints import Checkpoint, CheckpointRecord, save_checkpoint
from trainables.config import TrialConfig
from trainables.fitting import Epoch, Snapshot
from trainables.provenance import merge_photos, photos_of


def describe_checkpoint(job: Job, plan: Plan, split: Fold) -> CheckpointRecord:
    """The record of the job's checkpoint, as far as it is known before the training."""
    start, config = job.start, job.config
    # without a path: two that started from the same weights have the same text
    origin = f"{start.weights} weights" if start.weights in ("random", "imagenet") else f"({start.what})"
    seen = f"{len(split.train)} faces of {', '.join(plan.index.datasets)}"
    return CheckpointRecord(
        trained_on=f"{seen}, {config.epochs} epochs at {config.px} px, from {origin}",
        fingerprint=job.key,
        made_from=job.made_from,
        datasets=tuple(sorted({*plan.index.datasets, *start.datasets})),
        faces_digest=plan.index.digest,
        dev_share=plan.options.dev_share,
        dev_faces=len(split.test),
        coverage=plan.index.coverage,
    )


def open_question(store: tracking.Tracking, plan: Plan) -> tracking.Tracking:
    """The connection to the experiment of all pretrainings."""
    note = (
        "**What do the networks start from?** A run is one network trained on faces of many people; `mae` is its error "
        "on a dev part that it did not train on, `training/...` its curve, a step an epoch. Sweeps and LOPO start from "
        "its checkpoint."
    )
    synthetic = is_synthetic(plan.index.datasets)
    return question(store, "pretraining", note=note, synthetic=synthetic)


def dataset_of(plan: Plan) -> dict[str, Any]:
    """The faces that the networks are trained on, for MLflow."""
    index = plan.index
    return tracking.dataset(
        ", ".join(index.datasets), digest=index.digest, source=plan.options.faces or ("built in",),
        faces=len(index), people=len({str(name) for name in index.person if name}), context="pretraining",
    )  # fmt: skip


@dataclass
class Curve:
    """Prints each epoch and logs it. An epoch that a full disk does not take is logged with the next one."""

    config: TrialConfig
    store: tracking.Tracking
    run_id: str
    unlogged: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def add(self, epoch: Epoch) -> None:
        """Print and log one more epoch. It is called in a thread where nobody would see an error."""
        left = (self.config.epochs - epoch.epoch) * epoch.seconds
        print(
            f"  {self.config.backbone} epoch {epoch.epoch}/{self.config.epochs}: loss {epoch.train_loss:.3f}, "
            f"dev MAE {epoch.validation_mae:.2f}, {epoch.faces_per_second:.0f} faces/s "
            f"({epoch.waited:.0%} waiting), {left / 60:.0f} min left",
            flush=True,
        )
        self.unlogged.append((epoch.epoch, {f"training/{k}": v for k, v in asdict(epoch).items() if k != "epoch"}))
        try:
            self.log()
        except OSError as error:
            print(f"  {self.config.backbone} epoch {epoch.epoch} not logged: {error}", file=sys.stderr)

    def log(self) -> None:
        """Log what is not logged yet. Raises OSError where the disk is full."""
        if self.unlogged:
            tracking.log_steps(self.store, self.run_id, self.unlogged)
            self.unlogged.clear()


def conclude(
    job: Job, plan: Plan, split: Fold, about: CheckpointRecord, snapshot: Snapshot, last: Epoch, curve: Curve
) -> None:
    """Write the checkpoint folder of a finished training, finish its MLflow run and print its dev MAE."""
    curve.log()
    photos, mae = photos_of(plan.index, split.train), last.validation_mae
    about = replace(about, dev_mae=mae, epochs=last.epoch)
    known = None if job.start.photos is None else merge_photos([job.start.photos, photos])
    save_checkpoint(job.folder, Checkpoint(snapshot.average or snapshot.net, job.config, about, known))
    record = {"trial": job.config.to_json(), "about": about.to_json()}
    tracking.log_json(curve.store, curve.run_id, "trial.json", record)
    seconds = tracking.total(curve.store, curve.run_id, "training/seconds")
    tracking.finish(
        curve.store, curve.run_id, metrics={"mae": mae, "seconds": seconds},
        tags={tracking.COMPLETE: "yes", "study.state": "complete"},
        name=run_name([job.config], f"{mae:.2f}"), note=f"Trained on {about.trained_on}. Dev MAE **{mae:.2f}** years.",
        seconds=seconds,
    )  # fmt: skip
    print(f"{job.config.backbone}: dev MAE {mae:.2f} years on {len(split.test)} faces; checkpoint at {job.folder}")


def print_end(plan: Plan, failed: Sequence[tuple[str, str]]) -> int:
    """Print what failed, or where the checkpoints are and the next command; returns the exit status."""
    if failed:
        for name, why in failed:
            print(f"{name} failed: {why}", file=sys.stderr)
        total = len(plan.jobs) + len(plan.failed)
        print(f"{len(failed)} of {total} failed; the same command tries them again", file=sys.stderr)
        return 1
    view = View(
        "pretrainings", "Pretrained networks by dev MAE", "tags.`study.stage` = 'pretrain'", "metrics.mae",
        ["metrics.mae", "params.backbone", "params.px", "params.epochs", "params.start", "metrics.seconds"],
    )  # fmt: skip
    store = open_question(tracking.connect(), plan)
    save(store, [view])
    print(f"Look: {how_to_look(store, view.key)}")
    print(f"Checkpoints: {', '.join(str(job.folder) for job in plan.jobs)}")
    print(f"Next: {next_command(plan)}")
    return 0


def next_command(plan: Plan) -> str:
    """The sweep that starts from these checkpoints, on the faces that belong to them; it works as typed."""
    where = f" --pretrained {plan.options.out}" if plan.options.out else ""
    if is_synthetic(plan.index.datasets):
        return f"python -m study.sweep{where}"
    tables = [place for place in sorted(Path("runs").glob("fgnet*")) if (place / "faces").is_dir()]
    if not tables:
        return "python -m study.align --help   (a sweep needs a table with people, such as FG-NET's)"
    return f"python -m study.sweep --faces {tables[0]}{where}"
