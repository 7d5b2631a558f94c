"""What error to expect of a model: from the LOPO result of the same configs on the same faces, if there is one.

Of a checkpoint that is taken as it is: from the faces that its training left out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from study.artifacts.model import CARD_ATTRIBUTES, DecadeError, IntervalScale, Measured, SubgroupError
from study.artifacts.predictions import Predictions, read_predictions
from study.refit.plan import Plan
from study.statistics.conformal import calibrate_intervals
from study.statistics.groups import by_group
from study.statistics.intervals import interval, spread
from study.statistics.summary import summarise
from study.tracking import runs as tracking
from trainables.config import fingerprint
from trainables.metrics import errors


def find_measured(store: tracking.Tracking, plan: Plan) -> Measured | None:
    """The expected error and the calibration of its intervals; None where nobody was tested with these configs.

    Of several results the newest plain one counts, without one the newest.
    """
    wanted = _identity([config.to_json() for config in plan.winners])
    with tempfile.TemporaryDirectory() as folder:
        found = [
            run
            for run in tracking.finished_lopo(store, folder=Path(folder))
            if run.about.faces_digest == plan.faces.digest
            and not run.about.members  # a mean of several networks: the model is one
            and _identity(run.about.configs) == wanted
            and run.about.beside.digest == plan.drawn.record.digest
            and plan.start.digest in {start.digest for start in run.about.starts}
        ]
        if not found:
            return None
        run = next((run for run in found if run.about.schedule == "plain"), found[0])
        predictions, _ = read_predictions(run.predictions)
    return measure(
        predictions,
        result=run.about.key,
        seeds=len(run.about.seeds),
        brand=run.about.brand,
        committee=len(predictions.seeds) > 1 and plan.seeds > 1,
    )


def _identity(trials: Collection[Any]) -> frozenset[str]:
    """Configs whatever their seed: LOPO's seeds need not be the model's."""
    return frozenset(fingerprint({**trial, "seed": 0}) for trial in trials)


def measure(
    predictions: Predictions,
    *,
    result: str,
    seeds: int = 1,
    brand: str = "",
    committee: bool = False,
    untuned: bool = False,
    strangers: int = 0,
) -> Measured:
    """Metrics and interval factors. committee: of the seeds' averaged predictions, as an averaging model gives. The
    other arguments: see Measured."""
    if committee:
        predictions = predictions.average_seeds()
    summary = summarise(predictions)
    scales = calibrate_intervals(predictions)
    return Measured(
        result=result,
        people=summary.people,
        photos=summary.photos,
        seeds=seeds,
        committee=committee,
        mae=summary.mae.value,
        mae_low=summary.mae.low,
        mae_high=summary.mae.high,
        mae_pooled=summary.mae_pooled.value,
        decades=_decades(predictions, {scale.level: scale.factor for scale in scales}),
        scales=tuple(
            IntervalScale(
                scale.level, scale.factor, scale.covered.value, scale.covered.low, scale.covered.high, scale.width
            )
            for scale in scales
        ),
        brand=brand,
        groups=_groups(predictions),
        untuned=untuned,
        strangers=strangers,
    )


def _groups(predictions: Predictions) -> tuple[SubgroupError, ...]:
    """Errors by sex and group, where the data names at least two of either."""
    named = {name: values for name, values in predictions.attributes.items() if name in CARD_ATTRIBUTES}
    return tuple(
        SubgroupError(
            each.attribute,
            each.name,
            each.photos,
            each.people,
            each.mae.value,
            None if math.isnan(each.mae.low) else each.mae.low,
            None if math.isnan(each.mae.high) else each.mae.high,
            each.bias.value,
        )
        for each in by_group(predictions, named)
    )


def _decades(predictions: Predictions, factors: dict[float, float | None]) -> tuple[DecadeError, ...]:
    """Errors by decade of true age, pooled over photos, and how often the model's intervals hold there."""
    age, predicted = predictions.age, predictions.predicted.astype(np.float64)
    width, ages = spread(predictions.distribution), predictions.distribution.shape[1]
    inside = {}
    for level, factor in factors.items():
        low, high = interval(predicted, width, factor, ages=ages)
        inside[level] = (low <= age) & (age <= high)
    found = []
    for ten in range(0, int(age.max()) + 1, 10):
        rows = (age >= ten) & (age < ten + 10)
        if not rows.any():
            continue
        error = errors(predictions.predicted[rows], age[rows])
        found.append(
            DecadeError(
                low=ten,
                high=ten + 9,
                photos=int(rows.sum()) // len(predictions.seeds),
                people=len(np.unique(predictions.person[rows])),
                mae=float(np.abs(error).mean()),
                bias=float(error.mean()),
                covered_80=float(inside[0.8][rows].mean()),
                covered_95=float(inside[0.95][rows].mean()),
            )
        )
    return tuple(found)
