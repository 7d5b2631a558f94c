"""The Ray Tune trainable: trains one fold of a trial, scores it on people it did not see, ends a hopeless one early."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

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
from trainables.frozen.cache import FeaturesCache, what_is_seen
from trainables.frozen.features import Features
from trainables.losses import Decoder
from trainables.memory import lacking_memory
from trainables.metrics import mae

WORST_MAE = 100.0
"""Score of a diverged training (years). Finite, since Optuna leaves a trial whose value is NaN RUNNING for ever."""

DECODERS: tuple[Decoder, ...] = get_args(Decoder)
"""All of them are scored: they need no further training."""

HALFWAY = 0.01
"""The test's level halfway through the first fold, as a share of --prune. Half-trained networks rank differently from
trained ones: at the full level, good configs that start slowly are lost (docs/sweep.md)."""

_FEATURES = FeaturesCache()
"""Of this process, to which Ray Tune brings one trial after another."""


def tune_trial(
    point: Mapping[str, Any],
    *,
    faces: Mapping[int, Any],
    folds: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    weights: Mapping[tuple[str, str], Any],
    threads: int,
    device: str,
    prune_p: float,
) -> None:
    """Train and score one fold of a trial, as score_fold does, and report its rows to Tune.

    point: the trial (TrialConfig as JSON), its block, its fold's index in folds[block], and the rival's halfway errors.
    faces: references to a Faces by picture size. weights: references to starting tensors by backbone and weights. Rows
    also hold latency_ms (a face's, alone) and fold_seconds (since the fold began). A fold that needs more memory than
    there is ends with a row whose state is "failed" and that says why.
    """
    began = time.monotonic()
    config = TrialConfig.from_json(point["trial"])
    torch.set_num_threads(threads)
    measured: dict[str, Any] = {}

    def report(row: dict[str, Any]) -> None:
        tune.report({**row, **measured, "fold": point["fold"], "fold_seconds": time.monotonic() - began})

    try:
        table: Faces = ray.get(faces[config.px])
        random = config.weights == "random"  # initialised by the config's seed
        start = None if random else weights[config.backbone, config.weights]
        initial = as_tensors(None if start is None else ray.get(start))
        key = (table.digest, None if start is None else start.hex(), device, *what_is_seen(config))
        source = _FEATURES.get(key, lambda: freeze(config, table, initial, device))
        if point["fold"] == 0:
            measured["latency_ms"] = measure_latency(config, device)
        score_fold(
            config, table, *folds[point["block"]][point["fold"]], initial=initial, device=device,
            source=source, rival=point["rival"], prune_p=prune_p, report=report,
        )  # fmt: skip
    except Exception as error:
        why = lacking_memory(error)
        if why is None:
            raise
        failed = {"epoch": 0, "state": "failed", "why": f"{config.backbone} at {config.px} px: {why}"}
        report({**failed, "validation_mae": WORST_MAE})
    finally:
        if device == "cuda":  # other trials share the GPU
            torch.cuda.empty_cache()


class _Hopeless(Exception):
    """Ends a training whose config is already shown to be worse than the rival."""


def score_fold(
    config: TrialConfig,
    faces: Faces,
    train: np.ndarray,
    test: np.ndarray,
    *,
    initial: Mapping[str, torch.Tensor] | None = None,
    device: str = "cpu",
    source: Faces | Features | None = None,
    rival: Mapping[str, float] | None = None,
    prune_p: float = 0.0,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Train a config on the rows `train` and score it on the rows `test` of people whom it did not see.

    source: what freeze() gives for these faces, where the caller has it.

    After each epoch a row {epoch, state: "running", validation_mae, ...} is reported. The last epoch's row says how the
    fold ended: state "complete", with `mae` (years), each tested person's MAE (`people`, and by decoder `decoded`), the
    predicted age of each row (`predicted`), and `halfway`, each person's MAE after half of the epochs. With a rival
    (its `halfway`) the fold ends there, state "pruned", where that shows the config worse, by Wilcoxon's signed-rank
    test at level HALFWAY * prune_p. State "diverged": the loss or the predictions were no longer numbers.
    """
    source = freeze(config, faces, initial, device) if source is None else source
    distribution = np.empty((0, config.ages), np.float32)
    halfway: dict[str, float] = {}
    row: dict[str, Any] = {}

    def measure(net: AgeNet) -> float:
        nonlocal distribution
        distribution = predict(config, net, source, test)
        return float(mae(decode(distribution, config), faces.age[test]))

    def on_epoch(epoch: Epoch, _: object) -> None:
        row.clear()
        row.update(asdict(epoch))
        if epoch.epoch == config.epochs // 2:
            halfway.update(_people(faces, test, decode(distribution, config)))
            if hopeless(halfway, rival, p=HALFWAY * prune_p):
                raise _Hopeless
        if epoch.epoch < config.epochs:  # the last epoch's is reported with the outcome
            report({**row, "state": "running"})

    try:
        fit(config, source, train, measure=measure, device=device, initial=initial, report=on_epoch)
    except Diverged as error:
        report({"epoch": 0, "state": "diverged", "why": str(error), "mae": WORST_MAE, "validation_mae": WORST_MAE})
        return
    except _Hopeless:
        report({**row, "state": "pruned", "mae": row["validation_mae"], "halfway": halfway})
        return
    years = {name: decode(distribution, config.replace(decoder=name)) for name in DECODERS}
    predicted = decode(distribution, config)
    report(
        {
            **row,
            "state": "complete",
            "mae": float(np.mean(np.abs(predicted - faces.age[test]))),
            "people": _people(faces, test, predicted),
            "decoded": {name: _people(faces, test, values) for name, values in years.items()},
            "halfway": halfway,
            "predicted": dict(zip(test.tolist(), predicted.tolist(), strict=True)),
        }
    )


def _people(faces: Faces, rows: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return people_mae(faces, dict(zip(rows.tolist(), predicted.tolist(), strict=True)))


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
