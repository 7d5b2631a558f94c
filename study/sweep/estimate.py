"""What a sweep is about to do: how many trainings, of which networks, from which weights, and how long it may take.

Pure. The times are measured once for a sweep (study.sweep.ray_measure) and kept in costs.json, so that a rerun says
and, with a budget, decides the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from search_spaces import Space, small
from study.files.seals import seal, unseal
from study.files.storage import write_json
from study.folds import Fold
from study.sweep.timing import Timing
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.networks import find_backbone
from trainables.timm_models import PREFIX

DAYS = 48.0
"""Hours from which a smaller space is named."""


@dataclass(frozen=True)
class Work:
    """How much a sweep trains: trials of each block, and the photos of a fold's training and test (means)."""

    blocks: int
    trials: int
    folds: int
    finals: int
    train: float
    test: float
    places: int
    gpu: float

    def hours(self, seconds: float) -> float:
        """Hours that so much compute takes on all places."""
        return seconds / self.places / 3600


def network_configs(space: Space, base: TrialConfig, names: Sequence[str] = ()) -> dict[str, TrialConfig]:
    """The base config of each of a space's networks, at the picture size that it gets."""
    found = {}
    for name in names or space.backbones or (base.backbone,):
        backbone = find_backbone(name)
        px = backbone.px if "px" in space.own and not space.scaled_from else base.px
        px = max(backbone.least_px, px // backbone.px_step * backbone.px_step)
        drop_path = base.drop_path if backbone.drop_path else 0.0
        found[name] = base.replace(backbone=name, px=px, drop_path=drop_path, weights="random")
    return found


def measuring_order(configs: Mapping[str, TrialConfig]) -> list[TrialConfig]:
    """The cheapest network of each family first, which the others are judged by; then the others, cheapest first."""
    ordered = sorted(configs.values(), key=lambda config: (_macs(config), config.backbone))
    families: dict[str, TrialConfig] = {}
    for config in ordered:
        families.setdefault(family(config.backbone), config)
    return [*families.values(), *(config for config in ordered if config not in families.values())]


def family(backbone: str) -> str:
    """The letters that a network's name begins with: networks of one family have the same kinds of layers."""
    found = re.match(r"[a-z]+", backbone.removeprefix(PREFIX).removeprefix("tf_"))
    return found.group() if found else backbone


def complete(timings: Mapping[str, Timing], configs: Mapping[str, TrialConfig]) -> dict[str, Timing]:
    """The times of all networks: those measured, and for each other one those of the nearest network of its family (of
    all where its family has none), scaled by multiply-adds, and by parameters for what does not depend on photos.

    timings: of networks of `configs`; with none, there are no times.
    """
    found = {}
    for name, config in configs.items():
        if name in timings:
            found[name] = timings[name]
            continue
        near = [other for other in timings if family(other) == family(name)] or list(timings)
        if near:
            mine = _macs(config)
            other = min(near, key=lambda each: (abs(math.log(_macs(configs[each]) / mine)), each))
            there, weights = timings[other], _parameters(config) / _parameters(configs[other])
            macs = mine / _macs(configs[other])
            found[name] = Timing(there.start * weights, there.step * weights, there.photo * macs, there.answer * macs)
    return found


def mean_sizes(folds: Sequence[Fold]) -> tuple[float, float]:
    """Photos that a fold trains on and is tested on, on average."""
    return float(np.mean([len(fold.train) for fold in folds])), float(np.mean([len(fold.test) for fold in folds]))


def fold_seconds(timings: Mapping[str, Timing], configs: Mapping[str, TrialConfig], work: Work) -> dict[str, float]:
    """Seconds of one fold's training by network."""
    return {
        name: timing.fold(configs[name], round(work.train) + configs[name].companions, round(work.test))
        for name, timing in timings.items()
    }


def read_costs(file: Path) -> dict[str, Timing] | None:
    """The times that were measured for this sweep; None where there are none yet. Raises ValueError for a file that
    was changed."""
    if not file.is_file():
        return None
    try:
        record = unseal(json.loads(file.read_bytes()), where="it")
        return {name: Timing(**{part: float(value) for part, value in each.items()}) for name, each in record.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no sound record of times: {error}; delete it to measure again") from error


def write_costs(file: Path, timings: Mapping[str, Timing]) -> None:
    """Into the sweep's folder."""
    write_json(file, seal({name: asdict(timing) for name, timing in timings.items()}))


def plan_lines(
    folds: Mapping[str, float],
    starts: Mapping[str, str],
    work: Work,
    *,
    first: Sequence[str],
    measured: int,
    budget: float | None,
    smaller: float | None,
) -> list[str]:
    """What is said before the first training.

    folds: seconds of a fold by network ({}: not measured). first: the networks of the first points. budget: seconds of
    compute of all blocks, where the sweep spends by cost. smaller: hours of --space small.
    """
    width = max(map(len, starts), default=0)
    lines = [f"  {name:<{width}}  {_time(work.folds * folds[name]) if name in folds else 'not measured':>12}  "
             f"a trial, from {start}" for name, start in starts.items()]  # fmt: skip
    rest = ", the others by multiply-adds" if measured < len(starts) else ""
    how = f"measured here: {measured} of {len(starts)} networks{rest}" if folds else ""
    head = f"About to train {len(starts)} network(s)" + (f" ({how})" if how else "") + ":"
    finals = f", and up to {work.finals} further seeds of finalists" if work.finals else ""
    if budget is not None:
        hours = work.hours(budget)
        lines.append(f"  {_time(3600 * hours)} for all blocks, spent by cost, an equal share for each network{finals}")
        if folds:
            share = budget / work.blocks / len(starts)
            beyond = [name for name in starts if work.folds * folds[name] > share]
            if beyond:
                lines.append(f"  a network's share of a block is {_time(share)} of compute: not all of a trial of "
                             f"{', '.join(beyond)}, unless others are given up as clearly worse")  # fmt: skip
        return [head, *lines, *random_lines(starts, dict.fromkeys(starts, 1.0))]
    trainings = work.blocks * work.trials * work.folds
    lines.append(f"  {work.blocks} block(s) x {work.trials} trials x {work.folds} folds: at most {trainings} "
                 f"trainings{finals}")  # fmt: skip
    if not folds:
        lines.append("  time: not measured")
        return [head, *lines, *random_lines(starts, {})]
    mean = float(np.mean(list(folds.values())))
    begun = [folds[name] for name in first][: work.trials]
    fold = work.blocks * (sum(begun) + (work.trials - len(begun)) * mean)
    most = work.folds * (fold + work.finals * mean)
    least = fold + work.folds * work.finals * min(folds.values())
    lines.append(f"  time: {_time(3600 * work.hours(least))} if every trial is pruned after its first fold, "
                 f"{_time(3600 * work.hours(most))} if none is, with {work.places} side by side")  # fmt: skip
    if work.gpu:
        lines.append(f"  that is {least * work.gpu / 3600:.1f} to {most * work.gpu / 3600:.1f} GPU-hours")
    if smaller is not None and work.hours(most) > DAYS > 0.5 * smaller:
        lines.append(f"  That is days: --space small has three networks ({_time(3600 * smaller)} if nothing is "
                     "pruned); --minutes N spends N minutes by cost")  # fmt: skip
    return [head, *lines, *random_lines(starts, folds)]


def random_lines(starts: Mapping[str, str], costs: Mapping[str, float]) -> list[str]:
    """Where some networks are pretrained and others not: which start from random weights, and their share of the time.
    costs: what each network takes, in any unit ({}: not known)."""
    random = [name for name, start in starts.items() if start == "random"]
    others = [name for name in starts if name not in random]
    if not random or not others:
        return []
    share = sum(costs[name] for name in random) / sum(costs.values()) if costs else None
    of_that = f", about {share:.0%} of the time" if share is not None else ""
    return [
        f"  From random weights, since no checkpoint of them is there: {', '.join(random)}{of_that}. "
        f"--networks {' '.join(others)} leaves them out; study.pretrain --backbone NAME makes one"
    ]


def small_hours(timings: Mapping[str, Timing], space: Space, base: TrialConfig, work: Work) -> float | None:
    """Hours of --space small without pruning; None where nothing was measured."""
    names = dict.fromkeys([*(space.backbones or (base.backbone,)), *small.BACKBONES])
    try:
        configs = network_configs(space, base, tuple(names))
    except ValueError:  # a network of the space small does not take such pictures
        return None
    seconds = fold_seconds(complete(timings, configs), configs, work)
    if not timings:
        return None
    mean = float(np.mean([seconds[name] for name in small.BACKBONES]))
    return work.hours(work.folds * mean * (work.blocks * 12 + work.finals))


def _time(seconds: float) -> str:
    """ "40 s", "12 min", "3.1 h" or "2.4 days"."""
    for unit, size, most in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172800)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def _macs(config: TrialConfig) -> int:
    return count_cost(config.backbone, config.px, config.ages).macs


def _parameters(config: TrialConfig) -> int:
    return count_cost(config.backbone, config.px, config.ages).parameters
