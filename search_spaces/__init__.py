"""Search spaces: functions from an Optuna trial and a base config to the trial's config.

The choices of a categorical cannot change within a stored Optuna study: write them as a tuple, never sorted(TABLE).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from search_spaces import backbones, efficientnet, frozen, losses, mean_variance, paper, small, tour, transformers
from trainables.backbones import check_backbone, find_backbone
from trainables.config import TrialConfig, of_network
from trainables.names import unknown


def base_px(base: TrialConfig) -> tuple[int, ...]:
    """The base's picture size alone: for spaces that do not vary it."""
    return (base.px,)


@dataclass(frozen=True)
class Space:
    """A search space. `first` are points that are tried before the sampler's.

    backbones: all that ask() may return (empty: the base's). px: all picture sizes that ask() may return, so that the
    faces can be loaded at each. own: fields ("px", "dropout") that take the network's own value, not the base's.
    """

    ask: Callable[[optuna.Trial, TrialConfig], TrialConfig]
    first: tuple[Mapping[str, Any], ...]
    backbones: tuple[str, ...]
    px: Callable[[TrialConfig], tuple[int, ...]] = base_px
    own: tuple[str, ...] = ()

    def config(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        """The config of one trial."""
        own = [name for name in self.own if name != "px" or self.px is base_px]
        return of_network(self.ask(trial, self._start(base)), own)

    def sizes(self, base: TrialConfig) -> tuple[int, ...]:
        """Every picture size (pixels) that config() may return, sorted."""
        if "px" in self.own and self.px is base_px:
            return tuple(sorted({find_backbone(name).px for name in self.backbones or (base.backbone,)}))
        return self.px(self._start(base))

    def check(self, base: TrialConfig) -> None:
        """Raise ValueError where a network of the space does not take pictures of the base's size."""
        for name in self.backbones:
            check_backbone(name, px=find_backbone(name).px if "px" in self.own else base.px)

    def _start(self, base: TrialConfig) -> TrialConfig:
        """The base. With native sizes, a space that varies sizes itself scales its first network's native size."""
        if "px" in self.own and self.px is not base_px:
            return base.replace(backbone=self.backbones[0], px=find_backbone(self.backbones[0]).px)
        return base


SPACES: dict[str, Space] = {
    "small": Space(small.ask, small.FIRST, small.BACKBONES),
    "mean_variance": Space(mean_variance.ask, mean_variance.FIRST, ()),
    "losses": Space(losses.ask, losses.FIRST, ()),
    "backbones": Space(backbones.ask, backbones.FIRST, backbones.BACKBONES),
    "efficientnet": Space(efficientnet.ask, efficientnet.FIRST, efficientnet.BACKBONES, efficientnet.px),
    "transformers": Space(transformers.ask, transformers.FIRST, transformers.BACKBONES),
    "frozen": Space(frozen.ask, frozen.FIRST, frozen.BACKBONES),
    "tour": Space(tour.ask, tour.FIRST, tour.BACKBONES),
    "paper": Space(paper.ask, paper.FIRST, paper.BACKBONES),
}
"""Every space by its name on the command line."""


def find_space(name: str) -> Space:
    """The entry of SPACES. Raises ValueError that suggests a near name."""
    if name not in SPACES:
        raise unknown("space", name, SPACES)
    return SPACES[name]
