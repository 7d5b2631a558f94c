"""The report's Markdown: the paper's tables with ours beside, and what the figures say in sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from study.artifacts.brands import MEANING
from study.plain import plain
from study.report.paper import (
    CROSS_TEST_ON_FGNET,
    LOPO_ON_FGNET,
    PAPER_MAE,
    PAPER_PRETRAINING,
    PAPER_RMSE,
    backbone_name,
)
from study.report.sections import Section, name_of, pretraining, sentence
from study.statistics.bootstrap import Interval
from study.statistics.summary import Summary, by_decade, by_person

NONE = "\N{EN DASH}"
"""What stands in a table where there is no figure."""

FEW = 10
"""Below this many people a 95 % interval holds the truth 90 to 93 % of the time (simulated): the report says so."""

MANY = 6
"""Above this many comparisons only those with the leading config are written out; all are in the details."""

CS_COLUMNS = (0, 1, 2, 3, 5, 10, 15)

BUILT_IN = (
    "**These are synthetic people: drawn faces that come with the program, so that the study runs anywhere. "
    "The figures show that it works; they mean nothing about real faces.**"
)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well as plain text too; the first column is left-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * w) if i == 0 else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


# ---- the paper's tables -----------------------------------------------------------------------------


def mae_table(section: Section) -> str:
    """Tables 1 and 2: MAE by backbone, the paper's beside ours over people and pooled."""
    return _beside_paper(section, PAPER_MAE, lambda s: (s.mae, s.mae_pooled))


def rmse_table(section: Section) -> str:
    """Table 3: RMSE by backbone, the paper's beside ours over people and pooled."""
    return _beside_paper(section, PAPER_RMSE, lambda s: (s.rmse, s.rmse_pooled))


def _beside_paper(
    section: Section, paper: Mapping[str, float], figures: Callable[[Summary], tuple[Interval, Interval]]
) -> str:
    """The paper's rows in its order, then ours that it lacks, then the constant guess."""
    rows = []
    names = {label: name_of(each.about) for label, each in section.results.items()}
    of_paper = {backbone_name(backbone): f"{figure:.2f}" for backbone, figure in paper.items()}
    for name in [*of_paper, *sorted({name for name in names.values() if name not in of_paper})]:
        theirs = of_paper.get(name, NONE)
        ours = [label for label in names if names[label] == name]
        rows += [[label, theirs, *_two(section.summaries[label], figures)] for label in ours]
        if not ours:
            rows.append([name, theirs, NONE, NONE])
    rows.append(["constant guess", NONE, *_two(section.guess_summary, figures)])
    return table(["backbone", "paper, FG-NET", "ours, mean over people (95 %)", "ours, pooled (95 %)"], rows)


def _two(summary: Summary, figures: Callable[[Summary], tuple[Interval, Interval]]) -> list[str]:
    return [f"{figure:.2f}" for figure in figures(summary)]


def cs_table(section: Section) -> str:
    """CS(th) at some thresholds, the mean over people in percent: the numbers under figure 4."""
    everyone = {**section.summaries, "constant guess": section.guess_summary}
    return table(
        ["config", *(f"CS({th})" for th in CS_COLUMNS)],
        [[label, *(f"{s.cs.value[th]:.1f}" for th in CS_COLUMNS)] for label, s in everyone.items()],
    )


def age_table(section: Section) -> str:
    """MAE and bias by decade of true age for the config in leader, beside the constant guess."""
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
    """The people whom the leading config errs on most."""
    people = by_person(section.results[section.leader].predictions)[:worst]
    rows = [[plain(p.person, most=200), str(p.photos), f"{p.mae:.2f}", f"{p.bias:+.2f}"] for p in people]
    return table(["person", "photos", "MAE", "bias"], rows)


def calibration_table(section: Section) -> str:
    """NLL, CRPS, coverage and width of every config's distributions, and of the others' ages as a guess."""
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
    """What was run: the settings that a reader needs to run it again."""
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
    """A loss in a few letters: "mean_variance (mean_weight 0.2, variance_weight 0.05)"."""
    numbers = {key: value for key, value in loss.items() if isinstance(value, int | float)}
    if not numbers.get("label_smoothing"):
        numbers.pop("label_smoothing", None)
    weights = ", ".join(f"{key} {value:g}" for key, value in numbers.items())
    name = str(loss.get("name", NONE))
    return f"{name} ({weights})" if weights else name


def published_tables() -> str:
    """What others published on FG-NET, as Markdown."""
    lopo = table(["method", "pretraining", "MAE"], [[p.method, p.pretraining, f"{p.mae:.2f}"] for p in LOPO_ON_FGNET])
    cross = ", ".join(f"{p.mae:.2f} from {p.pretraining}" for p in CROSS_TEST_ON_FGNET)
    return (
        f"{lopo}\n\nAnother protocol, not comparable with the above: a {CROSS_TEST_ON_FGNET[0].method} "
        f"trained on UTKFace alone and tested on all of FG-NET has an MAE of {cross}."
    )


