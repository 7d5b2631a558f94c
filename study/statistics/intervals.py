"""From a distribution over ages to an age and its intervals. NumPy only: a model that is used needs no torch.

An interval is age ± factor · spread, where the spread (years) is the distribution's own and the factor comes from
held-out predictions (study.statistics.conformal).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float64


def decode(distribution: Float[np.ndarray, "faces ages"], decoder: str) -> Float64[np.ndarray, " faces"]:
    """The age (years) of each distribution over ages 0 .. K-1, as trainables.losses.decode_age reads it."""
    if decoder == "expectation":
        return distribution.astype(np.float64) @ np.arange(distribution.shape[1])
    if decoder == "median":
        return (np.cumsum(distribution, axis=1) < 0.5).sum(axis=1).astype(np.float64)
    if decoder == "argmax":
        return distribution.argmax(axis=1).astype(np.float64)
    raise ValueError(f"unknown decoder {decoder!r}: expected expectation, median or argmax")


def spread(distribution: Float[np.ndarray, "faces ages"]) -> Float64[np.ndarray, " faces"]:
    """The standard deviation (years) of each distribution, at least one year: a label in whole years is no more exact.

    sqrt(variance + 1).
    """
    ages = np.arange(distribution.shape[1])
    probability = distribution.astype(np.float64)
    mean = probability @ ages
    return np.sqrt((probability * np.square(ages - mean[:, None])).sum(axis=1) + 1.0)


def interval(
    age: Float64[np.ndarray, " faces"], width: Float64[np.ndarray, " faces"], factor: float | None, *, ages: int
) -> tuple[Float64[np.ndarray, " faces"], Float64[np.ndarray, " faces"]]:
    """The lowest and highest age (years) of each interval age ± factor · width, within 0 .. ages - 1.

    factor None: there were too few people to say more than that the age lies in this range.
    """
    reach = np.full_like(width, math.inf) if factor is None else factor * width
    top = ages - 1.0
    return np.clip(age - reach, 0.0, top), np.clip(age + reach, 0.0, top)


def central(
    distribution: Float[np.ndarray, "faces ages"], *, level: float
) -> tuple[Float64[np.ndarray, " faces"], Float64[np.ndarray, " faces"]]:
    """First and last whole year of the distribution's own central interval: what there is without a calibration."""
    total = np.cumsum(distribution.astype(np.float64), axis=1)
    total /= total[:, -1:]
    tail = (1 - level) / 2
    low, high = (total < tail).sum(axis=1), (total < 1 - tail - 1e-12).sum(axis=1)
    return low.astype(np.float64), high.astype(np.float64)
