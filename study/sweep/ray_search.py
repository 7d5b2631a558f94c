"""Ray Tune's searcher over all blocks of a sweep: each of Tune's trials is one fold of one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from study.sweep.search import BlockSearch, next_training

if TYPE_CHECKING:
    from study.sweep.recorder import Recorder


class TuneSearch(Searcher):
    """Suggests folds of the blocks' trials, in the order of study.sweep.search.next_training."""

    def __init__(self, searches: Mapping[str, BlockSearch], record: Recorder) -> None:
        super().__init__(metric="validation_mae", mode="min")  # in every row; Tune asks for one
        self.searches, self.record = dict(searches), record
        self.running: dict[str, tuple[str, tuple[int, int]]] = {}
        self._first: tuple[int, Any] | None = None

    def nothing_to_train(self) -> bool:
        """Whether all is there. Else the first fold is kept for Tune's first question."""
        self._first = next_training(list(self.searches.values()))
        self.record.write_over()
        return self._first is None

    def suggest(self, trial_id: str) -> Any:
        """The next fold as a point (a dict), Searcher.FINISHED, or None: not yet, another fold must end first."""
        found, self._first = self._first or next_training(list(self.searches.values())), None
        self.record.write_over()  # trials that a kill left with all of their folds
        if found is None:
            return Searcher.FINISHED if all(search.done for search in self.searches.values()) else None
        index, training = found
        block = list(self.searches)[index]
        self.running[trial_id] = (block, training.key)
        return {
            "block": block,
            "number": training.number,
            "repeat": training.repeat,
            "fold": training.fold,
            "trial": training.config.to_json(),
            "params": dict(training.params),
            "rival": dict(training.rival),
        }

    def is_over(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Tune's `stop`: whether a fold's trial ended while the fold was trained side by side with others."""
        block, key = self.running[trial_id]
        return self.searches[block].is_over(key)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Nothing: the recorder receives the rows."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing: the recorder hands each fold to its block's search."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds it all, and a rerun reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing; see save."""
