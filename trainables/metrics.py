"""MAE and RMSE of predicted ages, over the given photos.

The paper's metrics are means of these over folds: study.statistics.summary computes those, with intervals over people.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Num


def errors(predicted: Num[np.ndarray, " faces"], age: Num[np.ndarray, " faces"]) -> Float64[np.ndarray, " faces"]:
    """predicted - age in years, in float64: positive where the prediction is too old.

    Raises ValueError for unequal shapes (NumPy would broadcast them and give a wrong result) and for no faces.
    """
    if predicted.shape != age.shape or predicted.ndim != 1:
        raise ValueError(f"expected one prediction per face, got {predicted.shape} predictions for {age.shape} ages")
    if age.size == 0:
        raise ValueError("no faces: expected at least one to measure an error")
    return predicted.astype(np.float64) - age.astype(np.float64)


def mae(predicted: Num[np.ndarray, " faces"], age: Num[np.ndarray, " faces"]) -> float:
    """Mean absolute error in years (the paper's eq. 6)."""
    return float(np.abs(errors(predicted, age)).mean())


def rmse(predicted: Num[np.ndarray, " faces"], age: Num[np.ndarray, " faces"]) -> float:
    """Root of the mean squared error, in years (the paper's eq. 7)."""
    return float(np.sqrt(np.square(errors(predicted, age)).mean()))
