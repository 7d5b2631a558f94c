"""The predictions table: what is written is what is read, and wrong rows are refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.artifacts.predictions import DIGEST_KEY, SCHEMA, Predictions, read_predictions, schema, write_predictions
from study.cli.run import message

ABOUT = {"dataset": "fgnet", "photos": 6, "people": 3, "seeds": [0, 1], "trial": {"backbone": "resnet18"}}


def predictions(*, seeds: int = 2, ages: int = 101) -> Predictions:
    """Three people, two photos each, unsorted on purpose."""
    rng = np.random.default_rng(3)
    rows = 6 * seeds
    distribution = rng.dirichlet(np.full(ages, 0.3), rows).astype(np.float32)
    person = np.tile(["fgnet/002", "fgnet/001", "fgnet/003", "fgnet/001", "fgnet/002", "fgnet/003"], seeds)
    photo = np.tile(["b1", "a1", "c1", "a2", "b2", "c2"], seeds)
    return Predictions(
        photo=photo,
        person=person,
        age=np.tile(np.array([3, 10, 22, 40, 5, 61], np.int16), seeds),
        predicted=(distribution @ np.arange(ages, dtype=np.float32)).astype(np.float32),
        distribution=distribution,
        fold=person.copy(),
        seed=np.repeat(np.arange(seeds, dtype=np.int32), 6),
        fingerprint=np.full(rows, "abc"),
    )


def test_what_is_written_is_read_again(tmp_path):
    written = predictions()
    write_predictions(tmp_path / "deep" / "p.parquet", written, about=ABOUT)
    read, about = read_predictions(tmp_path / "deep" / "p.parquet")
    assert about == ABOUT
    for field in dataclasses.fields(Predictions):
        assert np.array_equal(getattr(read, field.name), getattr(written, field.name)), field.name
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["p.parquet"]


def test_attributes_are_further_columns_and_travel_with_their_photos(tmp_path):
    table = predictions()
    by_photo = {"a1": "female", "a2": "", "b1": "male", "b2": "male", "c1": "", "c2": "female"}
    sex = np.array([by_photo[photo] for photo in table.photo])
    given = dataclasses.replace(table, attributes={"sex": sex})
    write_predictions(tmp_path / "p.parquet", given, about=ABOUT)
    read, _ = read_predictions(tmp_path / "p.parquet")
    for each in (read, given.average_seeds()):
        assert [by_photo[photo] for photo in each.photo] == each.attributes["sex"].tolist()
    assert pq.read_schema(tmp_path / "p.parquet").names == [*SCHEMA.names, "sex"]
    assert pq.read_table(tmp_path / "p.parquet")["sex"].null_count == 4
    other = pq.ParquetFile(tmp_path / "p.parquet").read()
    swapped = other.set_column(len(SCHEMA.names), "sex", pa.array(["male"] * 12))
    pq.write_table(swapped, tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="was damaged or changed"):
        read_predictions(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="unknown attributes .'height'."):
        dataclasses.replace(table, attributes={"height": sex})


def test_the_file_on_disk_has_the_schema_that_is_promised(tmp_path):
    write_predictions(tmp_path / "p.parquet", predictions(), about=ABOUT)
    assert pq.read_schema(tmp_path / "p.parquet").equals(SCHEMA)
    write_predictions(tmp_path / "q.parquet", predictions(ages=80), about=ABOUT)
    assert pq.read_schema(tmp_path / "q.parquet").equals(schema(ages=80))


def test_rows_come_sorted_by_seed_then_photo():
    table = predictions()
    assert table.photo.tolist() == ["a1", "a2", "b1", "b2", "c1", "c2"] * 2
    assert table.person[:2].tolist() == ["fgnet/001", "fgnet/001"]
    assert table.age[:6].tolist() == [10, 40, 3, 5, 22, 61]
    assert table.photos == 6
    assert table.people.tolist() == ["fgnet/001", "fgnet/002", "fgnet/003"]


def test_averaged_seeds_hold_the_expectation_of_the_averaged_distribution():
    table = predictions(seeds=3)
    committee = table.average_seeds()
    assert len(committee) == 6
    by_hand = [table.distribution[(table.photo == photo)].astype(float).mean(axis=0) for photo in committee.photo]
    assert committee.distribution == pytest.approx(np.array(by_hand), abs=1e-6)
    assert committee.predicted == pytest.approx(np.array(by_hand) @ np.arange(101), abs=1e-3)
    assert committee.age.tolist() == table.age[:6].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {"predicted": np.where(t.photo == "a1", np.nan, t.predicted).astype(np.float32)},
            "diverged",
        ),
        (lambda t: {"distribution": t.distribution * 2}, "sum to 1"),
        (lambda t: {"photo": np.where(t.photo == "a1", "a2", t.photo)}, "twice"),
        (lambda t: {"seed": np.where(t.photo == "a1", 5, t.seed).astype(np.int32)}, "twice|lack a seed"),
    ],
)
def test_rows_that_would_give_a_wrong_figure_are_refused(change, message):
    table = predictions()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(table, **change(table))


def test_a_missing_fold_of_one_seed_is_named():
    table = predictions()
    keep = ~((table.photo == "c2") & (table.seed == 1))
    with pytest.raises(ValueError, match=r"lack a seed of .0, 1., first c2"):
        Predictions(**{name: values[keep] for name, values in table.columns.items()})


def test_files_that_are_no_predictions_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"study\.lopo"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("age\n3\n")
    with pytest.raises(ValueError, match="not Parquet"):
        read_predictions(tmp_path / "text.parquet")
    write_predictions(tmp_path / "p.parquet", predictions(), about=ABOUT)
    pq.write_table(pq.read_table(tmp_path / "p.parquet").drop_columns(["seed"]), tmp_path / "q.parquet")
    with pytest.raises(ValueError, match="is not a predictions table"):
        read_predictions(tmp_path / "q.parquet")


def rewrite(file: Path, *, digest: bool = True, **columns: pa.Array) -> None:
    """The file as another program writes it, with other columns, and with or without our digest."""
    table = pq.ParquetFile(file).read()
    metadata = {name: value for name, value in table.schema.metadata.items() if digest or name != DIGEST_KEY}
    for name, values in columns.items():
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), values)
    pq.write_table(table.replace_schema_metadata(metadata), file)


def test_a_table_that_was_edited_is_refused_and_one_that_was_only_copied_is_read(tmp_path):
    file, written = tmp_path / "p.parquet", predictions()
    write_predictions(file, written, about=ABOUT)
    rewrite(file)
    assert np.array_equal(read_predictions(file)[0].predicted, written.predicted)
    truth = pa.array(written.age.astype(np.float32))
    rewrite(file, predicted=truth)
    with pytest.raises(ValueError, match="p.parquet was damaged or changed after it was written") as error:
        read_predictions(file)
    assert message(error.value)


def test_a_table_of_an_earlier_version_is_kept_where_its_ages_follow_from_its_distributions(tmp_path):
    file, written = tmp_path / "p.parquet", predictions()
    write_predictions(file, written, about=ABOUT)
    rewrite(file, digest=False)
    assert np.array_equal(read_predictions(file)[0].predicted, written.predicted)
    rewrite(file, digest=False, predicted=pa.array(written.age.astype(np.float32)))
    with pytest.raises(ValueError, match="predicted ages that its distributions do not give"):
        read_predictions(file)
    median = (written.distribution.cumsum(axis=1) < 0.5).sum(axis=1).astype(np.float32)
    about = {**ABOUT, "trials": [{"decoder": "median"}, {"decoder": "argmax"}]}
    write_predictions(file, dataclasses.replace(written, predicted=median), about=about)
    rewrite(file, digest=False)
    assert np.array_equal(read_predictions(file)[0].predicted, median)


@pytest.mark.slow
def test_no_flipped_bit_changes_a_value_or_ends_in_a_traceback(tmp_path):
    """Every 37th bit; all 41,600 of a file of 5 kB were tried once."""
    file = tmp_path / "p.parquet"
    few = predictions(seeds=1, ages=12)
    write_predictions(file, few, about=ABOUT)
    data, refused = file.read_bytes(), 0
    for bit in range(0, 8 * len(data), 37):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(bytes(flipped))
        try:
            read, about = read_predictions(file)
        except ValueError as error:
            refused += 1 if message(error) else 0
        else:
            assert about == ABOUT, f"bit {bit}"
            for name, values in few.columns.items():
                assert np.array_equal(getattr(read, name), values), f"bit {bit}, {name}"
    assert refused > 250
    for length in (0, 3, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(ValueError, match="not Parquet, or is damaged"):
            read_predictions(file)
