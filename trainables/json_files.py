"""Reads JSON files that people write, in any Unicode encoding; an error is one line that names file and place."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

MOST_BYTES = 16_000_000
"""A larger file is refused: a config has a few hundred bytes."""

# UTF-32 first: its mark starts with UTF-16's
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def read_json(file: Path) -> Any:
    """The value in a JSON file: UTF-8, or any UTF with a byte order mark, as Windows' editors and shells write it.

    Raises FileNotFoundError or OSError where the file cannot be read, and ValueError, in one line that names it, where
    it is not JSON, has a key twice, or is nested too deeply. NaN and Infinity are allowed here: the caller can name the
    field that holds one.
    """
    if file.is_dir():
        inner = file / "trial.json"
        raise ValueError(f"{file} is a folder, expected a JSON file{f'; give {inner}' if inner.is_file() else ''}")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes, too many for a JSON file of settings")
    data = file.read_bytes()
    if not data.strip():
        raise ValueError(f"{file} is empty, expected a JSON object")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not {encoding} text (byte {error.start} is wrong): save it as UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"{file} is nested too deeply for a JSON file of settings") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}{_hint(error)}"
        ) from None
    except ValueError as error:  # a name twice
        raise ValueError(f"{file}: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]!r} is given twice, expected once")
        found[name] = value
    return found


def _whole(digits: str) -> int | float:
    """An integer; infinity, which no field allows, where it has more digits than Python converts."""
    return int(digits) if len(digits) < 4000 else float(digits)


def _hint(error: json.JSONDecodeError) -> str:
    """What to correct, for common mistakes."""
    rest, before = error.doc[error.pos :].lstrip(), error.doc[: error.pos].rstrip()
    if rest.startswith(("//", "/*", "#")):
        return "; JSON has no comments: leave them out"
    if rest.startswith("'"):
        return '; JSON quotes with "'
    if rest[:1] in ("}", "]") and before.endswith(","):
        return "; there is one comma too many before it"
    if rest.startswith(("True", "False", "None")):
        return "; JSON writes true, false and null"
    return ""
