"""For whom a tested network errs, as tables and sentences: by age, sex, group and quality of the picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from study.artifacts.predictions import ATTRIBUTES, Predictions
from study.plain import plain
from study.statistics.bootstrap import Interval
from study.statistics.groups import CHALLENGE, YOUNG, GroupError, by_group, mae_between, passed_as_adult
from study.statistics.summary import Decade, by_decade
from study.table import NONE, Table, table

DRAWS = 2000
"""Bootstrap draws of the table by age: it has thousands of people, whose intervals need no more."""


def for_whom(predictions: Predictions, decades: Sequence[Decade] | None = None) -> list[str | Table]:
    """The part of a result on groups: tables and Markdown, what stands first is the most important.

    decades: the errors by age where they are shown elsewhere; without them a table by age is part of it.
    """
    found = by_group(predictions, predictions.attributes)
    ages = by_decade(predictions, draws=DRAWS) if decades is None else decades
    lines = [f"- {line}" for line in [*sentences(found), worst_age(ages), unknown(predictions.attributes)] if line]
    parts: list[str | Table] = ["### For whom does it err?", "\n".join(lines)]
    if found:
        parts += [
            group_table(found),
            "Pooled over a group's photos, with 95 % intervals over people. \"More than others\": the group's MAE "
            "minus that of the photos outside of it with a known value, within decades of true age. A bias above 0 "
            "means: predicted older than they are.",
        ]
    if decades is None:
        parts.append(age_table(ages))
    return [*parts, "### 18 or not", *adults(predictions)]


def sentences(found: Sequence[GroupError]) -> list[str]:
    """The group with the largest error, and each difference that stands after Holm's correction, largest first."""
    if not found:
        return ["No groups of photos are told apart here, except by age."]
    worst = max(found, key=lambda each: each.mae.value)
    lines = [
        f"The largest error: {worst.attribute} {plain(worst.name)}, MAE {_shown(worst.mae)} years on "
        f"{worst.photos:,} photos."
    ]
    several = {each.attribute for each in found if sum(other.attribute == each.attribute for other in found) > 2}
    # of two groups that are each other's rest, the one with the larger error says it for both
    decided = [each for each in found if each.decided and (each.attribute in several or each.more.value > 0)]
    lines += [each.sentence for each in sorted(decided, key=lambda each: -abs(each.more.value))]
    if not decided:
        lines.append("At the same ages this data shows no difference between groups after Holm's correction.")
    return lines


def worst_age(decades: Sequence[Decade]) -> str:
    """The decade with the largest error, as a sentence; "" where there is one decade alone."""
    if len(decades) < 2:
        return ""
    worst = max(decades, key=lambda each: each.mae.value)
    return (
        f"By age the error is largest from {worst.low} to {worst.high}: MAE {_shown(worst.mae)} years, bias "
        f"{_shown(worst.bias, sign=True)}, on {worst.photos:,} photos of {worst.people:,} people."
    )


def unknown(attributes: Mapping[str, np.ndarray]) -> str:
    """What cannot be compared, as a sentence; "" where all can."""
    if not attributes:
        return "Nothing of sex, group and picture quality came with this result: an earlier version made it."
    none: list[str] = []
    one: list[str] = []
    for name in ATTRIBUTES:
        known = set(attributes[name].tolist()) - {""} if name in attributes else set()
        if len(known) < 2:
            (one if known else none).append(f"{name} ({plain(*known, most=60)})" if known else name)
    told = [f"Not known of these photos: {', '.join(none)}."] if none else []
    return " ".join(told + ([f"The same for all whose value is known: {', '.join(one)}."] if one else []))


_COMMON = ("photos", "people", "MAE (95 %)", "bias (95 %)")


def _common(each: GroupError | Decade) -> list[str]:
    """The cells below _COMMON."""
    return [f"{each.photos:,}", f"{each.people:,}", _shown(each.mae), _shown(each.bias, sign=True)]


def group_table(found: Sequence[GroupError]) -> Table:
    """A row for each group."""
    rows = [
        [
            f"{each.attribute}: {plain(each.name, most=60)}",
            *_common(each),
            _shown(each.more, sign=True),
            NONE if np.isnan(each.p) else "< 0.001" if each.p < 0.001 else f"{each.p:.3f}",
        ]
        for each in found
    ]
    return table("groups", ["group", *_COMMON, "more than others (95 %)", "p (Holm)"], rows)


def age_table(decades: Sequence[Decade]) -> Table:
    """MAE and bias by decade of true age."""
    return table("ages", ["age", *_COMMON], [[f"{each.low} to {each.high}", *_common(each)] for each in decades])


def adults(predictions: Predictions) -> list[str | Table]:
    """What a page on age assurance asks, as in NIST's evaluation: errors of young adults, and who passes as 18."""
    young = mae_between(predictions, 18, 30)
    nobody = "No photo is of somebody aged 18 to 30."
    parts: list[str | Table] = [
        nobody if np.isnan(young.value) else f"MAE of those aged 18 to 30: {_shown(young)} years."
    ]
    rows = {"everyone": np.ones(len(predictions), bool)}
    for kind in ("sex", "group"):
        values = predictions.attributes.get(kind, np.array([], dtype=np.str_))
        for name in sorted(set(values.tolist()) - {""}):
            rows[f"{kind}: {plain(name, most=60)}"] = values == name
    rates = passed_as_adult(predictions, rows)
    if not rates:
        return [*parts, f"No photo is of somebody aged {YOUNG[0]} to {YOUNG[1]}: nobody can pass as 18 wrongly."]
    shown = [[rate.name, f"{rate.photos:,}", _percent(rate.share)] for rate in rates]
    parts.append(table("adults", ["group", f"photos aged {YOUNG[0]} to {YOUNG[1]}", "passed (95 %)"], shown))
    parts.append(
        f"Passed: predicted as {CHALLENGE} or older, so not asked for a document at a challenge age of {CHALLENGE}: "
        'the false positive rate of "over 18".'
    )
    return parts


def _shown(metric: Interval, *, sign: bool = False) -> str:
    if np.isnan(metric.value):
        return NONE
    form = "+.2f" if sign else ".2f"
    return format(metric, form) if not np.isnan(metric.low) else format(metric.value, form)


def _percent(share: Interval) -> str:
    if np.isnan(share.low):
        return f"{100 * share.value:.1f} %"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"
