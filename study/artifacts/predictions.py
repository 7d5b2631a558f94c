"""The predictions table: what LOPO writes, and all that the statistics need.

One Parquet row per photo and seed, with the whole age distribution, so that every metric of the report can be computed
without training. What the table is about (study.artifacts.about) is JSON in its metadata. So is a digest of all columns
and of that record, which is checked when the file is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int16, Int32, Shaped

ABOUT_KEY = b"lopo"
"""Key of the Parquet metadata that holds, as JSON, what the predictions are about."""

DIGEST_KEY = b"digest"
"""Key of the Parquet metadata that holds the SHA-256 of the columns and of the record under ABOUT_KEY."""


def schema(*, ages: int = 101) -> pa.Schema:
    """Columns of a predictions table over the ages 0 to ages - 1."""
    return pa.schema(
        [
            pa.field("photo", pa.string(), nullable=False),
            pa.field("person", pa.string(), nullable=False),
            pa.field("age", pa.int16(), nullable=False),  # years, the truth
            pa.field("predicted", pa.float32(), nullable=False),  # years, the decoder's answer
            pa.field("distribution", pa.list_(pa.float32(), ages), nullable=False),  # sums to 1
            pa.field("fold", pa.string(), nullable=False),  # the left-out person
            pa.field("seed", pa.int32(), nullable=False),
            pa.field("fingerprint", pa.string(), nullable=False),  # of the fold that made this row
        ]
    )


SCHEMA = schema()
"""Columns of a predictions table over the default ages, 0 to 100."""

ATTRIBUTES = ("sex", "group", "colour", "sharpness", "face size", "found")
"""Further text columns that a table may have, null where a value is not known: for whom does it err? No network is ever
given them (study.quality)."""


@dataclass(frozen=True)
class Predictions:
    """Predicted ages, one row per photo and seed, sorted by seed, then photo.

    age and predicted are years; distribution[i, k] is the probability of age k; fold is the left-out person.
    attributes: some of ATTRIBUTES, each a text for each row, "" where it is not known; {} in older tables.

    Raises ValueError if metrics computed from the rows would be wrong without any sign of it: a value that is not a
    number, a distribution that does not sum to 1, a photo twice in a seed, or a seed without some of the photos.
    """

    photo: Shaped[np.ndarray, " rows"]
    person: Shaped[np.ndarray, " rows"]
    age: Int16[np.ndarray, " rows"]
    predicted: Float32[np.ndarray, " rows"]
    distribution: Float32[np.ndarray, "rows ages"]
    fold: Shaped[np.ndarray, " rows"]
    seed: Int32[np.ndarray, " rows"]
    fingerprint: Shaped[np.ndarray, " rows"]
    attributes: Mapping[str, Shaped[np.ndarray, " rows"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.photo)
        if rows == 0:
            raise ValueError("predictions: no rows")
        if strange := sorted(set(self.attributes) - set(ATTRIBUTES)):
            raise ValueError(f"predictions: unknown attributes {strange}, expected some of {', '.join(ATTRIBUTES)}")
        for name, values in {**self.columns, **self.attributes}.items():
            if len(values) != rows:
                raise ValueError(f"predictions: {name} has {len(values)} rows, expected {rows} as for photo")
        bad = ~(np.isfinite(self.predicted) & np.isfinite(self.distribution).all(axis=1))
        if bad.any():
            raise ValueError(
                f"predictions: {bad.sum()} of {rows} are not a number, first for photo {self.photo[bad][0]} "
                f"in fold {self.fold[bad][0]}: its training diverged; run it with a lower learning rate"
            )
        total = self.distribution.sum(axis=1, dtype=np.float64)
        off = (np.abs(total - 1) > 1e-3) | (self.distribution < 0).any(axis=1)
        if off.any():
            raise ValueError(
                f"predictions: {off.sum()} of {rows} distributions must be >= 0 and sum to 1 but are "
                f"not, first for photo {self.photo[off][0]}, where they sum to {total[off][0]:.4f}"
            )
        order = np.lexsort((self.photo, self.seed))
        for name, values in self.columns.items():
            object.__setattr__(self, name, values[order])
        known = {name: self.attributes[name][order] for name in ATTRIBUTES if name in self.attributes}
        object.__setattr__(self, "attributes", known)
        self._check_seeds()

    def _check_seeds(self) -> None:
        """Raise ValueError unless each photo is there once in every seed: only then is a mean over rows a mean over
        seeds of means over photos."""
        photo, seed = self.photo, self.seed
        twice = (photo[1:] == photo[:-1]) & (seed[1:] == seed[:-1])
        if twice.any():
            raise ValueError(f"predictions: photo {photo[1:][twice][0]} occurs twice in seed {seed[1:][twice][0]}")
        photos, count = np.unique(photo, return_counts=True)
        if (count != len(self.seeds)).any():
            missing = photos[count != len(self.seeds)]
            raise ValueError(
                f"predictions: {len(missing)} of {len(photos)} photos lack a seed of {self.seeds.tolist()}, "
                f"first {missing[0]}: some folds are missing; rerun study.lopo, which runs only those"
            )

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that every table has, by name."""
        return {name: values for name, values in vars(self).items() if name != "attributes"}

    @property
    def seeds(self) -> Int32[np.ndarray, " seeds"]:
        """The seeds, sorted."""
        return np.unique(self.seed)

    @property
    def people(self) -> Shaped[np.ndarray, " people"]:
        """Names of the people, sorted."""
        return np.unique(self.person)

    @property
    def photos(self) -> int:
        """The number of photos, each counted once however many seeds there are."""
        return len(self) // len(self.seeds)

    def average_seeds(self) -> Predictions:
        """The seeds as one ensemble: a row per photo, with the mean distribution and the mean predicted age.

        The predicted age is the mean of the seeds' predictions, not decoded from the mean distribution: for the
        expectation both are the same number, and for the median or the argmax this one does not depend on the decoder.
        An ensemble of S trainings costs S times as much to use, and its MAE is at most the mean of theirs: report it
        next to that mean, never instead. `seed` of the rows is -1.
        """
        seeds, photos = len(self.seeds), self.photos
        first = slice(0, photos)
        return Predictions(
            photo=self.photo[first],
            person=self.person[first],
            age=self.age[first],
            predicted=self.predicted.reshape(seeds, photos).mean(axis=0, dtype=np.float64).astype(np.float32),
            distribution=self.distribution.reshape(seeds, photos, -1).mean(axis=0),
            fold=self.fold[first],
            seed=np.full(photos, -1, np.int32),
            fingerprint=self.fingerprint[first],
            attributes={name: values[first] for name, values in self.attributes.items()},
        )


