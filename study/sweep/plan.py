"""What a sweep is about to do: its blocks, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search_spaces import Space
from study.artifacts.pretraining import Beside, LearnedFrom
from study.starts import Start
from study.sweep.budgets import Earlier
from study.sweep.options import Sweep
from study.sweep.optuna_storage import Mirror
from study.sweep.selection import (
    Block,
    check_never_seen,
    dev_block,
    everybody,
    person_blocks,
)
from study.sweep.shares import Budget
from study.tracking import runs as tracking
from trainables.config import TrialConfig
from trainables.faces.table import Faces


@dataclass(frozen=True)
class SweepRun:
    """What all blocks of a sweep under way share.

    trials: of each block. parallel: folds that are trained side by side. lag: trials of a block side by side; each
    knows all before them (study.sweep.search). data: the faces, as MLflow's runs name them.
    """

    options: Sweep
    folder: Path
    space: Space
    base: TrialConfig
    starts: Mapping[str, Start]
    learned_from: LearnedFrom
    shared: Mapping[str, Any]
    store: tracking.Tracking
    parent: str
    key: str
    trials: int
    parallel: int
    lag: int
    budget: Budget | None = None  # of each block
    data: Mapping[str, Any] | None = None
    earlier: Mapping[str, Earlier] = field(default_factory=dict)  # budgets that a block had before
    beside: Beside = field(default_factory=Beside)  # the trials' companions

    def budget_of(self, block: Block) -> Budget | None:
        """What the block's trials may cost, with what it had before."""
        return self.budget and replace(self.budget, earlier=self.earlier.get(block.name, ()))

    def mirror(self, block: Block) -> Mirror:
        """The block's study in Optuna's storage."""
        return Mirror(self.folder, block.name, self.space, self.base, self.options.objective)


def side_by_side(places: int, blocks: int, trials: int, *, forced: bool = False) -> int:
    """How many trials of a block run side by side, where so many folds do and all blocks run at once.

    Enough that each place has a fold; but no more than a sixth of the trials (forced: no such limit), so that most of
    them can learn from others. Places that are left train further folds of the same trials.
    """
    wanted = -(-places // blocks)
    return wanted if forced else max(1, min(wanted, trials // 6))


def compute(options: Sweep, places: int, gpus: float) -> float | None:
    """Seconds of compute that --minutes and --gpu-hours pay for, of all blocks; None where neither is given. places:
    folds side by side. gpus: each one's share of a GPU. Raises ValueError for --gpu-hours without a GPU."""
    if options.gpu_hours is not None and not gpus:
        raise ValueError("--gpu-hours is for trials on GPUs, and these take none: give --minutes, or --gpus-per-trial")
    each = [60 * options.minutes * places] if options.minutes is not None else []
    each += [3600 * options.gpu_hours / gpus] if options.gpu_hours is not None else []
    return min(each, default=None)


def make_blocks(options: Sweep, faces: Faces, starts: Mapping[str, Start], *, seed: int) -> list[Block]:
    """The studies that --select asks for. Raises ValueError where a checkpoint learned from the dev part."""
    if options.select == "blocks":
        return person_blocks(faces, blocks=options.blocks, folds=options.folds, seed=seed)
    if options.select == "none":
        return everybody(faces, folds=options.folds, seed=seed)
    (block,) = dev_block(faces, share=options.dev_share, seed=seed)
    for start in starts.values():
        check_never_seen(start, faces, block)
    return [block]
