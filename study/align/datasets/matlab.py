"""A struct of columns from a MATLAB v5 file. Such files are downloaded, so every length is checked before it is used.

SciPy's loadmat is as fast, but a damaged file can make it crash or take gigabytes (docs/align.md has the measurements).
Only the columns asked for are decoded. Source: MathWorks, "MAT-File Format", 2019, chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.contents import what_is

MAX_BYTES = 1 << 30
"""A compressed part that unpacks to more bytes is refused; IMDB's 460,723 rows are about 150 MB."""

_COMPRESSED, _MATRIX, _UTF8, _UTF16 = 15, 14, 16, 17
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _STRUCT, _CHAR, _LAST_NUMBERS = 1, 2, 4, 15
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class _Part:
    """One data element: its type and where its bytes lie, and where the next one starts."""

    kind: int
    start: int
    stop: int
    after: int


@dataclass(frozen=True)
class _Bytes:
    data: bytes
    order: str  # "<" or ">"


def read_struct(data: bytes, *, name: str, columns: Sequence[str]) -> dict[str, np.ndarray | list[str]]:
    """Columns of the struct `name` in a v5 to v7 file: numbers as an array (1-D), text as strings.

    Read are the shapes in which MATLAB and SciPy keep such columns: a 1x1 struct of columns (rows or columns, text as
    cells or as a matrix of characters), an array of structs with a row each, and columns that are variables themselves.
    A column that is not there is not in the answer. Raises ValueError where the file is no such file, is cut short, or
    contradicts itself.
    """
    if data.startswith(b"MATLAB 7.3") or data[124:128] in (b"\0\2IM", b"\2\0MI") or data[:8] == _HDF5:
        raise ValueError(
            f"it is of MATLAB's v7.3 (HDF5), expected v5 to v7: save it again in MATLAB with "
            f"load('{name}.mat'); save('{name}.mat', '{name}', '-v7')"
        )
    if len(data) < 136 or data[126:128] not in (b"IM", b"MI"):
        raise ValueError(f"it is no MATLAB file of v5 to v7 but {what_is(data)}")
    order = "<" if data[126:128] == b"IM" else ">"
    file = _Bytes(data, order)
    alone: dict[str, np.ndarray | list[str]] = {}
    titles, at = [], 128
    while at < len(data):
        part = _part(file, at, len(data), padded=False)
        inner, matrix = file, part
        if part.kind == _COMPRESSED:
            inner = _Bytes(_unpack(data[part.start : part.stop]), order)
            matrix = _part(inner, 0, len(inner.data))
        if matrix.kind == _MATRIX and matrix.stop > matrix.start:
            kind, shape, title, at_content = _head(inner, matrix)
            if title == name:
                if kind != _STRUCT:
                    raise ValueError(
                        f"{name!r} is no struct of columns (MATLAB class {kind}), expected {', '.join(columns)}"
                    )
                return _columns(inner, at_content, matrix.stop, math.prod(shape), set(columns))
            titles.append(title)
            if title in columns:
                alone[title] = _values(inner, matrix, title)
        at = part.after
    if not alone:
        raise ValueError(f"there is no variable {name!r}; there is: {', '.join(titles[:10]) or 'nothing'}")
    return alone


def _unpack(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"a compressed part is broken ({error}): copy or download it again") from None
    if stream.unconsumed_tail:
        raise ValueError(f"a compressed part unpacks to more than {MAX_BYTES:,} bytes")
    if not stream.eof:
        raise ValueError("a compressed part is cut short: copy or download it again")
    return data


def _part(file: _Bytes, at: int, end: int, *, padded: bool = True) -> _Part:
    if at + 8 > end:
        raise ValueError(f"cut short, an element at byte {at} of {end}: copy or download it again")
    kind, size = struct.unpack_from(f"{file.order}II", file.data, at)
    if kind >> 16:  # the small format: type, size and up to four bytes in eight
        kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if size > 4:
            raise ValueError(f"a small element of {size} bytes at byte {at}")
    else:
        start, after = at + 8, at + 8 + size
        if padded:
            after += -size % 8
    if start + size > end:
        raise ValueError(f"cut short, {size} bytes at byte {start} of {end}: copy or download it again")
    return _Part(kind, start, start + size, after)


def _head(file: _Bytes, matrix: _Part) -> tuple[int, tuple[int, ...], str, int]:
    """Class, dimensions and name of a matrix, and where its content starts."""
    flags = _part(file, matrix.start, matrix.stop)
    dimensions = _part(file, flags.after, matrix.stop)
    title = _part(file, dimensions.after, matrix.stop)
    if flags.stop - flags.start < 4 or (dimensions.stop - dimensions.start) % 4:
        raise ValueError(f"a matrix without class or dimensions at byte {matrix.start}")
    (word,) = struct.unpack_from(f"{file.order}I", file.data, flags.start)
    sides = struct.iter_unpack(f"{file.order}i", file.data[dimensions.start : dimensions.stop])
    shape = tuple(side for (side,) in sides)
    if min(shape, default=0) < 0 or math.prod(shape) > len(file.data):  # each element takes a byte at least
        raise ValueError(f"a matrix of {shape} elements in {len(file.data)} bytes")
    return word & 0xFF, shape, file.data[title.start : title.stop].decode("latin-1"), title.after


