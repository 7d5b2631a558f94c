"""What is asked: a space is a function from an Optuna trial and a base config to the trial's config.

A categorical's choices can never change within a stored study: write them as a tuple, never sorted(TABLE).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from search_spaces import backbones, mean_variance, paper, small, tour
from trainables.config import TrialConfig


@dataclass(frozen=True)
class Space:
    """A question: which configs, asked how; `first` are points tried before the sampler's own."""

    ask: Callable[[optuna.Trial, TrialConfig], TrialConfig]
    first: tuple[Mapping[str, Any], ...]
    backbones: tuple[str, ...]


SPACES: dict[str, Space] = {
    "small": Space(small.ask, small.FIRST, small.BACKBONES),
    "mean_variance": Space(mean_variance.ask, mean_variance.FIRST, ()),
    "backbones": Space(backbones.ask, backbones.FIRST, backbones.BACKBONES),
    "tour": Space(tour.ask, tour.FIRST, tour.BACKBONES),
    "paper": Space(paper.ask, paper.FIRST, paper.BACKBONES),
}
"""Every space by its name on the command line."""


def find_space(name: str) -> Space:
    """The entry of SPACES. Raises ValueError that suggests a near name."""
    if name not in SPACES:
        near = difflib.get_close_matches(name, SPACES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown space {name!r}.{hint} Known: {', '.join(SPACES)}")
    return SPACES[name]
