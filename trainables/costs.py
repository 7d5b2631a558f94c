"""What a network costs: parameters and multiply-adds (counted), and milliseconds per face (measured)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from trainables.backbones import age_net
from trainables.config import TrialConfig
from trainables.device import autocast, set_up


@dataclass(frozen=True)
class Cost:
    """Parameters of a network, and MACs per face (multiply-adds of convolutions and matrix products)."""

    parameters: int
    macs: int


@cache
def count_cost(backbone: str, px: int, ages: int) -> Cost:
    """Parameters and MACs of a backbone at px x px pixels, without computing anything (torch's meta device)."""
    with torch.device("meta"):
        net = age_net(backbone, ages=ages, weights="random", px=px).eval()
        pixels = torch.empty(1, 3, px, px)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(pixels)
    # torch counts a multiply-add as two operations
    return Cost(sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2)


@torch.inference_mode()
def measure_latency(config: TrialConfig, device: torch.device | str, *, times: int = 9) -> float:
    """Milliseconds per face, in batches of one, on this device with torch's current threads: the median of `times`.

    Clock time differs from run to run, so the caller stores it, and a rerun does not measure again.
    """
    device = torch.device(device)
    set_up(config, device)
    with torch.device("meta"):  # initialising VGG takes longer than a small trial
        net = age_net(config.backbone, ages=config.ages, weights="random", px=config.px)
    net = net.to_empty(device=device).eval()
    for values in (*net.parameters(), *net.buffers()):
        values.fill_(0.01 if values.is_floating_point() else 0)
    pixels = torch.zeros(1, 3, config.px, config.px, device=device).to(memory_format=torch.channels_last)
    took = []
    for _ in range(2 + times):
        began = time.perf_counter()
        with autocast(config, device):
            net(pixels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return 1000 * float(np.median(took[2:]))  # the first two are warm-up
