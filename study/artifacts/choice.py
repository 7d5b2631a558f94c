"""What best.json and about.json record of a sweep's choice, and of how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from study.artifacts.records import check_config

Select = Literal["blocks", "dev", "none"]
"""Whose errors a sweep chose by: those of other blocks' people, of a dev part of the pretraining data, of everyone."""


@dataclass(frozen=True)
class BlockChoice:
    """One block's winner: its trial's number and config, among how many complete trials on how many people.

    claimed: its MAE in years, the lowest; corrected: the same after BBC-CV (study.sweep.optimism). again and
    same_backbone: the share of resamplings of the people that choose the same trial, and the same network.
    """

    block: str
    trial: int
    config: Annotated[Mapping[str, Any], check_config]
    complete: int
    people: int
    claimed: float
    corrected: float
    again: float
    same_backbone: float


@dataclass(frozen=True)
class Optimism:
    """MAE in years that the choice claims and that it has after correction, means over blocks, and their difference
    `gap` with its 95 % interval over people. nan if there are too few people to correct."""

    claimed: float
    corrected: float
    gap: float
    gap_low: float
    gap_high: float


Fate = Literal["fair", "short", "none"]
"""Whether a network had a fair trial in each block: three trials or as many as an equal share of the block's compute
pays for; some, but fewer than that; or none."""


@dataclass(frozen=True)
class NetworkTried:
    """What a network got in all blocks: trials that were scored, their folds, minutes of compute, the lowest MAE
    (years) of its complete trials, and where none was scored, why."""

    network: str
    fate: Fate
    trials: int
    folds: int
    minutes: float
    mae: float | None
    why: str = ""

    @property
    def sentence(self) -> str:
        """One line on it."""
        if self.fate == "none":
            return f"{self.network}: NOT TRIED" + (f" ({self.why})" if self.why else "")
        best = f", best MAE {self.mae:.2f}" if self.mae is not None else ", none completed"
        got = f"{self.trials} trials, {self.folds} folds, {self.minutes:.1f} min{best}"
        return f"{self.network}: {'tried fairly' if self.fate == 'fair' else 'tried TOO LITTLE'} ({got})"


@dataclass(frozen=True)
class FrontPoint:
    """A trial on a block's Pareto front: nothing that the block tried is both cheaper and better. cost: multiply-adds
    of a face, or the objective's cost (`unit`); mae in years."""

    block: str
    trial: int
    network: str
    px: int
    cost: float
    unit: str
    mae: float


@dataclass(frozen=True)
class Choice:
    """A sweep's choice: each block's, the optimism, and how far the blocks agree.

    backbones: of the winners, by block. spread: lowest and highest chosen value by name ("learning rate").
    common_trials: how many trials two blocks have in common, on average. rank_correlation: Spearman's, over these;
    None if they are too few. networks: of a space with several. front: of each block.
    """

    blocks: tuple[BlockChoice, ...]
    optimism: Optimism
    backbones: tuple[str, ...]
    spread: Mapping[str, tuple[float, float]]
    common_trials: int
    rank_correlation: float | None
    networks: tuple[NetworkTried, ...] = field(default=(), kw_only=True)
    front: tuple[FrontPoint, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class AppliedChoice(Choice):
    """A choice in a LOPO result's record, where it is one JSON object with `people`: whom each block's winner is tested
    on (an empty list: everyone)."""

    select: Select
    people: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.backbones:
            raise ValueError("backbones is empty, expected one name or more")
        if missing := [each.block for each in self.blocks if each.block not in self.people]:
            raise ValueError(f"people is of {sorted(self.people)}, expected those of {missing[0]!r} too")
