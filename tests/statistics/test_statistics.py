"""Metrics and their intervals, against SciPy, scikit-learn, loops by hand and simulation."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from study.artifacts.predictions import Predictions
from study.statistics import summary
from study.statistics.bootstrap import Interval, bootstrap, person_means
from study.statistics.summary import Comparison, alarms, by_decade, by_person, compare, constant_guess, holm, summarise

stats = pytest.importorskip("scipy.stats")

FGNET = Path(__file__).parents[3] / "shared" / "data" / "fgnet" / "images"


def drawn(
    *, people: int = 30, seeds: int = 1, noise: float = 4.0, rng: int = 0, predict=None, top: int = 101
) -> Predictions:
    """Predictions of people with 3 to 12 photos each; a person's photos share an error of their own."""
    truth = np.random.default_rng(99)  # the same photos whatever the noise
    count = truth.integers(3, 13, people)
    person = np.repeat([f"p{i:02d}" for i in range(people)], count)
    age = np.minimum(truth.gamma(1.6, 10, len(person)), 69).astype(np.int16)
    generator = np.random.default_rng(rng)
    own = np.repeat(generator.normal(0, noise / 2, people), count)
    tables = []
    for seed in range(seeds):
        predicted = age + own + generator.normal(0, noise, len(age))
        if predict is not None:
            predicted = predict(age, person, seed)
        density = np.exp(-np.square((np.arange(top) - np.clip(predicted, 0, top - 1)[:, None]) / noise) / 2)
        tables.append((predicted, density / density.sum(axis=1, keepdims=True)))
    return Predictions(
        photo=np.tile([f"photo{i:04d}" for i in range(len(age))], seeds),
        person=np.tile(person, seeds),
        age=np.tile(age, seeds),
        predicted=np.concatenate([p for p, _ in tables]).astype(np.float32),
        distribution=np.concatenate([d for _, d in tables]).astype(np.float32),
        fold=np.tile(person, seeds),
        seed=np.repeat(np.arange(seeds, dtype=np.int32), len(age)),
        fingerprint=np.full(seeds * len(age), "test"),
    )


def test_figures_agree_with_loops_over_folds():
    table = drawn(seeds=2)
    mae, rmse, cs = [], [], []
    for seed in (0, 1):
        for person in table.people:
            rows = (table.person == person) & (table.seed == seed)
            error = [float(p) - int(y) for p, y in zip(table.predicted[rows], table.age[rows], strict=True)]
            mae.append(sum(map(abs, error)) / len(error))
            rmse.append(math.sqrt(sum(e * e for e in error) / len(error)))
            cs.append(100 * sum(abs(e) <= 5 for e in error) / len(error))
    found = summarise(table, draws=50)
    assert found.mae.value == pytest.approx(np.mean(mae))
    assert found.rmse.value == pytest.approx(np.mean(rmse))
    assert found.cs.value[5] == pytest.approx(np.mean(cs))
    assert found.seed_maes == pytest.approx([np.mean(mae[:30]), np.mean(mae[30:])])
    assert found.people == 30


def test_an_error_of_exactly_five_years_is_within_five():
    found = summarise(drawn(predict=lambda age, person, seed: age + 5.0), draws=50)
    for cs in (found.cs, found.cs_pooled):
        assert cs.value.tolist() == [0.0] * 5 + [100.0] * 11


def test_pooled_figures_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    table = drawn(seeds=2)
    found = summarise(table, draws=50)
    predicted = table.predicted.astype(float)
    by_seed = [metrics.root_mean_squared_error(table.age[r], predicted[r]) for r in (table.seed == 0, table.seed == 1)]
    assert found.mae_pooled.value == pytest.approx(metrics.mean_absolute_error(table.age, predicted))
    assert found.rmse_pooled.value == pytest.approx(np.mean(by_seed))
    assert found.cs_pooled.value[5] == pytest.approx(100 * np.mean(np.abs(predicted - table.age) <= 5))
    assert found.bias.value != pytest.approx(0, abs=1e-6)


