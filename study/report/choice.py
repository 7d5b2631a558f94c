"""The report's part on how a sweep chose the config that people were tested with, and how far to trust the choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.artifacts.choice import AppliedChoice
from study.artifacts.predictions import Predictions
from study.cli.describe import describe
from study.plain import plain, slug
from study.report.sections import Section
from study.table import NONE, Table, table
from trainables.config import TrialConfig
from trainables.metrics import errors

BEHIND = (
    '"Lowest error" is the lowest MAE of the complete trials, on out-of-fold predictions of the people that the choice '
    'was made on: what reporting the winner\'s own error would claim. "Corrected" is the same after bootstrap '
    "bias-corrected cross-validation (Tsamardinos et al. 2018): people are resampled, the best trial on the drawn "
    "people is taken, and its error on the others is averaged. Both are computed from the same trainings and people, "
    "with one seed, pooled over photos. The sampler and the pruner had seen all of these people, so the true gap is "
    'more likely larger than smaller. "Chosen again": the share of resamplings that choose the same trial, and the '
    "same network. The LOPO error is that of the block's own people, and its trainings had more photos: it may be "
    "lower or higher."
)
"""The text below the table."""


def choices(section: Section) -> list[str | Table]:
    """A table and sentences for each result whose config a sweep chose; empty if there is none."""
    parts: list[str | Table] = []
    for label, each in section.results.items():
        if choice := each.about.choice:
            start = [f"**{label}**"] if len(section.results) > 1 else []
            parts += [*start, choice_table(label, choice, each.predictions), *sentences(choice)]
    return [*parts, BEHIND] if parts else []


def choice_table(label: str, choice: AppliedChoice, predictions: Predictions) -> Table:
    """A row per block: its winner, the error that its choice claims, and its LOPO error on the block's own people."""
    rows = []
    for row in choice.blocks:
        rows.append(
            [
                row.block,
                f"{row.trial}: {describe(TrialConfig.from_json(row.config))}",
                f"{row.complete} on {row.people}",
                f"{row.claimed:.2f}",
                f"{row.corrected:.2f}",
                f"{row.again:.0%}, {row.same_backbone:.0%}".replace("%", " %"),
                _honest(predictions, choice.people[row.block]),
            ]
        )
    header = ["block", "winner", "trials on people", "lowest error", "corrected", "chosen again: trial, network"]
    return table(f"choice-{slug(label)}", [*header, "LOPO on its own people"], rows)


def sentences(choice: AppliedChoice) -> list[str]:
    """The optimism in one sentence, and how far the blocks agree in another."""
    gap = choice.optimism
    what = {
        "blocks": "None of it is in the LOPO error: each block's people had no part in its choice.",
        "dev": "None of it is in the LOPO error: the choice was made on a dev part of the pretraining data.",
        "none": "The LOPO error itself was chosen in this way, on these same people: it is optimistic.",
    }[choice.select]
    found = [
        f"Reporting the error that the choice was made by would have claimed {gap.claimed:.2f} years; corrected for "
        f"being the lowest of many it is {gap.corrected:.2f}, an optimism of {gap.gap:.2f} years (95 % over "
        f"people {gap.gap_low:.2f} to {gap.gap_high:.2f}). {what}"
    ]
    if choice.networks:
        fair = [each.network for each in choice.networks if each.fate == "fair"]
        short = [each for each in choice.networks if each.fate == "short"]
        none = [each.network for each in choice.networks if each.fate == "none"]
        parts = [f"Of {len(choice.networks)} networks {len(fair)} had a fair trial in every block (three trials, or as "
                 f"many as an equal share of the block's compute pays for): {', '.join(fair) or 'none'}."]  # fmt: skip
        some = [f"{each.network} ({each.trials} trials, {each.minutes:.0f} min)" for each in short]
        parts += [f"Tried too little to be judged: {', '.join(some)}."] if some else []
        parts += [f"Not tried: {', '.join(none)}."] if none else []
        found.append(" ".join(parts))
    if len(choice.blocks) > 1:
        backbones = choice.backbones
        agree = len(set(backbones)) == 1
        networks = f"all chose {backbones[0]}" if agree else f"they differ in the network ({', '.join(backbones)})"
        ranges = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in choice.spread.items())
        rho = choice.rank_correlation
        ranks = f" A pair of blocks has {choice.common_trials} trials in common on average"
        ranks += f", and ranks them alike with Spearman's ρ = {rho:.2f}." if rho is not None else ", too few to rank."
        found.append(f"Do the {len(backbones)} blocks agree? On the network: {networks}. Spread: {ranges}.{ranks}")
    return found


def _honest(predictions: Predictions, people: Sequence[str]) -> str:
    """The LOPO error pooled over the photos of a block's people (of everyone if it names none)."""
    # the record's names are plain (study.report.sections.Result)
    named = [who for who in predictions.people.tolist() if plain(who) in set(people)]
    chosen = np.isin(predictions.person, named) if people else np.ones(len(predictions), bool)
    if not chosen.any():
        return NONE
    return f"{np.abs(errors(predictions.predicted[chosen], predictions.age[chosen])).mean():.2f}"
