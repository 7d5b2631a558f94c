"""Metrics that others published on FG-NET: leave-one-person-out errors in years, unless said otherwise.

Their pretraining differs from ours, and none has an interval: they show what is possible, and are no paired comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER_MAE: dict[str, float] = {
    "alexnet": 4.47,
    "vgg16": 3.13,
    "vgg19": 3.83,
    "resnet18": 3.09,
    "resnet34": 3.02,
    "resnet50": 3.50,
    "resnet101": 3.49,
    "resnet152": 3.55,
    "efficientnet_b0": 3.06,
    "efficientnet_b1": 3.09,
    "efficientnet_b7": 2.85,
}
"""The paper's tables 1 and 2: MAE on FG-NET, mean over the 82 folds."""

PAPER_RMSE: dict[str, float] = {"alexnet": 6.00, "vgg16": 4.36, "resnet34": 4.26, "efficientnet_b7": 4.03}
"""The paper's table 3: RMSE on FG-NET, mean over the 82 folds."""

PAPER_PRETRAINING = "IMDB-WIKI (523,051 photos) and UTKFace (23,612)"


@dataclass(frozen=True)
class Published:
    """One MAE (years) from the literature."""

    method: str
    pretraining: str
    mae: float


LOPO_ON_FGNET = (
    Published("MWR", "as published", 2.23),
    Published("AVDL", "as published", 2.32),
    Published("BridgeNet", "as published", 2.56),
    Published("Mean-variance loss", "with IMDB-WIKI", 2.68),
    Published("C3AE", "as published", 2.95),
    Published("DEX", "with IMDB-WIKI", 3.09),
    Published("AMR", "as published", 3.61),
    Published("Deep regression forests", "as published", 3.85),
    Published("Mean-variance loss", "without IMDB-WIKI", 4.10),
    Published("DEX", "without IMDB-WIKI", 4.63),
)
"""Leave-one-person-out MAE of other methods on FG-NET, the best first."""

CROSS_TEST_ON_FGNET = (
    Published("ResNet-50", "random weights", 7.71),
    Published("ResNet-50", "ImageNet", 6.63),
    Published("ResNet-50", "IMDB-WIKI", 4.94),
)
"""Another protocol: trained on UTKFace alone, tested on all of FG-NET."""
