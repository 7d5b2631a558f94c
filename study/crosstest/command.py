"""Test a pretrained checkpoint on every face of a table, without fine-tuning.

This second protocol, next to LOPO, is comparable with recent cross-dataset benchmarks. What the checkpoint learned from
is compared with the tested people and photos, and an overlap is refused; --unseen leaves out what it learned from. The
result says for whom the network errs: by age, sex, group and quality of the picture, where the faces table knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from study.artifacts.brands import brand, branded
from study.artifacts.predictions import write_predictions
from study.cli.describe import params, run_name
from study.cli.options import PEOPLE, faces_or_synthetic, home, is_synthetic
from study.crosstest.options import CrossTest
from study.files.locks import hold
from study.files.storage import write_whole
from study.starts import check_starts, read_start
from study.statistics.summary import alarms, constant_guess, summarise
from study.table import Table
from study.tracking import runs as tracking
from study.tracking.questions import question
from study.untuned import find_unseen, predict_untuned
from study.whom import for_whom
from trainables import code_version
from trainables.checkpoints import load_checkpoint
from trainables.config import fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import load_faces, read_identities
from trainables.provenance import environment


def crosstest(options: CrossTest) -> int:
    """Predict every face, write, log and print the result; returns the exit status."""
    folders = faces_or_synthetic(options.faces, PEOPLE)
    place = home(read_identities(folders).datasets)
    folder = options.checkpoint or place / "pretrained" / "efficientnet_b0"
    checkpoint = load_checkpoint(folder)
    config = checkpoint.config
    faces = load_faces(folders, px=config.px)
    start = read_start(config.backbone, str(folder))
    if options.unseen:
        unseen = find_unseen(faces, start)
        print(f"--unseen: {unseen.sum():,} of {len(faces):,} faces; the checkpoint learned from the others", flush=True)
        faces = faces.take(unseen)
    learned_from = check_starts([start], faces.identities, options.allowed)
    try:
        device = torch.device(options.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).splitlines()[0].split())
        raise ValueError(f"--device {options.device} is not available here ({reason}); choose --device cpu") from None
    made_from = {"checkpoint": start.digest, "trial": config.to_json(), "faces": faces.digest, "code": code_version()}
    key = fingerprint({**made_from, "device": device.type, "precision": resolve_precision(config, device.type)})
    predictions = predict_untuned(checkpoint, faces, folders, key=key, device=device)
    strangers = int((faces.person == "").sum())
    mark = brand(learned_from=learned_from)
    about: dict[str, Any] = {
        "protocol": "trained elsewhere, tested on all faces"
        + (" that it did not learn from" if options.unseen else "")
        + ", nothing fine-tuned",
        "people_unknown": strangers,
        "faces": [str(folder) for folder in folders],
        "trial": config.to_json(),
        "pretraining": {"what": start.what},
        "learned_from": asdict(learned_from),
        "built_in": is_synthetic(faces.datasets),
        "environments": [environment(device)],
    }
    out = options.out or place / "crosstest"
    file = out / key / "predictions.parquet"
    summary, guess = summarise(predictions), summarise(constant_guess(predictions))
    data = tracking.dataset(
        ", ".join(faces.datasets), digest=faces.digest, source=folders, faces=len(faces), people=len(faces.people),
        context="testing",
    )  # fmt: skip
    whom = for_whom(predictions)
    with hold(out, key):
        write_predictions(file, predictions, about=about)
        written = write_groups(file.parent, whom)
        note = (
            "**How large is the error without fine-tuning?** A run is one checkpoint, tested on every face of a table."
        )
        store = question(tracking.connect(), "crosstest", note=note, synthetic=is_synthetic(faces.datasets))
        run_id = tracking.find_or_start(
            store,
            key=f"crosstest-{key}",
            name=branded(run_name([config], f"{summary.mae.value:.2f}"), mark),
            stage="crosstest",
            params={**params([config]), "start": start.what},
            tags={"study.brand": mark or "none", "study.state": "complete"},
            datasets=[data],
        )
        tracking.log_files(store, run_id, [file, *written])
        metrics = {"mae": summary.mae.value, "mae_low": summary.mae.low, "mae_high": summary.mae.high}
        metrics |= {"rmse": summary.rmse.value, "cs_5": float(summary.cs.value[5])}
        metrics["pooled/mae"] = summary.mae_pooled.value
        tracking.finish(store, run_id, metrics=metrics, tags={tracking.COMPLETE: "yes"})
    print(
        f"{branded(config.backbone, mark)}, {start.what}, on {summary.photos} faces of {summary.people} people; "
        f"{learned_from.sentence}:\nMAE {summary.mae_pooled.value:.2f} years pooled (95 % interval over people "
        f"{summary.mae_pooled.low:.2f} to {summary.mae_pooled.high:.2f}), mean over people {summary.mae.value:.2f}; "
        f"a constant guess scores {guess.mae_pooled.value:.2f}"
    )
    if strangers:
        print(
            f"Who {strangers:,} of these faces are is not known: each counts as a person of its own, and the intervals "
            "are too narrow where somebody occurs twice"
        )
    for part in whom:
        print(f"\n{part}".replace("### ", ""))
    for warning in alarms(predictions):
        print(f"ALARM: {warning}")
    print(f"\nPredictions: {file}; by group: {written[0]}, and as CSV")
    return 0


def write_groups(folder: Path, parts: Sequence[str | Table]) -> list[Path]:
    """Write groups.md and a CSV file for each of its tables."""
    files = {"groups.md": "\n\n".join(map(str, parts)) + "\n"}
    files |= {f"{part.name}.csv": part.csv() for part in parts if isinstance(part, Table)}
    for name, text in files.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in files]
