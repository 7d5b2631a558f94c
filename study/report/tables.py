"""The report's tables as Markdown: the paper's values next to ours, and a row for the constant guess. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from study.cli.describe import backbone_name
from study.plain import plain
from study.report.paper import CROSS_TEST_ON_FGNET, LOPO_ON_FGNET, PAPER_MAE, PAPER_RMSE
from study.report.sections import Section, name_of
from study.statistics.bootstrap import Interval
from study.statistics.summary import Summary, by_decade, by_person

NONE = "\N{EN DASH}"
"""In a table: there is no value."""

CS_COLUMNS = (0, 1, 2, 3, 5, 10, 15)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it can be read as plain text too; the first column is left-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * w) if i == 0 else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def mae_table(section: Section) -> str:
    """Tables 1 and 2: MAE by backbone, the paper's and ours, over people and pooled."""
    return _with_paper(section, PAPER_MAE, lambda s: (s.mae, s.mae_pooled))


def rmse_table(section: Section) -> str:
    """Table 3: RMSE by backbone, the paper's and ours, over people and pooled."""
    return _with_paper(section, PAPER_RMSE, lambda s: (s.rmse, s.rmse_pooled))


def _with_paper(
    section: Section, paper: Mapping[str, float], metrics: Callable[[Summary], tuple[Interval, Interval]]
) -> str:
    """The paper's rows in its order, then our other backbones, then the constant guess."""
    rows = []
    names = {label: name_of(each.about) for label, each in section.results.items()}
    of_paper = {backbone_name(backbone): f"{value:.2f}" for backbone, value in paper.items()}
    for name in [*of_paper, *sorted({name for name in names.values() if name not in of_paper})]:
        theirs = of_paper.get(name, NONE)
        ours = [label for label in names if names[label] == name]
        rows += [[label, theirs, *_two(section.summaries[label], metrics)] for label in ours]
        if not ours:
            rows.append([name, theirs, NONE, NONE])
    rows.append(["constant guess", NONE, *_two(section.guess_summary, metrics)])
    return table(["backbone", "paper, FG-NET", "ours, mean over people (95 %)", "ours, pooled (95 %)"], rows)


def _two(summary: Summary, metrics: Callable[[Summary], tuple[Interval, Interval]]) -> list[str]:
    return [f"{metric:.2f}" for metric in metrics(summary)]


def cs_table(section: Section) -> str:
    """CS(th) at some thresholds, the mean over people in percent: the values of figure 4."""
    everyone = {**section.summaries, "constant guess": section.guess_summary}
    return table(
        ["config", *(f"CS({th})" for th in CS_COLUMNS)],
        [[label, *(f"{s.cs.value[th]:.1f}" for th in CS_COLUMNS)] for label, s in everyone.items()],
    )


def age_table(section: Section) -> str:
    """MAE and bias of the leader by decade of true age, and the constant guess's MAE."""
    guess = {each.low: each for each in by_decade(section.guess, draws=section.draws)}
    rows = [
        [
            f"{each.low} to {each.high}",
            str(each.photos),
            str(each.people),
            f"{each.mae:.2f}",
            f"{each.bias:+.2f}",
            f"{guess[each.low].mae.value:.2f}",
        ]
        for each in section.decades[section.leader]
    ]
    return table(["age", "photos", "people", "MAE (95 %)", "bias (95 %)", "constant guess's MAE"], rows)


def people_table(section: Section, *, worst: int = 5) -> str:
    """The people with the leader's largest errors."""
    people = by_person(section.results[section.leader].predictions)[:worst]
    rows = [[plain(p.person, most=200), str(p.photos), f"{p.mae:.2f}", f"{p.bias:+.2f}"] for p in people]
    return table(["person", "photos", "MAE", "bias"], rows)


def calibration_table(section: Section) -> str:
    """NLL, CRPS, coverage and width of every config's distributions, and of the constant guess's."""
    everyone = {**section.calibrations, "constant guess": section.guess_calibration}
    return table(
        ["config", "CRPS (years)", "NLL (nats)", "in central 50 %", "80 %", "90 %", "width of 90 % (years)"],
        [
            [
                label,
                f"{c.crps:.2f}",
                f"{c.nll:.2f}",
                *(f"{100 * c.covered(level).value:.0f} %" for level in (0.5, 0.8, 0.9)),
                f"{c.width.value:.1f}",
            ]
            for label, c in everyone.items()
        ],
    )


def config_table(section: Section) -> str:
    """The settings that a reader needs to run each config again."""
    rows = []
    for label, each in section.results.items():
        losses = " or ".join(dict.fromkeys(map(_loss, each.about.losses)))
        summary = section.summaries[label]
        spread = NONE
        if len(summary.seed_maes) > 1:
            spread = f"{min(summary.seed_maes):.2f} to {max(summary.seed_maes):.2f}"
        rows.append(
            [
                label,
                *(each.about.setting(key) for key in ("px", "epochs", "batch", "learning_rate")),
                losses,
                each.about.schedule,
                str(len(summary.seed_maes)),
                spread,
                NONE if np.isnan(summary.committee.value) else f"{summary.committee:.2f}",
                each.name,
            ]
        )
    header = ["config", "px", "epochs", "batch", "rate", "loss", "schedule", "seeds", "MAE of the seeds"]
    return table([*header, "MAE of their mean", "MLflow run"], rows)


def _loss(loss: Mapping[str, object]) -> str:
    """A loss and its weights: "mean_variance (mean_weight 0.2, variance_weight 0.05)"."""
    numbers = {key: value for key, value in loss.items() if isinstance(value, int | float)}
    if not numbers.get("label_smoothing"):
        numbers.pop("label_smoothing", None)
    weights = ", ".join(f"{key} {value:g}" for key, value in numbers.items())
    name = str(loss.get("name", NONE))
    return f"{name} ({weights})" if weights else name


def published_tables() -> str:
    """What others published on FG-NET, as Markdown: LOPO results as a table, cross-dataset results in a sentence."""
    lopo = table(["method", "pretraining", "MAE"], [[p.method, p.pretraining, f"{p.mae:.2f}"] for p in LOPO_ON_FGNET])
    cross = ", ".join(f"{p.mae:.2f} from {p.pretraining}" for p in CROSS_TEST_ON_FGNET)
    return (
        f"{lopo}\n\nWith another protocol, which cannot be compared with the one above, a "
        f"{CROSS_TEST_ON_FGNET[0].method} trained on UTKFace alone and tested on all of FG-NET has an MAE of {cross}."
    )
