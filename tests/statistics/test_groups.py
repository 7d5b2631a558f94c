"""Errors by group against a simulation whose truth is known, and against resampling people."""

import numpy as np
import pytest

from study.artifacts.predictions import Predictions
from study.statistics.bootstrap import bootstrap, person_means
from study.statistics.groups import by_group, mae_between, passed_as_adult


def made(*, people: int = 300, more: float = 0.0, seed: int = 0, photos: int = 2) -> tuple[Predictions, dict]:
    """People of two sexes; the errors of women are larger by a factor 1 + more, and women are older by ten years."""
    rng = np.random.default_rng(seed)
    sex = np.repeat(np.where(np.arange(people) % 3 == 0, "female", "male"), photos)
    age = (rng.integers(5, 45, people * photos) + 10 * (sex == "female")).astype(np.int16)
    own = np.repeat(rng.normal(0, 2, people), photos)  # photos of one person are alike
    error = (own + rng.normal(0, 2, people * photos) + 0.1 * age * rng.choice([-1, 1], people * photos)) * np.where(
        sex == "female", 1 + more, 1.0
    )
    predicted = np.clip(age + error, 0, 100).astype(np.float32)
    distribution = np.zeros((len(age), 101), np.float32)
    distribution[np.arange(len(age)), np.clip(np.round(predicted), 0, 100).astype(int)] = 1
    person = np.repeat([f"p{i:04}" for i in range(people)], photos)
    photo = np.array([f"{i:05}" for i in range(len(age))])
    table = Predictions(
        photo, person, age, predicted, distribution, person, np.zeros(len(age), np.int32), np.full(len(age), "x")
    )
    return table, {"sex": sex}


def test_a_groups_error_is_its_mean_and_its_interval_is_that_of_resampled_people():
    table, attributes = made()
    female, male = by_group(table, attributes)
    inside = attributes["sex"] == "female"
    error = np.abs(table.predicted.astype(float) - table.age)
    assert female.mae.value == pytest.approx(error[inside].mean())
    assert (female.photos, female.people, male.people) == (200, 100, 200)
    means = person_means(error[inside][:, None], table.person[inside])
    resampled = bootstrap(means.pooled, people=100, draws=4000)[0]
    assert female.mae.low == pytest.approx(resampled.low, abs=0.12)
    assert female.mae.high == pytest.approx(resampled.high, abs=0.12)


def test_an_older_group_is_not_said_to_err_more_when_it_does_not_at_the_same_ages():
    decided = raw = 0
    for seed in range(40):
        table, attributes = made(seed=seed, people=200)
        female, male = by_group(table, attributes)
        raw += female.mae.low > male.mae.high
        decided += female.decided
        assert female.more.value == pytest.approx(-male.more.value)
        assert female.p == male.p, "each is the other's rest: one comparison"
    assert decided <= 6, "about one in twenty by chance"


def test_a_group_that_errs_more_at_the_same_ages_is_named():
    table, attributes = made(more=0.8)
    female, male = by_group(table, attributes)
    assert female.decided
    assert female.more.low > 0 > male.more.high
    assert "sex female is larger than for the others by" in female.sentence
    assert "sex male is smaller than for the others by" in male.sentence


def test_unknown_values_are_in_no_group_and_one_value_alone_is_none():
    table, attributes = made()
    values = np.where(attributes["sex"] == "male", "", attributes["sex"])
    assert by_group(table, {"sex": values}) == []
    assert by_group(table, {}) == []


def test_more_groups_are_corrected_for():
    table, attributes = made(more=0.25, seed=3)
    rng = np.random.default_rng(1)
    (alone, _) = by_group(table, attributes)
    noise = {f"noise{i}": rng.choice(["a", "b", "c"], len(table)) for i in range(6)}
    together = next(each for each in by_group(table, {**attributes, **noise}) if each.name == "female")
    assert together.p > alone.p


def test_a_group_of_two_people_has_no_interval():
    table, _ = made()
    values = np.where(np.isin(table.person, ["p0000", "p0001"]), "few", "many")
    few = next(each for each in by_group(table, {"kind": values}) if each.name == "few")
    assert np.isnan(few.mae.low)
    assert np.isnan(few.p)
    assert not few.decided


def test_who_passes_as_an_adult_is_counted_among_those_of_14_to_17():
    table, attributes = made(people=600)
    everyone, women = passed_as_adult(
        table, {"everyone": np.ones(len(table), bool), "women": attributes["sex"] == "female"}
    )
    young = (table.age >= 14) & (table.age <= 17)
    assert everyone.photos == young.sum()
    assert everyone.share.value == pytest.approx((table.predicted[young] >= 25).mean())
    assert 0 <= everyone.share.low <= everyone.share.value <= everyone.share.high <= 1
    assert women.photos < everyone.photos
    assert passed_as_adult(table, {"nobody": table.age > 90}) == []


def test_the_error_between_two_ages():
    table, _ = made()
    inside = (table.age >= 18) & (table.age <= 30)
    assert mae_between(table, 18, 30).value == pytest.approx(
        np.abs(table.predicted - table.age)[inside].mean(), abs=1e-5
    )
    assert np.isnan(mae_between(table, 90, 95).value)