def test_a_committee_of_seeds_is_never_worse_than_the_mean_seed():
    found = summarise(drawn(seeds=3), draws=50)
    assert found.committee.value < found.mae.value
    assert found.mae.value == pytest.approx(np.mean(found.seed_maes))
    assert np.isnan(summarise(drawn(), draws=50).committee.value)


def matching_level(people: int) -> float:
    """The level at which a plain BCa interval is as long as ours at 95 %: Student's quantile, and the lost degree."""
    return 2 * stats.norm.cdf(stats.t.ppf(0.975, people - 1) * math.sqrt(people / (people - 1))) - 1


def test_intervals_agree_with_scipys_bca():
    values = np.random.default_rng(1).gamma(2, 2, 60)
    ours = bootstrap(person_means(values[:, None], np.arange(60)).over_people, people=60, draws=20_000)[0]
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=2, confidence_level=matching_level(60)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.03)


def test_intervals_of_eight_people_are_as_long_as_students():
    """Of a symmetrical mean, where BCa has nothing to correct: Student's interval, 2.36 standard errors either way."""
    values = np.array([-4.0, -3, -2, -1, 1, 2, 3, 4])
    ours = bootstrap(person_means(values[:, None], np.arange(8)).over_people, people=8, draws=40_000)[0]
    low, high = stats.t.interval(0.95, 7, 0, values.std(ddof=1) / math.sqrt(8))
    assert ours.high - ours.low == pytest.approx(high - low, rel=0.04)


def test_pooled_intervals_agree_with_scipys_bca_of_the_ratio():
    table = drawn(people=40)
    error = np.abs(table.predicted.astype(float) - table.age)
    sums = np.array([error[table.person == p].sum() for p in table.people])
    rows = np.array([(table.person == p).sum() for p in table.people])
    theirs = stats.bootstrap(
        (sums, rows),
        lambda s, r, axis: s.sum(axis=axis) / r.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="BCa",
        rng=3,
        confidence_level=matching_level(40),
    ).confidence_interval
    ours = summarise(table, draws=20_000).mae_pooled
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.03)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    # Skewed errors of people with different numbers of photos; the true pooled mean is 4, over people too.
    generator = np.random.default_rng(5)
    held = np.zeros(2)
    studies = 250
    for study in range(studies):
        count = generator.integers(3, 19, 60)
        own = np.repeat(generator.gamma(4, 1, 60), count)
        means = person_means(generator.gamma(2, own / 2)[:, None], np.repeat(np.arange(60), count))
        for i, statistic in enumerate((means.over_people, means.pooled)):
            interval = bootstrap(statistic, people=60, draws=400, seed=study)[0]
            held[i] += interval.low <= 4 <= interval.high
    assert 0.91 <= held[0] / studies <= 0.98
    assert 0.91 <= held[1] / studies <= 0.98


@pytest.mark.slow
def test_intervals_of_a_dozen_people_hold_the_truth_nearly_as_often():
    generator = np.random.default_rng(6)
    held = 0
    for study in range(400):
        means = person_means(generator.gamma(4, 1, 12)[:, None], np.arange(12))
        interval = bootstrap(means.over_people, people=12, draws=400, seed=study)[0]
        held += interval.low <= 4 <= interval.high
    assert 0.90 <= held / 400 <= 0.98


def test_intervals_over_photos_would_promise_too_much():
    def predict(age, person, seed):  # some people look older than they are in every photo
        years = {name: (-1) ** i * (i % 7) for i, name in enumerate(sorted(set(person)))}
        return age + np.array([years[name] for name in person])

    table = drawn(people=40, predict=predict)
    over_people = summarise(table).mae_pooled
    error = np.abs(table.predicted.astype(float) - table.age)
    photos = person_means(error[:, None], table.photo)
    over_photos = bootstrap(photos.pooled, people=len(error), draws=2000)[0]
    assert over_people.high - over_people.low > 1.5 * (over_photos.high - over_photos.low)


