"""Reruns each block's best trials with new seeds, so that the winner is not one lucky run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from study.sweep.journal import Tried, best, ranked


@dataclass(frozen=True)
class Winner:
    """The trial chosen, its MAE (years) by which it was, and over how many seeds that is."""

    tried: Tried
    mae: float
    seeds: int


def finalists(journal: Mapping[int, Tried], most: int) -> list[Tried]:
    """The best complete trials, the best first; none where fewer than two would have to be told apart."""
    complete = ranked(journal)
    return complete[:most] if min(most, len(complete)) > 1 else []


def choose(journal: Mapping[int, Tried], finals: Sequence[Tried], *, most: int, seeds: int) -> Winner | None:
    """The finalist of the least mean MAE over its seeds (the first one too); without finalists the best trial.

    Finalists are compared over equal seeds only. A seed that diverged counts with its 100 years. One that failed (its
    process died, it lacked memory) has no MAE: its finalist is left out while another has all of its seeds, and where
    none has, the first seed decides, which all have.
    """
    compared = finalists(journal, most if seeds else 0)
    scores = []
    for tried in compared:
        again = [f.mae for f in finals if f.number == tried.number and 1 <= f.repeat <= seeds and f.mae is not None]
        if tried.mae is not None and len(again) == seeds:
            scores.append(Winner(tried, float(np.mean([tried.mae, *again])), 1 + seeds))
    scores = scores or [Winner(tried, tried.mae, 1) for tried in compared if tried.mae is not None]
    if scores:
        return min(scores, key=lambda choice: (choice.mae, choice.tried.number))
    alone = best(journal)
    return None if alone is None or alone.mae is None else Winner(alone, alone.mae, 1)
