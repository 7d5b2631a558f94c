"""The Ray Tune trainable: trains and scores a config on inner folds over people, and prunes hopeless ones."""

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
"""Score of a diverged training (years). Finite, since Optuna leaves a trial whose value is NaN RUNNING for ever."""

HALFWAY = 0.01
"""The test's level halfway through the first fold, as a share of --prune. Half-trained networks rank differently from
trained ones: at the full level, good configs that start slowly are lost (docs/sweep.md)."""


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
    """Score point["trial"] (TrialConfig as JSON) with score_folds, and report its rows to Tune.

    faces: Ray references to a Faces, by picture size. weights: Ray references to initial tensors, by backbone and
    weights. point["rival"]: `people` and `halfway` of a finished trial (see score_folds), or None. Each row also has
    latency_ms (measure_latency) and trial_seconds (since the trial began). A trial that runs out of memory ends with a
    row whose state is "failed", with the reason in "why".
    """
    began = time.monotonic()
    config = TrialConfig.from_json(point["trial"])
    torch.set_num_threads(threads)
    cost: dict[str, Any] = {}
    try:
        table: Faces = ray.get(faces[config.px])
        random = config.weights == "random"  # initialised by the config's seed
        initial = as_tensors(None if random else ray.get(weights[config.backbone, config.weights]))
        cost["latency_ms"] = measure_latency(config, device)
        score_folds(
            config, table, folds, initial=initial, device=device, rival=point.get("rival"), prune_p=prune_p,
            report=lambda row: tune.report({**row, **cost, "trial_seconds": time.monotonic() - began}),
        )  # fmt: skip
    except Exception as error:
        why = lacking_memory(error)
        if why is None:
            raise
        failed = {"step": 0, "fold": 0, "state": "failed", "why": f"{config.backbone} at {config.px} px: {why}"}
        tune.report({**failed, "validation_mae": WORST_MAE, **cost})
    finally:
        if device == "cuda":  # other trials share the GPU
            torch.cuda.empty_cache()


class _Hopeless(Exception):
    """Ends a training whose config is already shown to be worse than the rival."""


@dataclass
class _Watch:
    """Follows the training of a fold: after each epoch it reports a row and keeps the predictions for the test faces.

    look: called halfway through the epochs with the predicted ages (years) of the test rows.
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
        """Report the epoch's row. The last epoch's is kept, to be reported with the fold's result."""
        metrics = {name: value for name, value in asdict(epoch).items() if name != "epoch"}
        self.row = {**metrics, "fold": self.fold, "step": self.fold * self.config.epochs + epoch.epoch}
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
    """Score a config by the MAE of out-of-fold predictions over `folds` (train rows, test rows).

    After each epoch a row {step, fold, validation_mae, ...} is reported. The row after a fold also has `mae` (over all
    folds so far), `people` (the MAE of each tested person), `halfway` (the same for the people of the first fold, after
    half of its epochs) and `state`: "running", "complete", "pruned" or "diverged". A trial is pruned when the people
    tested so far show that it is worse than the rival (`people` and `halfway` of a finished trial) in a paired,
    one-sided Wilcoxon signed-rank test: after each fold at level prune_p, and halfway through the first fold at level
    HALFWAY * prune_p. After the latter `people` is empty and `mae` is that of the first fold's people at that time.
    """
    predicted_of: dict[int, float] = {}
    source = freeze(config, faces, initial, device)  # with frozen stages, their output: computed once for all folds
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
    """Each person's mean absolute error (years) over their faces in `predicted` (row: years).

    A face without a person counts as a person of its own, under its photo's name.
    """
    by_person: dict[str, list[float]] = {}
    for row, years in predicted.items():
        who = str(faces.person[row] or faces.photo[row])
        by_person.setdefault(who, []).append(abs(years - float(faces.age[row])))
    return {person: float(np.mean(values)) for person, values in sorted(by_person.items())}


def hopeless(people: Mapping[str, float], rival: Mapping[str, float] | None, *, p: float) -> bool:
    """Whether the people tested so far show that this config is worse than the rival: one-sided paired Wilcoxon test.

    Some people are hard for every network. Pairing removes that, so that a few dozen people are enough.
    """
    common = sorted(people.keys() & rival.keys()) if rival else []
    if len(common) < 6:  # the test cannot reach p < 0.05 with fewer pairs
        return False
    difference = np.array([people[name] - rival[name] for name in common]) if rival else np.zeros(0)
    if not difference.any():
        return False
    return float(wilcoxon(difference, alternative="greater").pvalue) < p
