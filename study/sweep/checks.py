"""What a sweep's journal may hold: every field of a record is checked, and what can be calculated again is compared.

A record that is damaged or was edited is an error that names file and field: it is never told to the sampler, and
never chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from trainables.config import TrialConfig
from trainables.faces.table import Faces
from trainables.trial import people_mae

FINISHED = ("complete", "pruned", "diverged", "failed")


def check_record(record: Mapping[str, Any], *, known: Collection[str]) -> None:
    """Raise ValueError, naming the field, where a journal's record cannot be right. known: the fields of its kind."""
    for name, (good, expected) in _FIELDS.items():
        if name in record and not good(record[name]):
            raise ValueError(f"its {name} is {str(record[name])[:60]!r}, expected {expected}")
    needed = ("number", "state", "trial", "params", "mae", "fold")
    lacking = [name for name in needed if name in known and name not in record]
    if lacking:
        raise ValueError(f"it has no {lacking[0]}")
    unknown = sorted(record.keys() - set(known))
    if unknown:
        raise ValueError(f"it has a field {unknown[0]!r} that no trial has")
    try:
        whole = TrialConfig.from_json(record["trial"]).to_json()
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"its trial is no config: {error}") from error
    changed = sorted(name for name in whole if name not in record["trial"] or whole[name] != record["trial"][name])
    if changed:
        raise ValueError(f"its trial says {record['trial'].get(changed[0])!r} of {changed[0]}, which no trial does")
    if (record["state"] == "failed") != (record["mae"] is None):
        raise ValueError(f"its mae is {record['mae']!r}, which does not go with its state {record['state']!r}")


def check_predicted(record: Mapping[str, Any], faces: Faces) -> None:
    """Raise ValueError where a record's mae or people are not what its predictions of these faces give."""
    if not record["predicted"] or record["state"] == "diverged":
        return
    predicted = {int(row): float(years) for row, years in record["predicted"].items()}
    if max(predicted) >= len(faces):
        raise ValueError(f"its predicted has row {max(predicted)}, where the table has {len(faces)} faces")
    mae = float(np.mean([abs(years - float(faces.age[row])) for row, years in predicted.items()]))
    if not math.isclose(mae, record["mae"], rel_tol=1e-6):
        raise ValueError(f"its mae is {record['mae']}, where its predicted ages give {mae}")
    people = people_mae(faces, predicted)
    wrong = [who for who in people.keys() | record["people"].keys() if not _same(people, record["people"], who)]
    if wrong:
        raise ValueError(f"its people say {record['people'].get(min(wrong))} of {min(wrong)}, not what predicted gives")


def _same(one: Mapping[str, float], other: Mapping[str, float], who: str) -> bool:
    return who in one and who in other and math.isclose(one[who], other[who], rel_tol=1e-6, abs_tol=1e-9)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _not_negative(value: object) -> bool:
    return _number(value) and value >= 0  # type: ignore[operator]


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _errors(value: object) -> bool:
    return isinstance(value, Mapping) and all(_not_negative(years) for years in value.values())


def _answers(value: object) -> bool:
    """Parameters of a trial: words, numbers and yes or no, by name."""
    return isinstance(value, Mapping) and all(
        isinstance(inner, str | bool) or inner is None or _number(inner) for inner in value.values()
    )


_YEARS = "a number of years >= 0 for each"
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "number": (_count, "a whole number >= 0"),
    "state": (lambda value: value in FINISHED, f"one of {', '.join(FINISHED)}"),
    "trial": (lambda value: isinstance(value, Mapping) and len(value) > 0, "a config"),
    "params": (_answers, "the trial's parameters"),
    "mae": (lambda value: value is None or _not_negative(value), "a number of years >= 0"),
    "people": (_errors, _YEARS),
    "predicted": (
        lambda value: isinstance(value, Mapping) and all(r.isdecimal() and _number(y) for r, y in value.items()),
        "a number of years for each row",
    ),
    "folds": (_errors, _YEARS),
    "seconds": (_not_negative, "seconds >= 0"),
    "why": (lambda value: isinstance(value, str), "text"),
    "parameters": (_count, "a whole number >= 0"),
    "macs": (_count, "a whole number >= 0"),
    "latency_ms": (_not_negative, "milliseconds >= 0"),
    "repeat": (_count, "a whole number >= 0"),
    "halfway": (_errors, _YEARS),
    "fold": (_count, "a whole number >= 0"),
    "decoded": (
        lambda value: isinstance(value, Mapping) and all(_errors(each) for each in value.values()),
        "years for each person by decoder",
    ),
}
"""Of each field of a trial's record and of a fold's (study.sweep.journal): what it may hold, and that in words."""
