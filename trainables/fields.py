"""Checks the fields of a frozen dataclass by their annotations: the one check for configs, losses and options."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import sys
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from trainables.names import near, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or of a text's length, for use in Annotated. An `open` bound is itself not in the range.
    Every number must be finite."""

    low: int | float = -math.inf
    high: int | float = math.inf
    open: Literal["neither", "low", "high", "both"] = "neither"

    def __contains__(self, value: int | float) -> bool:
        above = self.low < value or (self.low == value and self.open not in ("low", "both"))
        below = value < self.high or (value == self.high and self.open not in ("high", "both"))
        return above and below and abs(value) <= sys.float_info.max  # an int may be larger than any float

    def __str__(self) -> str:
        if self.high == math.inf:
            return "" if self.low == -math.inf else f" {'>' if self.open == 'low' else '>='} {self.low:g}"
        left, right = "(" if self.open in ("low", "both") else "[", ")" if self.open in ("high", "both") else "]"
        return f" in {left}{_plain(self.low)}, {_plain(self.high)}{right}"


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, open="low")]
Amount = Annotated[float, Range(0)]
Chance = Annotated[float, Range(0, 1)]
Share = Annotated[float, Range(0, 1, open="high")]
Part = Annotated[float, Range(0, 1, open="both")]
"""Ranges that many fields share: >= 1, >= 0, > 0, >= 0, in [0, 1], in [0, 1) and in (0, 1)."""

Seed = Annotated[int, Range(0, 2**31 - 1)]
"""Seed of initial weights, order of faces and augmentation. Predictions store it as int32."""
Pixels = Annotated[int, Range(8, 4096)]
Batch = Annotated[int, Range(1, 65_536)]
"""Upper bounds are far beyond any memory: a larger value is a typing error."""


def check_fields(record: Any, *, of: str = "", names: Collection[str] | None = None) -> None:
    """Raise ValueError, in one line that names the field, where a field of a dataclass does not match its annotation.

    Known are int (never a bool), float (finite; an int is one), str, bool, Literal, dataclasses, tuples, mappings
    and unions of these, with a Range where Annotated. Other annotations are not looked at. of: put before a field's
    name, such as "loss." or "--". names: the fields to look at; default: all.
    """
    for name, hint in hints(type(record)).items():  # type: ignore[arg-type]
        if names is None or name in names:
            shown = name.replace("_", "-") if of == "--" else name
            check(f"{of}{shown}", getattr(record, name), hint)


def check(name: str, value: object, hint: Any) -> None:
    """Raise ValueError, in one line that starts with the name, where a value does not match an annotation."""
    kinds = [_parts(part) for part in _options(hint)]
    if any(_fits(value, kind, span) for kind, span in kinds):
        return
    kind, span = kinds[0]
    if typing.get_origin(kind) is Literal and isinstance(value, str):
        raise unknown(name, value, typing.get_args(kind))
    if not any(_expected(kind, span) for kind, span in kinds):  # an annotation that is not checked
        return
    raise ValueError(f"{name} is {describe(value)}, expected {_expected(kind, span)}{_guess(value, kind, span)}")


def read_fields(
    kind: type[T], record: Mapping[str, Any], *, what: str, of: str = "", elsewhere: Mapping[str, str]
) -> T:
    """The dataclass made from an untrusted record. what: how messages call it, such as "a trial".

    Raises ValueError, in one line, for a key that is no field, or a value that does not match its field's annotation.
    elsewhere: fields of other records and where they belong, such as {"flip": '"augmentation"'}, for the message.
    """
    fields = hints(kind)  # type: ignore[arg-type]
    for name, value in record.items():
        if name in fields:
            check(f"{of}{name}", value, fields[name])
        elif name in elsewhere:
            raise ValueError(f"{what} has no field {name!r}: it belongs in {elsewhere[name]}")
        elif not fields:
            raise ValueError(f"{what} has no field {name!r}: it takes none")
        else:
            raise ValueError(f"{what} has no field {name[:80]!r}.{near(name, fields)}")
    return kind(**record)


def describe(value: object) -> str:
    """A short description of a value in JSON's terms, for a message."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {value[:40]!r}{'...' * (len(value) > 40)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a number of {len(str(abs(value))) if abs(value) < 10**4000 else 'thousands of'} digits"
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


@functools.cache
def hints(kind: Any) -> Mapping[str, Any]:
    """The resolved annotation of each field."""
    return typing.get_type_hints(kind, include_extras=True)


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _parts(hint: Any) -> tuple[Any, Range]:
    """The type without Annotated, and its range."""
    span = Range()
    while typing.get_origin(hint) is Annotated:
        hint, *more = typing.get_args(hint)
        span = next((extra for extra in more if isinstance(extra, Range)), span)
    return hint, span


def _fits(value: object, kind: Any, span: Range) -> bool:
    origin = typing.get_origin(kind)
    if kind is type(None):
        return value is None
    if origin is Literal:
        return value in typing.get_args(kind) and isinstance(value, str)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(each, *_parts(typing.get_args(kind)[0])) for each in value)
    if origin is collections.abc.Mapping:
        inner = typing.get_args(kind)[1]
        values = value.values() if isinstance(value, Mapping) else None
        return values is not None and (inner is Any or all(_fits(each, *_parts(inner)) for each in values))
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value in span
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value in span
    if kind is str:
        return isinstance(value, str) and len(value) in span
    return isinstance(kind, type) and isinstance(value, kind)


def _expected(kind: Any, span: Range) -> str:
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(kind)))}"
    if kind is str:
        return "a text" if span == Range() else f"a text, its length{span}"
    if kind in (int, float):
        return f"{'a whole' if kind is int else 'a'} number{span}"
    if typing.get_origin(kind) in (tuple, collections.abc.Mapping):
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        whole, inner = ("a list", args[0]) if origin is tuple else ("an object", args[1])
        each = "" if inner is Any else _expected(*_parts(inner))
        return f"{whole} that holds {each} each time" if each else whole
    if dataclasses.is_dataclass(kind):
        return "an object"
    return "true or false" if kind is bool else ""


def _guess(value: object, kind: Any, span: Range) -> str:
    """The number that was probably meant, as in ": 0.0001": of a text, or of a whole number such as 64.0."""
    try:
        number = float(value) if isinstance(value, str | float) else math.nan
    except ValueError:
        return ""
    if kind is int and number.is_integer() and int(number) in span:
        return f": {int(number)}"
    return f": {number!r}" if kind is float and isinstance(value, str) and number in span else ""


def _plain(bound: int | float) -> str:
    return f"{bound:,.0f}".replace(",", " ") if abs(bound) >= 1e5 else f"{bound:g}"
