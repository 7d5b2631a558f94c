"""The report's tables: the paper's values next to ours, and a row for the constant guess. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from study.cli.describe import backbone_name
from study.plain import plain
from study.report.paper import CROSS_TEST_ON_FGNET, LOPO_ON_FGNET, PAPER_MAE, PAPER_RMSE
from study.report.sections import Section, name_of
from study.statistics.bootstrap import Interval
from study.statistics.summary import Summary, by_decade, by_person
from study.table import NONE, Table, table

CS_COLUMNS = (0, 1, 2, 3, 5, 10, 15)


def mae_table(section: Section) -> Table:
    """Tables 1 and 2: MAE by backbone, the paper's and ours, over people and pooled."""
    return _with_paper("mae", section, PAPER_MAE, lambda s: (s.mae, s.mae_pooled))


def rmse_table(section: Section) -> Table:
    """Table 3: RMSE by backbone, the paper's and ours, over people and pooled."""
    return _with_paper("rmse", section, PAPER_RMSE, lambda s: (s.rmse, s.rmse_pooled))


def _with_paper(
    name: str,
    section: Section,
    paper: Mapping[str, float],
    metrics: Callable[[Summary], tuple[Interval, Interval]],
) -> Table:
    """Our configs in the order of the paper's networks, then the others, then the constant guess.

    The paper's values stand beside ours for FG-NET alone: beside other people they would mislead.
    """
    beside = section.about.dataset == "fgnet"
    of_paper = {backbone_name(backbone): f"{value:.2f}" for backbone, value in paper.items()}
    names = {label: name_of(each.about) for label, each in section.results.items()}
    order = [*of_paper, *sorted({each for each in names.values() if each not in of_paper})]
    rows = []
    for label in sorted(names, key=lambda label: order.index(names[label])):
        theirs = [of_paper.get(names[label], NONE)] if beside else []
        about = section.results[label].about
        rows.append([label, *theirs, *_two(section.summaries[label], metrics), about.decoder])
    rows.append(["constant guess", *([NONE] if beside else []), *_two(section.guess_summary, metrics), "median"])
    theirs = ["paper, FG-NET"] if beside else []
    return table(name, ["backbone", *theirs, "ours, mean over people (95 %)", "ours, pooled (95 %)", "decoder"], rows)


def not_run(section: Section) -> str:
    """The paper's networks that no result here has, each with the paper's MAE, as a sentence; "" for other people."""
    if section.about.dataset != "fgnet":
        return ""
    ours = {name_of(each.about) for each in section.results.values()}
    missing = [(backbone_name(b), mae) for b, mae in PAPER_MAE.items() if backbone_name(b) not in ours]
    if not missing:
        return ""
    return f"Not run here (the paper's MAE): {', '.join(f'{name} ({mae:.2f})' for name, mae in missing)}."


def _two(summary: Summary, metrics: Callable[[Summary], tuple[Interval, Interval]]) -> list[str]:
    return [f"{metric:.2f}" for metric in metrics(summary)]


def cs_table(section: Section) -> Table:
    """CS(th) at some thresholds, the mean over people in percent: the values of figure 4, and of whole years."""
    everyone = {**section.summaries, "constant guess": section.guess_summary}
    rows = []
    for label, summary in everyone.items():
        for kind, cs in (("real-valued", summary.cs), ("whole years", summary.cs_rounded)):
            rows.append([label, kind, *(f"{cs.value[th]:.1f}" for th in CS_COLUMNS)])
    return table("cs", ["config", "prediction", *(f"CS({th})" for th in CS_COLUMNS)], rows)


def age_table(section: Section) -> Table:
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
    return table("age", ["age", "photos", "people", "MAE (95 %)", "bias (95 %)", "constant guess's MAE"], rows)


def people_table(section: Section, *, worst: int = 5) -> Table:
    """The people with the leader's largest errors."""
    people = by_person(section.results[section.leader].predictions)[:worst]
    rows = [[plain(p.person, most=200), str(p.photos), f"{p.mae:.2f}", f"{p.bias:+.2f}"] for p in people]
    return table("people", ["person", "photos", "MAE", "bias"], rows)


def calibration_table(section: Section) -> Table:
    """NLL, CRPS, coverage and width of every config's distributions, and of the constant guess's."""
    everyone = {**section.calibrations, "constant guess": section.guess_calibration}
    return table(
        "calibration",
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


def config_table(section: Section) -> Table:
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
    return table("configs", [*header, "MAE of their mean", "MLflow run"], rows)


def _loss(loss: Mapping[str, object]) -> str:
    """A loss and its weights: "mean_variance (mean_weight 0.2, variance_weight 0.05)"."""
    numbers = {key: value for key, value in loss.items() if isinstance(value, int | float)}
    if not numbers.get("label_smoothing"):
        numbers.pop("label_smoothing", None)
    weights = ", ".join(f"{key} {value:g}" for key, value in numbers.items())
    name = str(loss.get("name", NONE))
    return f"{name} ({weights})" if weights else name


def published_table() -> Table:
    """What others published on FG-NET with the same protocol."""
    rows = [[p.method, p.pretraining, f"{p.mae:.2f}"] for p in LOPO_ON_FGNET]
    return table("published", ["method", "pretraining", "MAE"], rows)


def cross_tests() -> str:
    """What others published on FG-NET with another protocol, in a sentence."""
    cross = ", ".join(f"{p.mae:.2f} from {p.pretraining}" for p in CROSS_TEST_ON_FGNET)
    return (
        f"With another protocol, which cannot be compared with the one above, a {CROSS_TEST_ON_FGNET[0].method} "
        f"trained on UTKFace alone and tested on all of FG-NET has an MAE of {cross}."
    )
