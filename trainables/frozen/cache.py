"""A process's features of frozen stages, kept for the next training that freezes the same ones.

A sweep's trials come to the same few processes. Computing the features of all faces anew for each fold of each trial
took most of a sweep's time (with six of EfficientNet-Lite1's seven stages frozen, all but 1.4 s of a fold's 12).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from trainables.config import TrialConfig
from trainables.faces.table import Faces
from trainables.frozen.features import Features

KEEP = 1 << 30
"""Bytes of features that a process keeps: those used last."""


def what_is_seen(config: TrialConfig) -> tuple[Hashable, ...]:
    """What decides the faces or features that a training gets; its seed and its loss do not."""
    if not config.frozen:
        return (config.px,)
    start = (config.backbone, config.weights)
    return (config.px, *start, config.frozen, config.frozen_views, config.augmentation)


@dataclass
class FeaturesCache:
    """Features by a key that covers all that decides them. most: bytes that are kept."""

    most: int = KEEP
    kept: OrderedDict[Hashable, Features] = field(default_factory=OrderedDict)

    def get(self, key: Hashable, compute: Callable[[], Faces | Features]) -> Faces | Features:
        """What compute() gives: kept from the last call with this key, if it is features and there is room."""
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        found = compute()
        if isinstance(found, Features) and found.values.nbytes <= self.most:
            self.kept[key] = found
            while sum(features.values.nbytes for features in self.kept.values()) > self.most:
                self.kept.popitem(last=False)
        return found
