"""What freezing early stages costs in error and saves in time, on real faces in a few folds over people.

    python -m benchmarks.frozen_stages speed --backbones efficientnet_lite0 efficientnet_b0 resnet18
    python -m benchmarks.frozen_stages error --trial runs/lopo/KEY/trial.json --faces runs/fgnet

`speed` times a training step (forward, backward, clipping, AdamW) of the stages that are left, and the frozen stages'
forward. `error` trains the config in the same folds with each number of stages frozen, one process, one core; the
differences are paired over people.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

from benchmarks.fold_probes import score
from study.statistics.summary import compare, summarise
from trainables.backbones import age_net
from trainables.checkpoints import read_trial
from trainables.faces.table import load_faces
from trainables.frozen.cut import early_stages, later_stages, stages_of


@dataclass(frozen=True)
class Speed:
    """Time a step with each number of stages frozen."""

    backbones: tuple[str, ...] = ("efficientnet_lite0", "efficientnet_b0", "resnet18")
    px: int = 64
    batch: int = 32
    steps: int = 12


@dataclass(frozen=True)
class Error:
    """Train with each number of stages frozen."""

    trial: Path
    faces: Path = Path("runs/fgnet")
    frozen: tuple[int, ...] = (0, 2, 3, 4)
    views: int = 12
    folds: int = 5


def speed(options: Speed) -> None:
    """A row a backbone and number of frozen stages."""
    torch.set_num_threads(1)
    print(f"{'backbone':<20} frozen  ms a step  faces/s  times  frozen forward (ms)")
    pixels = torch.rand(options.batch, 3, options.px, options.px) * 255
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    for name in options.backbones:
        torch.manual_seed(0)
        net = age_net(name, px=options.px)
        whole = 0.0
        for frozen in range(len(stages_of(net))):
            features = early_stages(net, frozen) if frozen else torch.clone
            early = median_ms(partial(features, pixels), options.steps)
            left = later_stages(net, frozen) if frozen else net
            optimizer = torch.optim.AdamW(left.parameters(), lr=1e-4, fused=True)
            left.train()
            took = median_ms(partial(step, left, features(pixels).clone(), optimizer), options.steps)
            whole = whole or took
            rate = 1e3 * options.batch / took
            print(f"{name:<20} {frozen:>6} {took:>10.1f} {rate:>8.0f} {whole / took:>6.2f} {early:>20.1f}", flush=True)


def step(net: nn.Module, given: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """A training step, as fit's."""
    optimizer.zero_grad(set_to_none=True)
    net(given).square().mean().backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()


def median_ms(work: Callable[[], object], times: int) -> float:
    """Median milliseconds of processor time (which neighbours disturb less) of a call, after two to warm up."""
    took = []
    for _ in range(times + 2):
        began = time.process_time()
        work()
        took.append(1e3 * (time.process_time() - began))
    return statistics.median(took[2:])


def error(options: Error) -> None:
    """A row a number of frozen stages."""
    config = read_trial(options.trial)[0].replace(frozen_views=options.views)
    faces = load_faces([options.faces], px=config.px)
    print(f"{config.backbone}, {config.px} px, {config.epochs} epochs, {options.views} views, {options.folds} folds")
    tables = {}
    for frozen in options.frozen:
        began = time.perf_counter()
        tables[f"frozen={frozen}"] = score(config.replace(frozen=frozen), faces, folds=options.folds)
        took = time.perf_counter() - began
        print(f"frozen={frozen}  MAE {summarise(tables[f'frozen={frozen}']).mae:.2f}  {took:.0f} s", flush=True)
    for found in compare(tables):
        print(found.sentence)


if __name__ == "__main__":
    chosen = tyro.cli(Speed | Error, description=__doc__)
    speed(chosen) if isinstance(chosen, Speed) else error(chosen)
