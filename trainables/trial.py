"""The Ray Tune function: train and score one config on inner folds over people, and stop early when it is hopeless."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from scipy.stats import wilcoxon

from trainables.backbones import AgeNet
from trainables.config import TrialConfig
from trainables.costs import measure_latency
from trainables.faces.batches import as_tensors
from trainables.faces.table import Faces
from trainables.fitting import Diverged, Epoch, decode, fit, freeze, predict
from trainables.frozen.features import Features
from trainables.memory import lacking_memory
from trainables.metrics import mae

WORST_MAE = 100.0
"""What a diverged training scores (years): finite, since Optuna waits for ever for a trial whose value is NaN."""

HALFWAY = 0.01
"""The test's level halfway through the first fold, as a share of --prune. Half-trained networks stand in another order
than trained ones: at the same level good configs are lost that only start slowly (docs/sweep.md)."""


def tune_trial(
    point: Mapping[str, Any],
    *,
    faces: Mapping[int, Any],
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    weights: Mapping[tuple[str, str], Any],
    threads: int,
    device: str,
    prune_p: float,
) -> None:
    """Score point["trial"] (TrialConfig as JSON) as score_folds does, and tell Tune its rows.

    faces: references to a Faces by picture size. weights: references to starting tensors by backbone and weights.
    point["rival"]: `people` and `halfway` of a finished trial (score_folds), or None. Rows also hold latency_ms (a
    face's, alone) and trial_seconds (since the trial began). A trial that needs more memory than there is ends with a
    row whose state is "failed" and that says why.
    """
    began = time.monotonic()
    config = TrialConfig.from_json(point["trial"])
    torch.set_num_threads(threads)
    told: dict[str, Any] = {}
    try:
        table: Faces = ray.get(faces[config.px])
        random = config.weights == "random"  # drawn by the config's seed
        initial = as_tensors(None if random else ray.get(weights[config.backbone, config.weights]))
        told["latency_ms"] = measure_latency(config, device)
        score_folds(
            config, table, folds, initial=initial, device=device, rival=point.get("rival"), prune_p=prune_p,
            report=lambda row: tune.report({**row, **told, "trial_seconds": time.monotonic() - began}),
        )  # fmt: skip
    except Exception as error:
        why = lacking_memory(error)
        if why is None:
            raise
        failed = {"step": 0, "fold": 0, "state": "failed", "why": f"{config.backbone} at {config.px} px: {why}"}
        tune.report({**failed, "validation_mae": WORST_MAE, **told})
    finally:
        if device == "cuda":  # others share the GPU
            torch.cuda.empty_cache()


class _Hopeless(Exception):
    """Ends a training whose config is already known to be worse than the rival."""


@dataclass
class _Watch:
    """What a fold's training tells after each epoch: a row, and what it predicts of the faces that are left out.

    look: what is done halfway through the epochs with the ages (years) `predicted` of the rows `test`.
    """

    config: TrialConfig
    source: Faces | Features
    test: np.ndarray
    fold: int
    report: Callable[[dict[str, Any]], None]
    look: Callable[[dict[int, float]], None]
    predicted: dict[int, float] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)

    def measure(self, net: AgeNet) -> float:
        """The MAE (years)."""
        predicted = decode(predict(self.config, net, self.source, self.test), self.config)
        self.predicted = dict(zip(self.test.tolist(), predicted.tolist(), strict=True))
        return float(mae(predicted, self.source.age[self.test]))

    def on_epoch(self, epoch: Epoch, _: object) -> None:
        """A row an epoch; the last epoch's is kept back, to be reported with the fold's outcome."""
        told = {name: value for name, value in asdict(epoch).items() if name != "epoch"}
        self.row = {**told, "fold": self.fold, "step": self.fold * self.config.epochs + epoch.epoch}
        if epoch.epoch == self.config.epochs // 2:
            self.look(self.predicted)
        if epoch.epoch < self.config.epochs:
            self.report({**self.row, "state": "running"})


def score_folds(
    config: TrialConfig,
    faces: Faces,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    initial: Mapping[str, torch.Tensor] | None = None,
    device: str = "cpu",
    rival: Mapping[str, Mapping[str, float]] | None = None,
    prune_p: float = 0.0,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Score a config by the MAE of out-of-fold predictions over `folds` (train, test rows).

    After each epoch a row {step, fold, validation_mae, ...} is reported; after each fold `mae` is that of all folds
    so far, `people` each tested person's MAE, `halfway` the same of the first fold's people after half of its epochs,
    and `state` "running", "complete", "pruned" or "diverged". A trial is pruned when the people tested so far show it
    worse than the rival (`people` and `halfway` of a finished trial), paired, by Wilcoxon's signed-rank test at level
    prune_p: after each fold, and once halfway through the first at level HALFWAY * prune_p; then `people` is empty and
    `mae` of that moment.
    """
    predicted_of: dict[int, float] = {}
    source = freeze(config, faces, initial, device)  # what frozen stages make of the faces: once for all folds
    halfway: dict[str, float] = {}

    def look(seen: dict[int, float]) -> None:
        if not halfway:  # in the first fold
            halfway.update(people_mae(faces, seen))
            if hopeless(halfway, rival["halfway"] if rival else None, p=HALFWAY * prune_p):
                raise _Hopeless

    for number, (train, test) in enumerate(folds):
        watch = _Watch(config, source, test, number, report, look)
        try:
            fit(config, source, train, measure=watch.measure, device=device, initial=initial, report=watch.on_epoch)
        except Diverged as error:
            worst = {"mae": WORST_MAE, "validation_mae": WORST_MAE}
            report({"step": 0, "fold": number, "state": "diverged", "why": str(error), **worst})
            return
        except _Hopeless:
            early = {"mae": watch.row["validation_mae"], "people": {}, "halfway": halfway, "predicted": {}}
            report({**watch.row, "state": "pruned", **early})
            return
        predicted_of |= watch.predicted
        people = people_mae(faces, predicted_of)
        done = number + 1 == len(folds)
        pruned = not done and hopeless(people, rival["people"] if rival else None, p=prune_p)
        report(
            {
                **watch.row,
                "state": "complete" if done else "pruned" if pruned else "running",
                "mae": float(np.mean([abs(years - faces.age[row]) for row, years in predicted_of.items()])),
                "people": people,
                "halfway": halfway,
                "predicted": predicted_of if done or pruned else {},
            }
        )
        if pruned:
            return


def people_mae(faces: Faces, predicted: Mapping[int, float]) -> dict[str, float]:
    """Each person's mean absolute error (years) over its faces in `predicted` (row: years).

    A face that names no person stands for itself, under its photo's name.
    """
    by_person: dict[str, list[float]] = {}
    for row, years in predicted.items():
        who = str(faces.person[row] or faces.photo[row])
        by_person.setdefault(who, []).append(abs(years - float(faces.age[row])))
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
