"""A finished fold's file, encoded where it was trained, so that the driver only writes bytes. Neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int16, Shaped

from study.artifacts.about import FoldRecord
from study.artifacts.predictions import Predictions, encode_predictions
from trainables.metrics import mae, rmse

if TYPE_CHECKING:
    from trainables.fold import FoldResult


@dataclass(frozen=True)
class FoldRows:
    """What a fold's file says besides its predictions: its test faces, in the order of the test rows, its name, seed
    and key, and its config as JSON."""

    photo: Shaped[np.ndarray, " faces"]
    person: Shaped[np.ndarray, " faces"]
    age: Int16[np.ndarray, " faces"]
    name: str
    seed: int
    key: str
    trial: Mapping[str, Any]


@dataclass(frozen=True)
class FoldFile:
    """A fold's Parquet file as bytes, and what its MLflow run shows: errors in years, the loss by epoch, seconds."""

    data: bytes
    mae: float
    rmse: float
    losses: tuple[tuple[int, float], ...]
    seconds: float


def run_to_file(train: Callable[..., FoldResult], rows: FoldRows, *args: Any) -> FoldFile:
    """The file of the fold that train(*args) trains. Raises ValueError for predictions that cannot be written."""
    result = train(*args)
    part = fold_predictions(rows, result.distribution, result.predicted)
    record = FoldRecord(rows.trial, _finite(result.history), result.seconds, result.environment)
    return FoldFile(
        encode_predictions(part, about=record.to_json()),
        mae(part.predicted, part.age),
        rmse(part.predicted, part.age),
        losses(record.history),
        result.seconds,
    )


def fold_predictions(
    rows: FoldRows, distribution: Float32[np.ndarray, "faces ages"], predicted: Float32[np.ndarray, " faces"]
) -> Predictions:
    """The predictions table of one fold."""
    faces = len(rows.photo)
    return Predictions(
        photo=rows.photo,
        person=rows.person,
        age=rows.age,
        predicted=predicted,
        distribution=distribution,
        fold=np.full(faces, rows.name),
        seed=np.full(faces, rows.seed, np.int32),
        fingerprint=np.full(faces, rows.key),
    )


def losses(history: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, float], ...]:
    """(epoch, training loss) of a fold's history."""
    return tuple((epoch["epoch"], epoch["train_loss"]) for epoch in history)


def _finite(history: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Without the NaN of metrics that were not measured: JSON has no NaN."""
    return tuple({name: value for name, value in epoch.items() if value == value} for epoch in history)
