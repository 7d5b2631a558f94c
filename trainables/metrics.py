"""How wrong predicted ages are: MAE and RMSE, over whatever photos they are given.

The paper's figures are means of these over folds: see study.statistics.summary, which also gives intervals over
people.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Num


def errors(predicted: Num[np.ndarray, " faces"], age: Num[np.ndarray, " faces"]) -> Float64[np.ndarray, " faces"]:
    """predicted - age in years, in float64: above 0 where a face was taken for older than it is.

    Raises ValueError for unequal shapes (which NumPy would broadcast into a wrong figure) and for no faces.
    """
    if predicted.shape != age.shape or predicted.ndim != 1:
        raise ValueError(f"one prediction a face: got {predicted.shape} predictions for {age.shape} ages")
    if age.size == 0:
        raise ValueError("no faces: an error over nothing is not a number")
    return predicted.astype(np.float64) - age.astype(np.float64)


def mae(predicted: Num[np.ndarray, " faces"], age: Num[np.ndarray, " faces"]) -> float:
    """Mean absolute error in years (the paper's eq. 6)."""
    return float(np.abs(errors(predicted, age)).mean())


def rmse(predicted: Num[np.ndarray, " faces"], age: Num[np.ndarray, " faces"]) -> float:
    """Root of the mean squared error, in years (the paper's eq. 7)."""
    return float(np.sqrt(np.square(errors(predicted, age)).mean()))
