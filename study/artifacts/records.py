"""JSON records as frozen dataclasses: each field is checked by its annotation when it is read. Pure.

A record may have been written by another version, by hand, or by somebody else. Names that are not fields are ignored.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from trainables.fields import hints

T = TypeVar("T")

MOST = 1e15
"""Numbers in a record must be smaller."""

LEVELS = 20
"""Lists and objects may be nested as deep; those of this study have six levels."""

_WORDS = {str: "a text", int: "a whole number", bool: "true or false", float: "a number"}


def read_record(kind: type[T], record: object, *, where: str, field: str = "") -> T:
    """The dataclass `kind` with the values of a JSON object. where: its file, for messages; field: its place there.

    Known annotations: str, int, float (nan is one), bool, Literal, X | None, tuples, Mapping, dataclasses, Any, and
    Annotated with a function that raises ValueError. Raises ValueError, in one line that names `where` and the field,
    if a field is missing or is not what its annotation says.
    """
    if not isinstance(record, Mapping):
        raise _wrong(where, field or "the record", record, "an object {...}")
    values = {}
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = f"{field}.{each.name}" if field else each.name
        if each.name in record:
            values[each.name] = _read(record[each.name], hints(kind)[each.name], where, name)  # type: ignore[arg-type]
        elif each.default is each.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: {name} is missing")
    try:
        return kind(**values)
    except ValueError as error:  # of its __post_init__
        raise ValueError(f"{where}: {field}{'.' * bool(field)}{error}") from error


def plain_json(record: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back: objects and lists. read_record makes the same dataclass of it."""
    return {name: _listed(value) for name, value in dataclasses.asdict(record).items()}


def check_version(record: object, version: int, *, where: str, command: str) -> None:
    """Raise ValueError if a record is of another version. command: the one that writes it again."""
    found = record.get("version", version) if isinstance(record, Mapping) else version
    if found != version:
        raise ValueError(f"{where} is of version {found}, expected {version}: run {command} again")


def check_config(record: Mapping[str, Any]) -> None:
    """Raise ValueError if a record is not a TrialConfig of this version."""
    from trainables.config import TrialConfig  # only here: torch takes seconds to import, and few records hold a config

    try:
        TrialConfig.from_json(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"is not a config of this version: {error}") from error


def check_scalar(value: object) -> None:
    """Raise ValueError unless the value is null, a text, a number below MOST, or true or false."""
    if not isinstance(value, str | int | float | None) or (isinstance(value, int | float) and abs(value) >= MOST):
        raise ValueError(f"is {_short(value)}, expected a text or a number below {MOST:g}")


def _read(value: Any, hint: Any, where: str, field: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        found = _read(value, inner[0], where, field)
        try:
            inner[1](found)
        except ValueError as error:
            raise ValueError(f"{where}: {field} {error}") from error
        return found
    if origin is types.UnionType:  # X | None
        return None if value is None else _read(value, inner[0], where, field)
    if origin is Literal:
        if value not in inner or not isinstance(value, str):
            raise _wrong(where, field, value, " or ".join(inner))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, field, value, "a list")
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise _wrong(where, field, value, f"{len(kinds)} values")
        return tuple(_read(*pair, where, f"{field}[{i}]") for i, pair in enumerate(zip(value, kinds, strict=True)))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _wrong(where, field, value, "an object {...}")
        return {name: _read(each, inner[1], where, f"{field}.{name}") for name, each in value.items()}
    if dataclasses.is_dataclass(hint):
        return read_record(typing.cast(type, hint), value, where=where, field=field)
    if hint is Any:
        if _is_deeper(value, LEVELS):
            raise ValueError(f"{where}: {field} has more than {LEVELS} levels")
        return value
    if not isinstance(value, int | float if hint is float else hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(where, field, value, _WORDS[hint])
    if isinstance(value, int | float) and abs(value) >= MOST:
        raise _wrong(where, field, value, f"a number below {MOST:g}")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _listed(value: Any) -> Any:
    """With lists in place of tuples: a digest must be the same before and after JSON."""
    if isinstance(value, Mapping):
        return {name: _listed(each) for name, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _wrong(where: str, field: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{where}: {field} is {_short(value)}, expected {expected}")


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) >= MOST:  # Python refuses to print the longest
        return "a number with more than 15 digits"
    shown = repr(value)
    return shown if len(shown) < 60 else shown[:56] + " ..."