def test_intervals_are_the_same_at_every_call():
    assert summarise(drawn()).mae == summarise(drawn()).mae


def test_four_people_get_a_figure_but_no_interval():
    found = summarise(drawn(people=4))
    assert np.isnan(found.mae.low)
    assert f"{found.mae:.2f}" == f"{found.mae.value:.2f}"


def test_decades_agree_with_loops_and_leave_no_photo_out():
    table = drawn(seeds=2)
    decades = by_decade(table, draws=200)
    assert sum(d.photos for d in decades) == table.photos
    for d in decades:
        rows = (table.age >= d.low) & (table.age <= d.high)
        error = table.predicted[rows].astype(float) - table.age[rows]
        assert d.mae.value == pytest.approx(np.abs(error).mean())
        assert d.bias.value == pytest.approx(error.mean())
        assert d.people == len(set(table.person[rows]))
        assert np.isnan(d.mae.low) == (d.people < 5)


def test_people_come_worst_first():
    table = drawn()
    people = by_person(table)
    assert [p.mae for p in people] == sorted((p.mae for p in people), reverse=True)
    worst = table.person == people[0].person
    assert people[0].mae == pytest.approx(np.abs(table.predicted[worst].astype(float) - table.age[worst]).mean())
    assert people[0].photos == worst.sum()


def test_a_clear_difference_is_found_and_said_plainly():
    found = compare({"ResNet-34": drawn(noise=6, rng=1), "B7": drawn(noise=3, rng=2)})[0]
    assert (found.better, found.worse) == ("B7", "ResNet-34")
    assert found.decided
    assert re.fullmatch(
        r"B7 is better than ResNet-34 by \d\.\d\d years, 95 % interval \d\.\d\d to \d\.\d\d \(p < 0\.001\)\.",
        found.sentence,
    )


def test_twins_cannot_be_told_apart():
    found = compare({"a": drawn(rng=1), "b": drawn(rng=2)})[0]
    assert not found.decided
    assert found.sentence.startswith("This data cannot tell ")
    same = compare({"a": drawn(rng=1), "b": drawn(rng=1)})[0]
    assert same.p == 1
    assert same.difference == Interval(0.0, 0.0, 0.0)


def test_paired_p_agrees_with_scipys_permutation_test():
    one, other = drawn(rng=1, noise=4.0), drawn(rng=2, noise=4.5)
    gaps = [
        np.abs(one.predicted[r] - one.age[r]).mean(dtype=float)
        - np.abs(other.predicted[r] - other.age[r]).mean(dtype=float)
        for r in (one.person == p for p in one.people)
    ]
    theirs = stats.permutation_test(
        (gaps, np.zeros(len(gaps))),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        rng=1,
    )
    found = compare({"one": one, "other": other})[0]
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.difference.value == pytest.approx(abs(np.mean(gaps)), abs=1e-5)


@pytest.mark.slow
def test_the_paired_test_is_wrong_about_twins_no_more_often_than_it_says():
    generator = np.random.default_rng(8)
    false_claims = 0
    for study in range(60):
        one, other = (drawn(rng=int(generator.integers(1 << 30))) for _ in range(2))
        false_claims += compare({"one": one, "other": other}, draws=300, flips=500, seed=study)[0].decided
    assert false_claims <= 8  # 3 expected; more than 8 has a chance of 0.5 %


def test_holm_agrees_with_its_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_many_comparisons_raise_the_bar():
    tables = {f"config {i}": drawn(rng=i, noise=4 + 0.2 * i) for i in range(5)}
    found = compare(tables)
    assert len(found) == 10
    assert all(c.holm >= c.p for c in found)
    assert "after Holm's correction over 10 comparisons" in found[0].sentence