# ---- sentences --------------------------------------------------------------------------------------


def headline(section: Section) -> str:
    """The answer in one paragraph: MAE with its interval, beside the constant guess."""
    summary, guess = section.summaries[section.leader], section.guess_summary
    seeds = len(summary.seed_maes)
    text = (
        f"**{section.leader}: MAE {summary.mae.value:.2f} years{_span(summary.mae)}**, the mean over "
        f"{summary.people} people, each tested by a network {_seen(section)}; pooled over "
        f"the {summary.photos:,} photos {summary.mae_pooled:.2f}. A constant guess scores "
        f"{guess.mae.value:.2f} over people and {guess.mae_pooled.value:.2f} pooled."
    )
    if differ := section.unlike:
        text += f" **Read with care: {differ}.**"
    if seeds > 1:
        text += (
            f" Each of {seeds} seeds was run over all folds and the figure is their mean; they range from "
            f"{min(summary.seed_maes):.2f} to {max(summary.seed_maes):.2f}. The mean of their answers, a "
            f"model {seeds} times as costly, scores {summary.committee:.2f}."
        )
    return text


def _seen(section: Section) -> str:
    """What is known of the leader's pretraining and the tested people; nothing is claimed that was not compared."""
    learned_from = section.about.learned_from
    if learned_from is None:
        return "fine-tuned without them (whether its pretraining had seen them is not recorded)"
    if learned_from.state == "overlap":
        return f"fine-tuned without them, BUT {learned_from.sentence}"
    return f"trained without them ({learned_from.sentence})"


def caveats(section: Section) -> list[str]:
    """What a reader must know before believing the headline, one sentence or two each."""
    found = []
    for label, each in section.results.items():
        for word in filter(None, each.about.brand.split(", ")):
            found.append(f"**{word}: {label}.** {MEANING[word]}")
    for label, sentences in section.alarms.items():
        found += [f"**Alarm, {label}:** {sentence}" for sentence in sentences]
    histories: dict[str, list[str]] = {}
    for label, each in section.results.items():
        history = f"Pretraining: {pretraining(each.about)}"
        history += f" Selection: {sentence(each.about.selection)}"
        if each.about.epochs_by:
            history += f" Epochs: {sentence(each.about.epochs_by)}"
        histories.setdefault(history, []).append(label)
    for history, who in histories.items():
        found.append(history if len(histories) == 1 else f"{', '.join(who)}: {history}")
    people = section.summaries[section.leader].people
    if people < FEW:
        found.append(
            f"{people} people are few: intervals from resampling so few come out a little too narrow"
            + (", and below 5 none is given." if people < 5 else ".")
        )
    if len(section.results) > 1:
        found.append(
            f"{section.leader} leads because its MAE here is the lowest of {len(section.results)}. "
            "The lowest of several is a little too low: read the comparisons before its figure."
        )
    found.append(
        "Intervals are over people (95 %, expanded BCa bootstrap): what other people of the same kind would have "
        "given. They do not hold what another seed or another pretraining would change."
    )
    return found


def comparisons(section: Section) -> str:
    """Every pair of configs in sentences; where there are many, those with the leader, and all in the
    details."""
    every = section.comparisons
    if not every:
        return "One config was run, so there is nothing to compare it with."
    note = "Paired over people. Intervals are of each pair alone; p, a sign-flip test, is corrected for all of them."
    told = every if len(every) <= MANY else [c for c in every if section.leader in (c.better, c.worse)]
    text = "\n".join(f"- {c.sentence}" for c in told)
    if len(told) < len(every):
        apart = sum(c.decided for c in every)
        rest = "\n".join(f"- {c.sentence}" for c in every)
        text += (
            f"\n\nOf all {len(every)} pairs, this data tells {apart} apart.\n\n"
            f"<details><summary>All pairs</summary>\n\n{rest}\n\n</details>"
        )
    return f"{text}\n\n{note}"


def against_paper(section: Section) -> str:
    """Where the paper's figure lies from our interval, for the leading config. Empty where there is none."""
    name = name_of(section.about)
    of_paper = {backbone_name(backbone): mae for backbone, mae in PAPER_MAE.items()}
    if section.about.dataset != "fgnet" or name not in of_paper:
        return ""
    paper, ours = of_paper[name], section.summaries[section.leader].mae
    if ours.low <= paper <= ours.high:
        place = "lies inside our interval"
    else:
        place = f"is {abs(ours.value - paper):.2f} years {'lower' if paper < ours.value else 'higher'} than ours"
    return (
        f"The paper's {paper:.2f} for {name} {place}. It was pretrained on "
        f"{PAPER_PRETRAINING}, so a difference is not of the network alone."
    )


def _span(figure: Interval) -> str:
    return "" if np.isnan(figure.low) else f" (95 % interval {figure.low:.2f} to {figure.high:.2f})"