def write_predictions(path: Path, predictions: Predictions, *, about: Mapping[str, Any]) -> None:
    """Write the table, with `about` as JSON in its metadata. Readers see the old file or the new one, never a part."""
    put_predictions(path, encode_predictions(predictions, about=about))


def put_predictions(path: Path, encoded: bytes) -> None:
    """Write what encode_predictions gave, under a temporary name that is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(encoded)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def encode_predictions(predictions: Predictions, *, about: Mapping[str, Any]) -> bytes:
    """The bytes of the table's Parquet file, with `about` as JSON in its metadata."""
    ages = predictions.distribution.shape[1]
    columns = [
        pa.array(predictions.photo.astype(object), pa.string()),
        pa.array(predictions.person.astype(object), pa.string()),
        pa.array(predictions.age, pa.int16()),
        pa.array(predictions.predicted, pa.float32()),
        pa.FixedSizeListArray.from_arrays(pa.array(predictions.distribution.ravel(), pa.float32()), ages),
        pa.array(predictions.fold.astype(object), pa.string()),
        pa.array(predictions.seed, pa.int32()),
        pa.array(predictions.fingerprint.astype(object), pa.string()),
    ]
    record = json.dumps(about, sort_keys=True, allow_nan=False).encode()
    table = pa.Table.from_arrays(columns, schema=schema(ages=ages))
    for name, values in predictions.attributes.items():
        table = table.append_column(name, pa.array([value or None for value in values.tolist()], pa.string()))
    digest = content_digest(record, _columns(table))  # of what a reader will get
    table = table.replace_schema_metadata({ABOUT_KEY: record, DIGEST_KEY: digest.encode()})
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue()


