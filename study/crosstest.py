"""Train elsewhere, test here: a pretrained checkpoint on every face of a table, none of which it has seen.

The second protocol beside LOPO, and the one that is comparable with recent benchmarks: nothing is fine-tuned, so the
tested people have no part in anything.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from study import tracking
from study.command import main
from study.locks import hold
from study.options import BUILT_IN_PEOPLE, PRETRAINED, faces_or_built_in, is_built_in
from study.predictions import Predictions, write_predictions
from study.statistics import alarms, constant_guess, summarise
from trainables.checkpoints import load_checkpoint
from trainables.config import fingerprint
from trainables.faces import load_faces
from trainables.fitting import build_net, decode, predict


@dataclass(frozen=True)
class CrossTest:
    """Options of study.crosstest."""

    checkpoint: Path = PRETRAINED / "efficientnet_b0"
    """Checkpoint folder of study.pretrain."""
    faces: tuple[Path, ...] = ()
    """Faces tables with people to test on. Default: the built-in people."""
    out: Path = Path("runs/crosstest")
    device: str = "cpu"
    """cpu, cuda or cuda:1."""


def crosstest(options: CrossTest) -> int:
    """Predict every face, write, log and print the result; returns the exit status."""
    checkpoint = load_checkpoint(options.checkpoint)
    folders = faces_or_built_in(options.faces, BUILT_IN_PEOPLE)
    config = checkpoint.config
    faces = load_faces(folders, px=config.px)
    if not faces.people:
        raise ValueError(f"{', '.join(map(str, folders))} names no people, over whom intervals are taken; use fgnet")
    if faces.digest == checkpoint.about.get("faces_digest"):
        raise ValueError(f"{options.checkpoint} was trained on these very faces: test it on others")
    net = build_net(config.replace(weights="random"), checkpoint.state).to(options.device)
    torch.manual_seed(config.seed)
    rows = np.flatnonzero(faces.person != "")
    distribution = predict(config, net, faces, rows)
    key = fingerprint({"checkpoint": checkpoint.about.get("fingerprint", ""), "faces": faces.digest})
    predictions = Predictions(
        photo=faces.photo[rows],
        person=faces.person[rows],
        age=faces.age[rows],
        predicted=decode(distribution, config).astype(np.float32),
        distribution=distribution,
        fold=faces.person[rows],
        seed=np.full(len(rows), config.seed, np.int32),
        fingerprint=np.full(len(rows), key),
    )
    trained_on = str(checkpoint.about.get("trained_on", options.checkpoint))
    about: dict[str, Any] = {
        "protocol": "trained elsewhere, tested on all faces, nothing fine-tuned",
        "faces": [str(folder) for folder in folders],
        "trial": config.to_json(),
        "pretraining": {"what": trained_on},
        "built_in": is_built_in(folders),
    }
    file = options.out / key / "predictions.parquet"
    summary, guess = summarise(predictions), summarise(constant_guess(predictions))
    with hold(options.out, key):
        write_predictions(file, predictions, about=about)
        store = tracking.connect()
        name = f"crosstest {config.backbone}"
        run_id = tracking.find_or_start(
            store, key=f"crosstest-{key}", name=name, stage="crosstest", params=config.flat()
        )
        tracking.log_files(store, run_id, [file])
        figures = {"mae": summary.mae.value, "mae_pooled": summary.mae_pooled.value, "rmse": summary.rmse.value}
        tracking.finish(store, run_id, metrics=figures, tags={tracking.COMPLETE: "yes"})
    print(
        f"{config.backbone}, {trained_on}, on {summary.photos} faces of {summary.people} people it "
        f"never saw:\nMAE {summary.mae_pooled.value:.2f} years pooled (95 % interval over people "
        f"{summary.mae_pooled.low:.2f} to {summary.mae_pooled.high:.2f}), mean over people {summary.mae.value:.2f}; "
        f"a constant guess scores {guess.mae_pooled.value:.2f}"
    )
    for warning in alarms(predictions):
        print(f"ALARM: {warning}")
    print(f"Predictions: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(crosstest, CrossTest, prog="python -m study.crosstest", description=__doc__))
