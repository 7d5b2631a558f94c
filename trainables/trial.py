"""The Ray Tune function: train and score one config on inner folds over people, and stop early when it is hopeless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from scipy.stats import wilcoxon

from trainables.config import TrialConfig
from trainables.faces import Faces
from trainables.fitting import Diverged, Epoch, decode, fit, predict

WORST_MAE = 100.0
"""What a diverged training scores (years): finite, since Optuna waits for ever for a trial whose value is NaN."""


def tune_trial(
    point: Mapping[str, Any],
    *,
    faces: Mapping[int, Any],
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    weights: Mapping[str, Any],
    threads: int,
    device: str,
    prune_p: float,
) -> None:
    """Score point["trial"] (TrialConfig as JSON) by the MAE of out-of-fold predictions over `folds` (train, test rows).

    faces: references to a Faces by picture size. weights: references to starting tensors by config.weights.
    After each epoch a row {step, fold, validation_mae, ...} goes to Tune; after each fold `mae` is that of all folds
    so far, `people` each tested person's MAE, and `state` "running", "complete" or "pruned". A trial is pruned when the
    people tested so far show it worse than point["rival"] (a finished trial's MAE by person), paired, by Wilcoxon's
    signed-rank test at level prune_p.
    """
    config = TrialConfig.from_json(point["trial"])
    torch.set_num_threads(threads)
    table: Faces = ray.get(faces[config.px])
    initial = _tensors(ray.get(weights[config.weights])) if config.weights in weights else None
    predicted_of: dict[int, float] = {}
    for number, (train, test) in enumerate(folds):
        curve: list[dict[str, float]] = []
        report = partial(_report_epoch, fold=number, epochs=config.epochs, curve=curve)
        try:
            net = fit(config, table, train, validation=test, device=device, initial=initial, report=report).net
        except Diverged as error:
            worst = {"mae": WORST_MAE, "validation_mae": WORST_MAE}
            tune.report({"step": 0, "fold": number, "state": "diverged", "why": str(error), **worst})
            return
        predicted = decode(predict(config, net, table, test), config)
        predicted_of |= dict(zip(test.tolist(), predicted.tolist(), strict=True))
        people = people_mae(table, predicted_of)
        done = number + 1 == len(folds)
        pruned = not done and hopeless(people, point.get("rival"), p=prune_p)
        tune.report(
            {
                **curve[-1],
                "fold": number,
                "state": "complete" if done else "pruned" if pruned else "running",
                "mae": float(np.mean([abs(years - table.age[row]) for row, years in predicted_of.items()])),
                "people": people,
                "predicted": predicted_of if done or pruned else {},
            }
        )
        if pruned:
            return


def _report_epoch(epoch: Epoch, _: object, *, fold: int, epochs: int, curve: list[dict[str, float]]) -> None:
    """A row for Tune; the last epoch's is kept back, to be reported with the fold's outcome."""
    row = {name: value for name, value in asdict(epoch).items() if name != "epoch"}
    curve.append({**row, "step": fold * epochs + epoch.epoch})
    if epoch.epoch < epochs:
        tune.report({**curve[-1], "fold": fold, "state": "running"})


def people_mae(faces: Faces, predicted: Mapping[int, float]) -> dict[str, float]:
    """Each person's mean absolute error (years) over its faces in `predicted` (row: years)."""
    by_person: dict[str, list[float]] = {}
    for row, years in predicted.items():
        by_person.setdefault(str(faces.person[row]), []).append(abs(years - float(faces.age[row])))
    return {person: float(np.mean(values)) for person, values in sorted(by_person.items())}


def hopeless(people: Mapping[str, float], rival: Mapping[str, float] | None, *, p: float) -> bool:
    """Whether the people seen so far say that this config is worse than the rival: one-sided paired Wilcoxon.

    Pairing over people takes out that some are hard for every network, so a few dozen people decide early.
    """
    common = sorted(people.keys() & rival.keys()) if rival else []
    if len(common) < 6:  # the test cannot reach p < 0.05 with fewer pairs
        return False
    difference = np.array([people[name] - rival[name] for name in common]) if rival else np.zeros(0)
    if not difference.any():
        return False
    return float(wilcoxon(difference, alternative="greater").pvalue) < p


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Tensors from the object store's read-only arrays: a copy, since torch may not write there."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
