"""For whom a tested network errs, as tables and sentences: by age, sex, group and quality of the picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from study.artifacts.predictions import Predictions
from study.plain import plain
from study.statistics.bootstrap import Interval
from study.statistics.groups import CHALLENGE, YOUNG, GroupError, by_group, mae_between, passed_as_adult
from study.statistics.summary import by_decade
from study.table import NONE, Table, table

DRAWS = 2000
"""Bootstrap draws of the table by age: it has thousands of people, whose intervals need no more."""


def for_whom(predictions: Predictions, attributes: Mapping[str, np.ndarray]) -> list[str | Table]:
    """The part of the result on groups: tables and Markdown, what stands first is the most important."""
    found = by_group(predictions, attributes)
    return [
        "### For whom does it err?",
        "\n".join(f"- {line}" for line in sentences(found)),
        group_table(found),
        "Pooled over a group's photos, with 95 % intervals over people. \"More than others\": the group's MAE minus "
        "that of the photos outside of it with a known value, within decades of true age. A bias above 0 means: "
        "predicted older than they are.",
        age_table(predictions),
        "### 18 or not",
        *adults(predictions, attributes),
    ]


def sentences(found: Sequence[GroupError]) -> list[str]:
    """The group with the largest error, and each difference that stands after Holm's correction, largest first."""
    if not found:
        return ["The faces table tells no groups of photos apart: nothing is known of sex, group or quality."]
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


def group_table(found: Sequence[GroupError]) -> Table:
    """A row for each group."""
    rows = [
        [
            f"{each.attribute}: {plain(each.name, most=60)}",
            f"{each.photos:,}",
            f"{each.people:,}",
            _shown(each.mae),
            _shown(each.bias, sign=True),
            _shown(each.more, sign=True),
            NONE if np.isnan(each.p) else "< 0.001" if each.p < 0.001 else f"{each.p:.3f}",
        ]
        for each in found
    ]
    header = ["group", "photos", "people", "MAE (95 %)", "bias (95 %)", "more than others (95 %)", "p (Holm)"]
    return table("groups", header, rows)


def age_table(predictions: Predictions) -> Table:
    """MAE and bias by decade of true age."""
    rows = [
        [
            f"{each.low} to {each.high}",
            f"{each.photos:,}",
            f"{each.people:,}",
            _shown(each.mae),
            _shown(each.bias, sign=True),
        ]
        for each in by_decade(predictions, draws=DRAWS)
    ]
    return table("ages", ["age", "photos", "people", "MAE (95 %)", "bias (95 %)"], rows)


def adults(predictions: Predictions, attributes: Mapping[str, np.ndarray]) -> list[str | Table]:
    """What a page on age assurance asks, as in NIST's evaluation: errors of young adults, and who passes as 18."""
    young = mae_between(predictions, 18, 30)
    parts: list[str | Table] = []
    if not np.isnan(young.value):
        parts.append(f"MAE of those aged 18 to 30: {_shown(young)} years.")
    rows = {"everyone": np.ones(len(predictions), bool)}
    for kind in ("sex", "group"):
        values = attributes.get(kind, np.array([], dtype=np.str_))
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
