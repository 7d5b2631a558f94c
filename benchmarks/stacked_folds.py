"""Whether several folds trained in one pass beat one after another: stacked weights under torch.func.vmap.

    python benchmarks/stacked_folds.py --backbone efficientnet_lite0 --frozen 3

A step of F networks of the same shape, each with its own batch: F plain steps in a row, against one vmapped gradient
over stacked weights (batch norm's statistics stacked too, so that each network keeps its own). Both update by fused
AdamW. Prints the time of each and the ratio; one thread on a processor, as a fold's task has.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from trainables.backbones import age_net
from trainables.convolutions import plain_convolutions
from trainables.frozen.cut import early_stages, later_stages
from trainables.losses import MeanVariance


@dataclass(frozen=True)
class Options:
    """What is timed."""

    backbone: str = "efficientnet_lite0"
    frozen: int = 3
    px: int = 64
    batch: int = 32
    folds: tuple[int, ...] = (1, 2, 4, 8)
    steps: int = 5
    device: str = "cpu"


def in_a_row(nets: list[nn.Module], given: Tensor, age: Tensor) -> Callable[[], None]:
    """F networks, each with its optimizer, one step each."""
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True) for net in nets]
    loss = MeanVariance()

    def step() -> None:
        for net, optimizer, one, years in zip(nets, optimizers, given, age, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss(net(one), years).backward()
            optimizer.step()

    return step


def stacked(nets: list[nn.Module], given: Tensor, age: Tensor) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """The same step on all networks at once, and the stacked parameters that it changes."""
    parameters, buffers = stack_module_state(nets)
    parameters = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=1e-4, fused=True)
    shape = copy.deepcopy(nets[0]).to("meta").train()
    loss = MeanVariance()

    def of_one(weights: dict[str, Tensor], state: dict[str, Tensor], one: Tensor, years: Tensor) -> Tensor:
        return loss(functional_call(shape, (weights, state), (one,)), years)

    gradient = vmap(grad(of_one), randomness="different")

    def step() -> None:
        found = gradient({name: value.detach() for name, value in parameters.items()}, buffers, given, age)
        for name, value in parameters.items():
            value.grad = found[name]
        optimizer.step()

    return step, parameters


def median_seconds(step: Callable[[], None], times: int, device: str) -> float:
    """Median time of a step after two to warm up; on a processor its own time, which neighbours disturb less."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    took = []
    for _ in range(times + 2):
        began = clock()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        took.append(clock() - began)
    return statistics.median(took[2:])


def main(options: Options) -> None:
    """A row a number of folds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{options.backbone}, frozen={options.frozen}, {options.px} px, batch {options.batch}, {options.device}")
    print("folds  in a row (ms)  stacked (ms)  in a row / stacked  largest difference after a step")
    for folds in options.folds:
        whole = [age_net(options.backbone, px=options.px).to(options.device) for _ in range(folds)]
        for net in whole:
            plain_convolutions(net)  # vmap knows no others
        pixels = torch.rand(folds, options.batch, 3, options.px, options.px, device=options.device) * 255
        age = torch.randint(0, 70, (folds, options.batch), device=options.device)
        given = pixels
        nets: list[nn.Module] = list(whole)
        if options.frozen:
            given = torch.stack(
                [early_stages(net, options.frozen)(x).clone() for net, x in zip(whole, pixels, strict=True)]
            )
            nets = [later_stages(net, options.frozen) for net in whole]
        for net in nets:
            net.train()
        together, parameters = stacked([copy.deepcopy(net) for net in nets], given, age)
        single = in_a_row(nets, given, age)
        together()
        single()
        named = [dict(net.named_parameters()) for net in nets]
        apart = max(
            float((value[i] - named[i][name]).detach().abs().max())
            for name, value in parameters.items()
            for i in range(folds)
        )
        one = median_seconds(single, options.steps, options.device)
        all_at_once = median_seconds(together, options.steps, options.device)
        print(
            f"{folds:>5} {1e3 * one:>14.0f} {1e3 * all_at_once:>13.0f} {one / all_at_once:>19.2f} {apart:>12.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
