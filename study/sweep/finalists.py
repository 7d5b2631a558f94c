"""The best few trials of a block once more with other seeds: one lucky training shall not decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from study.sweep.search import JournalSearch, Tried, best, ranked, read_tried
from trainables.faces.table import Faces


@dataclass(frozen=True)
class Winner:
    """The trial chosen, its MAE (years) by which it was, and over how many seeds that is."""

    tried: Tried
    mae: float
    seeds: int


def finals_folder(block: Path) -> Path:
    """Where a block's journal keeps its finalists' further seeds."""
    return block / "finals"


def finalists(journal: Mapping[int, Tried], most: int) -> list[Tried]:
    """The best complete trials, the best first; none where fewer than two would have to be told apart."""
    complete = ranked(journal)
    return complete[:most] if min(most, len(complete)) > 1 else []


def missing_finals(finals: Sequence[Tried], there: Sequence[Tried], seeds: int) -> list[dict[str, Any]]:
    """Points for Tune: each finalist with the config's seed + 1 to + seeds, less those that are there."""
    done = {(tried.number, tried.repeat) for tried in there}
    return [
        {
            "trial": tried.config.replace(seed=tried.config.seed + repeat).to_json(),
            "number": tried.number,
            "params": dict(tried.params),
            "repeat": repeat,
            "rival": None,
        }
        for repeat in range(1, seeds + 1)
        for tried in finals
        if (tried.number, repeat) not in done
    ]


def read_finals(block: Path, faces: Faces | None = None) -> list[Tried]:
    """What a block's finalists gave with other seeds; faces as study.sweep.search.read_journal takes them."""
    return [read_tried(file, faces) for file in sorted(finals_folder(block).glob("*.json"))]


def check_block(search: JournalSearch, block: Path, faces: Faces) -> None:
    """Raise ValueError where a block's files do not hold what the sweep asks for, or not what its trials predicted.

    search: over the block's journal, to be thrown away afterwards.
    """
    try:
        search.replay()
    except ValueError as error:
        raise ValueError(f"{block}: {error}") from error
    for tried in read_finals(block, faces):
        first = search.journal.get(tried.number)
        if first and tried.config != first.config.replace(seed=first.config.seed + tried.repeat):
            raise ValueError(
                f"{finals_folder(block)} has seed {tried.repeat} of trial {tried.number} with another config than the "
                "journal: delete that file to run the seed again"
            )


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


class BlockSearch(Searcher):
    """Ray Tune's searcher over a block: the search's own trials and then, when all have ended, its finalists' seeds."""

    def __init__(self, search: JournalSearch, block: Path, *, most: int, seeds: int) -> None:
        """block: the folder of its journal. most, seeds: how many finalists, and further seeds of each."""
        super().__init__(metric="validation_mae", mode="min")
        self.search, self.block, self.most, self.seeds = search, block, most, seeds
        self.finals: list[dict[str, Any]] | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next trial's point, Searcher.FINISHED, or None: not yet."""
        if self.finals is None:
            point = self.search.suggest(trial_id)
            if point != Searcher.FINISHED:
                return point
            if self.search.asked.keys() - self.search.journal.keys():  # the last ones are still running
                return None
            self.finals = missing_finals(finalists(self.search.journal, self.most), read_finals(self.block), self.seeds)
        return self.finals.pop(0) if self.finals else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing: the sweep's callback writes the journal."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing; see save."""