def test_pairs_in_blocks_give_what_all_pairs_at_once_give(monkeypatch):
    """The calculation as it was before pairs came in blocks: one matrix for all pairs' draws, one for their flips."""
    tables = {f"config {i}": drawn(people=20, rng=i, noise=3 + 0.4 * i) for i in range(6)}
    monkeypatch.setattr(summary, "PAIRS", 4)
    found = compare(tables, draws=300, flips=2000)
    error = {name: np.abs(table.predicted.astype(float) - table.age) for name, table in tables.items()}
    means = {
        name: np.array([error[name][table.person == person].mean() for person in table.people])
        for name, table in tables.items()
    }
    gaps = np.column_stack([means[each.worse] - means[each.better] for each in found])
    whole = bootstrap(lambda weights: weights @ gaps / weights.sum(axis=1, keepdims=True), people=20, draws=300)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(2000, 20))
    p = (1 + (np.abs(signs @ gaps) >= np.abs(gaps.sum(axis=0)) * (1 - 1e-9)).sum(axis=0)) / 2001
    assert len(found) == 15
    for i, each in enumerate(found):
        interval = each.difference
        assert (interval.value, interval.low, interval.high) == pytest.approx(dataclasses.astuple(whole[i]), rel=1e-9)
    assert [each.p for each in found] == p.tolist()
    assert [each.holm for each in found] == holm(p.tolist())


def test_a_difference_is_not_decided_by_a_test_that_many_comparisons_undo():
    found = Comparison("a", "b", Interval(1.0, 0.2, 1.8), p=0.01, holm=0.06, comparisons=6)
    assert not found.decided
    assert found.sentence.startswith("This data cannot tell")
    assert dataclasses.replace(found, holm=0.04).decided


def test_configs_on_different_photos_are_not_compared():
    with pytest.raises(ValueError, match="same photos"):
        compare({"a": drawn(people=30), "b": drawn(people=20)})


def test_the_constant_guess_never_uses_the_person_that_it_guesses():
    table = drawn(seeds=2)
    guess = constant_guess(table)
    assert len(guess) == table.photos
    for person in table.people:
        others = table.age[(table.person != person) & (table.seed == 0)]
        rows = guess.person == person
        assert np.all(guess.predicted[rows] == np.median(others))
        assert guess.distribution[rows][0, 20] == pytest.approx(np.mean(others == 20), abs=1e-6)


@pytest.mark.skipif(not FGNET.is_dir(), reason="FG-NET is not on this machine")
def test_the_constant_guess_on_fgnet_is_the_known_figure():
    names = [re.match(r"(\d{3})[aA](\d\d)", path.name) for path in sorted(FGNET.iterdir())]
    person = np.array([name[1] for name in names if name])
    age = np.array([int(name[2]) for name in names if name], np.int16)
    table = Predictions(
        photo=np.array([f"{i:04d}" for i in range(len(age))]),
        person=person,
        age=age,
        predicted=np.zeros(len(age), np.float32),
        distribution=np.eye(101, dtype=np.float32)[np.zeros(len(age), int)],
        fold=person,
        seed=np.zeros(len(age), np.int32),
        fingerprint=np.full(len(age), ""),
    )
    found = summarise(constant_guess(table))
    assert (found.people, found.photos) == (82, 1002)
    assert found.mae_pooled.value == pytest.approx(9.71, abs=0.005)
    assert found.mae.value == pytest.approx(9.72, abs=0.005)


def test_a_working_model_raises_no_alarm():
    assert alarms(drawn(seeds=2)) == []


def test_a_model_that_answers_one_age_raises_the_alarm():
    generator = np.random.default_rng(0)
    found = alarms(drawn(predict=lambda age, person, seed: 15 + generator.normal(0, 0.3, len(age))))
    assert any("nearly the same age for everyone" in sentence for sentence in found)
    assert any("Not better than a constant guess" in sentence for sentence in found)


def test_a_single_collapsed_fold_is_named():
    table = drawn()
    spread = {p: table.age[table.person == p].std() for p in table.people}
    victim = max(spread, key=spread.get)

    def predict(age, person, seed):
        return np.where(person == victim, 20.0, age + 1.0)

    found = alarms(drawn(predict=predict))
    assert found == [f"Nearly one age for all photos of a person in 1 of 30 folds: {victim} (seed 0)."]
