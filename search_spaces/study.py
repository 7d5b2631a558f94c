"""The study's question: which network, with which lambdas? B0 to B7, the paper's baselines and Lite0.

The sampler has some dozens of trials for 17 networks, about two each. So everything that networks have in common is one
parameter, and a trial of one network says something about all of them: both lambdas; drop path, where the network has
it; and the learning rate, as a factor of the rate that is usual for the network's family (usual_rate), so that each
family has its own range. With one learning rate per network, each would be a parameter with about two observations,
which TPE would draw at random. (Simulated with 60 trials, 12 seeds: the mean of |log(rate / best rate)|
over trials 18 to 60 is 0.37 with the shared factor, 0.88 with a rate per network, 0.97 for random draws.)

Parameters that not every trial has (a lambda of a term that is on, drop path) are groups of their own for TPE
(group=True), which learns each from the trials that have it; "backbone", "rate_factor" and whether a term is on are
in one group and modelled jointly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from search_spaces import paper
from search_spaces.mean_variance import FIRST as LOSSES_FIRST
from search_spaces.mean_variance import ask_loss
from trainables.config import TrialConfig
from trainables.networks import find_backbone
from trainables.timm_models import PREFIX

BACKBONES = (
    *paper.BACKBONES,
    "efficientnet_lite0", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5", "efficientnet_b6",
)  # fmt: skip

USUAL_RATES = {"alexnet": 3e-4, "vgg": 3e-4, "vit": 2e-4, "deit": 2e-4, "swin": 2e-4}
"""AdamW's usual learning rate, by the start of a network's name; 0.001 for all others. A choice of this study: as is
common, lower without batch norm and for attention. The range of the factor includes the paper's 0.001 for AlexNet and
VGG, at which both train, too."""

PAPER_RATE = 1e-3


def usual_rate(backbone: str) -> float:
    """The learning rate that is usual for a network's family."""
    name = backbone.removeprefix(PREFIX)
    return next((rate for start, rate in USUAL_RATES.items() if name.startswith(start)), PAPER_RATE)


# The paper's eleven rows first, then the other networks with the same settings: each network is tried at least once.
FIRST: tuple[Mapping[str, Any], ...] = tuple(
    {"backbone": name, "rate_factor": PAPER_RATE / usual_rate(name), **LOSSES_FIRST[0]}
    | ({"drop_path": 0.0} if find_backbone(name).drop_path else {})
    for name in BACKBONES
)


def ask(trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
    """The base config with another learning rate, both lambdas (or zero), and drop path where the network has it."""
    rate = usual_rate(base.backbone) * trial.suggest_float("rate_factor", 0.2, 4.0, log=True)
    drop_path = trial.suggest_float("drop_path", 0.0, 0.3) if find_backbone(base.backbone).drop_path else 0.0
    return base.replace(learning_rate=rate, loss=ask_loss(trial), drop_path=drop_path)
