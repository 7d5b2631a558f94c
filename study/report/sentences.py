"""What the report says in sentences, each of which is checked against the results before it is said. Pure."""

from __future__ import annotations

import numpy as np

from study.artifacts.brands import MEANING
from study.cli.describe import backbone_name
from study.report.paper import PAPER_MAE, PAPER_PRETRAINING
from study.report.sections import Section, name_of, pretraining, sentence
from study.statistics.bootstrap import FEW_PEOPLE, Interval
from study.statistics.summary import THRESHOLDS, Comparison

FEW = 10
"""With fewer people a 95 % interval contains the true value 90 to 93 % of the time (simulated): the report says so."""

MANY = 6
"""With more comparisons only the leader's are listed, and all of them in the details."""

ALL = 1000
"""With more comparisons there are no details: no viewer opens such a file."""

SYNTHETIC = (
    "These are synthetic people: generated faces that come with the program, so that the study runs anywhere. "
    "The results show that it works; they mean nothing about real faces."
)


def headline(section: Section) -> str:
    """The answer in one paragraph: the leader's MAE with its interval, and the constant guess's."""
    summary, guess = section.summaries[section.leader], section.guess_summary
    seeds = len(summary.seed_maes)
    text = (
        f"**{section.leader}: MAE {summary.mae.value:.2f} years{_span(summary.mae)}** (decoder: "
        f"{section.about.decoder}), the mean over {summary.people} people, each tested by a network {_seen(section)}; "
        f"pooled over the {summary.photos:,} photos {summary.mae_pooled.value:.2f}. A constant guess scores "
        f"{guess.mae.value:.2f} over people and {guess.mae_pooled.value:.2f} pooled."
    )
    if differ := section.unlike:
        text += f" **Read with care: {differ}.**"
    if seeds > 1:
        text += (
            f" All folds were run with each of {seeds} seeds, and the MAE is their mean; they range from "
            f"{min(summary.seed_maes):.2f} to {max(summary.seed_maes):.2f}. The mean of their predictions, a "
            f"model that costs {seeds} times as much, scores {summary.committee:.2f}."
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


def warnings(section: Section) -> list[tuple[str, str]]:
    """What must be known before any number is believed: (what, sentence) pairs, such as ("OVERLAP: B0", "Its ...")."""
    found = []
    for label, each in section.results.items():
        found += [(f"{word}: {label}.", MEANING[word]) for word in each.about.brand.split(", ") if word]
    found += [(f"Alarm, {label}:", line) for label, lines in section.alarms.items() for line in lines]
    return found


def caveats(section: Section) -> list[str]:
    """What a reader must know before believing the headline, a sentence or two each."""
    found = [f"**{what}** {line}" for what, line in warnings(section)]
    histories: dict[str, list[str]] = {}
    for label, each in section.results.items():
        history = f"Pretraining: {pretraining(each.about)} Selection: {sentence(each.about.selection)}"
        if each.about.epochs_by:
            history += f" Epochs: {sentence(each.about.epochs_by)}"
        histories.setdefault(history, []).append(label)
    for history, labels in histories.items():
        found.append(history if len(histories) == 1 else f"{', '.join(labels)}: {history}")
    people = section.summaries[section.leader].people
    if people < FEW:
        found.append(
            f"{people} people are few: intervals from resampling so few come out a little too narrow"
            + (f", and below {FEW_PEOPLE} none is given." if people < FEW_PEOPLE else ".")
        )
    if len(section.results) > 1:
        found.append(
            f"{section.leader} leads because its MAE here is the lowest of {len(section.results)}. "
            "The lowest of several is a little too low: the comparisons below say more than this MAE."
        )
    found.append(
        "Intervals are over people (95 %, expanded BCa bootstrap): the range to expect with other people of the same "
        "kind. They do not contain what another seed or another pretraining would change."
    )
    return found


def read_with_care(section: Section) -> list[str]:
    """The warnings and how the networks' starts differ, as plain lines for the terminal."""
    differ = [f"Read with care: {section.unlike}."] if section.unlike else []
    return [*differ, *(f"{what} {line}" for what, line in warnings(section))]


def listed(section: Section) -> list[Comparison]:
    """The comparisons to list: all of them, or the leader's if there are many."""
    every = section.comparisons
    return every if len(every) <= MANY else [each for each in every if section.leader in (each.better, each.worse)]


def comparisons(section: Section) -> str:
    """The comparisons of configs, a sentence each, and what they were corrected for."""
    every = section.comparisons
    if not every:
        return "One config was run, so there is nothing to compare it with."
    text = "\n".join(f"- {each.sentence}" for each in listed(section))
    if len(every) > MANY:
        text += f"\n\nOf all {len(every):,} pairs, this data tells {sum(each.decided for each in every):,} apart."
        if len(every) <= ALL:
            rest = "\n".join(f"- {each.sentence}" for each in every)
            text += f"\n\n<details><summary>All pairs</summary>\n\n{rest}\n\n</details>"
    return (
        f"{text}\n\nPaired over people. Each interval is of its pair alone; p, of a sign-flip test, is corrected for "
        "all pairs."
    )


def against_paper(section: Section) -> str:
    """Where the paper's MAE of the leader's network is relative to our interval; "" if the paper has none."""
    name = name_of(section.about)
    of_paper = {backbone_name(backbone): mae for backbone, mae in PAPER_MAE.items()}
    if section.about.dataset != "fgnet" or name not in of_paper:
        return ""
    paper, ours = of_paper[name], section.summaries[section.leader].mae
    if ours.low <= paper <= ours.high:
        place = "is inside our interval"
    else:
        place = f"is {abs(ours.value - paper):.2f} years {'lower' if paper < ours.value else 'higher'} than ours"
    return (
        f"The paper's {paper:.2f} for {name} {place}. It was pretrained on "
        f"{PAPER_PRETRAINING}, so a difference is not due to the network alone."
    )


def cumulative(section: Section) -> str:
    """What CS counts, and the leader's CS(5) both ways."""
    summary = section.summaries[section.leader]
    real, whole = (cs.value[THRESHOLDS.index(5)] for cs in (summary.cs, summary.cs_rounded))
    return (
        "CS(n) is the share of photos with an error of at most n years. Of real-valued ages CS(0) is near zero, and "
        "an error of 5.2 years is outside of CS(5). Papers that predict whole years round first, and count it inside: "
        f'the rows "whole years" are for a comparison with those. CS(5) of {section.leader}: {real:.1f} % '
        f"real-valued, {whole:.1f} % in whole years."
    )


def _span(metric: Interval) -> str:
    return "" if np.isnan(metric.low) else f" (95 % interval {metric.low:.2f} to {metric.high:.2f})"
