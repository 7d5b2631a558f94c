"""Rows as a table for people, JSON, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from study.files.storage import write_whole
from study.model.rows import COLUMNS, FaceAge
from study.plain import printable

SCHEMA = pa.schema(
    [
        pa.field("photo", pa.string(), nullable=False),
        pa.field("face", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("age", "low_80", "high_80", "low_95", "high_95")),
        *(pa.field(name, pa.int32()) for name in ("left", "top", "right", "bottom")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("found_by", "reason", "detail")),
    ]
)
"""Columns of --parquet: study.model.rows.FaceAge."""


def as_table(rows: Sequence[FaceAge]) -> pa.Table:
    """The rows as an Arrow table."""
    return pa.Table.from_pylist([row.as_dict() for row in rows], schema=SCHEMA)


def as_text(rows: Sequence[FaceAge]) -> str:
    """The rows as an aligned table."""
    cells = [("photo", "face", "age", "80 %", "95 %", "")]
    for row in rows:
        name = printable(row.photo)
        if row.age is None:
            cells.append((name, "", "", "", "", f"{row.reason}: {printable(row.detail)}"))
            continue
        spans = (f"{row.low_80:.0f} to {row.high_80:.0f}", f"{row.low_95:.0f} to {row.high_95:.0f}")
        cells.append((name, str(row.face), f"{row.age:.1f}", *spans, ""))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    shown = []
    for line in cells:
        padded = [
            each.ljust(w) if i in (0, 5) else each.rjust(w)
            for i, (each, w) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(padded).rstrip())
    return "\n".join(shown)


def as_json(rows: Sequence[FaceAge]) -> str:
    """The rows as a JSON list of objects."""
    return json.dumps([row.as_dict() for row in rows], indent=1, ensure_ascii=False)


def write_csv(file: Path, rows: Sequence[FaceAge]) -> None:
    """Write the rows as CSV, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(row.as_dict() for row in rows)
    write_whole(file, text.getvalue().encode())


def write_parquet(file: Path, rows: Sequence[FaceAge]) -> None:
    """Write the rows as Parquet, whole or not at all."""
    sink = io.BytesIO()
    pq.write_table(as_table(rows), sink)
    write_whole(file, sink.getvalue())


def count(rows: Sequence[FaceAge]) -> str:
    """How many faces have an age, and how many photos have none, by reason."""
    photos = len({row.photo for row in rows})
    faces = sum(row.age is not None for row in rows)
    reasons = Counter(row.reason for row in rows if row.age is None)
    line = f"{faces} face{'s' * (faces != 1)} in {photos} photo{'s' * (photos != 1)}"
    if reasons:
        each = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
        line += f"; without an age: {each}"
    return line
