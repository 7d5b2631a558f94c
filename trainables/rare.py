"""Weights by which rare ages count more in a training: children and old people are few in every data set.

Label distribution smoothing of Yang, Zha, Chen, Wang and Katabi, "Delving into Deep Imbalanced Regression", ICML 2021:
neighbouring ages look alike, so an age is as rare as its whole neighbourhood is, and not as its own count says.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

RareAges = Literal["none", "reweight", "balance"]
"""How rare ages are helped. none: every face counts alike. reweight: a face's loss is multiplied by its age's weight.
balance: an epoch draws as many faces as there are, with replacement, each as often as its age's weight says."""


def age_weights(
    age: Int[np.ndarray, " train"], *, ages: int, power: float, sigma: float
) -> Float64[np.ndarray, " ages"]:
    """The weight of each age 0 .. ages-1, from the ages (years) of the training faces alone; their mean weight is 1.

        w(y) ~ d(y)^-power,    d(y) = sum_x k(y - x) n(x),    k(z) = exp(-z^2 / (2 sigma^2))

    n(x) counts the training faces of age x; older ones than ages - 1 count there. power 1 makes all ages alike; the
    paper's 1/2 is its square-root weighting. Deviation: the kernel (sigma in years) is not cut off after two years. An
    age far from all faces (d is 0) has the weight of the rarest one.
    """
    counts = np.bincount(np.minimum(age.astype(np.int64), ages - 1), minlength=ages).astype(np.float64)
    years = np.arange(ages)
    density = np.exp(-np.square(years[:, None] - years) / (2 * sigma**2)) @ counts
    density = np.maximum(density, density[counts > 0].min())
    weights = density**-power
    return weights * counts.sum() / (weights @ counts)
