"""A file of labels: CSV, TSV, Parquet or JSON lines, read as rows of text under the names that aligning knows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.files.storage import open_folder
from study.plain import printable
from trainables.names import unknown

COLUMNS = ("photo", "age", "birth", "taken", "person", "sex", "group", "split", "box")
"""What a column can be. photo and age are needed; instead of age, birth and taken (dates) will do."""

_KINDS = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """A row: its place in the file ("row 7"), its values by COLUMNS (stripped, "" for none), and what is wrong."""

    place: str
    values: Mapping[str, str]
    wrong: str = ""


def read_labels(file: str, named: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a file, local or a URI. named: the file's own names of COLUMNS, where they differ.

    A name is found in upper or lower case. Raises FileNotFoundError, and ValueError where the file cannot be read as a
    whole or lacks a column that is needed; a single bad row is given with what is wrong.
    """
    for ours in named:
        if ours not in COLUMNS:
            raise unknown("column in --columns", ours, COLUMNS)
    folder, _, name = file.rpartition("/")
    try:
        data = open_folder(folder or ("/" if file.startswith("/") else ".")).read(name)
    except OSError as error:
        raise FileNotFoundError(
            f"no file of labels at {file} ({type(error).__name__}); give it with --labels"
        ) from None
    ending = PurePosixPath(name).suffix.lower()
    if ending not in _KINDS:
        raise ValueError(f"{file}: expected a file of labels that ends in {', '.join(_KINDS)}")
    if ending == ".parquet":
        yield from _parquet(file, data, named)
    elif ending in (".jsonl", ".ndjson"):
        yield from _json_lines(file, _text(file, data), named)
    else:
        yield from _separated(file, _text(file, data), named, tabs=ending == ".tsv")


def _text(file: str, data: bytes) -> str:
    """The file as text: UTF-8 with or without a byte order mark, or UTF-16 with one, as spreadsheets save it."""
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}: line {line} is no UTF-8: save it as UTF-8, as every spreadsheet can") from None


def _separated(file: str, text: str, named: Mapping[str, str], *, tabs: bool) -> Iterator[Row]:
    head = text.partition("\n")[0]
    # spreadsheets of half of the world write semicolons, because they write 3,5 for 3.5
    separator = "\t" if tabs else max(",;\t", key=head.count)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = next(rows, [])
        places = _find_columns(file, header, named)
        for number, cells in enumerate(rows, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            wrong = "" if len(cells) == len(header) else f"{len(cells)} cells below a header of {len(header)}"
            values = {ours: cells[at].strip() if at < len(cells) else "" for ours, at in places.items()}
            yield Row(f"row {number}", values, wrong)
    except csv.Error as error:
        raise ValueError(f"{file}: line {rows.line_num}: {error}; is a quotation mark not closed?") from None


def _json_lines(file: str, text: str, named: Mapping[str, str]) -> Iterator[Row]:
    records: list[tuple[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                records.append((f"line {number}", json.loads(line)))
            except (ValueError, RecursionError):
                records.append((f"line {number}", None))
    keys = list(dict.fromkeys(key for _, record in records if isinstance(record, dict) for key in record))
    places = _find_columns(file, keys, named)
    for place, record in records:
        if isinstance(record, dict):
            yield Row(place, {ours: _words(record.get(keys[at])) for ours, at in places.items()})
        else:
            yield Row(place, dict.fromkeys(places, ""), "no JSON object")


def _parquet(file: str, data: bytes, named: Mapping[str, str]) -> Iterator[Row]:
    try:
        table = pq.ParquetFile(pa.BufferReader(data))
        names = table.schema_arrow.names
        places = _find_columns(file, names, named)
        number = 0
        for batch in table.iter_batches(batch_size=4096, columns=[names[at] for at in places.values()]):
            for record in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", {ours: _words(record[names[at]]) for ours, at in places.items()})
    except (pa.ArrowException, OSError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file} is damaged, or no Parquet file ({line})") from None


def _find_columns(file: str, header: list[str], named: Mapping[str, str]) -> dict[str, int]:
    """The place in the header of each of COLUMNS that is there. Raises ValueError in one line."""
    names = [str(name).strip() for name in header]
    low = [name.casefold() for name in names]
    has = ", ".join(map(printable, names)) or "nothing"
    found = {}
    for ours in COLUMNS:
        wanted = named.get(ours, ours)
        places = [at for at, name in enumerate(names) if name == wanted]
        places = places or [at for at, name in enumerate(low) if name == wanted.casefold()]
        if len(places) > 1:
            raise ValueError(f"{file} has {len(places)} columns named {wanted!r}: rename one of them")
        if places:
            found[ours] = places[0]
        elif ours in named:
            raise ValueError(f"{file} has no column {wanted!r}, which --columns {ours}={wanted} names; it has: {has}")
    if "photo" not in found:
        raise ValueError(f"{file} has no column for photo; it has: {has}; say which with --columns photo=NAME")
    if "age" not in found and not {"birth", "taken"} <= found.keys():
        raise ValueError(
            f"{file} has no column for age, nor for birth and taken; it has: {has}; say which with --columns age=NAME"
        )
    return found


def _words(value: Any) -> str:
    """A value of Parquet or JSON as text."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value).strip()
