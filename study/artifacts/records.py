"""What study.report and study.lopo need of about.json and best.json, checked before it is used. Pure.

A record may have been written by another version, by hand or by somebody else. Fields that are not named here are
passed on as they are; whoever uses a new one adds it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.config import TrialConfig

Kind = Any
"""A type, a tuple of types, CONFIG, [kind] for a list, {name: kind} for fields, {str: kind} for any names. A field may
be missing where its name here ends in "?"."""

CONFIG = "a config"
FIGURE = (int, float)
MOST = 1e15
"""No number of a record is as large."""

_OPTIMISM = dict.fromkeys(("claimed", "corrected", "gap", "gap_low", "gap_high"), FIGURE)
_CHOSEN = {
    "block": str, "trial": int, "config": CONFIG, "complete": int, "people": int, "claimed": FIGURE,
    "corrected": FIGURE, "again": FIGURE, "same_backbone": FIGURE,
}  # fmt: skip
_CHOICE = {
    "blocks": [_CHOSEN],
    "optimism": _OPTIMISM,
    "backbones": [str],
    "spread": {str: [FIGURE]},
    "common_trials": int,
    "rank_correlation": (int, float, type(None)),
}
_TRIAL = {"backbone": str, "loss?": {str: (str, int, float, bool, type(None))}}

_START = dict.fromkeys(("backbone", "weights", "digest", "what"), str)
_LEARNED_FROM = {"state": str, "photos": int, "people": int, "compared": int, "synthetic": bool, "sentence": str}

ABOUT: Mapping[str, Kind] = {
    "dataset": str,
    "faces_digest": str,
    "trial": _TRIAL,
    "trials?": [_TRIAL],
    "selection?": str,
    "epochs_by?": str,
    "pretraining?": {"what?": str, "unlike?": str},
    "starts?": [_START],
    "learned_from?": _LEARNED_FROM,
    "sealed?": bool,
    "seeds?": [int],
    "schedule?": str,
    "built_in?": bool,
    "key?": str,
    "choice?": {},
}
"""about.json of a LOPO result."""

BEST: Mapping[str, Kind] = {
    "sweep": str,
    "faces": [str],
    "faces_digest": (str, type(None)),
    "select": str,
    "sealed": bool,
    "apart_from": [str],
    "choice": _CHOICE,
    "starts": [_START],
    "learned_from": _LEARNED_FROM,
    "unlike": str,
    "blocks": [{"name": str, "people": [str], "trial": CONFIG, "number": int}],
}
"""best.json of a sweep."""


def check_about(record: Any, where: str) -> Mapping[str, Any]:
    """about.json, as it is. Raises ValueError with the field that is missing or of another type."""
    _check(record, ABOUT, where, "")
    choice = record.get("choice")
    if choice:
        kind = {**_CHOICE, "select": str, "people": {str: [str]}}
        _check(choice, kind, where, "choice")
        if choice["select"] not in ("blocks", "dev", "none"):
            raise _wrong(where, "choice.select", choice["select"], "blocks, dev or none")
        for block in choice["blocks"]:
            if block["block"] not in choice["people"]:
                raise _wrong(where, "choice.people", sorted(choice["people"]), f"the people of {block['block']!r}")
        for name, ends in choice["spread"].items():
            if len(ends) != 2:
                raise _wrong(where, f"choice.spread.{name}", ends, "two numbers")
        if not choice["backbones"]:
            raise _wrong(where, "choice.backbones", [], "a name at least")
    return record


def check_best(record: Any, where: str) -> Mapping[str, Any]:
    """best.json, as it is. Raises ValueError with the field that is missing or of another type."""
    if isinstance(record, Mapping) and "blocks" in record and "starts" not in record:
        raise ValueError(
            f"{where} is of an earlier version, which kept no record of its weights: run study.sweep again"
        )
    _check(record, BEST, where, "")
    if record["select"] not in ("blocks", "dev", "none"):
        raise _wrong(where, "select", record["select"], "blocks, dev or none")
    if record["sealed"] and record["select"] == "none":
        raise _wrong(where, "sealed", True, "false where select is none")
    if not record["blocks"]:
        raise _wrong(where, "blocks", [], "one at least")
    return record


def _check(value: Any, kind: Kind, where: str, field: str) -> None:
    if isinstance(value, int | float) and abs(value) >= MOST:
        raise _wrong(where, field, value, f"a number below {MOST:g}")
    if kind is CONFIG:
        _check(value, _TRIAL, where, field)
        try:
            TrialConfig.from_json(value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{where}: {field} is no config of this version: {error}") from error
    elif isinstance(kind, list):
        if not isinstance(value, list):
            raise _wrong(where, field, value, "a list")
        for i, each in enumerate(value):
            _check(each, kind[0], where, f"{field}[{i}]")
    elif isinstance(kind, Mapping):
        _check_fields(value, kind, where, field)
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _wrong(where, field, value, " or ".join(dict.fromkeys(_WORDS[each] for each in kinds)))


def _check_fields(value: Any, kind: Mapping[Any, Kind], where: str, field: str) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(where, field or "all of it", value, "a record {...}")
    if str in kind:
        for name, each in value.items():
            _check(each, kind[str], where, f"{field}.{name}")
        return
    for told, each in kind.items():
        name = told.removesuffix("?")
        inner = f"{field}.{name}" if field else name
        if name in value:
            _check(value[name], each, where, inner)
        elif told == name:
            raise ValueError(f"{where}: {inner} is missing")


_WORDS = {str: "a text", int: "a whole number", bool: "true or false", float: "a number", type(None): "null"}


def _wrong(where: str, field: str, value: object, expected: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"{where}: {field} is {shown if len(shown) < 60 else shown[:56] + ' ...'}, expected {expected}")
