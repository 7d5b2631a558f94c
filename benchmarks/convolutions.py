"""A training step with PyTorch's own convolutions and with the study's (trainables.convolutions, trainables.allocator).

    python -m benchmarks.convolutions
    python -m benchmarks.convolutions --networks efficientnet_lite0 --px 96 --frozen 0

Both nets have the same weights and see the same batch; steps (forward, backward, clipping, AdamW) are interleaved, on
one thread, as a fold's task has. Prints the median processor time of a step and the ratio. "memory kept": ours, with
freed memory kept, too, as all trainings have it; measured in a second round, since that cannot be undone.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
import tyro

from benchmarks.frozen_stages import step
from study.table import table
from trainables.allocator import memory_kept
from trainables.backbones import age_net
from trainables.convolutions import plain_convolutions
from trainables.frozen.cut import early_stages, later_stages


@dataclass(frozen=True)
class Options:
    """What is timed."""

    networks: tuple[str, ...] = (
        "efficientnet_lite0", "efficientnet_b0", "efficientnet_b1", "resnet18", "resnet34", "alexnet", "convnext_tiny",
    )  # fmt: skip
    px: tuple[int, ...] = (64, 96)
    frozen: tuple[int, ...] = (0, 2)
    batch: int = 32
    steps: int = 9


def main(options: Options) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cases = [(name, px, frozen) for name in options.networks for px in options.px for frozen in options.frozen]
    without = {case: measure(options, *case) for case in cases}
    rows = []
    with memory_kept():
        for case in cases:
            (plain, ours), kept = without[case], measure(options, *case)[1]
            name, px, frozen = case
            rows.append([name, str(px), str(frozen), f"{plain:.0f} ms", f"{ours:.0f} ms", f"{kept:.0f} ms",
                         f"{plain / kept:.2f}"])  # fmt: skip
    print(table("steps", ["network", "px", "frozen", "PyTorch's", "ours", "memory kept", "ratio"], rows))


def measure(options: Options, name: str, px: int, frozen: int) -> tuple[float, float]:
    """Median milliseconds of a step: PyTorch's convolutions, the study's."""
    torch.manual_seed(0)
    net = age_net(name, px=px)
    given = torch.randint(0, 256, (options.batch, 3, px, px)).float()
    if frozen:
        given = early_stages(net, frozen)(given).clone()
        net = later_stages(net, frozen)
    net.train()
    plain = copy.deepcopy(net)
    plain_convolutions(plain)
    nets = [(each, torch.optim.AdamW(each.parameters(), lr=1e-4, fused=True)) for each in (plain, net)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3 + options.steps):
        for (each, optimizer), taken in zip(nets, times, strict=True):
            began = time.process_time()
            step(each, given, optimizer)
            taken.append(time.process_time() - began)
    first, second = (statistics.median(taken[3:]) * 1000 for taken in times)
    return first, second


if __name__ == "__main__":
    main(tyro.cli(Options))