def read_predictions(path: Path) -> tuple[Predictions, dict[str, Any]]:
    """The predictions at `path` and what they are about.

    A file of an earlier version, without a digest, is read if its predicted ages follow from its distributions. Raises
    FileNotFoundError if there is no file, and ValueError if it is not a predictions table, is damaged, or was changed
    after it was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}; python -m study.lopo writes them")
    try:
        # ParquetFile, not read_table: that would take "key=value" folders above the file for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except Exception as error:  # a flipped bit in the footer makes Arrow raise almost anything
        raise ValueError(f"{path} is not Parquet, or is damaged ({_first_line(error)})") from error
    metadata = table.schema.metadata or {}
    record = metadata.get(ABOUT_KEY)
    further = [name for name in ATTRIBUTES if name in table.schema.names]
    if record is None or table.schema.names != [*SCHEMA.names, *further]:
        raise ValueError(
            f"{path} is not a predictions table of study.lopo: expected the columns {', '.join(SCHEMA.names)} "
            f"and the metadata key {ABOUT_KEY.decode()!r}, found {', '.join(table.schema.names)}"
        )
    if table.num_rows == 0:
        raise ValueError(f"{path} has no rows; rerun study.lopo")
    try:
        columns, about = _columns(table), dict(json.loads(record))
    except Exception as error:
        raise ValueError(f"{path} is damaged ({_first_line(error)})") from error
    digest = metadata.get(DIGEST_KEY)
    if digest is None and not _is_decoded(columns, about):
        raise ValueError(f"{path} has predicted ages that its distributions do not give, and no digest")
    if digest is not None and digest.decode(errors="replace") != content_digest(record, columns):
        raise ValueError(f"{path} was damaged or changed after it was written: its digest does not fit")
    known = {name: columns.pop(name) for name in further}
    try:
        return Predictions(**columns, attributes=known), about
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def content_digest(about: bytes, columns: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of a table's columns, in the order of its rows, and of its JSON record."""
    digest = hashlib.sha256(about)
    for name, values in columns.items():
        text = values.dtype.kind == "U"  # its width is that of the longest
        digest.update(f"\n{name} {'text' if text else values.dtype.str} {values.shape}\n".encode())
        digest.update(json.dumps(values.tolist()).encode() if text else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    """The fields of Predictions from a table of SCHEMA's columns, and its ATTRIBUTES."""
    further = {name: _text(table[name]) for name in ATTRIBUTES if name in table.schema.names}
    distribution = table["distribution"].combine_chunks()
    return {
        "photo": _text(table["photo"]),
        "person": _text(table["person"]),
        "age": table["age"].to_numpy().astype(np.int16),
        "predicted": table["predicted"].to_numpy().astype(np.float32),
        "distribution": distribution.flatten().to_numpy().astype(np.float32).reshape(table.num_rows, -1),
        "fold": _text(table["fold"]),
        "seed": table["seed"].to_numpy().astype(np.int32),
        "fingerprint": _text(table["fingerprint"]),
        **further,
    }


def _is_decoded(columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> bool:
    """Whether each predicted age follows from its distribution by a decoder of the record's configs."""
    import torch  # only here: it takes seconds, and only files of an earlier version need it

    from trainables.losses import Decoder, decode_age

    trials = [trial for trial in about.get("trials") or [about.get("trial")] if isinstance(trial, dict)]
    decoders = {trial.get("decoder", "expectation") for trial in trials}
    distribution = torch.from_numpy(columns["distribution"])
    decoded = [decode_age(distribution, decoder).numpy() for decoder in get_args(Decoder) if decoder in decoders]
    return bool(decoded) and bool((np.abs(np.array(decoded) - columns["predicted"]) < 1e-3).any(axis=0).all())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _text(column: pa.ChunkedArray) -> Shaped[np.ndarray, " rows"]:
    return np.array([value or "" for value in column.to_pylist()], dtype=np.str_)
