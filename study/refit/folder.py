"""Writes a model folder: weights, model.onnx (checked), trial.json, model.json and the model card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import safetensors.torch
from torch import Tensor

from study.artifacts.model import CARD, ONNX, Measured, ModelRecord, sha256
from study.files.storage import write_whole
from study.model.export import CHECKED, export_onnx, largest_difference
from study.model.network import mean_net, read_states, weights_file
from study.refit.card import write_card
from study.refit.plan import Plan, code_digests
from trainables.checkpoints import Checkpoint, CheckpointRecord, save_checkpoint
from trainables.folders import old_name, standing
from trainables.provenance import environment, merge_photos, photos_of


def standing_model(folder: Path, training: str) -> ModelRecord | None:
    """The record of a whole model folder of these trainings; None where there is none, or it is damaged."""
    place = standing(folder)
    try:
        record = ModelRecord.read(place)
        whole = all(sha256((place / name).read_bytes()) == digest for name, digest in record.files.items())
    except (OSError, ValueError):
        return None
    return record if whole and record.training == training else None


def trained_before(folder: Path, record: ModelRecord) -> list[dict[str, Tensor]]:
    """The tensors of each seed of a standing model."""
    return read_states(standing(folder), record)


def learned_photos(plan: Plan) -> pa.Table | None:
    """Every photo that the model learned from, its start's and companions' too; None: nobody knows all of them."""
    if plan.start.photos is None:
        return None
    companions = plan.drawn.taken(plan.config)
    ours = [photos_of(each, np.arange(len(each))) for each in (plan.faces, companions) if each is not None]
    return merge_photos([*ours, plan.start.photos])


def write_model(
    folder: Path,
    plan: Plan,
    states: Sequence[dict[str, Tensor]],
    *,
    training: str,
    content: str,
    measured: Measured | None,
) -> ModelRecord:
    """Write the folder under a temporary name, then rename it: a reader sees the old model or the new one.

    The folder is a checkpoint of its first seed, too. Raises ValueError where model.onnx is not what was trained.
    """
    faces, config = plan.faces, plan.config
    new = folder.with_name(f".{folder.name}.unfinished")
    for left in (new, old_name(new)):
        shutil.rmtree(left, ignore_errors=True)
    beside = f", {config.companions:,} of {', '.join(plan.drawn.record.datasets)} beside" * bool(config.companions)
    about = (
        plan.untuned.about
        if plan.untuned
        else CheckpointRecord(
            trained_on=f"{len(faces):,} faces of {', '.join(faces.datasets)}{beside}, after {plan.start.what}",
            fingerprint=training,
            datasets=tuple(sorted({*faces.datasets, *plan.start.datasets})),
            faces_digest=faces.digest,
            epochs=config.epochs,
            coverage=faces.coverage,
            environment=environment("cpu"),
        )
    )
    try:
        save_checkpoint(new, Checkpoint(states[0], config, about, learned_photos(plan)))
        for index, state in enumerate(states[1:], start=1):
            write_whole(new / weights_file(index), safetensors.torch.save(state))
        net = mean_net(config, states)
        export_onnx(net, new / ONNX, px=config.px)
        chosen = np.unique(np.linspace(0, len(faces) - 1, min(CHECKED, len(faces))).round().astype(int))
        difference = largest_difference(net, (new / ONNX).read_bytes(), faces.pixels[chosen])
        record = ModelRecord(
            name=plan.name,
            training=training,
            content=content,
            files={file.name: sha256(file.read_bytes()) for file in sorted(new.iterdir())},
            trial=config.to_json(),
            px=config.px,
            ages=config.ages,
            decoder=config.decoder,
            seeds=tuple(config.seed + seed for seed in range(plan.seeds)),
            alignment=plan.alignment,
            datasets=tuple(faces.datasets),
            faces_digest=faces.digest,
            photos=len(faces),
            people=len(faces.people),
            youngest=int(faces.age.min()),
            oldest=int(faces.age.max()),
            pretraining=plan.start.what,
            synthetic=plan.synthetic,
            chosen=plan.chosen,
            measured=measured,
            code=dict(code_digests()),
            environment=environment("cpu"),
            onnx_difference=difference,
            onnx_faces=len(chosen),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            brand=plan.brand,
            untuned=plan.untuned is not None,
        )
        write_whole(new / CARD, write_card(record).encode())
        record.write(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    old = old_name(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return record
