"""What is asked: a space is a function from an Optuna trial and a base config to the trial's config.

A categorical's choices can never change within a stored study: write them as a tuple, never sorted(TABLE).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from search_spaces import backbones, efficientnet, losses, mean_variance, paper, small, stages, tour, transformers
from trainables.config import TrialConfig
from trainables.names import unknown


def base_px(base: TrialConfig) -> tuple[int, ...]:
    """The one picture size of a space that does not ask for others."""
    return (base.px,)


@dataclass(frozen=True)
class Space:
    """A question: which configs, asked how; `first` are points tried before the sampler's own.

    backbones: those that may be asked for (none: the base's own). px: every picture size that may be asked for, so that
    the faces lie ready in each.
    """

    ask: Callable[[optuna.Trial, TrialConfig], TrialConfig]
    first: tuple[Mapping[str, Any], ...]
    backbones: tuple[str, ...]
    px: Callable[[TrialConfig], tuple[int, ...]] = base_px


SPACES: dict[str, Space] = {
    "small": Space(small.ask, small.FIRST, small.BACKBONES),
    "mean_variance": Space(mean_variance.ask, mean_variance.FIRST, ()),
    "losses": Space(losses.ask, losses.FIRST, ()),
    "backbones": Space(backbones.ask, backbones.FIRST, backbones.BACKBONES),
    "efficientnet": Space(efficientnet.ask, efficientnet.FIRST, efficientnet.BACKBONES, efficientnet.px),
    "transformers": Space(transformers.ask, transformers.FIRST, transformers.BACKBONES),
    "stages": Space(stages.ask, stages.FIRST, stages.BACKBONES),
    "tour": Space(tour.ask, tour.FIRST, tour.BACKBONES),
    "paper": Space(paper.ask, paper.FIRST, paper.BACKBONES),
}
"""Every space by its name on the command line."""


def find_space(name: str) -> Space:
    """The entry of SPACES. Raises ValueError that suggests a near name."""
    if name not in SPACES:
        raise unknown("space", name, SPACES)
    return SPACES[name]
