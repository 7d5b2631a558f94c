"""Search spaces: functions from an Optuna trial and a base config to the trial's config.

The choices of a categorical cannot change within a stored Optuna study: write them as a tuple, never sorted(TABLE).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna

from search_spaces import (
    backbones,
    companions,
    efficientnet,
    frozen,
    losses,
    mean_variance,
    paper,
    small,
    study,
    tour,
    transformers,
)
from trainables.config import TrialConfig
from trainables.names import near, unknown
from trainables.networks import check_backbone, find_backbone
from trainables.timm_models import PREFIX


def base_px(base: TrialConfig, backbones: Sequence[str]) -> tuple[int, ...]:
    """The base's picture size alone: for spaces that do not vary it."""
    return (base.px,)


@dataclass(frozen=True)
class Space:
    """A search space. `first` are points that are tried before the sampler's.

    backbones: the choices of the categorical "backbone"; where there are none, the base's backbone is used. ask: the
    other values, for a base that has the trial's backbone. px: all picture sizes that ask() may return for a base and
    these backbones, so that the faces can be loaded at each. scaled_from: where ask() varies the size, the network
    whose native size replaces the base's (--config paper). own: fields ("px", "dropout") that take the network's own
    value, not the base's. takes_timm: whether narrowed() accepts any "timm/NAME".
    """

    ask: Callable[[optuna.Trial, TrialConfig], TrialConfig]
    first: tuple[Mapping[str, Any], ...]
    backbones: tuple[str, ...]
    px: Callable[[TrialConfig, Sequence[str]], tuple[int, ...]] = base_px
    scaled_from: str = ""
    own: tuple[str, ...] = ()
    takes_timm: bool = False

    def config(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        """The config of one trial."""
        base = self._start(base)
        name = trial.suggest_categorical("backbone", self.backbones) if self.backbones else base.backbone
        backbone = find_backbone(name)
        own = {field: getattr(backbone, field) for field in self.own if field != "px" or not self.scaled_from}
        drop_path = base.drop_path if backbone.drop_path else 0.0
        return self.ask(trial, base.replace(backbone=name, drop_path=drop_path, **own))

    def sizes(self, base: TrialConfig) -> tuple[int, ...]:
        """Every picture size (pixels) that config() may return, sorted."""
        if "px" in self.own and not self.scaled_from:
            return tuple(sorted({find_backbone(name).px for name in self.backbones or (base.backbone,)}))
        return self.px(self._start(base), self.backbones)

    def check(self, base: TrialConfig) -> None:
        """Raise ValueError where a network of the space does not take pictures of the base's size."""
        for name in self.backbones:
            check_backbone(name, px=find_backbone(name).px if "px" in self.own else base.px)

    def narrowed(self, networks: Sequence[str]) -> Space:
        """The space with only these of its networks: in "backbone" and in the first points.

        Raises ValueError, in one line, for a name that is unknown or not in the space, and where the space has no
        networks to choose from.
        """
        if not self.backbones:
            raise ValueError("the space has no networks to choose from: it uses the backbone of the config")
        for name in networks:
            find_backbone(name)
            if name not in self.backbones and not (self.takes_timm and name.startswith(PREFIX)):
                raise ValueError(f"the space has no network {name!r}.{near(name, self.backbones)}")
        further = tuple(dict.fromkeys(name for name in networks if name not in self.backbones))
        backbones = tuple(name for name in self.backbones if name in networks) + further
        first = tuple(point for point in self.first if point["backbone"] in backbones)
        return replace(self, backbones=backbones, first=first)

    def _start(self, base: TrialConfig) -> TrialConfig:
        """The base; with native sizes, a space that varies sizes scales them from the native size of scaled_from."""
        if "px" in self.own and self.scaled_from:
            return base.replace(backbone=self.scaled_from, px=find_backbone(self.scaled_from).px)
        return base


SPACES: dict[str, Space] = {
    "study": Space(study.ask, study.FIRST, study.BACKBONES, takes_timm=True),
    "small": Space(small.ask, small.FIRST, small.BACKBONES),
    "mean_variance": Space(mean_variance.ask, mean_variance.FIRST, ()),
    "losses": Space(losses.ask, losses.FIRST, ()),
    "backbones": Space(backbones.ask, backbones.FIRST, backbones.BACKBONES),
    "efficientnet": Space(
        efficientnet.ask, efficientnet.FIRST, efficientnet.BACKBONES, efficientnet.px, scaled_from="efficientnet_b0"
    ),
    "transformers": Space(transformers.ask, transformers.FIRST, transformers.BACKBONES),
    "companions": Space(companions.ask, companions.FIRST, companions.BACKBONES),
    "frozen": Space(frozen.ask, frozen.FIRST, frozen.BACKBONES),
    "tour": Space(small.ask, tour.FIRST, tour.BACKBONES),
    "paper": Space(paper.ask, paper.FIRST, paper.BACKBONES),
}
"""Every space by its name on the command line."""


def find_space(name: str) -> Space:
    """The entry of SPACES. Raises ValueError that suggests a near name."""
    if name not in SPACES:
        raise unknown("space", name, SPACES)
    return SPACES[name]
