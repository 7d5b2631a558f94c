"""Intervals hold as often as they promise on new people, by a simulation and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from study.artifacts.predictions import Predictions
from study.statistics.conformal import calibrate_intervals, quantile
from study.statistics.intervals import central, interval, spread


def test_the_quantile_gives_each_person_and_one_new_person_the_same_weight():
    # 4 people: weights 1/5 each, split over their photos; person d has four photos of 1/20
    score = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    person = np.array(["a", "b", "c", "d", "d", "d", "d"])
    assert quantile(score, person, level=0.2) == 1.0
    assert quantile(score, person, level=0.6) == 3.0
    assert quantile(score, person, level=0.64) == 4.0
    assert quantile(score, person, level=0.8) == 7.0
    assert quantile(score, person, level=0.81) is None  # a new person may be anything


def test_without_enough_people_an_interval_is_all_ages():
    low, high = interval(np.array([30.0]), np.array([2.0]), None, ages=101)
    assert (low[0], high[0]) == (0.0, 100.0)


def test_an_interval_is_age_plus_minus_factor_times_spread_within_the_ages():
    low, high = interval(np.array([30.0, 3.0, 99.0]), np.array([2.0, 2.0, 2.0]), 2.0, ages=101)
    assert low.tolist() == [26.0, 0.0, 95.0]
    assert high.tolist() == [34.0, 7.0, 100.0]


def test_the_spread_is_the_standard_deviation_and_a_year():
    two = np.zeros((2, 101), np.float32)
    two[0, 30] = 1.0
    two[1, [20, 40]] = 0.5
    assert spread(two) == pytest.approx([1.0, np.sqrt(101.0)])


def test_the_central_interval_is_the_distributions_own_quantiles():
    flat = np.full((1, 100), 0.01, np.float32)
    low, high = central(flat, level=0.79)
    assert (low[0], high[0]) == (10.0, 89.0)


def draw(people: int, photos: int, seed: int) -> Predictions:
    """Predictions whose errors depend on the person and are twice as large as the distributions say."""
    random = np.random.default_rng(seed)
    person = np.repeat([f"p{i:03d}" for i in range(people)], photos)
    predicted = random.uniform(35, 65, people * photos)
    ages = np.arange(101)
    distribution = np.exp(-0.5 * np.square((ages - predicted[:, None]) / 3.0))
    distribution = (distribution / distribution.sum(axis=1, keepdims=True)).astype(np.float32)
    own = np.repeat(random.normal(0, 4, people), photos)
    age = np.clip(np.round(predicted + own + random.normal(0, 4, people * photos)), 0, 100).astype(np.int16)
    return Predictions(
        photo=np.array([f"{i:05d}" for i in range(len(age))]),
        person=person,
        age=age,
        predicted=predicted.astype(np.float32),
        distribution=distribution,
        fold=person,
        seed=np.zeros(len(age), np.int32),
        fingerprint=np.full(len(age), "x"),
    )


def test_calibrated_intervals_hold_on_people_that_they_never_saw_although_the_network_is_overconfident():
    scales = calibrate_intervals(draw(80, 8, seed=0), draws=200)
    new = draw(400, 8, seed=1)
    for scale in scales:
        assert scale.factor is not None
        low, high = interval(new.predicted.astype(np.float64), spread(new.distribution), scale.factor, ages=101)
        held = ((low <= new.age) & (new.age <= high)).mean()
        assert abs(held - scale.level) < 0.06
        assert abs(scale.covered.value - scale.level) < 0.04
        assert scale.covered.low < scale.covered.value < scale.covered.high
        own_low, own_high = central(new.distribution, level=scale.level)
        assert ((own_low <= new.age) & (new.age <= own_high)).mean() < scale.level - 0.1


def test_twelve_people_are_too_few_for_95_per_cent_and_the_model_says_so():
    eighty, ninety_five = calibrate_intervals(draw(12, 6, seed=0), draws=50)
    assert eighty.factor is not None
    assert ninety_five.factor is None
    assert ninety_five.covered.value == 1.0
