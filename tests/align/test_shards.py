"""Which photos lie together in a faces table: study.pretrain shuffles what lies near, so nothing alike must."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from study.align.listing import HASHED
from study.align.shards import Shard, _cut, plan_shards
from study.artifacts.aligned import Recipe

RECIPE = Recipe("utkface", "dlib", shard=256)


def listing(*, without: int | None = None) -> pa.Table:
    """2,048 photos of eight ages whose names begin with the age, as UTKFace's do, sorted by name."""
    names = [f"{age}_{number:03d}.jpg" for age in range(10, 18) for number in range(256)]
    kept = [name for number, name in enumerate(sorted(names)) if number != without]
    empty = {name: pa.nulls(len(kept), kind) for name, kind in zip(HASHED.names, HASHED.types, strict=True)}
    known = {
        "photo": pa.array(kept),
        "age": pa.array([int(name[:2]) for name in kept], pa.int16()),
        "sha256": pa.array([f"{number:064x}" for number in range(len(kept))]),
        "bytes": pa.array([1000] * len(kept), pa.int64()),
    }
    return pa.table(empty | known, schema=HASHED).select(HASHED.names[:-2])


def names(shards: list[Shard]) -> list[str]:
    return [name for shard in shards for name in shard.photos["photo"].to_pylist()]


def test_a_shard_is_like_the_whole_table_and_not_of_one_age():
    shards = plan_shards(listing(), RECIPE)
    assert [shard.photos.num_rows for shard in shards] == [256] * 8
    assert sorted(names(shards)) == listing()["photo"].to_pylist()
    for shard in shards:
        ages = shard.photos["age"].to_pylist()
        assert all(15 <= ages.count(age) <= 50 for age in range(10, 18))  # 32 expected; 15 and 50 are over 3 SD off


def test_the_order_depends_on_the_names_alone():
    one, other = names(plan_shards(listing(), RECIPE)), names(plan_shards(listing(without=700), RECIPE))
    gone = sorted(one)[700]
    assert other == [name for name in one if name != gone]


def test_a_table_that_was_begun_in_the_order_of_names_goes_on_in_it():
    new = plan_shards(listing(), RECIPE)
    assert names(plan_shards(listing(), RECIPE, [shard.name for shard in new])) == names(new)
    before = plan_shards(listing(), RECIPE, [old := by_name()[3].name])
    assert names(before) == listing()["photo"].to_pylist()
    assert before[3].name == old


def test_a_shard_of_both_orders_does_not_turn_a_small_table_back():
    recipe, some = replace(RECIPE, shard=1), listing()
    coincide = 0
    for photos in (some.slice(start, 4) for start in range(0, 400, 4)):
        new, old = ([shard.name for shard in plan(photos, recipe)] for plan in (plan_shards, _cut))
        coincide += len(set(new) & set(old)) > 0
        for done in range(1, 5):
            assert [shard.name for shard in plan_shards(photos, recipe, new[:done])] == new
    assert coincide > 20  # 15 of the 24 orders of four leave one in its place


def by_name() -> list[Shard]:
    """The shards as earlier versions cut them."""
    return _cut(listing(), RECIPE)
