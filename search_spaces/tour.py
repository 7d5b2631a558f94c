"""Two small networks with ImageNet weights in packages, both lambdas, the learning rate: minutes on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import small

BACKBONES = ("efficientnet_lite0", "efficientnet_lite1")
FIRST: tuple[Mapping[str, Any], ...] = tuple({**small.FIRST[0], "backbone": name} for name in BACKBONES)
