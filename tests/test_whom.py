"""For whom a model errs, in sentences and tables: what stands is said once, and what is not known is one line."""

import dataclasses

import numpy as np

from study.artifacts.predictions import Predictions
from study.statistics.groups import by_group
from study.statistics.summary import by_decade
from study.table import Table
from study.whom import for_whom, group_table, sentences, unknown, worst_age


def made(more: float) -> Predictions:
    rng = np.random.default_rng(0)
    age = rng.integers(10, 40, 400).astype(np.int16)
    sex = np.where(np.arange(400) % 2, "a|<b", "c")
    predicted = (age + rng.normal(0, 2, 400) * np.where(sex == "c", 1, 1 + more)).clip(0, 100).astype(np.float32)
    names = np.array([f"{i:03}" for i in range(400)])
    density = np.full((400, 101), 1 / 101, np.float32)
    seed = np.zeros(400, np.int32)
    return Predictions(names, names, age, predicted, density, names, seed, names, {"sex": sex})


def test_a_difference_is_said_once_and_only_where_it_stands():
    table = made(1.5)
    lines = sentences(by_group(table, table.attributes))
    assert lines[0].startswith("The largest error: sex a¦‹b, MAE ")
    assert len(lines) == 2
    assert lines[1].startswith("At the same ages the error for sex a¦‹b is larger than for the others by ")
    assert "p < 0.001" in lines[1]
    table = made(0.0)
    assert "no difference between groups" in sentences(by_group(table, table.attributes))[1]
    assert "No groups of photos are told apart" in sentences([])[0]


def test_the_tables_have_a_row_for_each_group_and_adults_are_asked_about():
    table = made(0.5)
    assert [row[0] for row in group_table(by_group(table, table.attributes)).rows] == ["sex: a¦‹b", "sex: c"]
    tables = {part.name: part for part in for_whom(table) if isinstance(part, Table)}
    assert list(tables) == ["groups", "ages", "adults"]
    assert [row[0] for row in tables["adults"].rows] == ["everyone", "sex: a¦‹b", "sex: c"]
    assert [row[0] for row in tables["ages"].rows] == ["10 to 19", "20 to 29", "30 to 39"]


def test_what_is_not_known_is_one_line_and_no_empty_table():
    table = dataclasses.replace(made(0.5), attributes={})
    parts = for_whom(table)
    assert "an earlier version made it" in parts[1]
    assert [part.name for part in parts if isinstance(part, Table)] == ["ages", "adults"]
    some = {"sex": made(0.5).attributes["sex"], "colour": np.full(400, "greyscale"), "group": np.full(400, "")}
    told = unknown(some)
    assert told == (
        "Not known of these photos: group, sharpness, face size, found. The same for all whose value is known: colour "
        "(greyscale)."
    )
    old = dataclasses.replace(table, age=(table.age + 30).astype(np.int16))
    assert "No photo is of somebody aged 18 to 30." in for_whom(old)
    assert "nobody can pass as 18 wrongly" in for_whom(old)[-1]


def test_the_worst_decade_is_named_and_its_table_is_left_out_where_it_stands_elsewhere():
    table = made(0.5)
    decades = by_decade(table, draws=200)
    error = np.abs(table.predicted - table.age)
    by_hand = {low: error[table.age // 10 * 10 == low].mean() for low in (10, 20, 30)}
    worst = max(by_hand, key=by_hand.__getitem__)
    assert f"from {worst} to {worst + 9}: MAE {by_hand[worst]:.2f} (" in worst_age(decades)
    assert "ages" not in [part.name for part in for_whom(table, decades) if isinstance(part, Table)]