def _columns(file: _Bytes, at: int, end: int, rows: int, wanted: set[str]) -> dict[str, np.ndarray | list[str]]:
    """The wanted columns of one struct, or of an array of `rows` structs, which hold a value each."""
    width_part = _part(file, at, end)
    if width_part.stop - width_part.start != 4:
        raise ValueError("a struct without the length of its field names")
    (width,) = struct.unpack_from(f"{file.order}i", file.data, width_part.start)
    names = _part(file, width_part.after, end)
    if width < 1 or (names.stop - names.start) % width:
        raise ValueError(f"field names of {names.stop - names.start} bytes are no multiple of {width}")
    starts = range(names.start, names.stop, width)
    fields = [file.data[start : start + width].split(b"\0")[0].decode("latin-1") for start in starts]
    parts: dict[str, list[np.ndarray | list[str]]] = {field: [] for field in fields if field in wanted and rows}
    at = names.after
    for _ in range(rows):
        for field in fields:
            matrix = _part(file, at, end)
            if matrix.kind != _MATRIX:
                raise ValueError(f"field {field!r} is no matrix")
            if field in wanted:
                parts[field].append(_values(file, matrix, field))
                if rows > 1 and len(parts[field][-1]) != 1:
                    raise ValueError(f"field {field!r} of one struct of {rows} holds {len(parts[field][-1])} values")
            at = matrix.after
    return {field: _joined(values, field) for field, values in parts.items()}


def _joined(values: list[np.ndarray | list[str]], field: str) -> np.ndarray | list[str]:
    texts = [value for value in values if isinstance(value, list)]
    if not texts:
        return np.concatenate(values) if len(values) > 1 else values[0]
    if len(texts) < len(values):
        raise ValueError(f"field {field!r} holds both text and numbers")
    return [text for value in texts for text in value]


def _values(file: _Bytes, matrix: _Part, field: str) -> np.ndarray | list[str]:
    if matrix.start == matrix.stop:
        return np.empty(0)
    kind, shape, _, at = _head(file, matrix)
    count = math.prod(shape)
    if kind == _CELL:
        texts = list(_cells(file, at, matrix.stop))
        if len(texts) != count:
            raise ValueError(f"field {field!r} holds {len(texts)} cells, not {count}")
        return texts
    if kind == _CHAR:
        return _rows(_text(file, at, matrix.stop), shape) if count else []
    if kind == _STRUCT or kind > _LAST_NUMBERS:
        raise ValueError(f"field {field!r} holds neither numbers nor cells (MATLAB class {kind})")
    part = _part(file, at, matrix.stop)
    if part.kind not in _NUMBERS:
        raise ValueError(f"field {field!r} holds numbers of the unknown type {part.kind}")
    numbers = np.dtype(file.order + _NUMBERS[part.kind])
    if (part.stop - part.start) != count * numbers.itemsize:
        raise ValueError(f"field {field!r} holds {part.stop - part.start} bytes, not {count} {numbers.name}")
    return np.frombuffer(file.data, numbers, count, part.start)


def _cells(file: _Bytes, at: int, end: int) -> Iterator[str]:
    """The texts of a cell array; a cell that holds anything else is ""."""
    while at < end:
        matrix = _part(file, at, end)
        at = matrix.after
        if matrix.kind != _MATRIX:
            raise ValueError(f"a cell at byte {matrix.start} is no matrix")
        if matrix.start == matrix.stop:
            yield ""
            continue
        kind, shape, _, content = _head(file, matrix)
        yield _text(file, content, matrix.stop) if kind == _CHAR and 0 not in shape else ""


def _rows(text: str, shape: tuple[int, ...]) -> list[str]:
    """The rows of a matrix of characters, which is kept column by column and filled up with spaces."""
    if len(shape) != 2 or len(text) != shape[0] * shape[1]:
        raise ValueError(f"a matrix of {shape} characters holds {len(text)}")
    return [text[row :: shape[0]].rstrip() for row in range(shape[0])]


def _text(file: _Bytes, at: int, end: int) -> str:
    part = _part(file, at, end)
    raw = file.data[part.start : part.stop]
    if part.kind in (_UTF16, 4, 3):
        return raw.decode("utf-16-le" if file.order == "<" else "utf-16-be", errors="replace")
    return raw.decode("utf-8" if part.kind == _UTF8 else "latin-1", errors="replace")
