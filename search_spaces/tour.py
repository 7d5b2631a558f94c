"""Two small networks, both lambdas, the learning rate: a search of minutes on two cores."""

from __future__ import annotations

from search_spaces import small

BACKBONES = ("efficientnet_lite0", "resnet18")
FIRST = tuple(point for point in small.FIRST if point["backbone"] in BACKBONES)
