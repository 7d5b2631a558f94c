"""Checks before a training: errors that would otherwise come up in it. Networks are on the meta device: shapes only."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from trainables.backbones import AgeNet, age_net
from trainables.config import TrialConfig
from trainables.frozen.cut import later_stages


def check_frozen(config: TrialConfig) -> None:
    """Raise ValueError where the config freezes stages that were never trained, or more than its network has."""
    if not config.frozen:
        return
    if config.weights == "random":
        raise ValueError(
            f"frozen stages stay as they were pretrained, so frozen={config.frozen} needs weights, got random ones for "
            f"{config.backbone}"
        )
    with torch.device("meta"):  # shapes only
        later_stages(age_net(config.backbone, ages=config.ages, px=config.px), config.frozen)


def check_batch_norm(config: TrialConfig, net: AgeNet, pixels: Tensor, *, least: int) -> None:
    """Raise ValueError where the smallest batch of a worker has one face and batch norm would see only one value.

    pixels: a batch of the net's input, for its shape. With small pictures the last layers have one value per channel
    and face, so that one face has no variance.
    """
    norms = [part for part in net.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if least != 1 or not norms or isinstance(norms[0], nn.SyncBatchNorm):
        return
    try:
        copy.deepcopy(net).to("meta").train()(pixels[:1].to("meta"))  # shapes only
    except ValueError as error:
        raise ValueError(
            f"a batch of one face is too small for {config.backbone}'s batch norm at {config.px} px ({error}): give "
            "another --batch, so that every batch has at least two faces, or more faces"
        ) from None
