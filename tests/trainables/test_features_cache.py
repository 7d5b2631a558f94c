"""The features that a process keeps: computed once, the right ones, and no more than there is room for."""

from __future__ import annotations

import numpy as np

from trainables.config import Augmentation, TrialConfig
from trainables.frozen.cache import FeaturesCache, what_is_seen
from trainables.frozen.features import Features
from trainables.losses import CrossEntropy

CONFIG = TrialConfig(backbone="resnet18", px=32, frozen=2, weights="runs/pretrained/resnet18")


def features(faces: int = 4) -> Features:
    return Features(np.zeros((faces, 2, 64), np.float16), False, np.zeros(faces, np.int16), 2)


def test_features_are_computed_once_for_all_configs_that_see_them():
    cache, computed = FeaturesCache(), []

    def compute(config: TrialConfig) -> Features:
        computed.append(config)
        return features()

    alike = (CONFIG, CONFIG.replace(seed=3, learning_rate=0.1, loss=CrossEntropy(), epochs=9, batch=8))
    first, second = (cache.get(what_is_seen(config), lambda config=config: compute(config)) for config in alike)
    assert first is second
    assert computed == [CONFIG]


def test_whatever_changes_the_features_has_a_key_of_its_own():
    others = (
        CONFIG.replace(frozen=1), CONFIG.replace(px=48), CONFIG.replace(frozen_views=3),
        CONFIG.replace(weights="another"), CONFIG.replace(augmentation=Augmentation(grey=0.0)),
        CONFIG.replace(backbone="resnet34"), CONFIG.replace(frozen=0),
    )  # fmt: skip
    assert len({what_is_seen(config) for config in (CONFIG, *others)}) == 1 + len(others)


def test_what_was_used_last_is_kept_and_the_rest_makes_room():
    size = features().values.nbytes
    cache = FeaturesCache(most=2 * size)
    for key in "abac":
        cache.get(key, features)
    assert list(cache.kept) == ["a", "c"]
    cache.get("large", lambda: features(9))
    assert list(cache.kept) == ["a", "c"], "more than there is room for is used, and not kept"
